"""URL, headers and fields of a request as the providers file writes them, with names in braces. Pure.

They are read once, which refuses everything that could not be filled in, and filled in for each message.
"""

import math
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from messaging.runtime.secret import Secret
from providers.base import Submission
from providers.bodies import spell
from providers.braces import BadBraces, BracedText, has_braces, read_braces, url_quoted
from providers.field_tree import BadPath, plant
from providers.national_number import national_digits

TYPED = ("segments", "attempt", "validity_s", "is_unicode")
"""Names whose values are numbers or booleans in JSON, when nothing else stands in the field."""


def values_of(submission: Submission, default_sender: str) -> dict[str, Any]:
    """Return the values that a template may use, by name."""
    return {
        "message_id": submission.message_id,
        "recipient": submission.recipient,
        "digits": submission.recipient.lstrip("+"),
        "national": national_digits(submission.recipient),
        "sender": submission.sender or default_sender,
        "body": submission.body,
        "segments": submission.segments,
        "attempt": submission.attempt,
        "unicode": "true" if submission.unicode else "false",
        "is_unicode": submission.unicode,
        "validity_s": int(submission.validity_s),
    }


_EMPTY = Submission(
    message_id="",
    recipient="",
    body="",
    sender="",
    segments=0,
    unicode=False,
    attempt=0,
    validity_s=0.0,
    traceparent="",
)
NAMES = frozenset(values_of(_EMPTY, ""))
NOTHING = dict.fromkeys(NAMES, "")
"""Empty values, for the headers of a look-up."""

Faults = list[tuple[str, str]]
"""Pairs of the setting's path, such as `.fields.to`, and what is wrong with it."""


@attrs.frozen(repr=False)
class Headers:
    """The headers of every request; their names are in lower case."""

    texts: Mapping[str, BracedText]

    def fill(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Fill in the values of a message."""
        return {name: text.fill(values) for name, text in self.texts.items()}


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_NOT_YOURS = frozenset({"content-length", "transfer-encoding", "trailer", "te", "upgrade", "expect"})


def read_headers(headers: Mapping[str, str], secrets: Mapping[str, Secret], sender: str, faults: Faults) -> Headers:
    """Read the headers; `sender` is the default one, which may stand in them."""
    texts = {}
    for name, text in headers.items():
        where = f".headers.{name}"
        if not _HEADER_NAME.fullmatch(name):
            faults.append((where, "is no name of a header: it may have letters, digits and hyphens"))
        elif name.lower() in _NOT_YOURS:
            faults.append((where, "is set by the gateway itself: leave it out"))
        elif name.lower() in texts:
            faults.append((where, "stands there twice: upper and lower case are the same"))
        try:
            texts[name.lower()] = read = read_braces(text, NAMES, secrets)
        except BadBraces as exc:
            faults.append((where, str(exc)))
            continue
        if not _HEADER_VALUE.fullmatch(read.fixed):
            faults.append((where, "may have ASCII characters only, on one line; look also at the secrets in it"))
        elif "sender" in read.names and not _HEADER_VALUE.fullmatch(sender):
            faults.append((where, "holds {sender}, so the provider's sender must be ASCII"))
    return Headers(texts)


@attrs.frozen(repr=False)
class Fields:
    """The fields of every request: a document for JSON, and pairs for a form or a query."""

    document: Any
    pairs: tuple[tuple[str, BracedText], ...]

    def fill_document(self, values: Mapping[str, Any]) -> Any:
        """Fill in the JSON document."""
        return _filled(self.document, values)

    def fill_pairs(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Fill in the pairs of a form or a query."""
        return [(name, text.fill(values)) for name, text in self.pairs]


def _filled(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, BracedText):
        return values[node.sole_name] if node.sole_name in TYPED else node.fill(values)
    if isinstance(node, dict):
        return {name: _filled(child, values) for name, child in node.items()}
    if isinstance(node, list):
        return [_filled(child, values) for child in node]
    return node


def read_fields(fields: Mapping[str, Any], secrets: Mapping[str, Secret], faults: Faults, *, json: bool) -> Fields:
    """Read the fields, for a JSON document or for the pairs of a form or query."""

    def read(text: str) -> BracedText:
        return read_braces(text, NAMES, secrets)

    found = {}
    for name, value in fields.items():
        if has_braces(name):
            faults.append((f".fields.{name}", "has braces in its name, where nothing is filled in"))
            continue
        try:
            leaf = _leaf(value, read)
            if not json:
                _refuse_nested(leaf)
            found[name] = leaf
        except (BadBraces, BadPath) as exc:
            faults.append((f".fields.{name}", str(exc)))
    if not json:
        return Fields(None, tuple(_pairs(found)))
    try:
        return Fields(plant(found), ())
    except BadPath as exc:
        faults.append((".fields", str(exc)))
        return Fields(None, ())


def _leaf(value: Any, read: Callable[[str], BracedText]) -> Any:
    """Read a value of the file with all that is in it; raises BadBraces or BadPath."""
    if isinstance(value, str):
        return read(value)
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_leaf(item, read) for item in value]
    if isinstance(value, dict):
        return plant({name: _leaf(item, read) for name, item in value.items()})
    raise BadPath("must be text, a number, true, false, a list or a table")


def _refuse_nested(value: Any) -> None:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)):
        raise BadPath("must be a single value or a list of them: a form or a query cannot nest")


def _pairs(found: Mapping[str, Any]) -> Iterator[tuple[str, BracedText]]:
    """Give the pairs of a form: a list is the same name several times, and other values are spelled as in JSON."""
    for name, value in found.items():
        for one in value if isinstance(value, list) else [value]:
            yield name, one if isinstance(one, BracedText) else BracedText(spell(one), frozenset(), "")


@attrs.frozen(repr=False)
class Address:
    """A URL with names in braces."""

    text: BracedText
    same: str
    """The URL itself when no name of a message stands in it: the usual case, which costs nothing."""
    in_path: frozenset[str]
    """The names before the query, where `.` and `..` mean folders."""

    def fill(self, values: Mapping[str, Any]) -> str:
        """Fill in the values of a message, quoted. Raises ValueError for a value that would change the path."""
        if not self.text.names:
            return self.same
        quoted = {name: url_quoted(str(values[name])) for name in self.text.names}
        if not {".", ".."}.isdisjoint(quoted[name] for name in self.in_path):
            raise ValueError("a value that URLs take for a folder")
        return self.text.fill(quoted)


def read_address(url: str, names: frozenset[str], secrets: Mapping[str, Secret]) -> Address:
    """Read a URL; raises BadBraces. Names of a message may not stand in scheme, user or host."""
    text = read_braces(url, names, secrets, url_quoted)
    head = re.match(r"[^/]*//[^/?#]*", text.template)
    if head is not None and any(f"{{{name}}}" in head[0] for name in text.names):
        raise BadBraces("a value of a message may stand behind the host only")
    path = text.template.partition("?")[0]
    return Address(text, text.fixed, frozenset(name for name in text.names if f"{{{name}}}" in path))


def without_own(url: str, names: frozenset[str]) -> str:
    """Leave out of a URL its fragment, and the parameters of its query that have these names."""
    base, _, query = url.partition("#")[0].partition("?")
    kept = [
        part for part in query.split("&") if part and urllib.parse.unquote_plus(part.partition("=")[0]) not in names
    ]
    return f"{base}?{'&'.join(kept)}" if kept else base
