"""Converts rows of the history into MessageStatus, Attempt and Command. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from sms.dispatch.v1 import dispatch_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import Row

from messaging import codec
from messaging.errors import CorruptRecord
from messaging.model import FINAL_STATES
from messaging.status import status_of

_SEARCHED_FIELDS = ("request_id", "client_reference", "recipient")
_STATE_FIELDS = ("state", "provider", "provider_message_id", "deadline", "update_time", "next_attempt_time")
_ATTEMPT_FIELDS = ("number", "provider", "start_time", "end_time", "outcome", "provider_message_id", "code", "detail")


def status_from_row(row: Row[Any], attempts: Iterable[Row[Any]]) -> pb.MessageStatus:
    """Build a message's status; the fields of its accept record are empty until that is projected.

    They are also empty when the stored accept record cannot be read, so that one bad row does not fail a page.
    """
    try:
        command = command_from_row(row)
    except CorruptRecord:
        command = None
    status = pb.MessageStatus() if command is None else status_of(command, None)
    status.message_id = str(row.message_id)
    status.final = row.state in FINAL_STATES
    _fill(status, row, _STATE_FIELDS)
    if command is None:
        _fill(status, row, _SEARCHED_FIELDS)
    if row.reason or row.detail:
        status.error.reason = row.reason or ""
        status.error.detail = row.detail or ""
    for attempt in attempts:
        _fill(status.attempts.add(), attempt, _ATTEMPT_FIELDS)
    return status


def command_from_row(row: Row[Any]) -> dispatch_pb2.Command | None:
    """Read a message as it was accepted; None until its accept record is projected. Raises CorruptRecord."""
    if row.command is None:
        return None
    where = f"the row of message {row.message_id}"
    if row.command_key is not None:
        raise CorruptRecord(where, "its command is encrypted under a key that this version does not know")
    return codec.decode(dispatch_pb2.Command, where, row.command)


def command_or_name(row: Row[Any]) -> dispatch_pb2.Command | None:
    """Read a message as it was accepted; of one that cannot be read only its id, client and deadline."""
    try:
        return command_from_row(row)
    except CorruptRecord:
        command = dispatch_pb2.Command(message_id=str(row.message_id), client=row.client)
        if row.deadline is not None:
            command.deadline.FromDatetime(row.deadline)
        return command


def _fill(record: Message, row: Row[Any], names: Iterable[str]) -> None:
    for name in names:
        match getattr(row, name):
            case None:
                continue
            case datetime() as value:
                getattr(record, name).FromDatetime(value)
            case value:
                setattr(record, name, value)
