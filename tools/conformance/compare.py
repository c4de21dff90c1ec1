"""Compares what a client saw with what it should have seen. Pure."""

from collections.abc import Mapping
from typing import Any

ANY_TEXT = "*"
"""In the expected document: any text that is not empty."""


def facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's document without its name, which differs between clients."""
    return {key: value for key, value in document.items() if key != "client"}


def differences(expected: Any, seen: Any, where: str = "") -> list[str]:
    """Describe every place where `seen` differs from `expected`; empty when they agree. 2 and 2.0 are equal."""
    if expected == ANY_TEXT and isinstance(seen, str) and seen:
        return []
    if isinstance(expected, Mapping) and isinstance(seen, Mapping):
        return [
            found
            for key in sorted({*expected, *seen})
            for found in _member(expected, seen, key, f"{where}.{key}" if where else key)
        ]
    if isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        pairs = enumerate(zip(expected, seen, strict=True))
        return [found for index, (one, other) in pairs for found in differences(one, other, f"{where}[{index}]")]
    if _kind(expected) is _kind(seen) and expected == seen:
        return []
    return [f"{where or 'the document'}: expected {expected!r}, saw {seen!r}"]


def _member(expected: Mapping[str, Any], seen: Mapping[str, Any], key: str, where: str) -> list[str]:
    if key not in seen:
        return [f"{where}: missing, expected {expected[key]!r}"]
    if key not in expected:
        return [f"{where}: not expected, saw {seen[key]!r}"]
    return differences(expected[key], seen[key], where)


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)
