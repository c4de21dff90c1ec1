"""Refused rows are written as the file had them, and read again as they were."""

import io
import json

import pytest

from ops.bulk.identity import Identities
from ops.bulk.rejects import Rejects
from ops.bulk.row import BadRow, Row
from ops.bulk.rows import open_rows

CSV = """recipient;body;Reference;
12;Hello;r-1;
+1;"a ""quoted""
text; with it";r-2;
+1;only
+2;x;y;z
+3;"open"x;r;
+4;same;r;
+4;same;r;
"""


def round_of(data: bytes) -> tuple[list[Row | BadRow], bytes]:
    """Read a file, and refuse every row."""
    opened = open_rows(io.BytesIO(data), None, Identities())
    found, written = list(opened.rows), io.BytesIO()
    rejects = Rejects(written, opened.form)
    for row in found:
        rejects.write(row, f'line {row.line}: NO: not, today; "at" all')
    return found, written.getvalue()


@pytest.mark.parametrize("sep", ["", "sep=;\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rejects_are_read_again_as_the_same_rows_in_the_same_form(encoding: str, line_end: str, sep: str):
    data = (sep + CSV).replace("\n", line_end).encode(encoding)
    first, rejects = round_of(data)
    second, again = round_of(rejects)
    assert [isinstance(row, Row) for row in first] == [isinstance(row, Row) for row in second]
    assert [row.request for row in first if isinstance(row, Row)] == [
        row.request for row in second if isinstance(row, Row)
    ]
    assert len({row.request.request_id for row in second if isinstance(row, Row)}) == 4
    assert rejects[:4] == again[:4] == (sep or "rejected").encode(encoding)[:4]
    text = rejects.decode(encoding)
    assert text.removeprefix(sep.replace("\n", line_end)).startswith(
        f"rejected;copy;recipient;body;Reference;{line_end}"
    )


def test_mended_rejects_have_the_identities_that_the_mended_file_has():
    data = b"recipient,body\n12,Hi\n+1,Hi\n+1,Hi\n"
    opened = open_rows(io.BytesIO(data), None, Identities())
    rows, written = list(opened.rows), io.BytesIO()
    rejects = Rejects(written, opened.form)
    for row in (rows[0], rows[2]):
        rejects.write(row, "no")
    assert written.getvalue() == b"rejected,copy,recipient,body\nno,,12,Hi\nno,2,+1,Hi\n"
    whole = [row.request for row in round_of(data.replace(b"12", b"+2"))[0] if isinstance(row, Row)]
    mended = [row.request for row in round_of(written.getvalue().replace(b"12", b"+2"))[0] if isinstance(row, Row)]
    assert mended == [whole[0], whole[2]]


def test_second_reason_replaces_the_first_one():
    _, once = round_of(b"recipient,body\n+1,Hi,there\n")
    _, twice = round_of(once.replace(b"line 2", b"line 999"))
    assert once == twice


def test_file_without_rejects_is_sent_again_without_a_complaint():
    opened = open_rows(io.BytesIO(b"recipient,body\n"), None, Identities())
    written = io.BytesIO()
    Rejects(written, opened.form)
    assert round_of(written.getvalue())[0] == []


def test_ndjson_rejects_are_objects_again():
    good = {"recipient": "12", "body": "Grüße 🙂", "requestId": "r"}
    lines = [
        json.dumps(good),
        "{broken",
        '{"colour": 1}',
        '{"recipient": "+1"}',
        '{"recipient": "+1"}',
        '{"a": "\\ud800"}',
    ]
    first, rejects = round_of("\n".join(lines).encode())
    second, _ = round_of(rejects)
    assert first[0] == second[0]
    assert [isinstance(row, Row) for row in second] == [True, False, False, True, True, False]
    assert first[4] == second[4]
    assert json.loads(rejects.splitlines()[4])["copy"] == 2
    assert json.loads(rejects.splitlines()[1])["row"] == "{broken"
