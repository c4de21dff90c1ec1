"""Records that no version of this project wrote, or that only a newer one will write, and where they may lie.

`places` gives every subject and key of the topology, well formed and not; `contents` gives every kind of bytes. Each
pair has an address of its own, so that what became of it can be seen.
"""

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from google.protobuf.timestamp_pb2 import Timestamp
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, documents
from messaging.model import KEY_BYTES, LATER, Address, Lane, key_from_bytes, new_address
from messaging.stream import topology as topo

FOURTH_PRIORITY = 77
FUTURE_NUMBER = 2500
FUTURE_FIELD = b"\xa2\x9c\x01\x06future"
"""A field with that number, as bytes."""

_LAST_SECOND = 253_402_300_799
_NOT_UTF8 = b"\xff\xfe\x80"


@attrs.frozen
class Hostile:
    """One record to publish; `address` is that of its subject, None when the subject has none."""

    place: str
    content: str
    subject: str
    data: bytes
    address: Address | None


def an_address(now: float) -> Address:
    return new_address("default", int(now * 1000), key_from_bytes(os.urandom(KEY_BYTES)))


def a_command(address: Address, now: float) -> wire.Command:
    """A message that could be sent."""
    return wire.Command(
        message_id=address.message_id,
        client=address.client,
        recipient="+233201234567",
        body="Hello",
        priority=pb.PRIORITY_NORMAL,
        provider="p1",
        segments=1,
        accept_time=codec.timestamp(now),
        deadline=codec.timestamp(now + 600),
    )


def places(provider: str = "p1") -> dict[str, Callable[[Address], str]]:
    """Name every subject under which records of messages lie, and some that have no address."""
    found: dict[str, Callable[[Address], str]] = {
        "event": topo.event_subject,
        "later": topo.later_subject,
        "dlq": lambda address: topo.dlq_subject(provider, "unknown", address),
    }
    for lane in Lane:
        found[f"accept {lane}"] = lambda address, lane=lane: topo.accept_subject(provider, lane, address)  # type: ignore[misc]
        found[f"send {lane}"] = lambda address, lane=lane: topo.send_subject(provider, lane, address)  # type: ignore[misc]
        found[f"due {lane}"] = lambda address, lane=lane: topo.due_subject(provider, lane, address)  # type: ignore[misc]
    found[f"accept {LATER}"] = lambda address: topo.accept_subject(provider, LATER, address)
    for name, subject in _WITHOUT_ADDRESS.items():
        found[f"{name} without address"] = lambda _, subject=subject: subject.replace("p1", provider)  # type: ignore[misc]
    return found


_WITHOUT_ADDRESS = {
    "accept": "sms.accept.p1.normal.x",
    "accept later": "sms.accept.p1.later.default.key.time",
    "send": "sms.send.p1.normal.x",
    "send to a strange name": "sms.send.ü*%.normal.x",
    "send to a long name": f"sms.send.{'x' * 200}.normal.x",
    "send in no lane": "sms.send.p1.urgent.x",
    "send deep": "sms.send.p1.bulk.default.key.time.and.more",
    "event": "sms.event.x",
    "event deep": "sms.event.default.7fff.not-hex",
    "later": "sms.later.x",
    "due": "sms.due.p1",
    "dlq": "sms.dlq.x",
    "dlq deep": "sms.dlq.p1.reason.a.b.c.d",
}

_HUGE_TEXT = wire.QueueEntry(command=wire.Command(body="x" * 900_000)).SerializeToString()
"""Behind an entry it replaces that one's text: protobuf merges what comes twice."""


def contents(address: Address, now: float) -> dict[str, bytes]:
    """Make every kind of bytes for one address."""
    command, other = a_command(address, now), a_command(an_address(now), now)
    event = wire.Event(message_id=address.message_id, client=address.client, state=pb.MESSAGE_STATE_QUEUED)
    whole = wire.QueueEntry(command=command).SerializeToString()

    def entry(**fields: object) -> bytes:
        changed = wire.Command()
        changed.CopyFrom(command)
        changed.MergeFrom(wire.Command(**fields))  # type: ignore[arg-type]
        return wire.QueueEntry(command=changed).SerializeToString()

    def timed(name: str, seconds: int, nanos: int = 0) -> bytes:
        changed = wire.Command()
        changed.CopyFrom(command)
        stamp = getattr(changed, name)
        stamp.seconds, stamp.nanos = seconds, nanos
        return wire.QueueEntry(command=changed).SerializeToString()

    def numbered(**numbers: Any) -> bytes:
        return wire.Event(message_id=address.message_id, client=address.client, **numbers).SerializeToString()

    return {
        "nothing": b"",
        "brace": b"{",
        "json": b'{"message_id": 7}',
        "noise": random.Random(7).randbytes(200),
        "huge noise": b"\x0a\xff\xff\x3f" + b"x" * 900_000,
        "huge text": whole + _HUGE_TEXT,
        "truncated": whole[: len(whole) // 2],
        "one byte short": whole[:-1],
        "not UTF-8": b"\x0a\x05\x0a\x03" + _NOT_UTF8,
        "deep": b"\x0a\x7e" * 60,
        "a command": command.SerializeToString(),
        "an event": event.SerializeToString(),
        "a dead letter": wire.DeadLetter(command=command, last=event, reason="FAILED").SerializeToString(),
        "of another message": wire.QueueEntry(command=other).SerializeToString(),
        "of another client": entry(client="somebody"),
        "without deadline": wire.QueueEntry(command=wire.Command(message_id=address.message_id)).SerializeToString(),
        "its last event is another's": wire.QueueEntry(
            command=command, last=wire.Event(message_id=other.message_id)
        ).SerializeToString(),
        "schedule_time 2^62": timed("schedule_time", 2**62),
        "schedule_time -2^62": timed("schedule_time", -(2**62)),
        "schedule_time -1": timed("schedule_time", -1),
        "nanos 2^31-1": timed("schedule_time", int(now), 2**31 - 1),
        "nanos -1": timed("accept_time", int(now), -1),
        "accept_time 2^40": timed("accept_time", 2**40),
        "deadline 2^62": timed("deadline", 2**62),
        "deadline in the last second": timed("deadline", _LAST_SECOND),
        "provider with a line break": entry(provider="p1\r\nPUB x 1\r\n"),
        "provider with a wildcard": entry(provider="p1.>"),
        "trace with a line break": entry(traceparent="00-1\r\nNats-Rollup: all"),
        "counts without end": wire.QueueEntry(
            command=command,
            last=wire.Event(message_id=address.message_id, attempt_count=2**32 - 1, round=2**32 - 1),
            last_sequence=2**64 - 1,
        ).SerializeToString(),
        "fourth priority": entry(priority=FOURTH_PRIORITY),
        "priority -2^31": entry(priority=-(2**31)),
        "newer fields": whole + FUTURE_FIELD,
        "event in a newer state": numbered(state=77, next=9),
        "event without end": numbered(state=2**31 - 1, attempt_count=2**32 - 1),
        "event at no time": wire.Event(
            message_id=address.message_id, state=pb.MESSAGE_STATE_SENDING, time=Timestamp(seconds=2**62)
        ).SerializeToString(),
        "event that fell from the sky": wire.Event(
            message_id=address.message_id, client=address.client, state=pb.MESSAGE_STATE_SENT, next=wire.NEXT_STEP_AGAIN
        ).SerializeToString(),
    }


def hostile_records(now: float, provider: str = "p1") -> Iterator[Hostile]:
    """Every kind of bytes under every subject."""
    for place, subject_of in places(provider).items():
        for content in contents(an_address(now), now):
            address = an_address(now)
            known = None if "without address" in place else address
            yield Hostile(place, content, subject_of(address), contents(address, now)[content], known)


def keys(provider: str = "p1") -> dict[str, list[str]]:
    """Name the keys of both buckets, and some that mean nothing."""
    strange = ["x", "lease", "breaker", "a.b.c.d"]
    return {
        topo.LIMITS_BUCKET: [documents.ALLOC, documents.LEADER, documents.lease_key("stranger"), *strange],
        topo.BREAKERS_BUCKET: [documents.breaker_key(provider), documents.pause_key(provider), *strange],
    }


DOCUMENTS: Mapping[str, bytes] = {
    "nothing": b"",
    "brace": b"{",
    "not UTF-8": _NOT_UTF8,
    "deep": b"[" * 100_000,
    "huge": b'"' + b"x" * 900_000 + b'"',
    "digits without end": b"9" * 5000,
    "infinity": b'{"pause_s": 1e999, "demand": 1e999, "provider": "p1", "version": 1e999}',
    "nan": b'{"pause_s": NaN, "state": NaN}',
    "list": b"[1, 2]",
    "half a surrogate pair": b'{"state": "\\ud800", "name": "\\ud800", "reason": "\\ud800"}',
    "wrong types": json.dumps({"state": 7, "generation": [], "pause_s": "x", "provider": 1, "name": {}}).encode(),
    "counts without end": json.dumps(
        {"state": "open", "generation": 2**62, "provider": "p1", "demand": 2**62, "floor": 2**62, "version": 2**62}
    ).encode(),
    "newer mode": json.dumps({"state": "quarantined", "generation": 3, "name": "c"}).encode(),
    "grants to nobody": json.dumps(
        {"version": 5, "grants": {"\u0000": {"provider": "nobody", "share": 2**60, "held": 2**60}}}
    ).encode(),
    "an entry": wire.QueueEntry(last_sequence=7).SerializeToString(),
}

STRANGE_HEADERS: Mapping[str, bytes] = {
    "a status": b"NATS/1.0\r\nStatus: 404\r\nDescription: No Messages\r\n\r\n",
    "a status line": b"NATS/1.0 404 No Messages\r\n\r\n",
    "a status that is not UTF-8": b"NATS/1.0 \xff\xfe\xff\r\n\r\n",
    "not UTF-8": b"NATS/1.0\r\ntraceparent: \xff\xfe\r\n\xff: \xff\r\n\r\n",
    "no colon": b"NATS/1.0\r\nnonsense\r\n\r\n",
    "another's sequence": b"NATS/1.0\r\nNats-Sequence: none\r\nNats-Subject: x\r\n\r\n",
    "a huge trace": b"NATS/1.0\r\ntraceparent: " + b"0" * 4000 + b"\r\n\r\n",
}
"""Blocks of header bytes, as a client may send them without a library."""
