"""Arguments and options that several commands share: the id of a message, and whether to print its whole number."""

import getpass
import math
import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
from google.protobuf.timestamp_pb2 import Timestamp

from messaging import codec
from messaging.model import address_of, is_client
from ops.commands.request import BadField, read_seconds, read_time

_LONGEST_NAME = 64
_HAS_YEAR = re.compile(r"\d{4}-")
_F = TypeVar("_F", bound=Callable[..., Any])


class Amount(click.FloatRange):
    """A number between two bounds. `nan` is between none, and is refused as `inf` is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail("must be a number", param, ctx)
        return found


def filter_option(name: str, text: str) -> Callable[[_F], _F]:
    """Add an option that shows fewer rows. An empty value would show them all, as a variable that is not set does."""
    return click.option(name, default=None, callback=_filter, help=text)


def _filter(_: click.Context, __: click.Parameter, value: str | None) -> str:
    if value is not None and not value.strip():
        raise click.BadParameter("must not be empty: leave the option out to see all")
    return value or ""


def reveal_option(function: _F) -> _F:
    """Add --reveal to a command about one message."""
    return click.option("--reveal", is_flag=True, help="Print the whole phone number.")(function)


def client_option(function: _F) -> _F:
    """Add --client to a command."""
    text = "Whose messages."
    return click.option("--client", default="default", show_default=True, callback=_client, help=text)(function)


def _client(_: click.Context, __: click.Parameter, value: str) -> str:
    if not is_client(value):
        raise click.BadParameter("is not the name of a client: it has 1 to 64 of a-z, 0-9, _ and -")
    return value


def author_option(function: _F) -> _F:
    """Add --by to a command whose author stands in the story of the message."""
    text = "Who does it, for the message's story; default: the user of this machine."
    return click.option("--by", "author", metavar="NAME", callback=_author, help=text)(function)


def _author(_: click.Context, __: click.Parameter, value: str | None) -> str:
    name = value if value is not None else os.environ.get("SUDO_USER") or _user()
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise click.BadParameter(f"must be a name of at most {_LONGEST_NAME} printable characters")
    return name.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def message_id(_: click.Context, __: click.Parameter, value: str | tuple[str, ...] | None) -> Any:
    """Read the argument MESSAGE_ID, one or several; an id that the gateway cannot have made is wrong usage."""
    if isinstance(value, tuple):
        return tuple(map(_read, value))
    return None if value is None else _read(value)


def _read(text: str) -> str:
    try:
        return address_of("default", text).message_id
    except ValueError as exc:
        cure = "`smsctl list` shows ids; --request-id takes the caller's own id"
        raise click.BadParameter(f"is not a message id such as 01a20165-7b42-748d-a7cf-cb216510c492; {cure}") from exc


def since_option(function: _F) -> _F:
    """Add --since to a command."""
    text = "Not older than this: RFC 3339, or how long ago: 15m, 2h, 1d."
    return click.option("--since", callback=_moment, metavar="TIME", help=text)(function)


def until_option(function: _F) -> _F:
    """Add --until to a command."""
    text = "Older than this: RFC 3339, or how long ago: 15m, 2h, 1d."
    return click.option("--until", callback=_moment, metavar="TIME", help=text)(function)


def _moment(_: click.Context, parameter: click.Parameter, value: str | None) -> Timestamp | None:
    if value is None:
        return None
    if not _HAS_YEAR.match(value):
        try:
            return codec.timestamp(time.time() - read_seconds("", value))
        except BadField as exc:
            raise click.BadParameter("must be RFC 3339, or how long ago, such as 15m, 2h or 1d") from exc
    try:
        return read_time(str(parameter.name), value, None)
    except BadField as exc:
        raise click.BadParameter(f"{exc.reason}, or how long ago, such as 15m, 2h or 1d") from exc
