"""Tables fit the terminal: none of their lines is wider, and no value is lost."""

import io

import pytest
from rich.console import Console

from ops.commands.output import table

ID = "01a20165-7b42-748d-a7cf-cb216510c492"
COLUMNS = ("message", "accepted", "state", "provider", "priority", "attempts", "recipient", "why")
ROW = (ID, "2026-11-18 12:00:00Z", "UNDELIVERED", "p" * 32, "NORMAL", "12", "+233…67", "EXPIRED " + "word " * 40)


def lines(width: int, columns=COLUMNS, rows=(ROW, ROW)) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(table(columns, rows, numbers=("attempts",)))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_no_line_is_wider_than_the_terminal_and_every_value_is_there(width: int):
    found = lines(width)
    assert max(map(len, found)) <= width
    told = " ".join(found)
    for value in ROW[:7]:
        assert told.count(value) >= 2
    assert told.count("word") == 80


def test_narrow_rows_name_each_value_and_leave_out_empty_ones():
    found = lines(80, rows=[(*ROW[:4], "", "", "", "")])
    assert found[0] == f"message {ID}  accepted 2026-11-18 12:00:00Z"
    assert " ".join(found).count("priority") == 0
    assert all(line.startswith("  ") for line in found[1:])


def test_what_fits_is_a_table():
    found = lines(80, ("provider", "pods", "breaker"), [("p1", "1", "open (5 failures in a row)")])
    assert found[0].split() == ["provider", "pods", "breaker"]
