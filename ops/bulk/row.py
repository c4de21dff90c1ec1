"""One row of a file of messages, readable or not. Pure."""

import attrs
from sms.gateway.v1 import gateway_pb2 as api


@attrs.frozen
class Row:
    """One message, the line on which it begins (from 1), and the row as the file has it: cells, or a line of JSON.

    `copy` is which of several equal rows it is, from 1; 0 when that was not counted.
    """

    line: int
    request: api.SendSmsRequest
    source: tuple[str, ...] | str = attrs.field(default=(), eq=False)
    copy: int = attrs.field(default=0, eq=False)


@attrs.frozen
class BadRow:
    """A row that is not a message. `why` says what is wrong, with its cure, and never repeats a value."""

    line: int
    why: str
    source: tuple[str, ...] | str = attrs.field(default=(), eq=False)
    recipient: str = attrs.field(default="", eq=False)
