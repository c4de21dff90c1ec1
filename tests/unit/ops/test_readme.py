"""What the README says of the settings is what the code says."""

import pathlib

from ops.commands.check_config import _markdown

README = pathlib.Path(__file__).parents[3] / "README.md"


def test_the_table_of_settings_is_the_one_that_the_command_prints() -> None:
    text = README.read_text()
    table = text.split("<!-- settings: made by smsctl check-config --markdown -->")[1].split("<!-- end")[0]
    assert table.strip().splitlines() == list(_markdown())
