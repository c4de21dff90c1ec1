"""How one setting is declared, and the functions that read its text; each raises ValueError that says what is right."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from messaging.runtime.config.regions import OFTEN_MEANT, REGIONS
from messaging.runtime.secret import DATABASE_SCHEMES, Url

_HIGHEST_PORT = 65_535


def setting(variable: str, default: Any, read: Callable[[str], Any], meaning: str) -> Any:
    """Declare one setting: its variable, its default as a value, the function that reads its text, and its meaning."""
    return attrs.field(default=default, metadata={"variable": variable, "read": read, "meaning": meaning})


def number(low: float, high: float, kind: Callable[[str], float]) -> Callable[[str], Any]:
    """Return what reads a number between two bounds."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as exc:
            raise ValueError("must be a whole number" if kind is int else "must be a number") from exc
        if not low <= value <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return value

    return read


def seconds(low: float, high: float) -> Callable[[str], Any]:
    """Return what reads a number of seconds."""
    return number(low, high, float)


def whole(low: int, high: int) -> Callable[[str], Any]:
    """Return what reads a whole number."""
    return number(low, high, int)


def one_of(*words: str) -> Callable[[str], str]:
    """Return what reads one of these words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def flag(text: str) -> bool:
    """Read true or false."""
    return one_of("true", "false")(text.lower()) == "true"


def delays(text: str) -> tuple[float, ...]:
    """Read seconds separated by commas."""
    values = tuple(float(part) for part in text.split(",") if part.strip())
    if any(not 0 < value <= 7 * 86400 for value in values):
        raise ValueError("must be seconds between 0 and 604800, separated by commas")
    return values


def region(text: str) -> str:
    """Read a country code, or nothing."""
    if text and not (len(text) == 2 and text.isalpha()):
        raise ValueError("must be an ISO 3166-1 alpha-2 code such as GH, or empty")
    code = text.upper()
    if code and code not in REGIONS:
        meant = f": did you mean {OFTEN_MEANT[code]}?" if code in OFTEN_MEANT else ""
        raise ValueError(f"{code} is no ISO 3166-1 alpha-2 code of a region with phone numbers, such as GH{meant}")
    return code


def word(text: str) -> str:
    """Read a name without spaces."""
    if not text or not all(char.isalnum() or char in "-_" for char in text):
        raise ValueError("may contain only letters, digits, - and _")
    return text


def file(text: str) -> str:
    """Read the path of a file that can be opened."""
    try:
        with Path(text).open("rb"):
            return text
    except OSError as exc:
        raise ValueError(f"{text} cannot be read: {exc.strerror}") from exc


def database(text: str) -> Url:
    """Read the URL of PostgreSQL; raises ValueError for any other."""
    if not text.startswith(DATABASE_SCHEMES):
        raise ValueError(f"is not a URL of PostgreSQL: it must begin with {' or '.join(DATABASE_SCHEMES)}")
    _check_ports(text)
    return Url(text)


def servers(text: str) -> Url:
    """Read the URLs of nats-servers; raises ValueError for a wrong port."""
    for url in text.split(","):
        _check_ports(url)
    return Url(text)


def address(text: str) -> str:
    """Read an address with a port, or nothing; raises ValueError for a wrong port. Sockets of other kinds are left."""
    if not text.startswith(("unix:", "unix-abstract:", "vsock:")):
        _check_ports(text)
    return text


def _check_ports(url: str) -> None:
    """Raise ValueError for a character that no address has, or a port that no host has; nothing is told of the URL."""
    if not url.strip().isprintable():
        raise ValueError("has a control character, or another one that cannot be seen: write it anew")
    place = re.split(r"[/?#]", url.partition("://")[2] or url)[0].rpartition("@")[2]
    for host in place.split(","):
        port = re.fullmatch(r"(?:[^:]*|.*\])(?::([^\]]*))?", host)
        number = port[1] or "0" if port is not None else "none"
        if not (number.isascii() and number.isdecimal() and int(number[:6]) <= _HIGHEST_PORT):
            raise ValueError(f"has a port that is not between 0 and {_HIGHEST_PORT}")
