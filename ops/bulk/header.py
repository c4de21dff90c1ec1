"""Reads the header of a CSV file: its delimiter, and which column is which. Pure."""

import csv
import re
import unicodedata
from collections.abc import Mapping

import attrs

from ops.bulk.text import BadFile

COLUMNS = (
    *("recipient", "body", "sender", "request_id", "reference", "priority", "ttl", "at", "providers", "callback_url"),
    "smart",
)
REJECTED, COPY = "rejected", "copy"
"""Columns that `--rejects` adds: why the row was refused, which is not read; and which of several equal rows it is."""
LABEL = "label."
_NEEDED = ("recipient", "body")
_DELIMITERS = (",", ";", "\t", "|")
_SEP = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)
_TOLD = re.compile(r"[A-Za-z][A-Za-z _.-]{0,39}")
_KNOWN: Mapping[str, str] = {
    **{name.replace("_", ""): name for name in (*COLUMNS, REJECTED, COPY)},
    "clientreference": "reference",
    "scheduletime": "at",
    "smartencoding": "smart",
}
_MEANT: Mapping[str, str] = {
    **dict.fromkeys(
        ("phone", "phonenumber", "phoneno", "number", "mobile", "mobilenumber", "cell", "tel", "telephone", "msisdn"),
        "recipient",
    ),
    **dict.fromkeys(("to", "recipients", "recepient", "recipent", "destination", "dest"), "recipient"),
    **dict.fromkeys(("text", "message", "msg", "content", "sms", "smstext", "messagetext"), "body"),
    **dict.fromkeys(("from", "senderid", "sendername", "originator"), "sender"),
    **dict.fromkeys(("id", "messageid", "idempotencykey"), "request_id"),
    **dict.fromkeys(("ref", "externalid", "customerreference"), "reference"),
    **dict.fromkeys(("date", "time", "sendat", "schedule", "scheduled", "scheduledat", "scheduleat"), "at"),
    **dict.fromkeys(("validity", "expiry", "expires", "validityperiod"), "ttl"),
    **dict.fromkeys(("provider", "gateway", "route", "carrier"), "providers"),
    **dict.fromkeys(("prio", "lane"), "priority"),
    **dict.fromkeys(("callback", "webhook", "dlrurl"), "callback_url"),
    **dict.fromkeys(("label", "labels", "tag", "tags"), "label.NAME"),
}


@attrs.frozen
class Header:
    """What each column holds, an empty name for one that must be empty; and how the header was written."""

    delimiter: str
    columns: tuple[str, ...]
    spelled: tuple[str, ...]
    has_sep_line: bool = False


def separator_of(line: str) -> str | None:
    """Return the delimiter that a spreadsheet's line such as `sep=;` names; None when the line is another one."""
    found = _SEP.fullmatch(line.rstrip("\r\n"))
    return found[1] if found else None


def read_header(line: str, separator: str | None) -> Header:
    """Read the header's line; without `separator` it is the one that finds the most columns. Raises BadFile."""
    readings = [found for one in ([separator] if separator else _DELIMITERS) if (found := _split(line, one))]
    if not readings:
        raise BadFile("its header is not CSV: is a quotation mark left open?")
    delimiter, spelled = max(readings, key=lambda reading: sum(map(_is_told, reading[1])))
    columns = tuple(map(_column, spelled))
    _check(columns, spelled, delimiter)
    return Header(delimiter, columns, spelled, separator is not None)


def _split(line: str, delimiter: str) -> tuple[str, tuple[str, ...]] | None:
    try:
        return delimiter, tuple(next(csv.reader([line], delimiter=delimiter, strict=True)))
    except (csv.Error, TypeError, ValueError, StopIteration):
        return None


def _visible(name: str) -> str:
    return "".join(one for one in name if unicodedata.category(one) not in {"Cc", "Cf"}).strip().lower()


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", _visible(name))


def _is_told(name: str) -> bool:
    return bool(_column(name)) and (not _unknown(_column(name)) or _plain(name) in _MEANT)


def _column(spelled: str) -> str:
    name = _visible(spelled)
    return name if name.startswith(LABEL) else _KNOWN.get(_plain(spelled), name)


def _unknown(column: str) -> bool:
    return bool(column) and column not in _KNOWN.values() and not (column.startswith(LABEL) and column != LABEL)


def _check(columns: tuple[str, ...], spelled: tuple[str, ...], delimiter: str) -> None:
    if missing := [name for name in _NEEDED if name not in columns]:
        raise BadFile(f"its header (line 1) has no column {' and no column '.join(missing)}: {_cure(missing, spelled)}")
    for number, (column, name) in enumerate(zip(columns, spelled, strict=True), 1):
        if _unknown(column):
            meant = _MEANT.get(_plain(name))
            told = f" {column!r}" if _TOLD.fullmatch(column) else ""
            cure = f"did you mean {meant}?" if meant else f"the columns are {', '.join(COLUMNS)} and {LABEL}NAME"
            raise BadFile(f"its header has the unknown column{told} (column {number}): {cure}")
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        numbers = " and ".join(str(at) for at, name in enumerate(columns, 1) if name == twice[0])
        raise BadFile(f"its header has the column {twice[0]} twice (columns {numbers}): remove one")
    if delimiter in '"\r\n\0':
        raise BadFile("its line sep= names a character that cannot separate columns: use one of , ; | or a tab")


def _cure(missing: list[str], spelled: tuple[str, ...]) -> str:
    """Say which column to rename. What else the first line holds is not repeated: it may be a message."""
    for number, name in enumerate(spelled, 1):
        if _MEANT.get(_plain(name)) in missing:
            return f"rename column {number}, {_visible(name)!r}, to {_MEANT[_plain(name)]}"
    return "recipient and body are required, and the first line must name the columns"
