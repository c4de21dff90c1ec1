"""The lines of a file of text: finds out the encoding and the line ends, and never holds more than one line."""

import codecs
import re
from collections.abc import Iterator
from typing import IO

import attrs

LONGEST_LINE = 1 << 20
_READ_BYTES = 1 << 16
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""The mark of UTF-16 is the beginning of the one of UTF-32, so UTF-32 comes first."""
_OTHER_KINDS = (
    (b"PK\x03\x04", "a workbook or an archive: save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a workbook: save the sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "compressed: give the output of `gzip -dc FILE` as standard input"),
    (b"%PDF", "a PDF: save the table as CSV in UTF-8"),
)
_LINE_END = re.compile(r"\r+\n|\n|\r(?=[^\r\n])")
UNREADABLE = re.compile("[\ud800-\udfff]")
"""Finds what stands in a line for bytes that are not of the file's encoding."""


class BadFile(ValueError):
    """The file as a whole cannot be read as messages."""


class LineTooLong(ValueError):
    """One line is longer than LONGEST_LINE; it was read to its end and dropped."""


@attrs.frozen
class Encoding:
    """How a file's text is encoded, and whether the file begins with a byte-order mark."""

    name: str = "utf-8"
    has_mark: bool = False

    @property
    def errors(self) -> str:
        """The way to decode bytes that are not of this encoding so that UNREADABLE finds them, and to encode them."""
        return "surrogateescape" if self.name == "utf-8" else "surrogatepass"

    @property
    def mark(self) -> bytes:
        """The byte-order mark with which the file begins; empty without one."""
        return next(mark for mark, name in _BYTE_ORDER_MARKS if name == self.name) if self.has_mark else b""


class Lines:
    """Iterates over the lines of a file with their ends; `number` is that of the last line, from 1.

    The first line end decides for the whole file: only where it is a single CR does a CR end a line. Raises BadFile
    when the file is of another kind, and LineTooLong for a line; reading may go on after that.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        first = stream.readline(_READ_BYTES)
        self.encoding = _encoding_of(first)
        self.number = 0
        self.line_end = ""
        self._decoder = codecs.getincrementaldecoder(self.encoding.name)(self.encoding.errors)
        self._text = self._decoder.decode(first.removeprefix(self.encoding.mark))
        self._at = 0
        self._ended = not first
        self._returned: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._returned = (self._returned if self._returned is not None else self._read()), None
        if not line:
            raise StopIteration
        return line

    def peek(self) -> str:
        """Return the first line that is not blank without consuming it; empty when there is none."""
        line = next(self, "")
        while line and not line.strip():
            line = next(self, "")
        self._returned = line
        return line

    def _read(self) -> str:
        too_long = False
        while (end := self._end_of_line()) < 0:
            if self._ended:
                end = len(self._text)
                break
            if len(self._text) - self._at > LONGEST_LINE:
                too_long = True
                self._text, self._at = self._text[-1:], 0
            self._read_on()
        line = self._text[self._at : end]
        self._at = end
        self.number += bool(line or too_long)
        if too_long:
            raise LineTooLong
        return line

    def _end_of_line(self) -> int:
        """Return where the current line ends; -1 when its end was not read yet."""
        if self.line_end:
            return self._text.find(self.line_end[-1], self._at) + 1 or -1
        first = _LINE_END.search(self._text, self._at)
        if first is None:
            return -1
        self.line_end = "\r\n" if first[0].endswith("\r\n") else first[0]
        return first.end()

    def _read_on(self) -> None:
        raw = self._stream.readline(_READ_BYTES)
        self._ended = not raw
        try:
            decoded = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError:
            self._decoder.reset()
            decoded = "\udc80"
        self._text = self._text[self._at :] + decoded
        self._at = 0


def _encoding_of(beginning: bytes) -> Encoding:
    for magic, what in _OTHER_KINDS:
        if beginning.startswith(magic):
            raise BadFile(f"it is {what}")
    for mark, name in _BYTE_ORDER_MARKS:
        if beginning.startswith(mark):
            return Encoding(name, has_mark=True)
    if len(beginning) >= 8 and not any(beginning[1:8:2]) and all(beginning[0:8:2]):
        return Encoding("utf-16-le")
    if len(beginning) >= 8 and not any(beginning[0:8:2]) and all(beginning[1:8:2]):
        return Encoding("utf-16-be")
    return Encoding()
