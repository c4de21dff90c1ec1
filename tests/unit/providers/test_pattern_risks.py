"""Regular expressions that could take for ever are refused, and the usual ones are not."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.pattern_risks import risks_of

RISKY = [
    "(a+)+b", "((a+))+b", "(?:(a+)b?)+c", "(a|aa)+b", r"(?:\w|\d)+;", "(?:x|(?:a|aa))+b", "(a*)*", "(?P<n>a+){2,}b",
    "([a-z]+)*1", r"(\s*x?)+y", "(.|a)*b", "(a{1,9}){1,9}b", "(?:a?b*){5}c", "((a|b)+)+c", r"([\w.]+)+@",
]  # fmt: skip
USUAL = [
    "^OK", r"ID: (\d+)", r"^(?:OK|ACCEPTED)\b", r"1701\|\d+\|([\w-]+)", r"status=(\w+).*id=(\d+)", "(?:ab)+", "(a+)",
    "(a+)?b", r"(?i)error[: ]+(.*)", r"([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})", "(?:a|b)+", r"<id>([^<]+)</id>",
    r"\((\d+)\)", "[(a+)]+", r"(?=.*ok)^\w+", r"(?#a+)x+", "a{2}", r"\{(\w+)\}+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", RISKY)
def test_group_that_is_tried_in_every_combination_is_refused(pattern: str) -> None:
    re.compile(pattern)
    assert list(risks_of(pattern))


@given(st.text(alphabet="ab()|*+?{},12[]^\\\\.-:#<>P=xi ", max_size=24))
@example("(?x)ok # :)")
@example("[])](a)+")
def test_every_pattern_that_compiles_is_judged(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning, DeprecationWarning):
        return
    assert len(list(risks_of(pattern))) <= 1


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_pattern_is_taken_and_quick(pattern: str) -> None:
    assert not list(risks_of(pattern))
    began = time.thread_time()
    for text in ("a" * 4096, "0-" * 2048, "status=id=" * 400):
        re.search(pattern, text)
    assert time.thread_time() - began < 1
