"""`smsctl`: the table of commands. A command's module is imported only when the command runs, so that help is fast."""

import errno
import importlib
import signal
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import click

from messaging.printable import printable_lines
from messaging.runtime import grpc_core
from ops.commands.failure import INTERRUPTED, Failure, as_failure
from ops.commands.library_logs import Standalone

COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("up:up", "Run the whole system on this machine until Ctrl-C."),
    "demo": ("up:demo", "Run the whole system, send in bulk, and check its promises."),
    "probe": ("probe:probe", "Check the health of a process; for a container's health check."),
    "check-config": ("check_config:check_config", "Check and print the settings and the providers file."),
    "topology": ("topology:topology", "Show the state of the streams and consumers, or create them."),
    "migrate": ("topology:migrate", "Bring the database to the newest schema."),
    "send": ("send:send", "Send one message."),
    "batch": ("batch:batch", "Send the messages in a file; safe to repeat."),
    "status": ("messages:status", "Show the status of a message."),
    "cancel": ("messages:cancel", "Cancel a message that no provider has taken."),
    "list": ("messages:list_messages", "List messages, newest first."),
    "explain": ("explain:explain", "Show everything that happened to a message, step by step."),
    "lanes": ("lanes:lanes", "Show rates, shares, backlogs and breakers of every provider."),
    "breaker": ("breaker:breaker", "Show, open and reset the breakers of providers."),
    "dlq": ("dlq:dlq", "List, replay and discard dead letters."),
}
"""Name: (module and attribute in ops.commands, what it is for)."""


class Commands(click.Group):
    """The commands in the table above. An expected error ends a command with one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Return the names of the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command and return it; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"ops.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turns expected errors into a Failure."""
        if isinstance(ctx.obj, Standalone):
            # A shell that starts a command in the background makes it ignore SIGINT. If one is sent anyway, obey it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except (KeyboardInterrupt, click.Abort) as exc:
            if isinstance(exc, click.Abort) and not isinstance(exc.__context__, KeyboardInterrupt):
                raise  # the answer to a question was no
            raise Failure("interrupted", INTERRUPTED) from None
        except click.ClickException as exc:
            # It may repeat what was pasted.
            exc.message = printable_lines(exc.message)  # type: ignore[misc]  # final for subclasses only
            raise
        except UnicodeEncodeError as exc:  # of an argument, because bytes that are not UTF-8 become half a pair
            raise click.UsageError("the arguments must be UTF-8") from exc
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
                raise
            failure = as_failure(exc)
            if failure is None:
                raise
            raise failure from exc


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Run, watch and repair the SMS gateway.

    The addresses of its parts come from SMSGW_ variables. What these do not set is read from the folder of a running
    `smsctl up`. Exit codes: 0 success, 1 failure, 2 wrong usage, 69 a server is unavailable, 78 wrong settings,
    130 interrupted.
    """


def _print_bug(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that nobody expected; its message may hold what a record or a server said."""
    sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, exc, trace))))


def main() -> None:
    """Run the command line and exit."""
    grpc_core.silence()
    sys.excepthook = _print_bug
    cli(prog_name="smsctl", obj=Standalone())
