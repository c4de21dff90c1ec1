"""Says what a text or a sender must not be: blank, or with control characters. Pure; repeats nothing but a character.

A control character is refused and not replaced: it is a mistake of whatever made the text, and it would make a text
UCS-2, which costs twice as much or more. A line feed, a carriage return, a form feed and a tab are no mistakes.
"""

import re
import unicodedata
from collections.abc import Iterable

_CONTROL = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
_SELECTORS = ((0x17B4, 0x17B5), (0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_UNSEEN_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\ufffc\ufffe\uffff").union(
    chr(code) for first, last in _SELECTORS for code in range(first, last + 1)
)
"""Characters that show nothing although they count as letters, symbols or marks: fillers and variation selectors."""
_NAMED = 3
_SPREADSHEET = re.compile(r"[0-9]{3,}\.[0-9]+(E[0-9]+)?|[0-9]\.[0-9]+E[0-9]+")

BLANK = "is blank: it needs a character that can be seen"


def text_fault(text: str) -> str:
    """Say what is wrong with a text that is not empty; empty when nothing is."""
    if text.isascii() and text.isprintable():
        return BLANK if text.isspace() else ""
    if (control := _CONTROL.search(text)) is not None:
        return f"has the control character U+{ord(control[0]):04X} at position {control.start()}: remove it"
    return BLANK if all(map(_is_unseen, text)) else ""


def sender_fault(sender: str) -> str:
    """Say what is wrong with a sender of permitted characters; empty when nothing is."""
    if not any(map(str.isalnum, sender)):
        return "is blank: it needs a letter or a digit; leave it out for the provider's default"
    if _SPREADSHEET.fullmatch(sender):
        return "is a decimal number, as a spreadsheet writes it: format the column as text"
    return ""


def named(characters: Iterable[tuple[int, str]]) -> str:
    """List the first few different characters of a text by code point, name and position."""
    first = {char: position for position, char in reversed(list(characters))}
    in_order = sorted(first.items(), key=lambda one: one[1])
    shown = [f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip() + f" at position {at}" for char, at in in_order]
    more = " and others" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def _is_unseen(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN_CATEGORIES or char in _UNSEEN_LETTERS
