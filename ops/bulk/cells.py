"""Finds cells that a spreadsheet or an editor has changed, so that they are refused and never guessed. Pure."""

import re
import unicodedata

from ops.bulk.text import UNREADABLE

_EXPONENT = re.compile(r"\s*[+-]?\d+(?:[.,]\d+)?E[+-]?\d+\s*", re.IGNORECASE | re.ASCII)
_ROUNDED = re.compile(r"-?\d(?:[.,]\d+)?E\+\d{2,3}", re.ASCII)
_SHEET_ERROR = re.compile(r"#(?:N/A|NAME\?|VALUE!|REF!|DIV/0!|NUM!|NULL!|SPILL!|CALC!|#{2,})")
_SPACE_THEN_QUOTED = re.compile(r'\s+".*"\s*', re.DOTALL)
_HALF_QUOTED = re.compile(r'\s+"[^"]*')
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
_FREE_TEXT = frozenset({"body", "reference"})
_AS_TEXT = "format the column as text and export the file again"


def fault_of(column: str, text: str) -> str | None:
    """Say what is wrong with a cell, and the cure, without repeating it; None when it may be used as it is."""
    if UNREADABLE.search(text):
        return "holds bytes that are not text in the file's encoding: save the file as UTF-8"
    if _SHEET_ERROR.fullmatch(text.strip()):
        return "is an error value of a spreadsheet: correct the cell's formula, and export the file again"
    if _SPACE_THEN_QUOTED.fullmatch(text) or _HALF_QUOTED.fullmatch(text):
        return "has a space before its quotation mark: remove the space"
    if column == "recipient":
        return _fault_of_number(text)
    if column in {"request_id", "reference"} and _ROUNDED.fullmatch(text.strip()):
        return f"is a number that a spreadsheet has rounded: {_AS_TEXT}"
    return None if column in _FREE_TEXT or column.startswith("label.") else _hidden(text)


def _fault_of_number(text: str) -> str | None:
    if _EXPONENT.fullmatch(text):
        return f"is a number that a spreadsheet has rounded: {_AS_TEXT}"
    if text.startswith(("'", "=")):
        return f"begins with {text[0]}, which a spreadsheet added: remove it"
    return _hidden(text)


def _hidden(text: str) -> str | None:
    if text.isascii() and text.isprintable():
        return None
    for position, character in enumerate(text, 1):
        if character in _BLANK_LETTERS or unicodedata.category(character) in _HIDDEN:
            return f"holds the invisible character U+{ord(character):04X} at position {position}: remove it"
    return None


def next_row_in(text: str, delimiter: str) -> bool:
    """Whether a text goes on with what looks like the file's next row, because a quotation mark was left open."""
    if "\n" not in text and "\r" not in text:
        return False
    row = rf'[\r\n]\s*"?\+?\d[\d ()\-]{{6,18}}"?\s*{re.escape(delimiter)}'
    return re.search(row, text, re.ASCII) is not None
