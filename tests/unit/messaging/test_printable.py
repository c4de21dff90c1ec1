"""What is printed has no control and no bidi character, and JSON means the same as before."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.printable import printable, printable_lines

EVIL = '\x1b[31mred\x1b]0;title\x07\r\n{"event": "forged"}\x9b2J\u202egnp.exe\u2066\u2028\x7f\ud800'
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and unicodedata.bidirectional(char) not in BIDI


@given(st.text() | st.just(EVIL))
def test_line_has_no_control_and_no_bidi_character(text: str) -> None:
    assert all(map(is_harmless, printable(text)))
    assert "\n" not in printable(text)


@given(st.text(st.characters()) | st.just(EVIL))
def test_json_has_the_same_value_when_it_is_made_printable(text: str) -> None:
    document = json.dumps({"detail": text}, ensure_ascii=False)
    assert json.loads(printable(document)) == {"detail": text}


@pytest.mark.parametrize("text", ["", "Hello", "Привет, мир", "مرحبا", "日本語", "a — b", "😀 ok", "x 'y' \"z\" \\"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(st.text() | st.just(EVIL))
def test_only_the_first_of_several_lines_begins_at_the_margin(text: str) -> None:
    first, *more = printable_lines(text).split("\n")
    assert all(is_harmless(char) or char == "\t" for char in first + "".join(more))
    assert all(not line or line.startswith(" ") for line in more)
