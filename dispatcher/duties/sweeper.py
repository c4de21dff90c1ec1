"""Ends messages whose deadline passed while they waited: in a queue, for a later attempt, or with an unclear outcome.

A lane may be paused, its breaker open, its pods down, or thousands may wait before a message; it is drawn late or
never. The sweeper finds them
by their deadlines in the history. The event log still decides, by compare-and-set, and the queue entry that remains is
recognised as stale when it is drawn.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import attrs
import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.obstacles import Obstacles
from messaging import codec, events
from messaging.errors import CorruptRecord, Unavailable
from messaging.lifecycle import may_follow
from messaging.model import Address, address_of
from messaging.status import deadline_of, first_state
from messaging.store.reader import Overdue
from messaging.stream import topology as topo
from messaging.stream.clock import wall_time
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

EVERY_S = 0.5
BATCH = 500
_MOST_OWED = 5000
_BUDGET_S = 5.0
_MAX_LOGGED = 1000
DISPATCH_FIRST_S = 0.5
"""How long after its deadline a message is left to the pod that holds it."""

_NEVER_TRIED = frozenset({pb.MESSAGE_STATE_ACCEPTED, pb.MESSAGE_STATE_SCHEDULED})

_UNCLEAR_S = 180.0
"""No attempt lasts this long: the pod of one without a recorded end must have vanished."""


class Deadlines(Protocol):
    """What the sweeper needs of the store."""

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> Sequence[Overdue]:
        """Return a page of messages that are not final and whose deadline is before a time; raises StoreDown."""

    async def commands(self, wanted: Sequence[Overdue]) -> Mapping[str, wire.Command]:
        """Return messages as they were accepted, by id, without those that it does not have; raises StoreDown."""


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
        self._owed: list[_Ended] = []
        self._obstacles = Obstacles(connection)
        self._logged: set[str] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._obstacles.run(), name="obstacles")
            group.create_task(self._sweep_on(), name="sweeping")

    async def _sweep_on(self) -> None:
        while True:
            try:
                while len(ended := await self._end_page(self._now())) > BATCH // 2 and len(self._owed) < _MOST_OWED:
                    self._owed += ended  # there may be more, and they are late already
                await self._follow_up([*self._owed, *ended])
            except Unavailable as exc:
                _log.warning("not swept", error=str(exc))
            self._owed.clear()
            await asyncio.sleep(EVERY_S)

    async def sweep(self, now: float) -> int:
        """End one page of the messages overdue at `now` (Unix seconds); return how many. Raises Unavailable."""
        ended = await self._end_page(now)
        await self._follow_up(ended)
        return len(ended)

    async def _end_page(self, now: float) -> "list[_Ended]":
        """Write the final states of one page: callers wait for them. What follows from them is owed.

        The next page continues after that page, and starts again after the last one, so messages that cannot be ended
        do not block the others.
        """
        before = datetime.fromtimestamp(now - DISPATCH_FIRST_S, UTC)
        late = await self._deadlines.overdue(before, BATCH, self._after)
        self._after = late[-1] if len(late) == BATCH else None
        commands = await self._deadlines.commands(late)
        ended = await asyncio.gather(*(self._try(one, commands.get(one.message_id), now) for one in late))
        return [one for one in ended if one is not None]

    async def _try(self, one: Overdue, command: wire.Command | None, now: float) -> "_Ended | None":
        try:
            return None if command is None else await self._end(one, command, now)
        except CorruptRecord as exc:
            self._log_once("a message cannot be ended", one, error=str(exc))
            return None

    def _log_once(self, event: str, one: Overdue, **fields: str) -> None:
        """Log what every sweep would log again about the same message."""
        if one.message_id not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(one.message_id)
            _log.warning(event, message_id=one.message_id, **fields)

    async def _end(self, one: Overdue, command: wire.Command, now: float) -> "_Ended | None":
        address = _address(one)
        may_be_forgotten = now > deadline_of(command, None) + self._events_kept_s / 2
        if one.state in _NEVER_TRIED and not may_be_forgotten:
            ended = await self._append(address, command, None, now)
            if ended is not None:
                return ended
            # The history lags: there is an event by now.
        record = await self._connection.last(topo.EVENT, topo.event_subject(address))
        if record is None and may_be_forgotten:
            # The stream may have deleted its events, and only they say what became of the message.
            self._log_once("too old to be ended", one)
            return None
        return await self._append(address, command, record, now)

    async def _append(
        self, address: Address, command: wire.Command, record: Record | None, now: float
    ) -> "_Ended | None":
        """Append the event that ends a message upon its last one, `record`; None when it does not end now."""
        last = _read(record)
        before = last.state if record else first_state(command)
        change = end_of(command, last, before, now, self._obstacles.of(last.provider or command.provider))
        if change is None or not may_follow(before, change.state):
            return None
        event = events.following(command, last, change, events.Writer(self._pod), now)
        expected = record.sequence if record else 0
        sequence = await self._publisher.append_event(address, event, expected, budget_s=_BUDGET_S)
        return None if sequence is None else _Ended(address, command, event, sequence)

    async def _follow_up(self, ended: "Sequence[_Ended]") -> None:
        for first in range(0, len(ended), BATCH):
            await asyncio.gather(*map(self._bury, ended[first : first + BATCH]))

    async def _bury(self, ended: "_Ended") -> None:
        """Write the dead letter and delete the schedule of a message that has ended."""
        letter = events.dead_letter(ended.command, ended.event, ended.sequence)
        await self._publisher.bury(letter, ended.address, budget_s=_BUDGET_S)
        await self._publisher.unschedule(ended.address)
        _log.info("swept", message_id=ended.command.message_id, reason=ended.event.reason)


@attrs.frozen
class _Ended:
    """A message that has ended, and the event that ended it with its sequence."""

    address: Address
    command: wire.Command
    event: wire.Event
    sequence: int


def _address(one: Overdue) -> Address:
    try:
        return address_of(one.client, one.message_id)
    except ValueError as exc:
        raise CorruptRecord(f"the row of message {one.message_id}", "its id is not one of ours") from exc


def _read(record: Record | None) -> wire.Event:
    """Read a last event. One that cannot be read may have been an attempt: its outcome counts as unclear."""
    if record is None:
        return wire.Event()
    try:
        return codec.decode(wire.Event, record.subject, record.data)
    except CorruptRecord:
        return wire.Event(state=pb.MESSAGE_STATE_SENDING)


def end_of(
    command: wire.Command, last: wire.Event, before: int, now: float, obstacle: str = ""
) -> events.Change | None:
    """Decide how a message in state `before` ends; None before its deadline, or while a pod may be sending it.

    `obstacle` says what kept its provider's messages from being sent.
    """
    deadline = deadline_of(command, last)
    if now < deadline:
        return None
    state, reason = pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN"
    if before == pb.MESSAGE_STATE_SENDING and last.held:
        detail = last.detail or "an attempt is unclear, and the deadline has passed"
    elif before == pb.MESSAGE_STATE_SENDING:
        if now < deadline + _UNCLEAR_S:
            return None
        detail = "an attempt has no recorded end, and the deadline has passed"
    elif any(one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS for one in last.attempts):
        detail = "an earlier attempt is unclear, and the deadline has passed"
    else:
        state, reason = pb.MESSAGE_STATE_EXPIRED, "EXPIRED"
        detail = _why_expired(last, provider=last.provider or command.provider, obstacle=obstacle)
    return events.Change(state, wire.NEXT_STEP_BURY, reason=reason, detail=detail)


def _why_expired(last: wire.Event, *, provider: str, obstacle: str) -> str:
    """Say what stood in a message's way, as far as it is known."""
    if last.attempt_count:
        waited = f"after attempt {last.attempt_count} it waited for {provider} ({last.reason or 'no reason given'})"
    else:
        waited = f"it was never drawn from the queue of {provider}"
    return "; ".join(filter(None, (f"the deadline passed before a provider took it: {waited}", obstacle)))
