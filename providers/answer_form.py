"""Answers in every form that providers write them: the values that the settings name, whatever holds them. Pure."""

import codecs
import functools
import re
from collections.abc import Iterator
from typing import Any, Literal

import attrs

from providers.base import Answer
from providers.bodies import read_json, text_at
from providers.pattern_risks import risks_of
from providers.xml_body import Element, read_xml, xml_text_at

Form = Literal["json", "text", "xml", "status"]

_SEARCHED_CHARS = 4096
"""A regular expression looks at this much of a text, so that no answer can keep it busy."""

_CHARSETS = ("utf", "ascii", "iso8859", "cp", "koi8", "gb", "big5", "shift_jis", "euc", "mac", "hz")
_NAMED = re.compile(r"(?i)charset\s*=\s*[\"']?([A-Za-z0-9._:+-]{1,40})")

_ERROR_PATHS = (
    "message",
    "error.message",
    "error",
    "errors.0.message",
    "errors.0",
    "error_message",
    "errorMessage",
    "error_description",
    "description",
    "detail",
    "msg",
    "reason",
    "title",
)
"""Where providers write in JSON what is wrong, if the settings do not say it."""


@attrs.frozen(repr=False, slots=False)
class Contents:
    """What an answer holds. `document` is None when the form wants one and the answer has none."""

    body: bytes
    charset: str
    document: Any

    @functools.cached_property
    def text(self) -> str:
        """The body as text; most answers are judged without it."""
        return self.body.decode(self.charset or "utf-8-sig", errors="replace")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but blanks."""
        return self.document is None and (not self.body or not self.text.strip())

    def at(self, path: str) -> str:
        """Return the value at a path of the document; empty when there is none."""
        if isinstance(self.document, Element):
            return xml_text_at(self.document, path)
        return text_at(self.document, path)

    def matched(self, pattern: re.Pattern[str] | None) -> str | None:
        """Return what a pattern finds: its first group, or all if it has none; None when it finds nothing."""
        found = pattern.search(self.text[:_SEARCHED_CHARS]) if pattern is not None else None
        if found is None:
            return None
        return (found[1] or "") if found.re.groups else found[0]

    def error_text(self) -> str:
        """Return what the provider says is wrong, where the settings do not name its place."""
        for path in _ERROR_PATHS:
            if found := text_at(self.document, path):
                return found
        plain = self.document is None and self.text[:1].isalpha() and "<" not in self.text[:200]
        return self.text[:_SEARCHED_CHARS] if plain and self.text != "null" else ""


def read_contents(answer: Answer, form: Form, charset: str) -> Contents:
    """Read an answer in its form. `charset` is that of the settings; empty: what the answer says, or UTF-8."""
    named = charset or _charset_of(answer)
    document = None
    # Without a name, both find out the encoding themselves. A byte that is none of its charset makes JSON unreadable.
    if form == "json":
        document = read_json(_strict(answer.body, named) if named else answer.body)
    elif form == "xml":
        document = read_xml(answer.body.decode(named, errors="replace") if named else answer.body)
    return Contents(answer.body, named, document)


def _strict(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return ""


def _charset_of(answer: Answer) -> str:
    """Return the charset that an answer names, if it is one that we read; UTF-8 is found without a name."""
    content_type = answer.headers.get("content-type", "")
    named = _NAMED.search(content_type[:256]) if "=" in content_type else None
    charset = known_charset(named[1]) if named else ""
    return "" if charset.startswith("utf-8") else charset


def known_charset(name: str) -> str:
    """Return the name of a charset as Python has it; empty when it is none, or a conversion of another kind."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return found if found.startswith(_CHARSETS) else ""


def faults_of_pattern(text: str) -> Iterator[str]:
    """Find what is wrong with a regular expression of the settings."""
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        yield f"is no regular expression: {exc}"
        return
    yield from risks_of(text)
    if pattern.search("") is not None:
        yield "matches an empty text, and so every answer"
