"""Writes refused rows as the file had them, with the reason, so that they can be corrected and sent as they are."""

import csv
import io
import json
from typing import IO

from ops.bulk.header import COPY, REJECTED, Header
from ops.bulk.json_rows import read_object
from ops.bulk.row import BadRow, Row
from ops.bulk.rows import Form


class Rejects:
    """A file in the same form as the one that was read.

    CSV gets two columns before its own: `rejected`, the reason, which is not read again; and `copy`, which of several
    equal rows it is, so that it keeps its identity. NDJSON gets them as fields. A row that is not CSV or no object is
    written as one text.
    """

    def __init__(self, stream: IO[bytes], form: Form) -> None:
        self._stream = stream
        self._form = form
        self._own: tuple[int, ...] = ()
        self._write(form.encoding.mark)
        if form.header is not None:
            self._begin(form.header)

    def _begin(self, header: Header) -> None:
        self._own = tuple(at for at, column in enumerate(header.columns) if column in {REJECTED, COPY})
        if header.has_sep_line:
            self._write(self._encoded(f"sep={header.delimiter}{self._form.line_end}"))
        self._write(self._encoded(self._cells(header, (REJECTED, COPY, *self._without_own(header.spelled)))))

    def write(self, row: Row | BadRow, why: str) -> None:
        """Write one row."""
        copy = row.copy if isinstance(row, Row) and row.copy > 1 else 0
        header = self._form.header
        if header is None:
            self._write(self._encoded(_object(str(row.source), why, copy) + self._form.line_end))
        else:
            cells = self._without_own(tuple(row.source))
            self._write(self._encoded(self._cells(header, (why, str(copy or ""), *cells))))

    def flush(self) -> None:
        """Write what is not written yet; raises OSError when there is no room."""
        self._stream.flush()

    def _without_own(self, cells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cell for at, cell in enumerate(cells) if at not in self._own)

    def _cells(self, header: Header, cells: tuple[str, ...]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=header.delimiter, lineterminator=self._form.line_end).writerow(cells)
        return text.getvalue()

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._form.encoding.name, self._form.encoding.errors)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)


def _object(line: str, why: str, copy: int) -> str:
    try:
        document = read_object(line)
    except (ValueError, RecursionError):
        document = None
    if document is None:
        document = {"row": line}
    own = {REJECTED: why, **({COPY: copy} if copy else {})}
    rest = {name: value for name, value in document.items() if name not in {REJECTED, COPY}}
    return json.dumps({**own, **rest}, ensure_ascii=True)
