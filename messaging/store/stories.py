"""Turns rows back into what callers and the stream know: MessageStatus, Attempt, Command. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from sms.dispatch.v1 import dispatch_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import Row

from messaging.model import FINAL_STATES

_STATUS_FIELDS = (
    *("request_id", "client_reference", "state", "provider", "provider_message_id", "recipient", "sender", "encoding"),
    *("segments", "priority", "accept_time", "schedule_time", "deadline", "update_time", "next_attempt_time"),
    *("trace_id", "route_reason", "labels"),
)
_COMMAND_FIELDS = (
    *("client", "request_id", "recipient", "body", "sender", "priority", "providers", "route_reason", "accept_time"),
    *("schedule_time", "deadline", "encoding", "segments", "client_reference", "callback_url", "labels"),
    *("fingerprint", "traceparent"),
)
_ATTEMPT_FIELDS = ("number", "provider", "start_time", "end_time", "outcome", "provider_message_id", "code", "detail")


def status_from_row(row: Row[Any], attempts: Iterable[Row[Any]]) -> pb.MessageStatus:
    """Tell a message's story; fields of an accept record that was not projected yet stay empty."""
    status = pb.MessageStatus(message_id=str(row.message_id), final=row.state in FINAL_STATES)
    _fill(status, row, _STATUS_FIELDS)
    if row.reason or row.detail:
        status.error.reason = row.reason or ""
        status.error.detail = row.detail or ""
    for attempt in attempts:
        _fill(status.attempts.add(), attempt, _ATTEMPT_FIELDS)
    return status


def command_from_row(row: Row[Any]) -> dispatch_pb2.Command:
    """Rebuild a message as it was accepted."""
    command = dispatch_pb2.Command(message_id=str(row.message_id), provider=row.first_provider or "")
    _fill(command, row, _COMMAND_FIELDS)
    return command


def _fill(record: Message, row: Row[Any], names: Iterable[str]) -> None:
    for name in names:
        match getattr(row, name):
            case None:
                continue
            case datetime() as value:
                getattr(record, name).FromDatetime(value)
            case dict() as value:
                getattr(record, name).update(value)
            case list() as value:
                getattr(record, name).extend(value)
            case value:
                setattr(record, name, value)
