"""`python -m dispatcher work --provider p1`, `coordinate` or `project`."""

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
@click.option("--provider", required=True, help="Name in the providers file.")
def work(provider: str) -> None:
    """Send one provider's messages."""
    sys.exit(run_process("dispatcher", functools.partial(app.work, name=provider), keys_of={provider}))


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
