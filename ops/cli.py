"""`smsctl`: every command by its name; the module of a command is imported when it is used, so that help is quick."""

import errno
import importlib
import signal
from collections.abc import Mapping
from typing import Any

import click

from ops.commands.failure import as_failure
from ops.commands.quiet import Quiet

COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("up:up", "Run the whole system on this machine until Ctrl-C."),
    "demo": ("up:demo", "Run the whole system, send in bulk, and check its promises."),
    "probe": ("probe:probe", "Ask a process for its health, for a container's health check."),
    "check-config": ("check_config:check_config", "Check and print the settings and the providers file."),
    "topology": ("topology:topology", "Show how the streams and consumers stand, or create them."),
    "migrate": ("topology:migrate", "Bring the database to the newest schema."),
    "send": ("send:send", "Send one message."),
    "batch": ("batch:batch", "Send the messages of a file, safely repeatable."),
    "status": ("messages:status", "Tell what became of a message."),
    "cancel": ("messages:cancel", "Withdraw a message that no provider has taken."),
    "list": ("messages:list_messages", "List messages, newest first."),
    "explain": ("explain:explain", "Tell a message's whole story, step by step."),
    "lanes": ("lanes:lanes", "Show rates, shares, backlogs and breakers of every provider."),
    "breaker": ("breaker:breaker", "Show, open and reset the breakers of providers."),
    "dlq": ("dlq:dlq", "List, replay and discard dead letters."),
}
"""Name: (module and attribute in ops.commands, what it is for)."""


class Commands(click.Group):
    """The commands of the table above; errors that are expected end in one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Name the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"ops.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it was not spared to meet becomes a Failure."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno == errno.EPIPE:
                raise
            failure = as_failure(exc)
            if failure is None:
                raise
            raise failure from exc


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Run, watch and mend the SMS gateway.

    Where its parts are is read from SMSGW_ variables, and where these are silent from what a running `smsctl up` has
    left in its folder. Exit codes: 0 done, 1 failed, 2 wrong usage, 69 something is away, 78 wrong settings.
    """


def main() -> None:
    """Run the command line and exit."""
    # A shell that starts us in the background has SIGINT ignored; whoever sends it all the same means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli(prog_name="smsctl", obj=Quiet())
