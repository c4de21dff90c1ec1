"""What is dropped from a number never changes which number it is; everything else is refused and named."""

import re

import phonenumbers
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.numbers import to_e164
from gateway_grpc.spelling import foreign_character
from gateway_grpc.validation import RECIPIENT, Rules, check
from messaging.errors import InvalidRequest

E164 = "+4915123456789"


def judged(number: str, region: str = "") -> tuple[str, str]:
    """The E.164 number that a recipient is sent to, or the refusal."""
    try:
        found = check(api.SendSmsRequest(recipient=number, body="hi"), Rules((), region), 1_700_000_000.0)
    except InvalidRequest as refused:
        return "", dict(refused.violations)["recipient"]
    return found.recipient, ""


@pytest.mark.parametrize(
    ("number", "region", "e164"),
    [
        ("+49 151 23456789", "", E164),
        ("+49-151-2345-6789", "", E164),
        ("+49 151 - 23456789", "", E164),
        ("+49.15123456789", "", E164),
        ("+49.151.2345.6789 ", "", E164),
        ("+49 (151) 23456789", "", E164),
        ("+49 (0)151 23456789", "", E164),
        ("+49 (0151) 23456789", "", E164),
        ("+49 0151 23456789", "", E164),
        ("0151 23456789", "DE", E164),
        ("(0151) 23456789", "DE", E164),
        ("(0)151 23456789", "DE", E164),
        ("0049 151 23456789", "DE", E164),
        ("0049 (0)151 23456789", "DE", E164),
        ("15123456789", "DE", E164),  # a spreadsheet took its 0; as a national number it is a mobile one
        ("+49 30 12345-0", "", "+4930123450"),  # the 0 of a switchboard is dialled
        ("+43 664 12 34 56 78", "", "+4366412345678"),
        ("+39 06 1234 5678", "", "+390612345678"),
        ("06.12.34.56.00", "FR", "+33612345600"),
        ("(415) 555.0100", "US", "+14155550100"),
        ("1-415-555-0100", "US", "+14155550100"),
        ("011 49 151 23456789", "US", E164),
        ("8 (916) 123-45-67", "RU", "+79161234567"),
        ("0201234567", "GH", "+233201234567"),
        ("201234567", "GH", "+233201234567"),
        ("233201234567", "GH", "+233201234567"),
        ("9812345678", "IN", "+919812345678"),
        ("011 15 1234-5678", "AR", "+5491112345678"),  # the country's own rule for its national form
    ],
)
def test_usual_spelling_is_read_as_the_number_it_names(number: str, region: str, e164: str) -> None:
    assert judged(number, region) == (e164, "")


@pytest.mark.parametrize(
    ("number", "region", "named"),
    [
        *((E164 + end, "", "decimal point") for end in (".0", ".00", ".000", " .0", ".5", ". 0", ".0.0", ".0 ")),
        ("0151 23456789.0", "DE", "decimal point"),
        ("+233 201 234 567.00", "", "decimal point"),
        ("4915123456789.0", "DE", "decimal point"),
        ("0151 2345 6789 0", "DE", "is whole without the last digits"),
        ("+49 151 2345 6789 12", "", "is whole without the last digits"),
        ("555-2671", "US", "too few or too many digits"),  # within an area only: another number in each
        ("+1 5552671", "", "too few or too many digits"),
        ("112", "DE", "too few or too many digits"),
        (E164 + ",0", "", "a comma (,)"),
        ("+4,915,123,456,789", "", "a comma (,)"),
        ("4.91512E+11", "", "exponent (E)"),
        ("4,91512e11", "", "exponent (E)"),
        ("+4.91512E+11", "", "exponent (E)"),
        (E164 + ";ext=12", "", "an extension"),
        (E164 + " x12", "", "an extension"),
        (E164 + " ext. 12", "", "an extension"),
        (E164 + "#12", "", "an extension"),
        ("tel:" + E164, "", "tel:"),
        ("sms:" + E164, "", "tel:"),
        ("1-800-FLOWERS", "US", "the letter F"),
        ("'" + E164, "", "an apostrophe"),
        ("0151/23456789", "DE", "a slash (/)"),
        (E164 + "/" + E164, "", "plus (+)"),
        (E164 + " " + E164, "", "plus (+)"),
        (E164 + "\n", "", "U+000A"),
        ("49+15123456789", "", "plus (+)"),
        ("++4915123456789", "", "the character +"),
        ("+49\u0661\u0665\u0661", "", "U+0661"),
        ("+\uff14\uff19151", "", "U+FF14"),
        ("\uff0b4915123456789", "", "U+FF0B, FULLWIDTH PLUS SIGN"),
        ("\u202a+4915123456789\u202c", "", "U+202A, LEFT-TO-RIGHT EMBEDDING"),
        ("+49151\u200b23456789", "", "U+200B"),
        ("+49151\u00ad23456789", "", "U+00AD"),
        ("+49\u00a015123456789", "", "U+00A0"),
        ("+49151\u201023456789", "", "U+2010"),
        (" " + E164, "", "begins with a space"),
        (E164 + "-", "", "ends with the character -"),
        (E164 + ".", "", "ends with the character ."),
        (E164 + " 0", "", "whole without the last digits"),
        (E164 + "-0", "", "whole without the last digits"),
        (E164 + " - 12", "", "whole without the last digits"),
        ("0151 23456789 0", "DE", "whole without the last digits"),
        ("-4915123456789", "", "must begin with a digit"),
        ("+(49) 15123456789", "", "brackets"),
        ("+-4915123456789", "", "must begin with a digit"),
        ("+49--15123456789", "", "several separators"),
        (E164 + "(0)", "", "brackets"),
        (E164 + "(9)", "", "brackets"),
        ("+49151(234)56789", "", "brackets"),
        ("+49 (151)(234)56789", "", "brackets"),
        ("+49 (151 23456789", "", "brackets"),
        ("+49 151) 23456789", "", "brackets"),
        ("+49 ((151)) 23456789", "", "brackets"),
        ("+49 (00)151 23456789", "", "brackets"),
        ("+39 (0)347 1234567", "", "(0)"),  # Italian numbers keep their 0, and mobile ones have none
        ("0049151234567", "JP", "begins with 00"),
        ("0049151234567", "", "begins with 00"),
        ("491512345678", "DE", "lost its plus (+)"),
        ("33612345678", "DE", "lost its plus (+)"),
        ("491512345678", "IT", "lost its plus (+)"),
    ],
)
def test_what_could_change_the_number_is_refused_and_named(number: str, region: str, named: str) -> None:
    found, fault = judged(number, region)
    assert found == ""
    assert named in fault
    assert not re.search("[0-9]{5}", fault.replace("+233201234567", "")), "it repeats no digits"


def test_a_text_of_any_size_is_judged_at_once() -> None:
    for part in ("1", " ", "(", "x", "1.", "1x", "+", "e", "\u202e"):
        assert len(foreign_character(part * 1_000_000)) < 200


_SEPARATORS = [
    "",
    "",
    "",
    " ",
    "-",
    ".",
    " - ",
    "  ",
    " .",
    ". ",
    "--",
    "/",
    ",",
    "(",
    ")",
    "+",
    "x",
    "\u00a0",
    "\u200b",
]
_NUMBERS = [
    "+4915123456789",
    "+233201234567",
    "+14155550100",
    "+390612345678",
    "+33612345678",
    "+79161234567",
    "+4930123",
]


@given(st.sampled_from(_NUMBERS), st.lists(st.sampled_from(_SEPARATORS), min_size=16, max_size=16), st.data())
@example("+4915123456789", [""] * 16, None)
def test_any_accepted_spelling_keeps_the_digits_of_the_number_in_order(
    number: str, separators: list[str], data: st.DataObject | None
) -> None:
    spelled = "".join(char + separator for char, separator in zip(number, separators, strict=False))
    if data is not None:
        spelled += data.draw(st.sampled_from(["", "", ".0", ".00", ",0", " ", "-1", "(0)", "x1", ".", "E1"]))
    found, _ = judged(spelled)
    if found:
        assert found[1:] == re.sub("[^0-9]", "", spelled)
    elif RECIPIENT.fullmatch(spelled):
        assert spelled != number


@given(
    st.text(alphabet="0123456789 ().-+", min_size=3, max_size=20),
    st.sampled_from(["", "GH", "DE", "US", "JP", "IT", "BR", "RU", "IN"]),
)
def test_whatever_is_accepted_ends_with_the_digits_as_written(number: str, region: str) -> None:
    assume(RECIPIENT.fullmatch(number))
    found, fault = to_e164(number, region)
    assert bool(found) != bool(fault)
    if not found:
        return
    parsed = phonenumbers.parse(found)
    national = phonenumbers.national_significant_number(parsed)
    assert re.sub("[^0-9]", "", number).endswith(national), "only what is dialled before the number is dropped"
    if number.startswith("+"):
        assert number[1:].lstrip("(").startswith(str(parsed.country_code)[:1])
