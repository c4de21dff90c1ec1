"""Texts and senders that nobody can have meant are refused, and what is changed in a text is told."""

import unicodedata
from typing import Any

import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.segments import LOOKALIKES, MAX_SEGMENTS, segment
from gateway_grpc.texts import named, sender_fault, text_fault
from gateway_grpc.validation import MAX_BODY, Rules, check
from messaging.errors import BacklogFull, InvalidRequest
from tests.unit.gateway_grpc.test_acceptance import Gateway, a_stream
from tests.unit.virtual_time import in_virtual_time

KEPT = "\t\n\f\r"
ZERO_WIDTH = "\u00ad\u034f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u202e\u2060\u2066\u2069\ufe0e\ufe0f\ufeff"


def refused(**fields: Any) -> dict[str, str]:
    request = api.SendSmsRequest(**{"recipient": "+233201234567", "body": "hi", **fields})
    try:
        check(request, Rules(()), 1_700_000_000.0)
    except InvalidRequest as error:
        return dict(error.violations)
    return {}


@pytest.mark.parametrize(
    "text",
    [" ", "\n", " \t\r\n\f", "\u00a0", "\u3000", "\u2028", "\u2800", "\u3164", "\u115f\u1160", "\uffa0", *ZERO_WIDTH,
     " \u200b \u2060", ZERO_WIDTH, "\U000e0041", "\u180b\u206a", "\u17b4", "\ufe00", "\U000e0100",
     "\uffff", "\ufffc"],
)  # fmt: skip
def test_text_in_which_nothing_can_be_seen_is_refused(text: str) -> None:
    for smart in (False, True):
        assert refused(body=text, smart_encoding=smart) == {"body": "is blank: it needs a character that can be seen"}
        assert not refused(body=text + ".", smart_encoding=smart)


@pytest.mark.parametrize("unseen", ["\u180b", "\u206a", "\ufe00", "\ufff9", "\U000e0041", "\U000e0100", *ZERO_WIDTH])
def test_smart_encoding_takes_out_every_character_that_shows_nothing(unseen: str) -> None:
    found = segment(f"pass{unseen}word", smart=True)
    assert (found.text, found.replaced) == ("password", ((unseen, ""),))


@pytest.mark.parametrize("text", ["\U0001fae8", "\U0001faea", "\U0001f44d\U0001f3fd", "\ue000", "1\u20e3", "\u0e33"])
def test_letter_or_emoji_that_a_newer_unicode_has_is_no_blank(text: str) -> None:
    assert not refused(body=text)


@pytest.mark.parametrize("code", [*range(1, 0x20), *range(0x7F, 0xA0)])
def test_control_character_is_refused_and_named_except_those_that_lay_out_a_text(code: int) -> None:
    found = refused(body=f"Hello{chr(code)}")
    if chr(code) in KEPT:
        assert not found
    else:
        assert found == {"body": f"has the control character U+{code:04X} at position 5: remove it"}


def test_nul_is_told_once() -> None:
    assert refused(body="a\0") == {"body": "must not contain the character U+0000"}


@pytest.mark.parametrize("sender", [" ", "   ", ".", "-", "_", "&", ". -", " " * 11, "...."])
def test_blank_sender_is_refused(sender: str) -> None:
    assert "is blank" in refused(sender=sender)["sender"]
    assert "is blank" in sender_fault(sender)


@pytest.mark.parametrize("sender", ["", "ACME", "1&1", "24-7", "A", "12345", "+4915123", "3.0", "A.C.M.E"])
def test_sender_with_a_letter_or_a_digit_is_taken(sender: str) -> None:
    assert not refused(sender=sender)


@pytest.mark.parametrize("sender", ["12345.0", "12345.00", "4.91512E10"])
def test_sender_that_a_spreadsheet_has_changed_is_refused(sender: str) -> None:
    assert "decimal number" in refused(sender=sender)["sender"]


def test_longest_text_of_the_proto_is_the_longest_that_fits_into_the_segments() -> None:
    assert segment("a" * MAX_BODY).segments == MAX_SEGMENTS
    assert segment("a" * (MAX_BODY + 1)).segments == MAX_SEGMENTS + 1
    assert not refused(body="a" * MAX_BODY)
    assert refused(body="a" * (MAX_BODY + 1)) == {"body": "may have at most 1530 characters, this has 1531"}


def test_refusal_for_segments_names_what_makes_the_text_ucs2() -> None:
    fault = refused(body="a" * 400 + "’" + "a" * 400 + "—’")["body"]
    assert fault == (
        "needs 12 segments, at most 10 are sent; these characters make it UCS-2, with 67 in a segment: U+2019 RIGHT "
        "SINGLE QUOTATION MARK at position 400, U+2014 EM DASH at position 801; smart_encoding can replace them, or "
        "shorten it"
    )
    fault = refused(body="жизнь 👋’" * 80)["body"]
    assert "U+0436 CYRILLIC SMALL LETTER ZHE at position 0" in fault
    assert "and others; replace them, or shorten it" in fault
    assert "жизнь" not in fault, "no text is repeated"
    assert refused(body="€" * 766)["body"] == "needs 11 segments, at most 10 are sent: shorten it"


def test_characters_without_a_name_are_told_by_their_number() -> None:
    assert named([(3, "\ue000"), (5, "\ue000")]) == "U+E000 at position 3"


@pytest.mark.parametrize("char", ZERO_WIDTH)
def test_smart_encoding_removes_what_cannot_be_seen_and_only_where_the_text_then_fits(char: str) -> None:
    assert segment(f"a{char}b").encoding == pb.ENCODING_UCS2
    found = segment(f"a{char}b", smart=True)
    assert (found.text, found.encoding, found.replaced) == ("ab", pb.ENCODING_GSM7, ((char, ""),))
    assert segment(f"ж{char}b", smart=True).text == f"ж{char}b", "in other scripts it has a meaning"


def test_smart_encoding_changes_no_letter_to_a_capital() -> None:
    assert segment("garçon’s", smart=True).text == "garcon's"
    for char, replacement in LOOKALIKES.items():
        assert replacement == replacement.lower(), hex(ord(char))
        kind = unicodedata.category(char)
        assert kind not in {"Lu", "Ll"} or char == "ç", "it replaces no other letter"


def test_smart_encoding_knows_every_space_and_every_invisible_mark_of_latin_texts() -> None:
    spaces = {chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Zs"} - {" ", "\u1680"}
    assert {char for char in spaces if unicodedata.normalize("NFC", char) == char} <= set(LOOKALIKES)


@in_virtual_time
async def test_answer_tells_what_was_replaced_also_when_the_call_is_repeated() -> None:
    gateway = Gateway(a_stream())
    request = api.SendSmsRequest(recipient="+233201234567", body="“ça”\u200b", smart_encoding=True, request_id="once")
    for replayed in (False, True):
        answer = await gateway.accept(request)
        told = {getattr(one, "from"): one.to for one in answer.replacements}
        assert (answer.replayed, told) == (replayed, {"“": '"', "ç": "c", "”": '"', "\u200b": ""})
    plain = await gateway.accept(api.SendSmsRequest(recipient="+233201234567", body="plain", smart_encoding=True))
    assert not plain.replacements


def test_no_refusal_tells_a_setting() -> None:
    error = BacklogFull("provider p1", 12_345, 2.0)
    assert "12345" not in str(error).replace(",", "")


def test_ordinary_texts_are_no_faults() -> None:
    for text in ("Hello", "é", "👋", "a\u0301", "\u0301", "שלום\u200f", "a\r\nb\tc\fd", "\ufffd", "\ue000"):
        assert text_fault(text) == ""
