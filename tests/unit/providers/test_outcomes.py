"""What an outcome keeps of a provider's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from providers.base import ACCEPTED, Answer, Outcome, Request

WORDS = {
    "": ("", ""),
    "21211": ("21211", "21211"),
    "err-1.b_2": ("err-1.b_2", "err-1.b_2"),
    "two words": ("two words", "twowords"),
    "é: ٣": ("é: ٣", "é٣"),
    "a\nb\x1b[31m": ("ab[31m", "ab31m"),
    "right\u202eleft": ("rightleft", "rightleft"),
    "half\ud800": ("half", "half"),
    "nul\0": ("nul", "nul"),
    "x" * 300: ("x" * 128, "x" * 64),
}


@pytest.mark.parametrize(("words", "kept"), WORDS.items(), ids=ascii)
def test_words_of_a_provider_are_cut_and_cleaned(words: str, kept: tuple[str, str]) -> None:
    outcome = Outcome(ACCEPTED, words, words)
    assert (outcome.provider_message_id, outcome.code) == kept


@given(st.text(st.characters()))
def test_whatever_a_provider_writes_can_be_recorded(words: str) -> None:
    outcome = Outcome(ACCEPTED, words, words)
    attempt = pb.Attempt(provider_message_id=outcome.provider_message_id, code=outcome.code)
    assert pb.Attempt.FromString(attempt.SerializeToString()) == attempt
    assert "\0" not in attempt.provider_message_id + attempt.code, "PostgreSQL keeps none"


def test_request_and_answer_do_not_show_what_they_hold() -> None:
    assert repr(Request("GET", "http://h/?key=1", {"key": "1"}, b"ab")) == "Request(GET, 2 bytes)"
    assert repr(Answer(200, {"x": "1"}, b"abc", 0.0)) == "Answer(200, 3 bytes)"
