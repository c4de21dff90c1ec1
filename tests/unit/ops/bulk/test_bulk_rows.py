"""Reading a batch file: every row by its line, and nothing that a bad row could spoil for its neighbours."""

import io
import json

import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from ops.bulk.identity import Identities
from ops.bulk.row import BadRow, Row
from ops.bulk.rows import open_rows
from ops.bulk.text import BadFile

HEADER = b"recipient,body\n"
UNQUOTED = "put a text that holds the delimiter into quotation marks, or name the column"
OPEN = "close the quotation mark that was left open, and write one inside a text twice"
SPAN = "must be seconds, or a number with a unit, such as 90s, 15m, 1h or 2d"
NOT_TEXT = "holds bytes that are not text in the file's encoding: save the file as UTF-8"


def read(data: bytes, kind: str | None = None) -> list[Row | BadRow]:
    return list(open_rows(io.BytesIO(data), kind, Identities(with_ids=False)).rows)


def requests(data: bytes, **options) -> list[api.SendSmsRequest]:
    rows = read(data, **options)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.request for row in rows if isinstance(row, Row)]


def bad(data: bytes) -> list[tuple[int, str]]:
    return [(row.line, row.why) for row in read(data) if isinstance(row, BadRow)]


def test_csv_row_fills_every_field():
    header = "recipient,body,sender,request_id,reference,priority,ttl,at,providers,callback_url,smart,label.team\n"
    row = "+233201234567,Hello,Shop,r-1,order-7,OTP,90.5,2026-11-18T12:00:00+01:00,p1;p2,https://x.example/,yes,blue\n"
    [request] = requests((header + row).encode())
    expected = api.SendSmsRequest(
        recipient="+233201234567",
        body="Hello",
        sender="Shop",
        request_id="r-1",
        client_reference="order-7",
        priority=pb.PRIORITY_OTP,
        providers=["p1", "p2"],
        callback_url="https://x.example/",
        smart_encoding=True,
        labels={"team": "blue"},
    )
    expected.ttl.FromMilliseconds(90_500)
    expected.schedule_time.FromJsonString("2026-11-18T11:00:00Z")
    assert request == expected


def test_header_is_read_without_regard_to_case_order_and_byte_order_mark():
    [request] = requests(b"\xef\xbb\xbf\r\n Body ,RECIPIENT\r\nHello,+233201234567\r\n")
    assert (request.recipient, request.body) == ("+233201234567", "Hello")


def test_quoted_text_keeps_commas_quotation_marks_and_line_breaks():
    [request] = requests(HEADER + b'+233201234567,"Hello, ""you""\nthere"\n')
    assert request.body == 'Hello, "you"\nthere'


def test_lines_are_counted_where_a_row_begins():
    rows = read(HEADER + b'+1,"a\nb"\n\n+2,c\n')
    assert [row.line for row in rows] == [2, 5]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"recipient,text\n", "its header (line 1) has no column body: rename column 2, 'text', to body"),
        (
            b"+233201234567,Hello\n",
            "its header (line 1) has no column recipient and no column body: recipient and body",
        ),
        (b"recipient,body,colour\n", "its header has the unknown column 'colour' (column 3): the columns are"),
        (b"recipient,body,label.\n", "its header has the unknown column 'label.' (column 3)"),
        (b"recipient,body,body\n", "its header has the column body twice (columns 2 and 3)"),
    ],
)
def test_file_that_holds_no_messages_is_refused_as_a_whole(data: bytes, why: str):
    with pytest.raises(BadFile) as caught:
        read(data)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"+1\n", "has 1 cells, the header has 2: add the missing cells, empty ones too"),
        (
            b"+1,Hello,you\n",
            "has 3 cells, the header has 2 (cell 3 has no column): " + UNQUOTED,
        ),
        (b"+1,\xff\n", f"body (column 2) {NOT_TEXT}"),
        (b'+1,"Hello"you\n', f"is not CSV: {OPEN}"),
    ],
)
def test_bad_row_is_told_with_its_line_and_the_next_one_is_read(row: bytes, why: str):
    rows = read(HEADER + b"+1,first\n" + row + b"+2,last\n")
    assert [one.line for one in rows] == [2, 3, 4]
    assert rows[1] == BadRow(3, why)
    assert isinstance(rows[2], Row)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("priority", "urgent", "priority must be otp, normal or bulk"),
        ("ttl", "soon", f"ttl {SPAN}"),
        ("ttl", "nan", f"ttl {SPAN}"),
        ("ttl", "1_000", f"ttl {SPAN}"),
        ("ttl", "1e12", "ttl must be seconds, from 0 to 1e9"),
        ("smart", "maybe", "smart must be true or false"),
        ("at", "+60", "at must be RFC 3339 such as 2026-11-18T12:00:00Z"),
        ("at", "2026-11-18T12:00:00", "at must be RFC 3339 such as 2026-11-18T12:00:00Z: its time zone is missing"),
        ("at", "9999-12-31T23:59:59-12:00", "at must be RFC 3339 such as 2026-11-18T12:00:00Z"),
    ],
)
def test_value_that_cannot_be_understood_is_named_and_not_repeated(column: str, value: str, why: str):
    assert bad(f"recipient,body,{column}\n+1,Hello,{value}\n".encode()) == [(2, why)]


def test_quotation_mark_left_open_never_sends_the_rows_after_it_as_text():
    rows = read(HEADER + b'+1,"Hello\n+2,Secret of the next\n+3,And another\n')
    assert rows == [BadRow(2, f"is not CSV (to line 4): {OPEN}")]


def test_single_cr_between_rows_is_told_as_what_it_is():
    rows = read(b"recipient,body\n+1,Hello\r+2,Hello\n+3,Hello\n")
    cure = "a line ends with a single CR, others do not: save the file with one kind of line end"
    assert rows[0] == BadRow(2, f"is not CSV: {cure}")
    assert isinstance(rows[1], Row)


def test_ndjson_takes_proto_json_by_either_spelling():
    first = {"recipient": "+1", "body": "Hello", "requestId": "r-1", "priority": "PRIORITY_OTP", "ttl": "90s"}
    second = {"recipient": "+2", "body": "Hello", "request_id": "r-2"}
    found = requests(f"{json.dumps(first)}\n\n{json.dumps(second)}\n".encode())
    assert [one.request_id for one in found] == ["r-1", "r-2"]
    assert (found[0].priority, found[0].ttl.seconds) == (pb.PRIORITY_OTP, 90)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"recipient": "+1", "colour": "red"}', "SendSmsRequest has no field colour"),
        (
            b'{"recipient": 17}',
            "recipient is not valid in SendSmsRequest: write a number as text, such as +233201234567",
        ),
        (
            b'{"priority": "bulk"}',
            "priority is not valid in SendSmsRequest: write PRIORITY_OTP, PRIORITY_NORMAL or PRIORITY_BULK",
        ),
        (b'{"ttl": "1h"}', "ttl is not valid in SendSmsRequest: write seconds with an s, such as 3600s"),
        (b'{"recipient": "+1", "recipient": "+2"}', "names a field twice: remove one"),
        (b'{"requestId": "a", "request_id": "b"}', "names a field twice: remove one"),
        (b'{"recipient": "+1"', "is not a JSON object of a SendSmsRequest"),
        (b"[1, 2]", "is not a JSON object of a SendSmsRequest"),
        (b"null", "is not a JSON object of a SendSmsRequest"),
        (b'{"body": "\\ud800"}', "body is not valid in SendSmsRequest"),
        (b'{"body": "\xff"}', NOT_TEXT),
        (b"[" * 100_000, "is not a JSON object of a SendSmsRequest"),
    ],
)
def test_bad_json_row_is_told_with_its_line(line: bytes, why: str):
    rows = read(b'{"recipient": "+1"}\n' + line + b'\n{"recipient": "+2"}\n')
    assert rows[1] == BadRow(2, why)
    assert isinstance(rows[2], Row)


def test_format_may_be_told_instead_of_guessed():
    assert isinstance(read(b"nonsense\n", "ndjson")[0], BadRow)
    with pytest.raises(BadFile):
        read(b'{"recipient": "+1"}\n', "csv")


def test_endless_line_is_one_bad_row_and_the_next_one_is_read():
    for line in (b"+1," + b"x" * 3_000_000, b"+1,a," * 700_000):
        first, second = read(HEADER + line + b"\n+2,Hello\n")
        assert isinstance(first, BadRow)
        assert (second.line, isinstance(second, Row)) == (3, True)


ROW = "+233201234567;Hello"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_delimiter_line_end_and_encoding_are_found_in_the_file(encoding: str, line_end: str, delimiter: str):
    data = "recipient;body\n+1;Grüße 🙂\n+2;two\n".replace(";", delimiter).replace("\n", line_end).encode(encoding)
    assert [(one.recipient, one.body) for one in requests(data)] == [("+1", "Grüße 🙂"), ("+2", "two")]


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=;\r"])
def test_line_that_names_the_separator_is_obeyed(line: str):
    [request] = requests(f"{line}\nrecipient;body;reference\n+1;a,b,c;r\n".encode())
    assert (request.body, request.client_reference) == ("a,b,c", "r")


@pytest.mark.parametrize(
    "header", ["Recipient,BODY,Request ID", "recipient ,Body, requestId", "\ufeffrecipient,body,request-id"]
)
def test_header_may_be_spelled_in_other_ways(header: str):
    [request] = requests(f"{header}\n+1,Hello,r-1\n".encode())
    assert (request.recipient, request.body, request.request_id) == ("+1", "Hello", "r-1")


@pytest.mark.parametrize(
    ("header", "cure"),
    [
        ("phone;text", "rename column 1, 'phone', to recipient"),
        ("Mobile Number,body", "rename column 1, 'mobile number', to recipient"),
        ("recipient,body,from", "did you mean sender?"),
    ],
)
def test_header_with_another_word_names_the_column_to_rename(header: str, cure: str):
    with pytest.raises(BadFile, match=cure):
        read(f"{header}\n".encode())


def test_first_row_instead_of_a_header_is_not_repeated_in_the_error():
    with pytest.raises(BadFile) as caught:
        read(b"+233201234567,Secret code 4711,x\n")
    assert "233" not in str(caught.value)
    assert "Secret" not in str(caught.value)


def test_empty_columns_and_rows_at_the_end_are_ignored():
    data = b"recipient,body,,\n+1,one,,\n+2,two\n+3,three,\n,,,\n+4,four,,,,\n , ,,\n"
    assert [one.recipient for one in requests(data)] == ["+1", "+2", "+3", "+4"]


def test_cell_without_a_column_is_refused_with_its_number():
    [(line, why)] = bad(b"recipient,body,,\n+1,one,,lost\n")
    assert (line, why.startswith("has 4 cells, the header has 2 (cell 4 has no column)")) == (2, True)


@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04rest", b"\xd0\xcf\x11\xe0rest", b"\x1f\x8brest", b"%PDF-1.7", b'[{"recipient": "+1"}]', b"{\n  "],
)
def test_file_of_another_kind_is_refused_with_the_cure(data: bytes):
    with pytest.raises(BadFile, match=r"save|gzip|write one"):
        read(data)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600),
        ("90s", 90),
        ("15m", 900),
        ("15 min", 900),
        ("1h30m", 5400),
        ("2D", 172_800),
        ("90", 90),
        ("0.5h", 1800),
        (" 90 ", 90),
    ],
)
def test_ttl_may_have_units(text: str, seconds: int):
    [request] = requests(f"recipient,body,ttl\n+1,Hello,{text}\n".encode())
    assert request.ttl.seconds == seconds


def test_truncated_utf16_is_refused_and_not_guessed():
    rows = read("recipient,body\n+1,one\n+2,two".encode("utf-16")[:-1])
    assert [isinstance(row, Row) for row in rows] == [True, False]


def test_carriage_return_inside_a_row_never_cuts_its_text():
    rows = read(HEADER + b"+1,Hello\rthere\n+2,two\n")
    assert [isinstance(row, Row) for row in rows] == [False, True]


def test_slow_input_is_read_as_it_comes():
    class Pipe(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("waits for more than a line")

    rows = open_rows(Pipe(HEADER + b"+1,one\n"), None, Identities()).rows
    assert len(list(rows)) == 1
