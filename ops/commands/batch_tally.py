"""Counts the outcomes of a file's rows, prints the first refusals, and writes all of them to files."""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

import attrs
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sms.gateway.v1 import gateway_pb2 as api

from messaging.printable import printable
from ops.bulk.identity import Identities
from ops.bulk.rejects import Rejects
from ops.bulk.row import BadRow, Row
from ops.commands.gateway_client import Refusal
from ops.commands.output import console
from ops.commands.transmission import Callbacks

_SHOWN = 20
_REFRESH_S = 0.2
BAD_ROW = "BAD_ROW"


@attrs.frozen
class Outputs:
    """Where refused rows are written: themselves, and only their lines and reasons, as NDJSON."""

    rejects: Rejects | None = None
    reasons: IO[bytes] | None = None

    def flush(self) -> None:
        """Write what is not written yet; raises OSError when there is no room."""
        for one in (self.rejects, self.reasons):
            if one is not None:
                one.flush()


class Tally:
    """The outcomes of one file."""

    def __init__(self, source: IO[bytes], size: int | None, outputs: Outputs, identities: Identities) -> None:
        self.accepted = 0
        self.repeated = 0
        self.refused: Counter[str] = Counter()
        self.resumed = 0
        self.segments = 0
        self._began = time.monotonic()
        self._source = source
        self._outputs = outputs
        self._identities = identities
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
        return Callbacks(self._accepted, self.refuse, self.bad, self._broken)

    def _accepted(self, _: Row, answer: api.SendSmsResponse) -> None:
        if answer.replayed:
            self.repeated += 1
        else:
            self.accepted += 1
        self._show()

    def estimated(self, answer: api.EstimateSmsResponse) -> None:
        """Count a row that would be accepted."""
        self.accepted += 1
        self.segments += answer.segments
        self._show()

    def refuse(self, row: Row, refusal: Refusal) -> None:
        """Count a row that the gateway refused."""
        faults = refusal.violations or (("", refusal.sentence),)
        self._reject(row, refusal.reason, faults)

    def flush(self) -> None:
        """Write the refused rows out; raises OSError when there is no room for them."""
        self._outputs.flush()

    def bad(self, row: BadRow) -> None:
        """Count a row that cannot be read."""
        self._reject(row, BAD_ROW, (("", row.why),))

    def _reject(self, row: Row | BadRow, reason: str, faults: tuple[tuple[str, str], ...]) -> None:
        self.refused[reason] += 1
        why = "; ".join(f"{field}: {text}" if field else text for field, text in faults)
        sentence = f"line {row.line}: {reason}: {why}"
        if self._shown < _SHOWN:
            self._print(sentence)
        elif self._shown == _SHOWN:
            self._print("more were refused; --rejects FILE writes them all, to be corrected and sent")
        self._shown += 1
        if self._outputs.rejects is not None:
            self._outputs.rejects.write(row, sentence)
        if self._outputs.reasons is not None:
            faulty = [{"field": field, "text": text} for field, text in faults]
            document = {"line": row.line, "reason": reason, "faults": faulty}
            self._outputs.reasons.write(json.dumps(document).encode() + b"\n")
        self._show()

    def _broken(self, why: str, pause_s: float) -> None:
        self.resumed += 1
        if self.resumed <= _SHOWN:
            self._print(f"the stream broke ({why}): sending the unanswered rows again in {pause_s:.1f} s")

    def _print(self, text: str) -> None:
        self.progress.console.print(printable(text), soft_wrap=True)

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
        return {
            "accepted": self.accepted,
            "repeated": self.repeated,
            "refused": dict(self.refused.most_common()),
            "same_recipient": self._identities.same_recipient,
            "distinct": self._identities.distinct,
            "resumed": self.resumed,
            "seconds": round(time.monotonic() - self._began, 3),
        }

    def sentence(self) -> str:
        """Return the summary as one sentence."""
        seconds = time.monotonic() - self._began
        return f"{self.accepted:,} accepted, {self.repeated:,} accepted before, {self._refusals()} in {seconds:.1f} s"

    def forecast(self) -> str:
        """Return the summary of a dry run as one sentence."""
        return f"{self.accepted:,} would be accepted ({self.segments:,} segments), {self._refusals()}"

    def _refusals(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.refused.most_common())
        total = self.refused.total()
        return f"{total:,} refused ({reasons})" if total else "none refused"

    def notes(self) -> list[str]:
        """Return what else the sender should know, one sentence each."""
        found = []
        if count := self._identities.same_recipient:
            rows = f"{count:,} row" + ("" if count == 1 else "s")
            what = "left out" if self._identities.distinct else "not left out; --distinct sends only the first of each"
            found.append(f"{rows} for a recipient that came before in the file: {what}")
        if self.repeated and not self._identities.campaign:
            found.append(
                "Accepted before: the same contents were sent within 24 hours. "
                "To send them once more on purpose, name a new --campaign."
            )
        return found
