"""Reads a batch file row by row, never the whole file: CSV with a header, or NDJSON of SendSmsRequest.

A row that cannot be read becomes a BadRow with its line number, and reading continues with the next row.
"""

import codecs
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from typing import IO

import attrs
from google.protobuf.json_format import ParseDict, ParseError
from sms.gateway.v1 import gateway_pb2 as api

from ops.commands.request import BadField, make

COLUMNS = (
    *("recipient", "body", "sender", "request_id", "reference", "priority", "ttl", "at", "providers", "callback_url"),
    "smart",
)
_NEEDED = {"recipient", "body"}
_LABEL = "label."
_FIELD = re.compile(r"Failed to parse (\w+) field")
_UNKNOWN = re.compile(r'has no field named "(\w{1,40})"')
_MAX_LINE_BYTES = 1 << 20
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


@attrs.frozen
class Row:
    """One message, and the line on which it begins (from 1)."""

    line: int
    request: api.SendSmsRequest


@attrs.frozen
class BadRow:
    """A row that is not a message. `why` says what is wrong and never repeats a value."""

    line: int
    why: str


class BadFile(ValueError):
    """The file as a whole cannot be read as messages."""


class _Lines:
    """The lines of a file, cut at a maximum length; `number` is that of the last line read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._first: str | None = None
        self.number = 0

    def peek(self) -> str:
        """Return the first line that is not blank without consuming it; empty when there is none."""
        self._first = self._read()
        while self._first and not self._first.strip():
            self._first = self._read()
        return self._first

    def _read(self) -> str:
        raw = self._stream.readline(_MAX_LINE_BYTES)
        if self.number == 0:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        self.number += bool(raw)
        return raw.decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._first = (self._first if self._first is not None else self._read()), None
        if not line:
            raise StopIteration
        return line


def open_rows(stream: IO[bytes], name: str, kind: str | None, *, with_ids: bool) -> Iterator[Row | BadRow]:
    """Read a file's rows; `kind` is csv, ndjson, or None to detect it. Raises BadFile.

    With `with_ids`, a row without request_id gets one that is the same at every reading: a hash of the file's name, the
    row's number and its contents.
    """
    lines = _Lines(stream)
    first = lines.peek()
    if not first:
        raise BadFile("it is empty")
    is_json = first.lstrip().startswith("{") if kind is None else kind == "ndjson"
    rows = _ndjson(lines) if is_json else _csv(lines)
    return _numbered(rows, name) if with_ids else rows


def _numbered(rows: Iterator[Row | BadRow], name: str) -> Iterator[Row | BadRow]:
    for number, row in enumerate(rows):
        if isinstance(row, Row) and not row.request.request_id:
            contents = row.request.SerializeToString(deterministic=True)
            digest = hashlib.blake2b(f"{name}\0{number}\0".encode(errors="surrogateescape"), digest_size=16)
            digest.update(contents)
            row.request.request_id = f"batch-{digest.hexdigest()}"
        yield row


def _ndjson(lines: _Lines) -> Iterator[Row | BadRow]:
    for line in lines:
        if line.strip():
            yield _json_row(lines.number, line)


def _json_row(number: int, line: str) -> Row | BadRow:
    if _NOT_UTF8.search(line):
        return BadRow(number, "is not UTF-8")
    try:
        document = json.loads(line)
        if isinstance(document, dict):
            return Row(number, ParseDict(document, api.SendSmsRequest()))
    except ParseError as exc:
        return BadRow(number, _why(str(exc)))
    except (ValueError, TypeError, RecursionError):
        pass
    return BadRow(number, "is not a JSON object of a SendSmsRequest")


def _why(sentence: str) -> str:
    """Say which field protobuf refused, because its own sentence may repeat a value."""
    if field := _FIELD.search(sentence):
        return f"{field[1]} is not valid in SendSmsRequest"
    if unknown := _UNKNOWN.search(sentence):
        return f"SendSmsRequest has no field {unknown[1]}"
    return "is not a SendSmsRequest"


def _csv(lines: _Lines) -> Iterator[Row | BadRow]:
    # Strict: after an open quotation mark, the following rows must not become part of one row's text.
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip().lower() for name in next(reader)]
    except csv.Error as exc:
        raise BadFile("its header is not CSV") from exc
    _check_header(header)
    return _csv_rows(lines, reader, header)


def _check_header(header: list[str]) -> None:
    known = f"the columns are {', '.join(COLUMNS)} and {_LABEL}NAME"
    if missing := sorted(_NEEDED - set(header)):
        raise BadFile(f"its header has no column {' and no column '.join(missing)}: recipient and body are required")
    for name in header:
        if name not in COLUMNS and not (name.startswith(_LABEL) and name != _LABEL):
            raise BadFile(f"its header has the unknown column {name!r}: {known}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise BadFile(f"its header has the column {twice[0]} twice")


def _csv_rows(lines: _Lines, reader: Iterator[list[str]], header: list[str]) -> Iterator[Row | BadRow]:
    while True:
        begin = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            to = f" (to line {lines.number})" if lines.number > begin else ""
            yield BadRow(begin, f"is not CSV{to}: is a quotation mark left open?")
            continue
        if cells:
            yield _csv_row(begin, header, cells)


def _csv_row(line: int, header: list[str], cells: list[str]) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(line, f"has {len(cells)} cells, the header has {len(header)}")
    if any(_NOT_UTF8.search(cell) for cell in cells):
        return BadRow(line, "is not UTF-8")
    given = dict(zip(header, cells, strict=True))
    labels = {name.removeprefix(_LABEL): value for name, value in given.items() if name.startswith(_LABEL) and value}
    providers = given.get("providers", "").replace(";", " ").split()
    try:
        return Row(line, make(given, providers, labels, None))
    except BadField as exc:
        return BadRow(line, str(exc))
