"""The rows of a file that has one SendSmsRequest as JSON on each line."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from sms.gateway.v1 import gateway_pb2 as api

from ops.bulk.header import COPY, REJECTED
from ops.bulk.row import BadRow, Row
from ops.bulk.text import LONGEST_LINE, UNREADABLE, Lines, LineTooLong

_FIELD = re.compile(r"Failed to parse (\w+) field")
_UNKNOWN = re.compile(r'has no field named "(\w{1,40})"')
_CURES: Mapping[str, str] = {
    "ttl": "write seconds with an s, such as 3600s",
    "schedule_time": "write RFC 3339, such as 2026-11-18T12:00:00Z",
    "priority": "write PRIORITY_OTP, PRIORITY_NORMAL or PRIORITY_BULK",
    "recipient": "write a number as text, such as +233201234567",
    "providers": "write a list of names",
    "labels": "write an object of texts",
}
_SPELLED: Mapping[str, str] = {field.json_name: field.name for field in api.SendSmsRequest.DESCRIPTOR.fields}
_NO_OBJECT = "is not a JSON object of a SendSmsRequest"


class _TwiceError(ValueError):
    """An object names a field twice."""


def json_rows(lines: Lines) -> Iterator[Row | BadRow]:
    """Read the rows."""
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except LineTooLong:
            yield BadRow(lines.number, f"is longer than {LONGEST_LINE >> 20} MiB")
        else:
            if line.strip():
                yield _row(lines.number, line.strip("\r\n"))


def _row(number: int, line: str) -> Row | BadRow:
    if UNREADABLE.search(line):
        return BadRow(number, "holds bytes that are not text in the file's encoding: save the file as UTF-8", line)
    recipient = ""
    try:
        document = read_object(line)
        if document is None:
            return BadRow(number, _NO_OBJECT, line)
        recipient = str(document.get("recipient", ""))
        document.pop(REJECTED, None)
        copy = document.pop(COPY, 0)
        if type(copy) is not int or not 0 <= copy < 10**9:
            return BadRow(number, f"{COPY} must be a number, from 1", line, recipient)
        return Row(number, ParseDict(document, api.SendSmsRequest()), line, copy)
    except _TwiceError:
        return BadRow(number, "names a field twice: remove one", line)
    except ParseError as exc:
        return BadRow(number, _why(str(exc)), line, recipient)
    except (ValueError, TypeError, RecursionError):
        return BadRow(number, _NO_OBJECT, line, recipient)


def read_object(line: str) -> dict[str, Any] | None:
    """Read a JSON object; None for another value. Raises ValueError, also when a field is there twice."""
    found = json.loads(line, object_pairs_hook=_once)
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    spelled = [_SPELLED.get(name, name) for name in found]  # both spellings of a field are the same field
    if len(set(spelled)) < len(spelled):
        raise _TwiceError
    return found


def _why(sentence: str) -> str:
    """Say which field protobuf refused, because its own sentence may repeat a value."""
    if field := _FIELD.search(sentence):
        name = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", field[1]).lower()
        cure = _CURES.get(name)
        return f"{name} is not valid in SendSmsRequest" + (f": {cure}" if cure else "")
    if unknown := _UNKNOWN.search(sentence):
        return f"SendSmsRequest has no field {unknown[1]}"
    return "is not a SendSmsRequest"
