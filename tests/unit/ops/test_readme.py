"""What the documents say of the settings is what the code says."""

import pathlib

import pytest

from ops.commands.check_config import _markdown

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("document", ["README.md", "docs/configuration.md"])
def test_the_table_of_settings_is_the_one_that_the_command_prints(document: str) -> None:
    text = (ROOT / document).read_text()
    table = text.split("<!-- settings: made by smsctl check-config --markdown -->")[1].split("<!-- end")[0]
    assert table.strip().splitlines() == list(_markdown())
