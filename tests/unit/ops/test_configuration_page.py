"""The table of settings: it stands on one page, and says what the code says."""

import pathlib

import attrs

from messaging.runtime.providers_file import Provider
from ops.commands.check_config import _markdown
from providers.http_shape import Shape
from providers.http_template import NOTHING

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: made by smsctl check-config --markdown -->", "<!-- end of settings -->"


def test_the_table_of_settings_is_the_one_that_the_command_prints() -> None:
    table = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert table.strip().splitlines() == list(_markdown())


def test_the_table_of_settings_stands_on_one_page_only() -> None:
    head = next(iter(_markdown()))
    pages = [ROOT / "README.md", *ROOT.joinpath("docs").rglob("*.md"), *ROOT.joinpath("deploy").rglob("*.md")]
    assert [page for page in pages if head in page.read_text()] == [PAGE]


def keys_of(heading: str, head: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    section = PAGE.read_text().split(f"{heading}\n")[1]
    rows = section.split(f"{head}\n")[1].split("\n\n")[0].splitlines()[1:]
    return [name for row in rows for name in row.split("|")[1].split("`")[1::2]]


def test_the_page_tells_every_key_of_a_provider() -> None:
    keys = keys_of("## The providers file", "| key | default | meaning |")
    assert sorted(keys) == sorted(field.name for field in attrs.fields(Provider) if field.init)


def test_the_page_tells_every_setting_of_the_generic_adapter_and_every_name_in_braces() -> None:
    heading = "### Settings of the adapter `http-json`"
    assert sorted(keys_of(heading, "| key | default | meaning |")) == sorted(one.name for one in attrs.fields(Shape))
    names = {name.strip("{}") for name in keys_of(heading, "| name in braces | value |")}
    assert {name for name in names if not name.startswith("secret.")} == set(NOTHING)
