"""Cells that a spreadsheet or an editor has changed: refused with line, column and cure, or used as they are."""

import io

import pytest
from sms.gateway.v1 import gateway_pb2 as api

from ops.bulk.identity import Identities
from ops.bulk.row import BadRow, Row
from ops.bulk.rows import open_rows


def read(data: str) -> Row | BadRow:
    [row] = open_rows(io.BytesIO(data.encode()), None, Identities(with_ids=False)).rows
    return row


@pytest.mark.parametrize("column", ["recipient", "body", "reference", "label.a", "sender", "request_id"])
@pytest.mark.parametrize(
    "text", [" x ", "+4915123456789.0", "00233 20", "007", "1,50", "TRUE", "é", "e\u0301", "ﬁ", "x 'y' \"z\""]
)
def test_cell_reaches_the_request_as_it_is_in_the_file(column: str, text: str):
    given = {"recipient": "+1", "body": "Hello", column: text}
    cells = ";".join('"' + value.replace('"', '""') + '"' for value in given.values())
    row = read(f"{';'.join(given)}\n{cells}\n")
    assert isinstance(row, Row), row
    expected = {**given, "client_reference": given.pop("reference", "")}
    for name, value in given.items():
        assert (row.request.labels["a"] if name == "label.a" else getattr(row.request, name)) == value
    assert row.request.client_reference == expected["client_reference"]


@pytest.mark.parametrize(
    ("column", "text", "why"),
    [
        ("recipient", "4,91512E+12", "is a number that a spreadsheet has rounded: format the column as text"),
        ("recipient", "2.33E+11", "is a number that a spreadsheet has rounded"),
        ("request_id", "1.23457E+15", "is a number that a spreadsheet has rounded"),
        ("reference", "1.23457E+15", "is a number that a spreadsheet has rounded"),
        ("recipient", "\u202a+233201234567\u202c", "holds the invisible character U+202A at position 1: remove it"),
        ("recipient", "+233\u200b201234567", "holds the invisible character U+200B at position 5"),
        ("recipient", "+233201234567\u2800", "holds the invisible character U+2800 at position 14"),
        ("sender", "Sh\u00adop", "holds the invisible character U+00AD at position 3"),
        ("priority", "otp\ufeff", "holds the invisible character U+FEFF at position 4"),
        ("recipient", "'+233201234567", "begins with ', which a spreadsheet added: remove it"),
        ("recipient", '="+233201234567"', "begins with =, which a spreadsheet added"),
        ("recipient", "#NAME?", "is an error value of a spreadsheet"),
        ("body", "#N/A", "is an error value of a spreadsheet"),
        ("body", "#######", "is an error value of a spreadsheet"),
        ("body", ' "Hello"', "has a space before its quotation mark: remove the space"),
    ],
)
def test_changed_cell_is_refused_with_its_column_and_the_cure(column: str, text: str, why: str):
    given = {"recipient": "+1", "body": "Hello", column: text}
    cells = ";".join('"' + value.replace('"', '""') + '"' for value in given.values())
    row = read(f"{';'.join(given)}\n{cells}\n")
    assert isinstance(row, BadRow)
    at = list(given).index(column) + 1
    assert row.line == 2
    assert row.why.startswith(f"{column} (column {at}) {why}")


def test_text_keeps_the_invisible_characters_that_scripts_and_emoji_need():
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👨\u200d👩\u200d👧 \u200fשלום"
    row = read(f"recipient,body\n+1,{text}\n")
    assert isinstance(row, Row)
    assert row.request.body == text


def test_space_before_a_quotation_mark_is_refused_where_the_text_is_cut_at_a_comma():
    assert isinstance(read('recipient,body,sender\n+1, "Hello, you"\n'), BadRow)


@pytest.mark.parametrize("text", ["Hello\n+233201234567,Bye", "Hello\r\n233 20 123 4567,Bye"])
def test_text_that_swallowed_the_next_row_is_refused(text: str):
    row = read(f'recipient,body\n+1,"{text}"\n')
    assert isinstance(row, BadRow)
    assert "holds what looks like the next row" in row.why


@pytest.mark.parametrize("text", ["one\ntwo", "Call\n+233201234567\nnow", "1. a\n2. b, c", "12,50\n13,50"])
def test_text_with_line_breaks_is_kept(text: str):
    row = read(f'recipient,body\n+1,"{text}"\n')
    assert isinstance(row, Row)
    assert row.request == api.SendSmsRequest(recipient="+1", body=text)
