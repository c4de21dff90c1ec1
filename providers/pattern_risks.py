"""Finds regular expressions that can take for ever on a short text, by how they are written. Pure.

A group that is repeated, and whose inside can match the same text in several ways, is tried in every combination of
them. So a repeated group may hold no other repeat, and no alternatives but such as begin with different letters.
"""

import re
from collections.abc import Iterator

import attrs

_PIECE = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|\(\?[^:)]*[:=!>]|\(\?[^)]*\)|\{[0-9]*,?[0-9]*\}|.", re.DOTALL)
_REPEATS = re.compile(r"[*+]|\{([2-9]|[0-9]{2,}|[0-9]*,[0-9]*)\}")
_VARIES = re.compile(r"[*+]|\{[0-9]*,[0-9]*\}")
_OPENS = re.compile(r"\((\?[^:)]*[:=!>])?")
_LITERAL = re.compile(r"\w|\\[^\w\s]")


@attrs.define
class _Group:
    repeats: bool = False
    first: str = ""
    alternatives: list[str] = attrs.Factory(list)
    """What each alternative begins with, of the group and of those in it; empty for one that has no alternatives."""

    @property
    def is_risky(self) -> bool:
        """Whether repeating this group may take for ever."""
        firsts = self.alternatives
        return self.repeats or len(set(firsts)) < len(firsts) or any(not _LITERAL.fullmatch(one) for one in firsts)


def risks_of(text: str) -> Iterator[str]:
    """Say why a regular expression is refused; nothing when it is not. It must be one that compiles."""
    groups, closed = [_Group()], None
    for piece in _PIECE.findall(text):
        repeats = _REPEATS.fullmatch(piece) is not None
        if repeats and closed is not None and closed.is_risky:
            inside = "itself repeats, such as (a+)+," if closed.repeats else "has alternatives, such as (a|aa)+,"
            yield f"repeats a group that {inside} which can take for ever"
            return
        closed = None
        group = groups[-1]
        if repeats:
            group.repeats |= _VARIES.fullmatch(piece) is not None
        elif _OPENS.fullmatch(piece):
            groups.append(_Group())
        elif piece == ")" and len(groups) > 1:  # a comment within a pattern may hold a bracket of its own
            closed = _closed(groups)
        elif piece == "|":
            group.alternatives.append(group.first)
            group.first = ""
        elif not group.first:
            group.first = piece


def _closed(groups: list[_Group]) -> _Group:
    """Take the innermost group from the stack; what it holds counts for the group around it."""
    closed = groups.pop()
    around = groups[-1]
    around.repeats |= closed.repeats
    around.first = around.first or closed.first or "("
    if closed.alternatives:
        closed.alternatives.append(closed.first)
        around.alternatives += closed.alternatives
    return closed
