"""What commands about messages are asked by: the id of a message, and whether to reveal its number."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from messaging.model import address_of

_F = TypeVar("_F", bound=Callable[..., Any])


def reveal_option(function: _F) -> _F:
    """Add --reveal to a command that speaks of one message."""
    return click.option("--reveal", is_flag=True, help="Print the whole phone number.")(function)


def message_id(_: click.Context, __: click.Parameter, value: str | tuple[str, ...] | None) -> Any:
    """Read the argument MESSAGE_ID, one or several; what the gateway cannot have answered is wrong usage everywhere."""
    if isinstance(value, tuple):
        return tuple(map(_read, value))
    return None if value is None else _read(value)


def _read(text: str) -> str:
    try:
        return address_of("default", text).message_id
    except ValueError as exc:
        cure = "`smsctl list` and `smsctl dlq list` show some"
        raise click.BadParameter(f"is no message id, such as 01a20165-7b42-748d-a7cf-cb216510c492; {cure}") from exc
