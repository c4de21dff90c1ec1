"""`smsctl batch`: send the messages in a file in bulk; safe to repeat."""

import asyncio
import contextlib
import json
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sms.gateway.v1 import gateway_pb2 as api

from ops.commands.bulk_file import BadFile, BadRow, Row, open_rows
from ops.commands.failure import FAILED, Failure
from ops.commands.gateway_client import Refusal, address_of, calling, gateway_option
from ops.commands.output import console, json_option, print_json
from ops.commands.transmission import Callbacks, Transmission

_SHOWN = 20
_REFRESH_S = 0.2
BAD_ROW = "BAD_ROW"


class Tally:
    """Counts the outcomes of the rows, prints the first refusals, and writes all refusals to `rejects`."""

    def __init__(self, source: IO[bytes], size: int | None, rejects: IO[str] | None) -> None:
        self.accepted = 0
        self.repeated = 0
        self.refused: Counter[str] = Counter()
        self.resumed = 0
        self._began = time.monotonic()
        self._source = source
        self._rejects = rejects
        self._shown = 0
        self._read = 0
        err = console(sys.stderr)
        columns = (BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
        self.progress = Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
        self._task: TaskID = self.progress.add_task("", total=size, rate="")
        self._shown_at = 0.0

    def counted(self, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows, and count how many were read."""
        for row in rows:
            self._read += 1
            yield row

    def callbacks(self) -> Callbacks:
        """Return the callbacks for the transmission."""
        return Callbacks(self._accepted, self._refused, self._bad, self._broken)

    def _accepted(self, _: Row, answer: api.SendSmsResponse) -> None:
        if answer.replayed:
            self.repeated += 1
        else:
            self.accepted += 1
        self._show()

    def _refused(self, row: Row, refusal: Refusal) -> None:
        faults = refusal.violations or (("", refusal.sentence),)
        self._reject(row.line, refusal.reason, faults)

    def _bad(self, row: BadRow) -> None:
        self._reject(row.line, BAD_ROW, (("", row.why),))

    def _reject(self, line: int, reason: str, faults: tuple[tuple[str, str], ...]) -> None:
        self.refused[reason] += 1
        why = "; ".join(f"{field}: {text}" if field else text for field, text in faults)
        if self._shown < _SHOWN:
            self._print(f"line {line}: {reason}: {why}")
        elif self._shown == _SHOWN:
            self._print("more were refused; --rejects FILE writes them all")
        self._shown += 1
        if self._rejects is not None:
            document = {"line": line, "reason": reason, "faults": [{"field": f, "text": text} for f, text in faults]}
            self._rejects.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._show()

    def _broken(self, why: str, pause_s: float) -> None:
        self.resumed += 1
        if self.resumed <= _SHOWN:
            self._print(f"the stream broke ({why}): sending the unanswered rows again in {pause_s:.1f} s")

    def _print(self, text: str) -> None:
        self.progress.console.print(text, soft_wrap=True)

    def _show(self) -> None:
        now = time.monotonic()
        if self.progress.disable or now < self._shown_at + _REFRESH_S:
            return
        self._shown_at = now
        done = self.accepted + self.repeated + self.refused.total()
        rate = f"{done:,} rows, {done / max(now - self._began, 0.001):,.0f}/s"
        self.progress.update(self._task, completed=self._position() * done // max(1, self._read), rate=rate)

    def _position(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._source.tell()
        return 0

    def document(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        seconds = time.monotonic() - self._began
        return {
            "accepted": self.accepted,
            "repeated": self.repeated,
            "refused": dict(self.refused.most_common()),
            "resumed": self.resumed,
            "seconds": round(seconds, 3),
        }

    def sentence(self) -> str:
        """Return the summary as one sentence."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.refused.most_common())
        total = self.refused.total()
        refused = f"{total:,} refused ({reasons})" if total else "none refused"
        seconds = time.monotonic() - self._began
        return f"{self.accepted:,} accepted, {self.repeated:,} accepted before, {refused} in {seconds:.1f} s"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=pathlib.Path))
@click.option("--chunk", type=click.IntRange(1, 1000), default=500, show_default=True, help="Rows in one chunk.")
@click.option("--format", "kind", type=click.Choice(["csv", "ndjson"]), help="By default, detected from the file.")
@click.option("--no-request-ids", is_flag=True, help="Add no request_id: another run sends every row again.")
@click.option("--rejects", type=click.Path(dir_okay=False, path_type=pathlib.Path), help="Refused rows, as NDJSON.")
@click.option(
    "--patience", type=click.FloatRange(1), default=120.0, show_default=True, metavar="SECONDS",
    help="How long to keep trying while the gateway accepts nothing.",
)  # fmt: skip
@gateway_option
@json_option
def batch(
    file: pathlib.Path,
    *,
    chunk: int,
    kind: str | None,
    no_request_ids: bool,
    rejects: pathlib.Path | None,
    patience: float,
    gateway: str | None,
    as_json: bool,
) -> None:
    """Send the messages in FILE; `-` is standard input.

    CSV with a header (recipient, body and, optionally, sender, request_id, reference, priority, ttl, at, providers,
    callback_url, smart, label.NAME), or NDJSON of SendSmsRequest. A row without request_id gets one that is derived
    from the file's name, the row number and the row's contents. So within 24 hours another run with the same file sends
    nothing twice, and continues where an earlier run stopped. Exit code 1 when any row was refused.
    """
    failure: Failure | None = None
    with contextlib.ExitStack() as stack:
        source = _open(file, stack)
        written = _open_rejects(rejects, stack)
        tally = Tally(source, _size(file), written)
        try:
            rows = open_rows(source, file.name, kind, with_ids=not no_request_ids)
            stack.enter_context(tally.progress)
            asyncio.run(_transmit(tally.counted(rows), tally, gateway, chunk, patience))
        except BadFile as exc:
            raise Failure(f"{file} is not a file of messages: {exc}") from exc
        except KeyboardInterrupt:
            failure = Failure("interrupted: run the same command again; accepted messages are not sent twice")
        except Failure as exc:
            failure = exc
    if as_json:
        print_json({**tally.document(), "finished": failure is None})
    else:
        click.echo(tally.sentence())
    if failure is not None:
        raise failure
    sys.exit(FAILED if tally.refused else 0)


def _open(file: pathlib.Path, stack: contextlib.ExitStack) -> IO[bytes]:
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(file.open("rb"))
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}") from exc


def _open_rejects(path: pathlib.Path | None, stack: contextlib.ExitStack) -> IO[str] | None:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as exc:
        raise Failure(f"{path} cannot be written: {exc.strerror}") from exc


def _size(file: pathlib.Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


async def _transmit(
    rows: Iterator[Row | BadRow], tally: Tally, gateway: str | None, chunk: int, patience_s: float
) -> None:
    async with calling(gateway) as stub:
        address = address_of(gateway)
        await Transmission(stub, rows, tally.callbacks(), address, chunk=chunk, patience_s=patience_s).run()
