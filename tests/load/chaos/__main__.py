"""`python -m tests.load.chaos`: makes one run and prints its report; exit code 1 when a promise was broken."""

import asyncio
import json
import logging
import pathlib
import shutil
import sys
import tempfile

import attrs
import click
import structlog

from tests.load.chaos.net import namespaces
from tests.load.chaos.run import Run, run

STRANGERS = 2


@click.command()
@click.option("--messages", type=click.IntRange(1, 10_000_000), default=20_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the faults and the messages.")
@click.option("--every", type=click.FloatRange(0.2), default=4.0, show_default=True, help="Seconds between faults.")
@click.option("--nats-servers", type=click.Choice(["1", "3"]), default="1", show_default=True)
@click.option("--ttl", type=click.FloatRange(10), default=60.0, show_default=True, help="Seconds to live.")
@click.option("--rate", type=click.IntRange(1), default=50, show_default=True, help="Each provider's; all: 4 times.")
@click.option("--plant", default="", help="A bug to put into the system; see plants.py.")
@click.option("--strangers", is_flag=True, help="Two providers lie, answer late, and are written independently.")
@click.option("--beyond", is_flag=True, help="With --strangers: they also break what the providers file promises.")
@click.option("--net", is_flag=True, help="Partitions between three servers, loss towards the strangers; needs root.")
@click.option("--only", default="", help="Kinds of fault, separated by commas; see plan.py.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="File for the report as JSON.")
@click.option("--keep", is_flag=True, help="Keep the data and the logs.")
def main(
    messages: int,
    seed: int,
    every: float,
    nats_servers: str,
    ttl: float,
    rate: int,
    plant: str,
    only: str,
    out: pathlib.Path | None,
    *,
    strangers: bool,
    beyond: bool,
    net: bool,
    keep: bool,
) -> None:
    """Send messages while faults are injected, and check what happened to each."""
    if net and (nats_servers != "3" or not strangers):
        raise click.UsageError("--net needs --nats-servers 3 and --strangers")
    if net and (why := namespaces.why_not()):
        raise click.UsageError(f"--net cannot run here: {why}")
    if net:
        namespaces.go_inside("tests.load.chaos")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-chaos-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    wanted = Run(messages, seed, every, 3 if nats_servers == "3" else 1, ttl, plant, rate)
    wanted = attrs.evolve(wanted, net=net, strangers=STRANGERS if strangers else 0, beyond=beyond)
    wanted = attrs.evolve(wanted, only=tuple(only.split(",")) if only else ())
    try:
        report = asyncio.run(run(wanted, folder, click.echo))
    finally:
        if keep:
            click.echo(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.to_markdown())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
