"""`smsctl explain`: a message's whole timeline, from the stream and from the history."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.errors import CorruptRecord
from messaging.model import Address, address_of, mask, state_name
from messaging.runtime.config import Settings
from messaging.status import deadline_of
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from ops import discovery
from ops.commands import options, queue_position
from ops.commands.failure import FAILED, UNAVAILABLE, Failure
from ops.commands.options import client_option, reveal_option
from ops.commands.output import console, json_option, moment, print_json, say, span, table
from ops.commands.request_address import address_of_request
from ops.commands.servers import connected, history
from ops.commands.timeline import Step, follows, step_of_acceptance, steps_of_history, steps_of_stream

_STREAM, _HISTORY = "the message stream", "the history"


@attrs.define
class Timeline:
    """What is known about a message.

    `events` are by stream sequence. `deadline` is Unix seconds, 0 when unknown. `notes` are sentences about what could
    not be read, and `away` names the sources that could not be asked.
    """

    command: wire.Command | None = None
    events: dict[int, Step] = attrs.Factory(dict)
    deadline: float = 0.0
    position: queue_position.Position | None = None
    notes: list[str] = attrs.Factory(list)
    away: list[str] = attrs.Factory(list)

    def steps(self) -> list[Step]:
        """Return the acceptance and all events in order."""
        first = [] if self.command is None else [step_of_acceptance(self.command)]
        return [*first, *(self.events[sequence] for sequence in sorted(self.events))]


@click.command()
@click.argument("message_id", required=False, callback=options.message_id)
@click.option("--request-id", help="Name the message by the request id that its caller gave.")
@client_option
@reveal_option
@json_option
def explain(message_id: str | None, request_id: str | None, client: str, *, reveal: bool, as_json: bool) -> None:
    """Show what happened to a message, step by step: every attempt and reason, what comes next, and where it is now.

    Asks the stream and PostgreSQL; one of them is enough.
    """
    if bool(message_id) == bool(request_id):
        raise click.UsageError("name the message by either MESSAGE_ID or --request-id")
    settings = discovery.settings()
    if request_id:
        address = asyncio.run(address_of_request(settings, client, request_id))
    else:
        address = address_of(client, str(message_id))
    timeline = asyncio.run(_gather(settings, address))
    if not timeline.steps():
        raise _nothing(timeline, address)
    if as_json:
        print_json(_document(timeline, address, reveal=reveal))
    else:
        _print(timeline, address, reveal=reveal)


async def _gather(settings: Settings, address: Address) -> Timeline:
    """Ask both sources at once and merge the answers; where both have an event, the stream's has more details."""
    stream, history = await asyncio.gather(_ask_stream(settings, address), _ask_history(settings, address))
    return Timeline(
        stream.command or history.command,
        {**history.events, **stream.events},
        stream.deadline or history.deadline,
        stream.position,
        [*stream.notes, *history.notes],
        [*stream.away, *history.away],
    )


def _nothing(timeline: Timeline, address: Address) -> Failure:
    """Return the failure for a message that was not found, which says where it could not be looked for."""
    whose = f"{address.message_id} of client {address.client}"
    match timeline.away:
        case []:
            return Failure(f"no message {whose} is known", FAILED, tuple(timeline.notes))
        case [away]:
            [asked] = {_STREAM, _HISTORY} - {away}
            sentence = f"{asked} knows no message {whose}, and {away} could not be asked:"
        case _:
            sentence = f"message {whose} cannot be looked up: neither {_STREAM} nor {_HISTORY} could be asked:"
    return Failure(sentence, UNAVAILABLE, tuple(timeline.notes))


async def _ask_stream(settings: Settings, address: Address) -> Timeline:
    timeline = Timeline()
    try:
        async with connected(settings) as connection:
            await _read_stream(connection, address, timeline)
    except Failure as failure:
        timeline.notes.append(failure.message)
        timeline.away.append(_STREAM)
    return timeline


async def _read_stream(connection: Connection, address: Address, timeline: Timeline) -> None:
    accepted = await connection.last(topo.ACCEPT, topo.accept_filter(address))
    events: dict[int, wire.Event] = {}
    subject, after = topo.event_subject(address), 0
    while (record := await connection.next_after(topo.EVENT, after + 1, subject)) is not None:
        after = record.sequence
        try:
            events[after] = codec.decode(wire.Event, record.subject, record.data)
        except CorruptRecord as exc:
            timeline.notes.append(str(exc))
    timeline.events = steps_of_stream(events)
    last = events[max(events)] if events else None
    if accepted is not None:
        try:
            timeline.command = codec.decode(wire.QueueEntry, accepted.subject, accepted.data).command
            timeline.deadline = deadline_of(timeline.command, last)
        except CorruptRecord as exc:
            timeline.notes.append(str(exc))
    if steps := timeline.steps():
        timeline.position = await queue_position.find(connection, address, steps[-1].state)


async def _ask_history(settings: Settings, address: Address) -> Timeline:
    timeline = Timeline()
    try:
        async with history(settings) as messages:
            status = await messages.find(address.client, address.message_id)
            try:
                timeline.command = await messages.command(address.client, address.message_id)
            except CorruptRecord as exc:
                timeline.notes.append(str(exc))
            stored = await messages.events(address.client, address.message_id)
            timeline.events = steps_of_history(stored, status.attempts if status else ())
            timeline.deadline = codec.unix(status.deadline) if status else 0.0
    except Failure as failure:
        timeline.notes.append(failure.message)
        timeline.away.append(_HISTORY)
    return timeline


def _facts(timeline: Timeline, address: Address, *, reveal: bool) -> Mapping[str, str]:
    command = timeline.command or wire.Command()
    recipient = command.recipient if reveal or not command.recipient else mask(command.recipient)
    return {
        "message": address.message_id,
        "client": address.client,
        "state": state_name(timeline.steps()[-1].state),
        "recipient": recipient,
        "deadline": moment(timeline.deadline),
        "trace": codec.trace_id_of(command.traceparent),
    }


def _document(timeline: Timeline, address: Address, *, reveal: bool) -> dict[str, Any]:
    return {
        **_facts(timeline, address, reveal=reveal),
        "steps": [step.document() for step in timeline.steps()],
        "now": attrs.asdict(timeline.position) if timeline.position else None,
        "notes": timeline.notes,
    }


def _print(timeline: Timeline, address: Address, *, reveal: bool) -> None:
    facts = dict(_facts(timeline, address, reveal=reveal))
    trace = facts.pop("trace")
    for name, value in facts.items():
        if value:
            say(f"{name:<9} {value}")
    columns = ("time", "after", "state", "provider", "attempt", "code", "why", "next")
    console().print(table(columns, _rows(timeline.steps()), numbers=("after",)))
    if timeline.position is not None:
        say(f"{'now':<9} {timeline.position.sentence}")
    if trace:
        say(f"{'trace':<9} {trace}")
    for note in timeline.notes:
        say(f"{'note':<9} {note}")


def _rows(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    began = steps[0].at
    return [
        (
            moment(step.at),
            f"+{span(step.at - began)}",
            state_name(step.state),
            step.provider,
            step.attempt,
            step.code,
            step.why,
            follows(step),
        )
        for step in steps
    ]
