"""Texts with names in braces, such as `{recipient}` or `Bearer {secret.key}`. Pure.

Only plain names are allowed: no format (`{body:>9}`), no conversion (`{body!r}`), no attribute or index of a value, and
no braces within braces. A text from outside thus costs what it is long, and never reaches into a value. `{{` and `}}`
are braces themselves.
"""

import string
import urllib.parse
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import attrs

from messaging.runtime.secret import Secret

_SECRET = "secret."  # noqa: S105 - how the name of a secret begins


class BadBraces(ValueError):
    """Braces that cannot be filled in; its sentence names them and the cure, and no secret."""


@attrs.frozen(repr=False)
class BracedText:
    """A text that is filled in for each message. `template` holds the secrets; `names` are those of the message."""

    template: str
    names: frozenset[str]
    sole_name: str
    """The name, when the text is one name in braces and nothing else; otherwise empty."""

    def fill(self, values: Mapping[str, Any]) -> str:
        """Fill in the values of a message."""
        return self.template.format_map(values)

    @property
    def fixed(self) -> str:
        """The text without the values of a message: what is known of it at the start."""
        return self.template.format_map(dict.fromkeys(self.names, ""))


def read_braces(
    text: str,
    names: Container[str],
    secrets: Mapping[str, Secret],
    quoted: Callable[[str], str] = lambda text: text,
) -> BracedText:
    """Read a text; raises BadBraces. `quoted` is applied to each secret that is filled in."""
    parts, used = [], []
    for literal, name in _pieces(text):
        parts.append(_escaped(literal))
        if name is None:
            continue
        if literal.endswith("$"):
            raise BadBraces(f"a dollar sign before {{{name}}} would be sent too: leave it out")
        if name.startswith(_SECRET):
            key = name.removeprefix(_SECRET)
            if key not in secrets:
                known = ", ".join(f"{{secret.{one}}}" for one in secrets) or "none"
                raise BadBraces(f"{{{name}}} is a secret that the provider does not have; its secrets are {known}")
            parts.append(_escaped(quoted(secrets[key].reveal())))
        elif name in names:
            parts.append(f"{{{name}}}")
            used.append(name)
        else:
            raise BadBraces(f"{{{name}}} is no name in braces that can be used here")
    sole = used[0] if len(used) == 1 and "".join(parts) == f"{{{used[0]}}}" else ""
    return BracedText("".join(parts), frozenset(used), sole)


def url_quoted(text: str) -> str:
    """Quote a value for any place of a URL: no character of it can end its place."""
    return urllib.parse.quote(text, safe="")


def has_braces(text: str) -> bool:
    """Whether a text has anything to fill in."""
    return "{" in text or "}" in text


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Split a text into pairs of literal text and the name behind it, None for no name."""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as exc:
        raise BadBraces("has braces that do not pair; write {{ and }} for braces themselves") from exc
    for literal, name, form, conversion in pieces:
        if name is not None and (form or conversion or "[" in name or "{" in name):
            raise BadBraces(f"only a plain name may stand in braces, such as {{recipient}}, not {{{name[:32]}…}}")
        if name is not None and not name:
            raise BadBraces("has braces without a name; write {{ and }} for braces themselves")
        yield literal, name
