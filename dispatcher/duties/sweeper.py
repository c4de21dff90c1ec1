"""Ends messages whose deadline passed while they waited where no pod would look at them.

A lane may be paused, its breaker open, its pods away: what waits there is drawn late or never. The history knows every
deadline; the event log still decides, by compare-and-set, and the queue entry that is left is recognised as stale.
"""

import asyncio
import time
from collections.abc import Sequence
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
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_BATCH = 200
_BUDGET_S = 5.0
_DISPATCH_FIRST_S = 1.0
"""A pod that holds the message ends it itself; the sweeper comes after."""

_UNCLEAR_S = 180.0
"""No attempt lasts this long: one without a recorded end has no pod any more."""


class Deadlines(Protocol):
    """What the store tells the sweeper."""

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> Sequence[Overdue]:
        """Give messages whose deadline lies before a time and that are not final, a page of them; raises StoreDown."""

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        """Give what was accepted; raises StoreDown."""


class Sweeper:
    """Runs beside the projector; several may run, the compare-and-set lets one win."""

    def __init__(self, connection: Connection, deadlines: Deadlines, pod: str, events_kept_s: float) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._deadlines = deadlines
        self._pod = pod
        self._events_kept_s = events_kept_s
        self._place: Overdue | None = None

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep(time.time())
            except Unavailable as exc:
                _log.warning("not swept", error=str(exc))
            await asyncio.sleep(_EVERY_S)

    async def sweep(self, now: float) -> int:
        """End one page of what is overdue at `now` (Unix seconds); gives how many. Raises Unavailable.

        The next sweep goes on behind it, and begins anew after the last page: what cannot be ended bars nobody's way.
        """
        before = datetime.fromtimestamp(now - _DISPATCH_FIRST_S, UTC)
        late = await self._deadlines.overdue(before, _BATCH, self._place)
        self._place = late[-1] if len(late) == _BATCH else None
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
            # Its events may be forgotten: what became of it is told nowhere but there.
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
    """Decide how an overdue message in state `before` ends; None while it has time, or a pod may be busy with it."""
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
