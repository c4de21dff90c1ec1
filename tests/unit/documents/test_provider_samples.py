"""The providers files of the documents are read by the reader that the processes use."""

import pathlib
import re
import tomllib

import pytest

from messaging.runtime.providers_file import parse_providers
from providers.catalogue import dialect_of

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs" / "connect-a-provider.md"
SAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_page_shows_a_json_a_form_and_a_query_provider() -> None:
    (tables,) = zip(*(tomllib.loads(sample)["provider"] for sample in SAMPLES), strict=True)
    assert {table["settings"].get("encoding", "json") for table in tables} == {"json", "form", "query"}


@pytest.mark.parametrize("sample", [*SAMPLES, (ROOT / "providers.example.toml").read_text()])
def test_each_sample_is_a_providers_file_whose_adapter_takes_its_settings(sample: str) -> None:
    environment = dict.fromkeys(re.findall(r'env = "(\w+)"', sample), "a-key")
    for provider in parse_providers(tomllib.loads(sample), environment):
        dialect_of(provider)
