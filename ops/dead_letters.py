"""Dead letters: walking them, putting one back into a queue, letting one go.

A replay writes an event, then the queue entry, then deletes the letter. A crash between any two of them leaves the
letter, and replaying it again takes up where the other one stopped; the event log decides who may.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection

import attrs
import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, events
from messaging.errors import CorruptRecord
from messaging.lifecycle import REPLAYABLE
from messaging.model import LANE_OF_PRIORITY, Address, Lane, address_of, parse_address, state_name
from messaging.status import deadline_of
from messaging.stream import topology as topo
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Publisher

_log = structlog.get_logger(__name__)

REPLAYED = "REPLAYED"
_BUDGET_S = 10.0


@attrs.frozen
class Letter:
    """A dead letter and where it lies; `provider` is the one that it speaks of."""

    sequence: int
    provider: str
    address: Address
    content: wire.DeadLetter


@attrs.frozen
class Ready:
    """The letter may be replayed into this queue; `event` is what to write first, unset when that is done already."""

    provider: str
    lane: Lane
    entry: wire.QueueEntry
    event: wire.Event | None


@attrs.frozen
class Stays:
    """The letter stays where it is; `why` is a sentence with its cure."""

    why: str


def plan_replay(
    letter: Letter, last: tuple[wire.Event, int] | None, *, to: str | None, ttl_s: float | None, now: float
) -> Ready | Stays:
    """Decide whether a letter may be replayed, in the light of the last event and where it stands. Pure."""
    content = letter.content
    if content.unreadable or content.reason == events.UNREADABLE:
        return Stays("nobody can read it: it can only be discarded")
    if last is None:
        return Stays("the stream has forgotten what became of it: send the message anew")
    event, sequence = last
    begun = event.state == pb.MESSAGE_STATE_QUEUED and event.reason == REPLAYED and sequence > content.last_sequence
    if not begun and (sequence != content.last_sequence or event.state not in REPLAYABLE):
        return Stays(f"the message has moved on and is {state_name(event.state)}: discard the letter")
    deadline = now + ttl_s if ttl_s is not None else deadline_of(content.command, event)
    if deadline <= now:
        return Stays("its deadline has passed: give it a new one with --ttl")
    provider = to or (event.provider if begun else letter.provider)
    allowed = content.command.providers
    if allowed and provider not in allowed:
        return Stays(f"its caller allows only {', '.join(allowed)}: name one of them with --to")
    command = wire.Command()
    command.CopyFrom(content.command)
    command.deadline.CopyFrom(codec.timestamp(deadline))
    entry = wire.QueueEntry(command=command, last=event, last_sequence=sequence)
    lane = LANE_OF_PRIORITY[command.priority]
    finishing = begun and ttl_s is None and provider == event.provider
    return Ready(provider, lane, entry, None if finishing else _replayed(event, command, provider, now))


def _replayed(last: wire.Event, command: wire.Command, provider: str, now: float) -> wire.Event:
    """Make the event of a replay: a new round begins, with every provider untried."""
    change = events.Change(
        pb.MESSAGE_STATE_QUEUED,
        wire.NEXT_STEP_MOVE,
        provider,
        REPLAYED,
        "an operator put it back into a queue",
        round=0,
        tried=(),
        deadline=codec.unix(command.deadline),
    )
    return events.following(command, last, change, events.Writer("operator"), now)


class DeadLetters:
    """All dead letters. `providers` are those that have a queue; None leaves that to the caller.

    Every method raises StreamDown when the server is away.
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
                provider, reason = subject.split(".")[2:4]
                found[provider, reason.upper()] += count
            offset += len(subjects)
            if not subjects or offset >= info.get("total", 0):
                return dict(found)

    async def walk(self, provider: str | None = None, reason: str | None = None) -> AsyncIterator[Letter]:
        """Give the letters that lie here now, oldest first; one that comes while we walk is left for the next time."""
        newest = await self._connection.last(topo.DLQ, "sms.dlq.>")
        pattern = f"sms.dlq.{provider or '*'}.{reason.lower() if reason else '*'}.*.*.*"
        after = 0
        while newest is not None and after < newest.sequence:
            record = await self._connection.next_after(topo.DLQ, after + 1, pattern)
            if record is None or record.sequence > newest.sequence:
                return
            after = record.sequence
            try:
                yield _letter(record)
            except CorruptRecord as exc:
                _log.error("a dead letter without an address is passed over", error=str(exc))

    async def find(self, client: str, message_id: str) -> Letter | None:
        """Find the newest letter of a message; raises ValueError when `message_id` is not one of ours."""
        address = address_of(client, message_id)
        record = await self._connection.last(topo.DLQ, topo.dlq_subject("*", "*", address))
        return None if record is None else _letter(record)

    async def examine(
        self, letter: Letter, to: str | None = None, ttl_s: float | None = None, *, now: float
    ) -> Ready | Stays:
        """Tell what `replay` would do, and change nothing; `now` is Unix seconds."""
        record = await self._connection.last(topo.EVENT, topo.event_subject(letter.address))
        last = None if record is None else (codec.decode(wire.Event, record.subject, record.data), record.sequence)
        found = plan_replay(letter, last, to=to, ttl_s=ttl_s, now=now)
        if isinstance(found, Ready) and self._providers is not None and found.provider not in self._providers:
            return Stays(f"provider {found.provider} is not configured: name another one with --to")
        return found

    async def replay(
        self, letter: Letter, to: str | None = None, ttl_s: float | None = None, *, now: float
    ) -> Ready | Stays:
        """Put a letter's message back into a queue: Ready says where it is now. Repeating it is harmless."""
        found = await self.examine(letter, to, ttl_s, now=now)
        if isinstance(found, Stays):
            return found
        if found.event is not None:
            expected = found.entry.last_sequence
            sequence = await self._publisher.append_event(letter.address, found.event, expected, budget_s=_BUDGET_S)
            if sequence is None:
                return Stays("something else happened to the message just now: look at it again")
            found.entry.last.CopyFrom(found.event)
            found.entry.last_sequence = sequence
        await self._publisher.enqueue(found.entry, letter.address, found.provider, found.lane, budget_s=_BUDGET_S)
        await self.discard(letter)
        return found

    async def discard(self, letter: Letter) -> bool:
        """Let a letter go; the message stays what it is. False when it was gone already."""
        return await self._connection.delete(topo.DLQ, letter.sequence)


def _letter(record: Record) -> Letter:
    """Read a letter, also one whose bytes are none; raises CorruptRecord when its subject names no message."""
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
