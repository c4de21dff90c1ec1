"""Builds records of the streams for the tests of the store."""

import itertools
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from sms.dispatch.v1 import dispatch_pb2
from sms.gateway.v1 import message_pb2 as pb

from messaging import model
from messaging.store.writer import Projected

NOW = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # a Wednesday
RECIPIENT = "+233201234567"
BODY = "Your code is 471109"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

_sequences = itertools.count(1)


def new_id(at: datetime = NOW) -> str:
    key = model.key_from_bytes(secrets.token_bytes(model.KEY_BYTES))
    return model.new_address("default", int(at.timestamp() * 1000), key).message_id


def time_of(message_id: str) -> datetime:
    return datetime.fromtimestamp((uuid.UUID(message_id).int >> 80) / 1000, UTC)


def command(message_id: str, **fields: Any) -> dispatch_pb2.Command:
    accepted = time_of(message_id)
    values = {
        "message_id": message_id,
        "client": "default",
        "request_id": "order-7",
        "recipient": RECIPIENT,
        "body": BODY,
        "sender": "Shop",
        "priority": pb.PRIORITY_OTP,
        "providers": ["twilio", "arkesel"],
        "provider": "twilio",
        "route_reason": "weights",
        "accept_time": accepted,
        "deadline": accepted + timedelta(minutes=10),
        "encoding": pb.ENCODING_GSM7,
        "segments": 1,
        "client_reference": "basket-9",
        "callback_url": "https://shop.example/sms",
        "labels": {"campaign": "autumn"},
        "fingerprint": b"\x00\x01",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    return dispatch_pb2.Command(**{**values, **fields})


def accepted(message_id: str, **fields: Any) -> Projected:
    entry = dispatch_pb2.QueueEntry(command=command(message_id, **fields))
    return Projected(next(_sequences), entry=entry)


def event(message_id: str, state: int, **fields: Any) -> Projected:
    """Make an event; its sequence is higher than that of the event made before."""
    attempts = fields.get("attempts", [])
    values = {
        "message_id": message_id,
        "client": "default",
        "state": state,
        "provider": "twilio",
        "time": time_of(message_id) + timedelta(seconds=1),
        "attempt_count": len(attempts),
        "pod": "pod-1",
    }
    return Projected(next(_sequences), event=dispatch_pb2.Event(**{**values, **fields}))


def attempt(number: int, outcome: int = 0, **fields: Any) -> pb.Attempt:
    values: dict[str, Any] = {"number": number, "provider": "twilio", "start_time": NOW + timedelta(seconds=number)}
    if outcome:
        values |= {"outcome": outcome, "end_time": NOW + timedelta(seconds=number, milliseconds=80), "code": "201"}
    return pb.Attempt(**{**values, **fields})


def a_long_story(message_id: str) -> list[Projected]:
    """Records of a message: accepted, failed at one provider, retried later, taken by another, delivered."""
    failed = attempt(1, pb.ATTEMPT_OUTCOME_TRANSIENT, code="503", detail="overloaded")
    taken = attempt(2, pb.ATTEMPT_OUTCOME_ACCEPTED, provider="arkesel", provider_message_id="ak-1")
    later = {"next": dispatch_pb2.NEXT_STEP_LATER, "due_time": NOW + timedelta(seconds=30), "round": 1}
    return [
        accepted(message_id),
        event(message_id, pb.MESSAGE_STATE_SENDING, attempts=[attempt(1)]),
        event(message_id, pb.MESSAGE_STATE_QUEUED, provider="", reason="OVERLOADED", attempts=[failed], **later),
        event(message_id, pb.MESSAGE_STATE_SENDING, provider="arkesel", attempts=[failed, attempt(2)]),
        event(message_id, pb.MESSAGE_STATE_SENT, provider="arkesel", attempts=[failed, taken]),
        event(message_id, pb.MESSAGE_STATE_DELIVERED, provider="", attempts=[taken], attempt_count=2),
    ]
