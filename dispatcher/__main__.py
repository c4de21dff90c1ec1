"""`python -m dispatcher work --provider p1` (or `p1,p2`, or `--all`), `coordinate` or `project`."""

import functools
import sys

import click

from messaging.runtime import grpc_core

grpc_core.silence()  # before anything imports grpc

from dispatcher import app  # noqa: E402
from messaging.runtime.process import run_process  # noqa: E402


@click.group()
def main() -> None:
    """Send messages, divide the rate, or write the history."""


@main.command()
@click.option("--provider", "named", multiple=True, help="Name in the providers file; several with commas between.")
@click.option("--all", "everyone", is_flag=True, help="Every provider in the providers file.")
def work(named: tuple[str, ...], *, everyone: bool) -> None:
    """Send the messages of one provider, or of several in one process."""
    names = [name for part in named for name in map(str.strip, part.split(",")) if name]
    if bool(names) is everyone:
        raise click.UsageError("name one or more providers with --provider, or take --all")
    chosen = None if everyone else names
    sys.exit(run_process("dispatcher", functools.partial(app.work, names=chosen), keys_of=chosen))


@main.command()
def coordinate() -> None:
    """Divide the fleet's rate among its pods, and schedule messages."""
    sys.exit(run_process("coordinator", app.coordinate))


@main.command()
def project() -> None:
    """Write the history to PostgreSQL."""
    sys.exit(run_process("projector", app.project))


if __name__ == "__main__":
    main(prog_name="python -m dispatcher")
