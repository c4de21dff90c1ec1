"""Ends messages whose deadline passed while they waited in a queue that no pod draws from.

A lane may be paused, its breaker open or its pods down; messages there are drawn late or never. The sweeper finds them
by their deadlines in the history. The event log still decides, by compare-and-set, and the queue entry that remains is
recognised as stale when it is drawn.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, events
from messaging.errors import CorruptRecord, Unavailable
from messaging.lifecycle import may_follow
from messaging.model import address_of
from messaging.status import deadline_of, first_state
from messaging.store.reader import Overdue
from messaging.stream import topology as topo
from messaging.stream.clock import wall_time
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_BATCH = 200
_BUDGET_S = 5.0
_DISPATCH_FIRST_S = 1.0
"""How long after its deadline a message is left to the pod that holds it."""

_UNCLEAR_S = 180.0
"""No attempt lasts this long: the pod of one without a recorded end must have vanished."""


class Deadlines(Protocol):
    """What the sweeper needs of the store."""

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> Sequence[Overdue]:
        """Return a page of messages that are not final and whose deadline is before a time; raises StoreDown."""

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        """Return the message as it was accepted; None when the store has none. Raises StoreDown."""


class Sweeper:
    """Runs in the projector's process. Several may run: compare-and-set lets one of them end a message."""

    def __init__(
        self,
        connection: Connection,
        deadlines: Deadlines,
        pod: str,
        events_kept_s: float,
        now: Callable[[], float] = wall_time,
    ) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._deadlines = deadlines
        self._pod = pod
        self._events_kept_s = events_kept_s
        self._now = now
        self._after: Overdue | None = None

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep(self._now())
            except Unavailable as exc:
                _log.warning("not swept", error=str(exc))
            await asyncio.sleep(_EVERY_S)

    async def sweep(self, now: float) -> int:
        """End one page of the messages overdue at `now` (Unix seconds); return how many. Raises Unavailable.

        The next sweep continues after that page, and starts again after the last one, so messages that cannot be ended
        do not block the others.
        """
        before = datetime.fromtimestamp(now - _DISPATCH_FIRST_S, UTC)
        late = await self._deadlines.overdue(before, _BATCH, self._after)
        self._after = late[-1] if len(late) == _BATCH else None
        ended = await asyncio.gather(*(self._try(one, now) for one in late))
        return sum(ended)

    async def _try(self, one: Overdue, now: float) -> bool:
        try:
            return await self._end(one.client, one.message_id, now)
        except CorruptRecord as exc:
            _log.warning("not swept", message_id=one.message_id, error=str(exc))
            return False

    async def _end(self, client: str, message_id: str, now: float) -> bool:
        command = await self._deadlines.command(client, message_id)
        if command is None:
            return False
        address = address_of(client, message_id)
        record = await self._connection.last(topo.EVENT, topo.event_subject(address))
        last = codec.decode(wire.Event, record.subject, record.data) if record else wire.Event()
        if record is None and now > deadline_of(command, last) + self._events_kept_s / 2:
            # The stream may have deleted its events, and only they say what became of the message.
            _log.warning("too old to be ended", message_id=message_id)
            return False
        before = last.state if record else first_state(command)
        change = end_of(command, last, before, now)
        if change is None or not may_follow(before, change.state):
            return False
        event = events.following(command, last, change, events.Writer(self._pod), now)
        expected = record.sequence if record else 0
        sequence = await self._publisher.append_event(address, event, expected, budget_s=_BUDGET_S)
        if sequence is None:
            return False
        await self._publisher.bury(events.dead_letter(command, event, sequence), address, budget_s=_BUDGET_S)
        await self._publisher.unschedule(address)
        _log.info("swept", message_id=message_id, reason=event.reason)
        return True


def end_of(command: wire.Command, last: wire.Event, before: int, now: float) -> events.Change | None:
    """Decide how a message in state `before` ends; None before its deadline, or while a pod may be sending it."""
    deadline = deadline_of(command, last)
    if now < deadline:
        return None
    state, reason = pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN"
    if before == pb.MESSAGE_STATE_SENDING:
        if now < deadline + _UNCLEAR_S:
            return None
        detail = "an attempt has no recorded end, and the deadline has passed"
    elif any(one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS for one in last.attempts):
        detail = "an earlier attempt is unclear, and the deadline has passed"
    else:
        state, reason = pb.MESSAGE_STATE_EXPIRED, "EXPIRED"
        detail = "the deadline passed before a provider took it"
    return events.Change(state, wire.NEXT_STEP_BURY, reason=reason, detail=detail)
