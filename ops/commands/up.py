"""`smsctl up` and `smsctl demo`: the whole system on this machine."""

import asyncio
import sys

import click

from ops.commands.library_logs import silence_libraries


@click.command()
def up() -> None:
    """Run the whole system on this machine until Ctrl-C.

    This starts NATS, PostgreSQL, five simulated providers, the gateway and its dispatchers, with all data in the folder
    SMSGW_VAR. If SMSGW_ variables name servers or a providers file, those are used instead.
    """
    from ops.up import plan_from_environment, run_up

    silence_libraries()
    sys.exit(asyncio.run(run_up(plan_from_environment())))


@click.command()
@click.option(
    "--messages", type=click.IntRange(1, 1_000_000), default=2000, show_default=True, help="How many to send."
)
@click.option("--keep", is_flag=True, help="Keep data and logs.")
def demo(messages: int, *, keep: bool) -> None:
    """Run the whole system, send in bulk, and check its promises."""
    from ops.demo import run_demo

    silence_libraries()
    sys.exit(asyncio.run(run_demo(messages, keep=keep)))
