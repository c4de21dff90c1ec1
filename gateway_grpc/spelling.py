"""Says whether a phone number is spelled in a usual way, and names the character that is not. Pure.

A separator is dropped only where it cannot change which number it is. What is dropped, and what is refused:

| character | dropped | refused |
| --- | --- | --- |
| space | between digits, beside brackets and hyphens, at the end | before everything else |
| hyphen | between digits, also with spaces around it | at the beginning or the end, or twice |
| dot | between groups of digits, as in 020.123.4567 or +49.15123456789 | where it can be a decimal point |
| brackets | around an area code, and (0) after the country code | elsewhere: digits that may be left out |
| anything else | never | always |
"""

import re
import unicodedata

_CHARACTERS = re.compile(r"[0-9 ().-]")
_READ = 64
"""How much of a text is read to find out what is wrong with it."""
_LONGEST_GROUP = 5
"""More digits than that before a dot are a whole number, so that the dot is a decimal point."""

_DECIMAL = (
    "has a dot (.) that can be a decimal point, which a spreadsheet adds to numbers: format the column as text and "
    "write the number without it"
)
_EXPONENT = (
    "is written with an exponent (E), in which a spreadsheet has lost digits: format the column as text and enter the "
    "whole number again"
)
_BRACKETS = "has brackets that are not around its area code, or around a 0 after its country code: leave them out"
_EXTENSION = "names an extension, which cannot get text messages: write only the number"

_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[+]?[0-9.,]+[eE][+-]?[0-9]+"), _EXPONENT),
    (
        re.compile(r"(tel|sms|callto|phone):.*", re.IGNORECASE),
        "begins with a scheme such as tel: and a number has none",
    ),
    (re.compile(r".*[0-9)]\s*(x|ext|;|#).*", re.IGNORECASE), _EXTENSION),
    (re.compile(r".*[0-9].*[+].*"), "has a plus (+) that is not at its beginning: write one number"),
)
_CURES: dict[str, str] = {
    ",": "a comma (,), which can be a decimal point or stand between two numbers: write one number without it",
    "/": "a slash (/), which can stand between two numbers: write one number, with spaces if you like",
    "'": "an apostrophe ('), with which a spreadsheet marks text: leave it out",
    "\u2019": "an apostrophe (U+2019), with which a spreadsheet marks text: leave it out",
}


def foreign_character(number: str) -> str:
    """Name what a number must not contain, and the cure; empty when there is no such character. Repeats no digit."""
    number = number[:_READ]
    for form, text in _FORMS:
        if form.fullmatch(number):
            return text
    if number.startswith(" "):
        return "begins with a space: leave it out"
    for index, char in enumerate(number):
        if (char == "+" and index == 0) or _CHARACTERS.fullmatch(char):
            continue
        return f"has {_CURES.get(char) or _described(char)}"
    return ""


def _described(char: str) -> str:
    """Describe a character without printing what a terminal might not show."""
    if char.isascii() and char.isalpha():
        return f"the letter {char}: write digits only"
    if unicodedata.category(char) in {"Nd", "Nl", "No"}:
        return f"a digit of another script (U+{ord(char):04X}): write the digits 0 to 9"
    if char.isascii() and char.isprintable():
        return f"the character {char}: write digits only"
    name = unicodedata.name(char, "a control character")
    shown = "an invisible character" if unicodedata.category(char) in {"Cf", "Cc", "Mn", "Zs"} else "the character"
    return f"{shown} (U+{ord(char):04X}, {name}): leave it out"


def spelling_fault(number: str) -> str:
    """Say what is unusual in a number of digits, spaces and ().- after an optional +, and the cure; empty: nothing."""
    plus, rest = number.startswith("+"), number.removeprefix("+").rstrip(" ")
    if not rest or not (rest[0].isdigit() or rest[0] == "("):
        return "must begin with a digit, after an optional +"
    if not (rest[-1].isdigit()):
        return _BRACKETS if rest[-1] in "()" else f"ends with the character {rest[-1]}: is it cut off?"
    return _brackets_fault(rest, plus=plus) or _dot_fault(rest) or _separator_fault(rest)


_BRACKETED = re.compile(r"([0-9]*)[ .-]?\(([0-9]{1,5})\)[ .-]?([0-9].*)")
_BEFORE_BRACKETS = {True: re.compile("[1-9][0-9]{0,2}"), False: re.compile("(00[1-9][0-9]{0,2}|[0-9]?)")}
"""What stands before brackets, with and without a plus: a country code, or at most a national prefix."""


def _brackets_fault(rest: str, *, plus: bool) -> str:
    """Brackets are once, around an area code: after the country code or a trunk prefix, with the number behind them."""
    if "(" not in rest and ")" not in rest:
        return ""
    found = _BRACKETED.fullmatch(rest)
    if found is None or set(found[3]) & set("()"):
        return _BRACKETS
    before, inside, behind = found.groups()
    if not _BEFORE_BRACKETS[plus].fullmatch(before):
        return _BRACKETS
    follows_code = before.startswith("00") or bool(before) == plus
    if inside.strip("0") == "" and not (inside == "0" and follows_code):
        return _BRACKETS
    return _BRACKETS if sum(map(str.isdigit, behind)) < 4 else ""


def _separator_fault(rest: str) -> str:
    """Between two groups of digits stand spaces, or one hyphen or dot; spaces may be around the hyphen."""
    for run in re.findall(r"[^0-9()]+", rest):
        if not re.fullmatch(r" +| *- *|\.", run):
            return "has several separators between two digits: write one space or hyphen there"
    return ""


def _dot_fault(rest: str) -> str:
    """Judge the dots: one is dropped only where it cannot be a decimal point."""
    *before, behind = rest.split(".")
    if not before:
        return ""
    is_fraction = behind.isdigit() and len(before) == 1 and (len(behind) < 3 or not behind.strip("0"))
    groups = [re.findall(r"[0-9]*$", part)[0] for part in before]
    if len(behind) < 2 or is_fraction or any(len(group) > _LONGEST_GROUP for group in groups):
        return _DECIMAL
    return ""
