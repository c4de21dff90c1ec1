"""What commands print: tables for people and JSON for programs, both without message texts and whole phone numbers."""

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import attrs
import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from messaging.model import mask
from messaging.printable import printable

_F = TypeVar("_F", bound=Callable[..., Any])
_WIDTH_OF_FILES, _LEAST_WIDTH, _LEAST_FOLDED = 200, 40, 16
_END_OF_THE_CALENDAR = 253_402_300_799  # the last second of the year 9999
_FOLDED = frozenset({"why", "detail", "details", "next", "meaning", "value", "reason", "breaker", "attempt"})
_NEVER = frozenset({"body", "unreadable", "fingerprint", "callback_url"})


def json_option(function: _F) -> _F:
    """Add --json to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def console(file: IO[str] | None = None) -> Console:
    """Make a console that uses colours only on terminals; a file gets lines of 200 characters, or of $COLUMNS."""
    stream = file or sys.stdout
    is_terminal = stream.isatty()
    width = shutil.get_terminal_size((_WIDTH_OF_FILES, 24)).columns
    return Console(
        file=stream, highlight=False, markup=False, emoji=False, force_terminal=is_terminal,
        width=max(width, _LEAST_WIDTH),
    )  # fmt: skip


def say(text: str, *, err: bool = False) -> None:
    """Print one line. Everything that commands print goes through this, `print_json`, `print_line` or `table`."""
    click.echo(printable(text), err=err)


def print_json(document: Any) -> None:
    """Print one document."""
    for line in json.dumps(document, indent=2, ensure_ascii=False, default=str).split("\n"):
        say(line)  # the escapes of `printable` are those of JSON


def print_line(row: Any) -> None:
    """Print one row of many, as NDJSON."""
    say(json.dumps(row, ensure_ascii=False, default=str, separators=(",", ":")))


@attrs.frozen
class FittingTable:
    """A table where it fits; else each row as several lines of `column value`, none wider than the terminal."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Render it; rich's protocol."""
        width = options.max_width
        if self._least_width() <= width:
            yield self._table()
            return
        for row in self.rows:
            yield Text("\n".join(self._lines(row, width)))

    def _least_width(self) -> int:
        least = []
        for at, name in enumerate(self.columns):
            widest = max([cell_len(name), *(cell_len(row[at]) for row in self.rows)])
            least.append(min(widest, _LEAST_FOLDED) if name in _FOLDED else widest)
        return sum(least) + 2 * (len(least) - 1)

    def _table(self) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for column in self.columns:
            justify: JustifyMethod = "right" if column in self.numbers else "left"
            made.add_column(column, justify=justify, overflow="fold", no_wrap=column not in _FOLDED)
        for row in self.rows:
            made.add_row(*row)
        return made

    def _lines(self, row: Sequence[str], width: int) -> list[str]:
        lines, line = [], ""
        for name, cell in zip(self.columns, row, strict=True):
            if not cell:
                continue
            pair = f"{name} {cell}"
            if line and cell_len(line) + 2 + cell_len(pair) <= width:
                line += f"  {pair}"
                continue
            if line:
                lines.append(line)
            indent = "  " if lines else ""
            *full, line = textwrap.wrap(pair, width, initial_indent=indent, subsequent_indent="    ") or [""]
            lines += full
        return [*lines, line]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()) -> FittingTable:
    """Make a table; `numbers` names the columns to align right."""
    return FittingTable(columns, [tuple(printable(str(cell)) for cell in row) for row in rows], numbers)


def as_document(record: Message, *, reveal: bool = False) -> dict[str, Any]:
    """Return a record as JSON values, without the text, and with the recipient masked unless `reveal`."""
    document: dict[str, Any] = MessageToDict(record, preserving_proto_field_name=True)
    return _masked(document, reveal=reveal)


def _masked(document: dict[str, Any], *, reveal: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key in _NEVER:
            continue
        if key == "recipient" and not reveal:
            found[key] = mask(value)
        elif isinstance(value, dict) and key != "labels":
            found[key] = _masked(value, reveal=reveal)
        else:
            found[key] = value
    return found


def moment(seconds: float, timespec: str = "milliseconds") -> str:
    """Format Unix seconds in UTC; empty for 0, and the number for a time outside the calendar."""
    if not seconds:
        return ""
    if not 0 < seconds < _END_OF_THE_CALENDAR:
        return f"{seconds:g} s after 1970"
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec=timespec).replace("+00:00", "Z")


def span(seconds: float) -> str:
    """Format a duration for people: 0.123 s, 45.0 s, 3 min 20 s, 2 h 5 min, 4 d 1 h."""
    if abs(seconds) < 60:
        return f"{seconds:.3f} s" if abs(seconds) < 10 else f"{seconds:.1f} s"
    whole = round(abs(seconds))
    sign = "-" if seconds < 0 else ""
    for size, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{sign}{whole // size} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{sign}{whole} s"
