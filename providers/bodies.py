"""Bodies as most providers use them: JSON and forms in requests, JSON in answers."""

import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
ROOT = "$"
"""The path of the whole document."""


def json_body(document: Any) -> bytes:
    """Encode a document as compact JSON in UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def form_body(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode pairs of name and value as a form."""
    return urllib.parse.urlencode(list(pairs)).encode()


def read_json(body: bytes | str) -> Any:
    """Read a JSON document; None when it is not one, is cut off, or is nested too deeply."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def text_at(document: Any, path: str) -> str:
    """Return the value at a dotted path (`data.0.id`) as text; empty when there is none or it is not a single value.

    The path `$` is the whole document.
    """
    node = document
    for step in path.split(".") if path and path != ROOT else ():
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            return ""
    return spell(node) if path and isinstance(node, str | int | float | bool) else ""


def spell(value: Any) -> str:
    """Format a value as in JSON, so that `true` in the providers file equals `true` in an answer."""
    return value if isinstance(value, str) else json.dumps(value)
