"""Retry-After, as seconds and as a date."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Answer
from providers.retry_after import retry_after_s

NOW = 1_767_225_600.0
"""Thu, 01 Jan 2026 00:00:00 GMT."""

ROWS: dict[str, float | None] = {
    "": None,
    "   ": None,
    "7": 7.0,
    " 7 ": 7.0,
    "0.5": 0.5,
    "0": 0.0,
    "-3": 0.0,
    "1e3": 1000.0,
    "99999999": 3600.0,
    "1" * 400: 3600.0,
    "1767225630": 30.0,
    "1767225630000": 30.0,
    "1767225599": 0.0,
    "-1767225630": 0.0,
    "soon": None,
    "nan": None,
    "inf": None,
    "-inf": None,
    "Thu, 01 Jan 2026 00:00:30 GMT": 30.0,
    "Thu, 01 Jan 2026 00:00:30 -0000": 30.0,
    "Thu, 01 Jan 2026 01:00:30 +0100": 30.0,
    "Wed, 31 Dec 2025 23:59:30 GMT": 0.0,
    "Thu, 01 Jan 2099 00:00:00 GMT": 3600.0,
    "Wed, 99 Foo 2026 00:00:00 GMT": None,
    "Fri, 99 Jan 2026 00:00:00 GMT": None,
    "Fri, 31 Dec 9999 23:59:59 -0100": None,
    "Wed, 01 Jan 99999999999999999999 00:00:00 GMT": None,
    "Thu, 01 Jan 2026 00:00:00 +99999999999999": None,
}


@pytest.mark.parametrize(("text", "seconds"), ROWS.items(), ids=ROWS)
def test_retry_after_is_seconds_or_a_date_or_nothing(text: str, seconds: float | None) -> None:
    assert retry_after_s(Answer(429, {"retry-after": text}, b"", NOW)) == seconds


def test_answer_without_the_header_asks_for_no_pause() -> None:
    assert retry_after_s(Answer(429, {}, b"", NOW)) is None


_PARTS = st.sampled_from(
    ["Thu", ",", " ", "01", "Jan", "2026", "00:00:30", ":", "GMT", "+0100", "-", "9" * 12, "é", "."]
)


@given(st.text() | st.lists(_PARTS, max_size=12).map("".join) | st.lists(_PARTS, max_size=12).map(" ".join))
def test_no_header_breaks_the_reading(text: str) -> None:
    seconds = retry_after_s(Answer(429, {"retry-after": text}, b"", NOW))
    assert seconds is None or 0 <= seconds <= 3600
