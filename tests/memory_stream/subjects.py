"""Subjects: matching a pattern, and the transforms of sources."""

import functools
import re

WILDCARDS = frozenset({"*", ">"})


def is_pattern(subject: str) -> bool:
    """Whether a subject contains a wildcard."""
    return not WILDCARDS.isdisjoint(subject.split("."))


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject without wildcards matches a pattern."""
    return _compiled(pattern).fullmatch(subject) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Each wildcard is a group, because transforms refer to wildcards by number.
    words = [{"*": r"([^.]+)", ">": r"(.+)"}.get(word, re.escape(word)) for word in pattern.split(".")]
    return re.compile(r"\.".join(words))


def transform(source: str, destination: str, subject: str) -> str | None:
    """Return the subject under which a source stores a message of `subject`; None when the source does not match."""
    found = _compiled(source).fullmatch(subject)
    if found is None:
        return None
    return re.sub(r"\{\{wildcard\((\d+)\)\}\}", lambda number: found[int(number[1])], destination)
