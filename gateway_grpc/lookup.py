"""Finds and cancels a client's messages: from the stream while it has them, from the history after that."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, events
from messaging.errors import CorruptRecord, NotCancelable, NotFound, StoreDown, StreamDown
from messaging.lifecycle import may_follow
from messaging.model import Address, address_of, parse_address, state_name
from messaging.runtime.backoff import Backoff, retry
from messaging.status import as_of, overlay, status_of
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

_CANCEL_BUDGET_S = 8.0
_STREAM_AWAY = Backoff(first_s=0.1, longest_s=0.1)
_MAX_LOGGED = 1000
_OPEN = pb.ATTEMPT_OUTCOME_UNSPECIFIED


class StoredMessages(Protocol):
    """What the gateway reads from the history; every read is limited to one client."""

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        """Find one message by its id."""

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        """Find the newest message with a request_id."""

    async def list_page(
        self, client: str, request: api.ListMessagesRequest, after: str | None, limit: int
    ) -> list[pb.MessageStatus]:
        """List messages older than `after`, newest first."""


@attrs.frozen
class Found:
    """A message's status, and the stream sequence of its last event (0: none).

    `command` and `last` are its acceptance and its last event, None when the stream no longer has them.
    """

    status: pb.MessageStatus
    last_sequence: int
    command: wire.Command | None = None
    last: wire.Event | None = None

    def newer_than(self, previous: "Found") -> bool:
        """Whether this is newer than `previous`; without a sequence it is from the history, which may lag behind."""
        if self.last_sequence:
            return self.last_sequence > previous.last_sequence
        now, before = self.status, previous.status
        if codec.unix(now.update_time) < codec.unix(before.update_time):
            return False
        attempts, attempts_before = _attempt_progress(now), _attempt_progress(before)
        if attempts != attempts_before:
            return attempts > attempts_before
        return now.state != before.state and may_follow(before.state, now.state)


def _attempt_progress(status: pb.MessageStatus) -> tuple[int, bool]:
    """Return the last attempt's number and whether it has ended, which together only grow."""
    return max(((one.number, one.outcome != _OPEN) for one in status.attempts), default=(0, True))


class Lookup:
    """Finds and cancels messages."""

    def __init__(
        self, connection: Connection, history: StoredMessages, key: Callable[[str, str], str], pod: str
    ) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._history = history
        self._key = key
        self._pod = pod
        self._logged: set[int] = set()

    async def find(self, client: str, *, message_id: str = "", request_id: str = "") -> Found:
        """Find by message_id or request_id; raises NotFound, or StreamDown or StoreDown when it cannot be known."""
        if message_id:
            return await self._by_id(client, message_id)
        try:
            record = await self._connection.last(
                topo.ACCEPT, topo.accept_key_filter(client, self._key(client, request_id))
            )
        except StreamDown as down:
            return await self._from_history(self._history.find_by_request_id(client, request_id), down)
        if record is not None:
            return await self._by_id(client, parse_address(record.subject).message_id)
        status = await self._history.find_by_request_id(client, request_id)
        if status is None:
            raise NotFound("request_id")
        return await self._by_id(client, status.message_id)

    async def _by_id(self, client: str, message_id: str) -> Found:
        try:
            address = address_of(client, message_id)
        except ValueError as exc:
            raise NotFound("message_id") from exc
        try:
            accepted, last = await asyncio.gather(
                self._connection.last(topo.ACCEPT, topo.accept_filter(address)),
                self._connection.last(topo.EVENT, topo.event_subject(address)),
            )
        except StreamDown as down:
            return await self._from_history(self._history.find(client, message_id), down)
        event = codec.decode(wire.Event, last.subject, last.data) if last else None
        sequence = last.sequence if last else 0
        if accepted is not None and (command := self._command(accepted)) is not None:
            return Found(as_of(status_of(command, event), time.time()), sequence, command, event)
        try:
            stored = await self._history.find(client, message_id)
        except StoreDown:
            if event is None:
                raise
            stored = None
        if event is not None:
            return Found(overlay(stored or pb.MessageStatus(), event), sequence, None, event)
        if stored is None:
            raise NotFound("message_id")
        return Found(as_of(stored, time.time()), 0)

    def _command(self, accepted: Record) -> wire.Command | None:
        """Read an acceptance; None for one that cannot be read, which is logged once: the history may have more."""
        try:
            return codec.decode(wire.QueueEntry, accepted.subject, accepted.data).command
        except CorruptRecord as exc:
            if accepted.sequence not in self._logged and len(self._logged) < _MAX_LOGGED:
                self._logged.add(accepted.sequence)
                _log.error("an unreadable acceptance counts as absent", error=str(exc))
            return None

    async def _from_history(self, reading: Awaitable[pb.MessageStatus | None], down: StreamDown) -> Found:
        """Answer from the history while the stream is away; raises `down` when the history does not have it."""
        try:
            status = await reading
        except StoreDown:
            raise down from None
        if status is None:
            raise down
        return Found(as_of(status, time.time()), 0)

    async def cancel(self, client: str, *, message_id: str = "", request_id: str = "") -> pb.MessageStatus:
        """Cancel a message; raises NotCancelable when a provider may have it or it is final.

        After StreamDown it may be CANCELED while its schedule still exists: a repeated call deletes the schedule.
        """
        end = time.monotonic() + _CANCEL_BUDGET_S
        while True:
            found = await self.find(client, message_id=message_id, request_id=request_id)
            status = found.status
            address = address_of(client, status.message_id)
            if status.state == pb.MESSAGE_STATE_CANCELED:
                await self._unschedule(address, end)
                return status
            if not may_follow(status.state, pb.MESSAGE_STATE_CANCELED):
                raise NotCancelable(status.message_id, state_name(status.state))
            if any(one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS for one in status.attempts):
                raise NotCancelable(status.message_id, state_name(status.state), unclear=True)
            event = self._canceled(client, found)
            budget = max(0.1, end - time.monotonic())
            if await self._publisher.append_event(address, event, found.last_sequence, budget_s=budget) is not None:
                await self._unschedule(address, end)
                return overlay(status, event)
            if time.monotonic() >= end:
                raise StreamDown("canceling")

    def _canceled(self, client: str, found: Found) -> wire.Event:
        status = found.status
        # A message with a distant schedule_time outlives its acceptance in the stream; its event needs only these.
        command = found.command or wire.Command(message_id=status.message_id, client=client, provider=status.provider)
        change = events.Change(
            pb.MESSAGE_STATE_CANCELED,
            reason="CANCELED_BY_CALLER",
            detail="withdrawn before a provider took it",
        )
        return events.following(command, found.last or wire.Event(), change, events.Writer(self._pod), time.time())

    async def _unschedule(self, address: Address, end: float) -> None:
        """Delete the schedule: if it fired after the CANCELED event had expired, the message would be sent."""
        left = end - time.monotonic()
        await retry(lambda: self._publisher.unschedule(address), _STREAM_AWAY, StreamDown, left)
