"""Dead letters: list them, put one back into a queue (replay), or delete one (discard).

A replay writes an event, then the queue entry, then deletes the dead letter. After a crash between two of these steps
the dead letter is still there, and another replay continues where the first one stopped. When two replays run at once,
the event log decides which one succeeds.
"""

import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection

import attrs
import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, events
from messaging.errors import CorruptRecord
from messaging.lifecycle import REPLAYABLE
from messaging.model import Address, Lane, address_of, lane_of, parse_address, state_name
from messaging.status import deadline_of
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

REPLAYED = "REPLAYED"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_BUDGET_S = 10.0


@attrs.frozen
class Letter:
    """A dead letter and its stream sequence; `provider` is the one under which it is stored."""

    sequence: int
    provider: str
    address: Address
    content: wire.DeadLetter


@attrs.frozen
class Ready:
    """The letter may be replayed into this queue. `event` is to be written first; None when it was written before."""

    provider: str
    lane: Lane
    entry: wire.QueueEntry
    event: wire.Event | None


@attrs.frozen
class Stays:
    """The letter cannot be replayed and stays; `why` says the reason and what to do."""

    why: str


@attrs.frozen
class Wish:
    """How an operator wants a letter replayed.

    `to` names another provider; with `over_callers_choice` also one that the caller did not allow. `ttl_s` sets a new
    deadline, counted from now. `author` stands in the message's story.
    """

    to: str | None = None
    ttl_s: float | None = None
    over_callers_choice: bool = False
    author: str = "an operator"


def plan_replay(letter: Letter, last: tuple[wire.Event, int] | None, wish: Wish, *, now: float) -> Ready | Stays:
    """Decide whether a letter may be replayed. Pure.

    `last` is the message's last event and its stream sequence, and `now` is Unix seconds.
    """
    content = letter.content
    if content.unreadable or content.reason == events.UNREADABLE:
        return Stays("it is unreadable: it can only be discarded")
    if last is None:
        return Stays("the stream no longer has its events: send the message again as a new one")
    event, sequence = last
    begun = event.state == pb.MESSAGE_STATE_QUEUED and event.reason == REPLAYED and sequence > content.last_sequence
    if not begun and (sequence != content.last_sequence or event.state not in REPLAYABLE):
        return Stays(f"the message has changed since and is {state_name(event.state)}: discard the letter")
    deadline = now + wish.ttl_s if wish.ttl_s is not None else deadline_of(content.command, event)
    if deadline <= now:
        return Stays("its deadline has passed: give it a new one with --ttl")
    provider = wish.to or (event.provider if begun else letter.provider)
    allowed = content.command.providers
    beyond = bool(allowed) and provider not in allowed
    if beyond and not (wish.to and wish.over_callers_choice):
        only = ", ".join(allowed)
        return Stays(f"its caller allows only {only}: name one of them with --to, or add --over-callers-choice")
    command = wire.Command()
    command.CopyFrom(content.command)
    if beyond:
        command.providers.insert(0, provider)
    command.deadline.CopyFrom(codec.timestamp(deadline))
    entry = wire.QueueEntry(command=command, last=event, last_sequence=sequence)
    lane = lane_of(command.priority)
    finishing = begun and wish.ttl_s is None and provider == event.provider
    return Ready(provider, lane, entry, None if finishing else _replayed(event, command, provider, now, wish))


def _replayed(last: wire.Event, command: wire.Command, provider: str, now: float, wish: Wish) -> wire.Event:
    """Make the event of a replay: it starts a new round, in which no provider has been tried yet."""
    beyond = ", to a provider that its caller did not allow" if wish.over_callers_choice and wish.to else ""
    change = events.Change(
        pb.MESSAGE_STATE_QUEUED,
        wire.NEXT_STEP_MOVE,
        provider,
        REPLAYED,
        f"{wish.author} put it back into a queue{beyond}",
        round=0,
        tried=(),
        deadline=codec.unix(command.deadline),
    )
    return events.following(command, last, change, events.Writer("operator"), now)


def discarded(letter: Letter, last: tuple[wire.Event, int] | None, author: str, now: float) -> wire.Event | None:
    """Make the event of a discard: the message keeps its state and reason, and its detail says who discarded it. Pure.

    None when the message has moved on since the letter, or its events are gone: then there is nothing to tell.
    """
    if last is None or last[1] != letter.content.last_sequence or last[0].state not in REPLAYABLE:
        return None
    event = last[0]
    state = pb.MessageState.ValueType(event.state)
    detail = "; ".join(filter(None, (event.detail, f"{author} discarded its dead letter")))
    change = events.Change(state, reason=event.reason, detail=detail)
    return events.following(letter.content.command, event, change, events.Writer("operator"), now)


class DeadLetters:
    """All dead letters. `providers` are those that have a queue; with None, replays do not check that.

    Every method raises StreamDown when the server does not answer.
    """

    def __init__(self, connection: Connection, providers: Collection[str] | None = None) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._providers = providers

    async def counts(self) -> dict[tuple[str, str], int]:
        """Count the letters by (provider, reason) without reading them."""
        found: Counter[tuple[str, str]] = Counter()
        offset = 0
        while True:
            request = {"subjects_filter": "sms.dlq.>", "offset": offset}
            info = await self._connection.api(f"STREAM.INFO.{topo.DLQ}", request)
            subjects = info["state"].get("subjects") or {}
            for subject, count in subjects.items():
                provider, reason = [*subject.split("."), "", ""][2:4]
                found[provider, reason.upper()] += count
            offset += len(subjects)
            if not subjects or offset >= info.get("total", 0):
                return dict(found)

    async def walk(
        self, provider: str | None = None, reason: str | None = None, since: float = 0.0
    ) -> AsyncIterator[Letter]:
        """Yield the letters that exist now, oldest first, without those given up before `since` (Unix seconds).

        Letters that are added meanwhile are left out. Raises ValueError when provider or reason is no token.
        """
        if not all(one is None or _TOKEN.fullmatch(one) for one in (provider, reason)):
            raise ValueError("a provider's name or a reason has only letters, digits, - and _")
        newest = await self._connection.last(topo.DLQ, "sms.dlq.>")
        pattern = f"sms.dlq.{provider or '*'}.{reason.lower() if reason else '*'}.*.*.*"
        after = 0
        while newest is not None and after < newest.sequence:
            record = await self._connection.next_after(topo.DLQ, after + 1, pattern)
            if record is None or record.sequence > newest.sequence:
                return
            after = record.sequence
            try:
                letter = _letter(record)
            except CorruptRecord as exc:
                _log.error("a dead letter without an address is skipped", error=str(exc))
                continue
            if not since or codec.unix(letter.content.time) >= since:
                yield letter

    async def find(self, client: str, message_id: str) -> Letter | None:
        """Find the newest letter of a message; raises ValueError when `message_id` is not one of ours."""
        address = address_of(client, message_id)
        record = await self._connection.last(topo.DLQ, topo.dlq_subject("*", "*", address))
        return None if record is None else _letter(record)

    async def examine(self, letter: Letter, wish: Wish | None = None, *, now: float) -> Ready | Stays:
        """Return what `replay` would do, and change nothing; `now` is Unix seconds."""
        try:
            last = await self._last_event(letter)
        except CorruptRecord:
            return Stays("its last event cannot be read: it can only be discarded")
        found = plan_replay(letter, last, wish or Wish(), now=now)
        if isinstance(found, Ready) and self._providers is not None and found.provider not in self._providers:
            return Stays(f"provider {found.provider} is not configured: name another one with --to")
        return found

    async def _last_event(self, letter: Letter) -> tuple[wire.Event, int] | None:
        record = await self._connection.last(topo.EVENT, topo.event_subject(letter.address))
        return None if record is None else (codec.decode(wire.Event, record.subject, record.data), record.sequence)

    async def replay(self, letter: Letter, wish: Wish | None = None, *, now: float) -> Ready | Stays:
        """Put a letter's message back into a queue; Ready says into which one. Safe to repeat."""
        found = await self.examine(letter, wish, now=now)
        if isinstance(found, Stays):
            return found
        if found.event is not None:
            expected = found.entry.last_sequence
            sequence = await self._publisher.append_event(letter.address, found.event, expected, budget_s=_BUDGET_S)
            if sequence is None:
                return Stays("the message changed at the same time: look at it again")
            found.entry.last.CopyFrom(found.event)
            found.entry.last_sequence = sequence
        await self._publisher.enqueue(found.entry, letter.address, found.provider, found.lane, budget_s=_BUDGET_S)
        await self._delete(letter)
        return found

    async def discard(self, letter: Letter, author: str, *, now: float) -> bool:
        """Delete a letter, and write that into the message's story; the message keeps its state.

        False when it was deleted before. `now` is Unix seconds.
        """
        last = None
        with contextlib.suppress(CorruptRecord):  # what cannot be read is no reason to keep the letter
            last = await self._last_event(letter)
        event = discarded(letter, last, author, now)
        if event is not None and last is not None:
            await self._publisher.append_event(letter.address, event, last[1], budget_s=_BUDGET_S)
        return await self._delete(letter)

    async def _delete(self, letter: Letter) -> bool:
        return await self._connection.delete(topo.DLQ, letter.sequence)


def _letter(record: Record) -> Letter:
    """Read a letter, even when its bytes are unreadable; raises CorruptRecord when its subject names no message."""
    address = parse_address(record.subject)
    provider = record.subject.split(".")[2]
    try:
        content = codec.decode(wire.DeadLetter, record.subject, record.data)
    except CorruptRecord as exc:
        content = events.unreadable_letter(address, "", record.data, exc.why, 0.0)
    if not content.command.message_id:
        content.command.message_id = address.message_id
        content.command.client = address.client
    return Letter(record.sequence, provider, address, content)
