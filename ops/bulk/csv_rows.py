"""The rows of a CSV file. A cell is used as it is, or the row is refused."""

import csv
from collections.abc import Iterator

from ops.bulk.cells import fault_of, next_row_in
from ops.bulk.header import COPY, LABEL, REJECTED, Header
from ops.bulk.row import BadRow, Row
from ops.bulk.text import LONGEST_LINE, Lines, LineTooLong
from ops.commands.request import BadField, make

_MOST_COPIES = 10**9
_OPEN_QUOTE = "close the quotation mark that was left open, and write one inside a text twice"
_LINE_ENDS = "a line ends with a single CR, others do not: save the file with one kind of line end"


def csv_rows(lines: Lines, header: Header) -> Iterator[Row | BadRow]:
    """Read the rows after the header."""
    kept = _Kept(lines)
    # Strict: after an open quotation mark, the following rows must not become part of one row's text.
    reader = csv.reader(kept, delimiter=header.delimiter, strict=True)
    while True:
        begin = lines.number + 1
        kept.lines.clear()
        try:
            cells = tuple(next(reader))
        except StopIteration:
            return
        except LineTooLong:
            yield BadRow(begin, f"is longer than {LONGEST_LINE >> 20} MiB: {_OPEN_QUOTE}")
        except csv.Error as exc:
            to = f" (to line {lines.number})" if lines.number > begin else ""
            cure = _LINE_ENDS if "new-line" in str(exc) else _OPEN_QUOTE
            yield BadRow(begin, f"is not CSV{to}: {cure}", ("".join(kept.lines).rstrip("\r\n"),))
        else:
            if any(map(str.strip, cells)):
                yield _row(begin, header, cells)


class _Kept:
    """Passes the lines on, and keeps those of the row that is being read."""

    def __init__(self, source: Lines) -> None:
        self._source = source
        self.lines: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self.lines.append(line)
        return line


def _row(line: int, header: Header, cells: tuple[str, ...]) -> Row | BadRow:
    given = dict(zip(header.columns, cells, strict=False))
    recipient = given.get("recipient", "")
    why = _fault_of_shape(header, cells) or _fault_of_cells(header, cells)
    if why is not None:
        return BadRow(line, why, cells, recipient)
    labels = {name.removeprefix(LABEL): value for name, value in given.items() if name.startswith(LABEL) and value}
    providers = given.get("providers", "").replace(";", " ").replace(",", " ").split()
    copy = given.get(COPY, "").strip()
    if copy and not (copy.isascii() and copy.isdigit() and 0 < int(copy[:12]) < _MOST_COPIES):
        return BadRow(line, f"{COPY} must be a number, from 1", cells, recipient)
    try:
        return Row(line, make(given, providers, labels, None), cells, int(copy or 0))
    except BadField as exc:
        return BadRow(line, str(exc), cells, recipient)


def _fault_of_shape(header: Header, cells: tuple[str, ...]) -> str | None:
    wanted = len(header.columns)
    while wanted and not header.columns[wanted - 1]:
        wanted -= 1
    if len(cells) < wanted:
        return f"has {len(cells)} cells, the header has {wanted}: add the missing cells, empty ones too"
    for number, text in enumerate(cells, 1):
        column = header.columns[number - 1] if number <= len(header.columns) else ""
        if not column and text.strip():
            cure = "put a text that holds the delimiter into quotation marks, or name the column"
            return f"has {len(cells)} cells, the header has {wanted} (cell {number} has no column): {cure}"
    return None


def _fault_of_cells(header: Header, cells: tuple[str, ...]) -> str | None:
    for number, (column, text) in enumerate(zip(header.columns, cells, strict=False), 1):
        if column in {"", REJECTED} or not text:
            continue
        if why := fault_of(column, text):
            return f"{column} (column {number}) {why}"
        if next_row_in(text, header.delimiter):
            return f"{column} (column {number}) holds what looks like the next row: {_OPEN_QUOTE}"
    return None
