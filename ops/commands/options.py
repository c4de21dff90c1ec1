"""Arguments and options that several commands share: the id of a message, and whether to print its whole number."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from messaging.model import address_of

_F = TypeVar("_F", bound=Callable[..., Any])


def reveal_option(function: _F) -> _F:
    """Add --reveal to a command about one message."""
    return click.option("--reveal", is_flag=True, help="Print the whole phone number.")(function)


def message_id(_: click.Context, __: click.Parameter, value: str | tuple[str, ...] | None) -> Any:
    """Read the argument MESSAGE_ID, one or several; an id that the gateway cannot have made is wrong usage."""
    if isinstance(value, tuple):
        return tuple(map(_read, value))
    return None if value is None else _read(value)


def _read(text: str) -> str:
    try:
        return address_of("default", text).message_id
    except ValueError as exc:
        cure = "`smsctl list` and `smsctl dlq list` show ids"
        raise click.BadParameter(f"is not a message id such as 01a20165-7b42-748d-a7cf-cb216510c492; {cure}") from exc
