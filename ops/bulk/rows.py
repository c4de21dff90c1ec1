"""Opens a file of messages and reads it row by row, never the whole file.

A row that cannot be read becomes a BadRow with its line number, and reading continues with the next row.
"""

from collections.abc import Iterator
from typing import IO

import attrs

from ops.bulk.csv_rows import csv_rows
from ops.bulk.header import Header, read_header, separator_of
from ops.bulk.identity import Identities
from ops.bulk.json_rows import json_rows
from ops.bulk.row import BadRow, Row
from ops.bulk.text import BadFile, Encoding, Lines, LineTooLong


@attrs.frozen
class Form:
    """How a file is written, so that its rows can be written again in the same way; `header` is None for NDJSON."""

    encoding: Encoding
    line_end: str
    header: Header | None

    def __str__(self) -> str:
        line_ends = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
        written = f"{self.encoding.name.upper()}, lines end with {line_ends[self.line_end]}"
        if self.header is None:
            return f"NDJSON, {written}"
        between = {"\t": "tabs", " ": "spaces"}.get(self.header.delimiter, self.header.delimiter)
        columns = ", ".join(self.header.columns).replace(", ,", ",")
        return f"CSV with {between} between the columns, {written}; columns: {columns}"


@attrs.frozen
class BulkFile:
    """A file's form and its rows; the rows can be read once."""

    form: Form
    rows: Iterator[Row | BadRow]


def open_rows(stream: IO[bytes], kind: str | None, identities: Identities) -> BulkFile:
    """Read a file's rows; `kind` is csv, ndjson, or None to detect it. Raises BadFile."""
    lines = Lines(stream)
    try:
        first = lines.peek()
        if not first:
            raise BadFile("it is empty")
        if first.lstrip().startswith("{") if kind is None else kind == "ndjson":
            return _ndjson(lines, first, identities)
        if first.lstrip().startswith("[") and kind is None:
            raise BadFile("it is a JSON array: write one object on each line, as `jq -c '.[]' FILE` does")
        return _csv(lines, identities)
    except LineTooLong as exc:
        raise BadFile(f"its line {lines.number} is longer than 1 MiB") from exc


def _ndjson(lines: Lines, first: str, identities: Identities) -> BulkFile:
    if first.strip() == "{":
        raise BadFile("its first object goes over several lines: write one on each line, as `jq -c . FILE` does")
    form = Form(lines.encoding, lines.line_end or "\n", None)
    return BulkFile(form, identities.of(json_rows(lines)))


def _csv(lines: Lines, identities: Identities) -> BulkFile:
    line = next(lines)
    separator = separator_of(line)
    if separator is not None:
        lines.peek()
        line = next(lines, "")
    header = read_header(line, separator)
    form = Form(lines.encoding, lines.line_end or "\n", header)
    return BulkFile(form, identities.of(csv_rows(lines, header)))
