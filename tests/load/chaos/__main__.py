"""`python -m tests.load.chaos`: makes one run and prints its report; exit code 1 when a promise was broken."""

import asyncio
import json
import logging
import pathlib
import shutil
import sys
import tempfile

import click
import structlog

from tests.load.chaos.run import Run, run


@click.command()
@click.option("--messages", type=click.IntRange(1, 10_000_000), default=20_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the faults and the messages.")
@click.option("--every", type=click.FloatRange(0.2), default=4.0, show_default=True, help="Seconds between faults.")
@click.option("--nats-servers", type=click.Choice(["1", "3"]), default="1", show_default=True)
@click.option("--ttl", type=click.FloatRange(10), default=60.0, show_default=True, help="Seconds to live.")
@click.option("--rate", type=click.IntRange(1), default=50, show_default=True, help="Each provider's; all: 4 times.")
@click.option("--plant", default="", help="A bug to put into the system; see plants.py.")
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
    out: pathlib.Path | None,
    *,
    keep: bool,
) -> None:
    """Send messages while faults are injected, and check what happened to each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-chaos-"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    wanted = Run(messages, seed, every, 3 if nats_servers == "3" else 1, ttl, plant, rate)
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
