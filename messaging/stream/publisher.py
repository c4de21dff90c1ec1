"""Everything that is written to the streams, each with the condition that makes repeating it safe.

An unknown outcome (time-out, no responders, disconnected) is repeated with the same contents; when the stream then
refuses because it already holds them, that is success.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.errors import CorruptRecord, StreamDown, StreamFull
from messaging.model import Address
from messaging.runtime.backoff import Backoff, retry
from messaging.stream import topology as topo
from messaging.stream.interface import Busy, Connection, Record, Refused, Stored

_T = TypeVar("_T")

_STREAM_AWAY = Backoff(first_s=0.02, longest_s=0.5)
_BUSY_PAUSE_S = 0.005


@attrs.frozen
class Accepted:
    """The stream has acknowledged the message."""

    sequence: int


@attrs.frozen
class AlreadyAccepted:
    """A message under the same idempotency key was accepted before: `record` is its acceptance."""

    record: Record


class Publisher:
    """Writes records; `budget_s` None means: until it succeeds or the task is cancelled."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def accept(
        self, entry: wire.QueueEntry, address: Address, lane: str, *, ttl_s: float | None, budget_s: float
    ) -> Accepted | AlreadyAccepted:
        """Accept a message unless its key is taken; raises StreamDown, StreamFull when that cannot be done in time."""
        command = entry.command
        subject = topo.accept_subject(command.provider, lane, address)
        key_filter = topo.accept_key_filter(address.client, address.key)
        headers = {topo.H_EXPECTED: "0", topo.H_EXPECTED_SUBJECT: key_filter, **_trace(command.traceparent)}
        if ttl_s is not None:
            headers[topo.H_TTL] = str(max(1, int(ttl_s)))
        data = entry.SerializeToString()

        async def once() -> Accepted | AlreadyAccepted | None:
            answer = await self._connection.publish(subject, data, headers)
            match answer:
                case Stored(sequence):
                    return Accepted(sequence)
                case Busy():
                    await asyncio.sleep(_BUSY_PAUSE_S)
                    return None
                case Refused(sequence):
                    record = await self._accepted(sequence, key_filter)
                    if record is None:
                        return None
                    return Accepted(record.sequence) if record.data == data else AlreadyAccepted(record)

        return await _until(once, budget_s)

    async def _accepted(self, sequence: int, key_filter: str) -> Record | None:
        record = await self._connection.at(topo.ACCEPT, sequence) if sequence else None
        return record or await self._connection.last(topo.ACCEPT, key_filter)

    async def append_event(
        self, address: Address, event: wire.Event, expected: int, *, budget_s: float | None = None
    ) -> int | None:
        """Write the next event if the last one still stands at `expected`; its sequence, or None: someone was faster.

        The event gets a nonce, so that a success whose acknowledgement was lost is recognised.
        """
        event.nonce = secrets.token_hex(6)
        subject = topo.event_subject(address)
        headers = {topo.H_EXPECTED: str(expected), **_trace(event.traceparent)}
        data = event.SerializeToString()

        async def once() -> tuple[int | None] | None:
            answer = await self._connection.publish(subject, data, headers)
            match answer:
                case Stored(sequence):
                    return (sequence,)
                case Busy():
                    await asyncio.sleep(_BUSY_PAUSE_S)
                    return None
                case Refused():
                    record = await self._connection.last(topo.EVENT, subject)
                    return (record.sequence if record is not None and record.data == data else None,)

        return (await _until(once, budget_s))[0]

    async def enqueue(
        self, entry: wire.QueueEntry, address: Address, provider: str, lane: str, *, budget_s: float | None = None
    ) -> None:
        """Put a message into a provider's queue; repeating it replaces it."""
        await self._plain(topo.send_subject(provider, lane, address), entry, {}, budget_s)

    async def schedule(
        self,
        entry: wire.QueueEntry,
        address: Address,
        provider: str,
        lane: str,
        due: float,
        *,
        budget_s: float | None = None,
    ) -> None:
        """Put a message into a provider's queue at `due` (Unix seconds); repeating it replaces it."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1000):03d}Z"
        headers = {
            topo.H_SCHEDULE: f"@at {stamp}",
            topo.H_SCHEDULE_TARGET: topo.due_subject(provider, lane, address),
            topo.H_SCHEDULE_TTL: topo.DUE_TTL,
        }
        await self._plain(topo.later_subject(address), entry, headers, budget_s)

    async def unschedule(self, address: Address) -> None:
        """Take a schedule back, if it still waits; what fires all the same is recognised as stale."""
        record = await self._connection.last(topo.LATER_STREAM, topo.later_subject(address))
        if record is not None:
            await self._connection.delete(topo.LATER_STREAM, record.sequence)

    async def bury(self, letter: wire.DeadLetter, address: Address, *, budget_s: float | None = None) -> None:
        """Put a message among the dead letters; repeating it while it lies there changes nothing.

        A letter of an earlier event may still lie there, because a replay deletes it last: this one comes beside it.
        """
        provider = letter.last.provider or letter.command.provider or "none"
        subject = topo.dlq_subject(provider, letter.reason.lower(), address)
        data = letter.SerializeToString()
        expected = 0

        async def once() -> bool | None:
            nonlocal expected
            headers = {topo.H_EXPECTED: str(expected), **_trace(letter.last.traceparent or letter.command.traceparent)}
            match await self._connection.publish(subject, data, headers):
                case Stored():
                    return True
                case Busy():
                    await asyncio.sleep(_BUSY_PAUSE_S)
                    return None
                case Refused():
                    there = await self._connection.last(topo.DLQ, subject)
                    expected = there.sequence if there is not None else 0
                    return True if there is not None and _speaks_of(there, letter.last_sequence) else None

        await _until(once, budget_s)

    async def _plain(
        self,
        subject: str,
        record: wire.QueueEntry,
        headers: Mapping[str, str],
        budget_s: float | None,
    ) -> None:
        data = record.SerializeToString()
        everything = {**headers, **_trace(record.last.traceparent or record.command.traceparent)}

        async def once() -> bool | None:
            answer = await self._connection.publish(subject, data, everything)
            if isinstance(answer, Busy):
                await asyncio.sleep(_BUSY_PAUSE_S)
                return None
            return True

        await _until(once, budget_s)


def _speaks_of(record: Record, sequence: int) -> bool:
    """Whether a dead letter speaks of the event at `sequence`, or of a later one."""
    try:
        return codec.decode(wire.DeadLetter, record.subject, record.data).last_sequence >= sequence
    except CorruptRecord:
        return False


def _trace(traceparent: str) -> dict[str, str]:
    return {codec.TRACEPARENT: traceparent} if traceparent else {}


async def _until(once: Callable[[], Awaitable[_T | None]], budget_s: float | None) -> _T:
    """Repeat `once` until it gives a value; with a budget StreamFull ends it at once, StreamDown when that is spent."""
    end = None if budget_s is None else time.monotonic() + budget_s

    async def answered() -> _T:
        while (answer := await once()) is None:
            if end is not None and time.monotonic() >= end:
                raise StreamDown("the key stays in flight")
        return answer

    upon = (StreamDown, StreamFull) if budget_s is None else (StreamDown,)
    return await retry(answered, _STREAM_AWAY, upon, budget_s)
