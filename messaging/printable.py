"""Makes text from outside harmless on a terminal, in a table and in a line of a log. Pure.

A caller, a provider or a record may send control characters, which move the cursor, end a line or colour what follows,
and bidirectional controls, which show characters in another order than they are. Both are written as escapes.
"""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]")
_BESIDE_LINES = re.compile(f"(?![\n\t]){_UNSAFE.pattern}")


def _escape(found: "re.Match[str]") -> str:
    return f"\\u{ord(found[0]):04x}"


def printable(text: str) -> str:
    r"""Return one line of text with each control and bidi character as `\uXXXX`, in JSON's own form."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Do the same with a text of several lines: line breaks and tabs stay, and later lines are indented.

    So no line but the first begins at the margin, where a forged one would look like ours.
    """
    first, *more = _BESIDE_LINES.sub(_escape, text).split("\n")
    return "\n".join((first, *(line if not line or line[0] == " " else f"  {line}" for line in more)))
