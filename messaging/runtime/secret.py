"""Values that are never printed: keys, passwords, and URLs that contain one."""

import re

MASK = "****"

DATABASE_SCHEMES = ("postgresql://", "postgres://", "postgresql+asyncpg://")
"""How the URL of the history may begin; other SQLAlchemy drivers are not supported."""


class Secret:
    """A value whose `repr` and `str` are masked; `reveal()` returns it."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return MASK if self._value else "(unset)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def mask_url(url: str) -> str:
    """Mask every password and token in a URL, or in several NATS URLs separated by commas."""
    is_database = url.startswith(DATABASE_SCHEMES)
    return ",".join(_mask_one(part, name_is_open=is_database) for part in ([url] if is_database else url.split(",")))


def _mask_one(url: str, *, name_is_open: bool) -> str:
    """Mask the password. A user name without a password is a token and masked too, unless `name_is_open`."""
    url = re.sub(r"(?i)(password=)[^&]*", rf"\g<1>{MASK}", url)
    scheme, sep, rest = url.partition("://") if "://" in url else ("", "", url)
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}:{MASK}" if colon else name if name_is_open else MASK
    return f"{scheme}{sep}{shown}@{place}" if at else url


def mask_address(url: str) -> str:
    """Mask user, password and every value of the query in a provider's URL; names in braces are shown."""
    base, mark, query = url.partition("?")
    head, slashes, rest = base.partition("//")
    authority, slash, path = rest.partition("/") if slashes else ("", "", rest)
    if ":" in authority and not authority.rpartition(":")[2].isdecimal():  # a slash within a password, perhaps
        authority, slash, path = rest, "", ""
    user, at, place = authority.rpartition("@")
    if at:
        authority = f"{_unless_braces(user)}@{place}"
    query, sharp, fragment = query.partition("#")
    pairs = [part.partition("=") for part in query.split("&")]
    shown = "&".join(
        f"{name}{sign}{_unless_braces(value)}" if sign else _unless_braces(name) for name, sign, value in pairs
    )
    return f"{head}{slashes}{authority}{slash}{path}{mark}{shown}{sharp}{fragment}"


def _mask_parameter(part: str) -> str:
    name, sign, value = part.partition("=")
    return f"{name}{sign}{_unless_braces(value)}" if sign else _unless_braces(name)


def _unless_braces(text: str) -> str:
    """Mask a text, unless it is empty or names in braces with nothing but a colon between them."""
    return MASK if re.sub(r"\{[^{}]*\}", "", text).strip(":") else text


class Url(Secret):
    """A URL whose `repr` and `str` have no password."""

    def __repr__(self) -> str:
        return mask_url(self.reveal())
