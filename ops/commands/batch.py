"""`smsctl batch`: send the messages in a file in bulk; safe to repeat."""

import asyncio
import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import IO

import click

from ops.bulk.identity import Identities
from ops.bulk.rejects import Rejects
from ops.bulk.row import BadRow, Row
from ops.bulk.rows import Form, open_rows
from ops.bulk.text import BadFile
from ops.commands.batch_estimate import estimate
from ops.commands.batch_files import open_output, open_source, size_of
from ops.commands.batch_tally import Outputs, Tally
from ops.commands.failure import FAILED, INTERRUPTED, Failure, as_failure
from ops.commands.gateway_client import address_of, calling, gateway_option
from ops.commands.options import Amount
from ops.commands.output import json_option, print_json, say
from ops.commands.transmission import Transmission

_PATH = click.Path(dir_okay=False, path_type=pathlib.Path)


def _campaign(_: click.Context, __: click.Parameter, value: str | None) -> str:
    if value is not None and not value.strip():
        raise click.BadParameter("must not be empty")
    return value or ""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=pathlib.Path))
@click.option("--chunk", type=click.IntRange(1, 1000), default=500, show_default=True, help="Rows in one chunk.")
@click.option("--format", "kind", type=click.Choice(["csv", "ndjson"]), help="By default, detected from the file.")
@click.option(
    "--campaign", metavar="NAME", callback=_campaign, help="Makes equal rows of other campaigns new messages."
)
@click.option("--distinct", is_flag=True, help="Send only the first row of each recipient.")
@click.option("--dry-run", is_flag=True, help="Check every row, and send nothing.")
@click.option("--no-request-ids", is_flag=True, help="Add no request_id: another run sends every row again.")
@click.option("--rejects", type=_PATH, help="Refused rows, in the form of FILE, to be corrected and sent.")
@click.option("--reasons", type=_PATH, help="Lines and reasons of refused rows, as NDJSON, for programs.")
@click.option(
    "--patience", type=Amount(1), default=120.0, show_default=True, metavar="SECONDS",
    help="How long to keep trying while the gateway accepts nothing.",
)  # fmt: skip
@gateway_option
@json_option
def batch(
    file: pathlib.Path,
    *,
    chunk: int,
    kind: str | None,
    campaign: str,
    distinct: bool,
    dry_run: bool,
    no_request_ids: bool,
    rejects: pathlib.Path | None,
    reasons: pathlib.Path | None,
    patience: float,
    gateway: str | None,
    as_json: bool,
) -> None:
    """Send the messages in FILE; `-` is standard input.

    CSV with a header (recipient, body and, optionally, sender, request_id, reference, priority, ttl, at, providers,
    callback_url, smart, label.NAME), or NDJSON of SendSmsRequest. A row without request_id gets one that is derived
    from the row's contents, from how many rows before it had the same contents, and from the campaign. So within 24
    hours another run sends nothing twice, also after rows were corrected, deleted or sorted, or when the file has
    another name. Exit code 1 when any row was refused.
    """
    failure: Failure | None = None
    identities = Identities(campaign, with_ids=not no_request_ids, distinct=distinct)
    with contextlib.ExitStack() as stack:
        source = open_source(file, stack)
        try:
            opened = open_rows(source, kind, identities)
        except BadFile as exc:
            raise Failure(f"{file} is not a file of messages: {exc}") from exc
        tally = Tally(source, size_of(source), _outputs(source, opened.form, rejects, reasons, stack), identities)
        if dry_run and not as_json:
            say(f"{file}: {opened.form}")
        stack.enter_context(tally.progress)
        rows = tally.counted(opened.rows)
        try:
            asyncio.run(_estimate(rows, tally, gateway) if dry_run else _send(rows, tally, gateway, chunk, patience))
        except KeyboardInterrupt:
            again = "" if dry_run else ": run the same command again; accepted messages are not sent twice"
            failure = Failure(f"interrupted{again}", INTERRUPTED)
        except (Failure, OSError, ExceptionGroup) as exc:
            failure = as_failure(exc)
            if failure is None:
                raise
        failure = _written(tally, failure)
    _report(tally, finished=failure is None, dry_run=dry_run, as_json=as_json)
    if failure is not None:
        raise failure
    sys.exit(FAILED if tally.refused else 0)


def _written(tally: Tally, failure: Failure | None) -> Failure | None:
    """Write the refused rows out; returns what failed, there or before."""
    try:
        tally.flush()
    except OSError as exc:
        full = as_failure(exc)
        if full is None:
            raise
        return (
            Failure(full.message, full.exit_code, (failure.message,))
            if failure and failure.message != full.message
            else full
        )
    return failure


def _outputs(
    source: IO[bytes],
    form: Form,
    rejects: pathlib.Path | None,
    reasons: pathlib.Path | None,
    stack: contextlib.ExitStack,
) -> Outputs:
    to_correct = open_output(rejects, (source,), stack) if rejects else None
    others = (source,) if to_correct is None else (source, to_correct)
    for_programs = open_output(reasons, others, stack) if reasons else None
    return Outputs(Rejects(to_correct, form) if to_correct else None, for_programs)


async def _send(rows: Iterator[Row | BadRow], tally: Tally, gateway: str | None, chunk: int, patience_s: float) -> None:
    async with calling(gateway) as stub:
        address = address_of(gateway)
        await Transmission(stub, rows, tally.callbacks(), address, chunk=chunk, patience_s=patience_s).run()


async def _estimate(rows: Iterator[Row | BadRow], tally: Tally, gateway: str | None) -> None:
    async with calling(gateway) as stub:
        await estimate(stub, rows, tally)


def _report(tally: Tally, *, finished: bool, dry_run: bool, as_json: bool) -> None:
    if as_json:
        dry = {"dry_run": True, "segments": tally.segments} if dry_run else {}
        print_json({**tally.document(), **dry, "finished": finished})
        return
    say(tally.forecast() if dry_run else tally.sentence())
    for note in tally.notes():
        say(note)
    if dry_run:
        say("Nothing was sent.")
