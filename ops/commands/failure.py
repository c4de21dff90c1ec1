"""How a command fails: one sentence that says what to do, and an exit code. Imports little."""

import errno
from typing import IO, Any

import click

from messaging import errors
from messaging.printable import printable_lines

FAILED, UNAVAILABLE, WRONG_SETTINGS, INTERRUPTED = 1, 69, 78, 130

_EXIT_CODES: dict[type[Exception], int] = {
    errors.GatewayError: FAILED,
    errors.Unavailable: UNAVAILABLE,
    errors.SetupError: WRONG_SETTINGS,
    errors.TopologyConflict: FAILED,
}
_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_BY_SETTINGS = frozenset({"PROCESS_FAILED", "SERVER_FAILED"})


class Failure(click.ClickException):
    """A command failed; `lines` follow the sentence, one on each line."""

    def __init__(self, sentence: str, code: int = FAILED, lines: tuple[str, ...] = ()) -> None:
        super().__init__("\n  ".join((sentence, *lines)))
        self.exit_code = code  # type: ignore[misc]  # click's own subclasses do the same

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's interface
        """Print it to standard error."""
        click.echo(f"smsctl: {printable_lines(self.message)}", err=True)


def as_failure(exc: BaseException) -> Failure | None:
    """Turn an expected exception into a Failure; None for any other, which is a bug."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    if isinstance(exc, Failure):
        return exc
    if isinstance(exc, OSError) and exc.errno in _NOT_WRITTEN:
        return Failure(f"the output cannot be written: {exc.strerror}")
    if not isinstance(exc, errors.GatewayError):
        return None
    code = next(_EXIT_CODES[kind] for kind in type(exc).__mro__ if kind in _EXIT_CODES)
    code = FAILED if exc.reason in _NOT_BY_SETTINGS else code
    match exc:
        case errors.ConfigError():
            return Failure("these settings are wrong:", code, tuple(f"{key}: {text}" for key, text in exc.faults))
        case errors.TopologyConflict():
            sentence = f"{exc.name} was not changed, because changing it would lose data:"
            return Failure(sentence, code, tuple(exc.differences))
        case errors.StreamDown():
            return Failure(f"the message stream is unavailable ({exc.during}): is nats-server running?", code)
        case errors.StoreDown():
            return Failure(f"PostgreSQL is unavailable ({exc.during}): is it running?", code)
        case _:
            return Failure(str(exc), code)
