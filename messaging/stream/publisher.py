"""Writes records to the streams, each with a condition that makes repeating the write safe.

After an unknown outcome (time-out, no responders, disconnected) the write is repeated with the same contents. When the
stream then refuses it because it already holds these contents, the write has succeeded.
"""

import asyncio
import re
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
_TRACEPARENT = re.compile(r"[0-9a-f-]{55,128}")
_UNKNOWN, _UNKNOWN_OR_FULL = (StreamDown,), (StreamDown, StreamFull)


@attrs.frozen
class Accepted:
    """The stream has acknowledged the message."""

    sequence: int


@attrs.frozen
class AlreadyAccepted:
    """A message under the same idempotency key was accepted before: `record` is its acceptance."""

    record: Record


class Publisher:
    """Writes records, repeating each until it succeeds or `budget_s` is over; None means no limit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def accept(
        self, entry: wire.QueueEntry, address: Address, lane: str, *, ttl_s: float | None, budget_s: float
    ) -> Accepted | AlreadyAccepted:
        """Accept a message unless its key is taken; raises StreamFull, and StreamDown after `budget_s`."""
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
                    record = await self._acceptance(sequence, key_filter)
                    if record is None:
                        return None
                    return Accepted(record.sequence) if record.data == data else AlreadyAccepted(record)

        return await _until(once, budget_s)

    async def _acceptance(self, sequence: int, key_filter: str) -> Record | None:
        record = await self._connection.at(topo.ACCEPT, sequence) if sequence else None
        return record or await self._connection.last(topo.ACCEPT, key_filter)

    async def append_event(
        self, address: Address, event: wire.Event, expected: int, *, budget_s: float | None = None
    ) -> int | None:
        """Write the next event if the last one is still at `expected`; returns its sequence, None when it is not.

        The event gets a nonce, which identifies it as ours after its acknowledgement was lost.
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
        """Put a message into a provider's queue; a repeat replaces it. Raises CorruptRecord when it cannot be one."""
        await self._write(topo.send_subject(topo.token(provider), lane, address), entry, {}, budget_s)

    async def schedule(
        self,
        entry: wire.QueueEntry,
        address: Address,
        provider: str,
        lane: str,
        due: float,
        *,
        kept_s: float = topo.DUE_KEPT_S,
        budget_s: float | None = None,
    ) -> None:
        """Have a message put into a provider's queue at `due` (Unix seconds); a repeat replaces the schedule.

        What has fired is kept for `kept_s`: repeated requests are recognised by it.
        """
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1000):03d}Z"
        headers = {
            topo.H_SCHEDULE: f"@at {stamp}",
            topo.H_SCHEDULE_TARGET: topo.due_subject(topo.token(provider), lane, address),
            topo.H_SCHEDULE_TTL: f"{int(kept_s)}s",
        }
        await self._write(topo.later_subject(address), entry, headers, budget_s)

    async def unschedule(self, address: Address) -> None:
        """Delete a message's schedule if it has not fired; one that fires meanwhile is recognised as stale."""
        record = await self._connection.last(topo.LATER_STREAM, topo.later_subject(address))
        if record is not None:
            await self._connection.delete(topo.LATER_STREAM, record.sequence)

    async def bury(self, letter: wire.DeadLetter, address: Address, *, budget_s: float | None = None) -> None:
        """Add a dead letter; a repeat while it is there changes nothing.

        The letter of an earlier event may still be there, because a replay deletes it last. Both are then kept.
        """
        provider = _token_or(letter.last.provider or letter.command.provider, "none")
        subject = topo.dlq_subject(provider, _token_or(letter.reason, "unknown").lower(), address)
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
                    last = await self._connection.last(topo.DLQ, subject)
                    expected = last.sequence if last is not None else 0
                    return True if last is not None and _covers(last, letter.last_sequence) else None

        await _until(once, budget_s)

    async def _write(
        self,
        subject: str,
        record: wire.QueueEntry,
        headers: Mapping[str, str],
        budget_s: float | None,
    ) -> None:
        data = record.SerializeToString()
        all_headers = {**headers, **_trace(record.last.traceparent or record.command.traceparent)}

        async def once() -> bool | None:
            answer = await self._connection.publish(subject, data, all_headers)
            if isinstance(answer, Busy):
                await asyncio.sleep(_BUSY_PAUSE_S)
                return None
            return True

        await _until(once, budget_s)


def _token_or(name: str, otherwise: str) -> str:
    return name if topo.is_token(name) else otherwise


def _covers(record: Record, sequence: int) -> bool:
    """Whether a dead letter is that of the event at `sequence`, or of a later one."""
    try:
        return codec.decode(wire.DeadLetter, record.subject, record.data).last_sequence >= sequence
    except CorruptRecord:
        return False


def _trace(traceparent: str) -> dict[str, str]:
    """Pass a trace on; what is none, such as text that would end the header, is left out."""
    return {codec.TRACEPARENT: traceparent} if _TRACEPARENT.fullmatch(traceparent) else {}


async def _until(once: Callable[[], Awaitable[_T | None]], budget_s: float | None) -> _T:
    """Repeat `once` until it returns a value; with a budget, raises StreamFull at once and StreamDown at its end."""
    end = None if budget_s is None else time.monotonic() + budget_s
    retried: tuple[type[Exception], ...] = _UNKNOWN_OR_FULL if budget_s is None else _UNKNOWN

    async def answered() -> _T:
        while (answer := await once()) is None:
            if end is not None and time.monotonic() >= end:
                raise StreamDown("the key stays in flight")
        return answer

    return await retry(answered, _STREAM_AWAY, retried, budget_s)
