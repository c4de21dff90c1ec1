"""`python -m tests.load.hostile`: attacks a gateway and prints what held; exit code 1 when something did not."""

import asyncio
import logging
import pathlib
import shutil
import sys
import tempfile

import click
import structlog

from tests.load.hostile.run import FULL, SHORT, run


@click.command()
@click.option("--short", is_flag=True, help="A minute at most, with fewer requests and watchers.")
@click.option("--only", multiple=True, help="Only these kinds of attack.")
@click.option("--keep", is_flag=True, help="Keep the data and the logs.")
def main(*, short: bool, only: tuple[str, ...], keep: bool) -> None:
    """Attack a gateway with huge, malformed and endless requests, and measure what normal callers notice."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sms-gateway-hostile-"))
    attacks = [one for one in (SHORT if short else FULL) if not only or one.kind in only]
    try:
        broken = asyncio.run(run(folder, attacks, click.echo))
    finally:
        if keep:
            click.echo(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for one in broken:
        click.echo(f"broken: {one}", err=True)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
