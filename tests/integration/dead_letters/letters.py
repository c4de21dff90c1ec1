"""Builds messages, their events and their dead letters on a real stream."""

import secrets
import time

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import KEY_BYTES, Address, key_from_bytes, new_address
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from ops.dead_letters import DeadLetters, Letter

PROVIDERS = ["p1", "p2"]


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def address(client: str = "default") -> Address:
    return new_address(client, time.time_ns() // 1_000_000, key_from_bytes(secrets.token_bytes(KEY_BYTES)))


def command(where: Address, ttl_s: float = 600, **fields) -> wire.Command:
    now = time.time()
    values = {
        "message_id": where.message_id,
        "client": where.client,
        "recipient": "+233201234567",
        "body": "Text",
        "priority": pb.PRIORITY_OTP,
        "provider": "p1",
        "accept_time": codec.timestamp(now),
        "deadline": codec.timestamp(now + ttl_s),
        "traceparent": TRACE,
    }
    return wire.Command(**{**values, **fields})


async def append(connection: Connection, where: Address, state: int, expected: int = 0, **fields) -> int:
    values = {
        "message_id": where.message_id,
        "client": where.client,
        "state": state,
        "provider": "p1",
        "time": codec.timestamp(time.time()),
        "attempts": [pb.Attempt(number=1, provider="p1"), pb.Attempt(number=2, provider="p2")],
        "attempt_count": 2,
        "round": 3,
        "tried": ["p1", "p2"],
    }
    event = wire.Event(**{**values, **fields})
    sequence = await Publisher(connection).append_event(where, event, expected, budget_s=5)
    assert sequence is not None
    return sequence


async def dead_letter(
    connection: Connection,
    where: Address | None = None,
    state: int = pb.MESSAGE_STATE_FAILED,
    reason: str = "EXHAUSTED",
    *,
    expected: int = 0,
    ttl_s: float = 600,
    **fields,
) -> Letter:
    """End a message as a dispatcher does: first the event, then the dead letter."""
    where = where or address()
    sequence = await append(
        connection,
        where,
        state,
        expected,
        reason=reason,
        next=wire.NEXT_STEP_BURY,
        provider=fields.get("provider", "p1"),
    )
    last, _ = await last_event(connection, where)
    letter = wire.DeadLetter(
        command=command(where, ttl_s, **fields), last=last, last_sequence=sequence, reason=reason, time=last.time
    )
    await Publisher(connection).bury(letter, where, budget_s=5)
    found = await DeadLetters(connection).find(where.client, where.message_id)
    assert found is not None
    return found


async def last_event(connection: Connection, where: Address) -> tuple[wire.Event, int]:
    record = await connection.last(topo.EVENT, topo.event_subject(where))
    assert record is not None
    return codec.decode(wire.Event, record.subject, record.data), record.sequence


async def queued(connection: Connection, where: Address) -> tuple[str, wire.QueueEntry] | None:
    record = await connection.last(topo.SEND, topo.send_subject("*", "*", where))
    if record is None:
        return None
    return record.subject, codec.decode(wire.QueueEntry, record.subject, record.data)


async def letters_of(letters: DeadLetters, where: Address) -> list[int]:
    return [letter.sequence async for letter in letters.walk() if letter.address == where]
