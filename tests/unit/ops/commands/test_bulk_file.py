"""Reading a batch file: every row by its line, and nothing that a bad row could spoil for its neighbours."""

import io
import json

import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from ops.commands.bulk_file import BadFile, BadRow, Row, open_rows

HEADER = b"recipient,body\n"


def read(data: bytes, kind: str | None = None, *, name: str = "file", with_ids: bool = False) -> list[Row | BadRow]:
    return list(open_rows(io.BytesIO(data), name, kind, with_ids=with_ids))


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
        (b"recipient;body\n", "its header has no column body"),
        (b"recipient,body,colour\n", "its header has the unknown column 'colour'"),
        (b"recipient,body,label.\n", "its header has the unknown column 'label.'"),
        (b"recipient,body,body\n", "its header has the column body twice"),
    ],
)
def test_file_that_holds_no_messages_is_refused_as_a_whole(data: bytes, why: str):
    with pytest.raises(BadFile) as caught:
        read(data)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"+1\n", "has 1 cells, the header has 2"),
        (b"+1,Hello,you\n", "has 3 cells, the header has 2"),
        (b"+1,\xff\n", "is not UTF-8"),
        (b'+1,"Hello"you\n', "is not CSV: is a quotation mark left open?"),
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
        ("ttl", "soon", "ttl must be seconds"),
        ("ttl", "nan", "ttl must be seconds, from 0 to 1e9"),
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
    assert rows == [BadRow(2, "is not CSV (to line 4): is a quotation mark left open?")]


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
        (b'{"recipient": 17}', "recipient is not valid in SendSmsRequest"),
        (b'{"priority": "PRIORITY_SECRET"}', "priority is not valid in SendSmsRequest"),
        (b'{"recipient": "+1"', "is not a JSON object of a SendSmsRequest"),
        (b"[1, 2]", "is not a JSON object of a SendSmsRequest"),
        (b"null", "is not a JSON object of a SendSmsRequest"),
        (b'{"body": "\\ud800"}', "body is not valid in SendSmsRequest"),
        (b'{"body": "\xff"}', "is not UTF-8"),
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


def test_request_ids_are_the_same_whenever_the_file_is_read_and_differ_by_row_and_file():
    data = HEADER + b"+1,Hello\n+1,Hello\n+2,Hello\n"
    first, again, other = (
        [one.request_id for one in requests(data, name=name, with_ids=True)] for name in ("a.csv", "a.csv", "b.csv")
    )
    assert first == again
    assert len({*first, *other}) == 6


def test_bad_row_that_was_mended_leaves_the_ids_of_the_others():
    spoilt = read(HEADER + b"+1,One\n+2\n+3,Three\n", with_ids=True)
    mended = read(HEADER + b"+1,One\n+2,Two\n+3,Three\n", with_ids=True)
    assert [spoilt[0], spoilt[2]] == [mended[0], mended[2]]


def test_request_id_of_the_row_itself_is_kept():
    [request] = requests(b"recipient,body,request_id\n+1,Hello,mine\n", with_ids=True)
    assert request.request_id == "mine"


def test_endless_line_is_read_in_pieces():
    rows = read(HEADER + b"+1," + b"x" * 3_000_000 + b"\n+2,Hello\n")
    assert isinstance(rows[-1], Row)
    assert all(isinstance(row, BadRow) for row in rows[:-1])
