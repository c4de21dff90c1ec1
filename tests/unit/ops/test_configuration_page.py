"""The table of settings: it stands on one page, and says what the code says."""

import pathlib

from ops.commands.check_config import _markdown

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
