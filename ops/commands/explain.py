"""`smsctl explain`: a message's whole story, from the stream, and from the history for what that has forgotten."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import click
from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging import codec
from messaging.errors import CorruptRecord, StoreDown
from messaging.model import Address, address_of, mask, state_name
from messaging.runtime.config import Settings
from messaging.status import deadline_of
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from ops import target
from ops.commands import options
from ops.commands import queue_position as whereabouts
from ops.commands.failure import FAILED, UNAVAILABLE, Failure
from ops.commands.options import reveal_option
from ops.commands.output import console, json_option, moment, print_json, span, table
from ops.commands.servers import connected, store_away, wrong_database
from ops.commands.timeline import Step, follows, step_of_acceptance, steps_of_history, steps_of_stream

_STORE_S = 5.0
_STREAM, _HISTORY = "the message stream", "the history"


@attrs.define
class Story:
    """What is known of a message. `deadline` is Unix seconds, 0 when unknown; `away` names the sources not asked."""

    command: wire.Command | None = None
    events: dict[int, Step] = attrs.Factory(dict)
    deadline: float = 0.0
    place: whereabouts.Place | None = None
    notes: list[str] = attrs.Factory(list)
    away: list[str] = attrs.Factory(list)

    def steps(self) -> list[Step]:
        """Give the acceptance and all events in their order."""
        first = [] if self.command is None else [step_of_acceptance(self.command)]
        return [*first, *(self.events[sequence] for sequence in sorted(self.events))]


@click.command()
@click.argument("message_id", callback=options.message_id)
@click.option("--client", default="default", show_default=True, help="Whose message.")
@reveal_option
@json_option
def explain(message_id: str, client: str, *, reveal: bool, as_json: bool) -> None:
    """Tell a message's whole story, step by step: every attempt, every reason, what follows and where it is now.

    Asks the stream and PostgreSQL; one of them is enough.
    """
    address = address_of(client, message_id)
    story = asyncio.run(_gather(target.settings(), address))
    if not story.steps():
        raise _nothing(story, address)
    if as_json:
        print_json(_document(story, address, reveal=reveal))
    else:
        _print(story, address, reveal=reveal)


async def _gather(settings: Settings, address: Address) -> Story:
    """Ask both sources at once, and put together what they say; the stream knows more of what it still has."""
    stream, history = await asyncio.gather(_ask_stream(settings, address), _ask_history(settings, address))
    return Story(
        stream.command or history.command,
        {**history.events, **stream.events},
        stream.deadline or history.deadline,
        stream.place,
        [*stream.notes, *history.notes],
        [*stream.away, *history.away],
    )


def _nothing(story: Story, address: Address) -> Failure:
    """Say that a message is not known, or that it could not be looked for everywhere."""
    whose = f"{address.message_id} of client {address.client}"
    match story.away:
        case []:
            return Failure(f"no message {whose} is known", FAILED, tuple(story.notes))
        case [away]:
            [asked] = {_STREAM, _HISTORY} - {away}
            sentence = f"{asked} knows no message {whose}, and {away} could not be asked:"
        case _:
            sentence = f"nothing can be said of message {whose}: neither {_STREAM} nor {_HISTORY} could be asked:"
    return Failure(sentence, UNAVAILABLE, tuple(story.notes))


async def _ask_stream(settings: Settings, address: Address) -> Story:
    story = Story()
    try:
        async with connected(settings) as connection:
            await _read_stream(connection, address, story)
    except Failure as failure:
        story.notes.append(failure.message)
        story.away.append(_STREAM)
    return story


async def _read_stream(connection: Connection, address: Address, story: Story) -> None:
    accepted = await connection.last(topo.ACCEPT, topo.accept_filter(address))
    events: dict[int, wire.Event] = {}
    subject, after = topo.event_subject(address), 0
    while (record := await connection.next_after(topo.EVENT, after + 1, subject)) is not None:
        after = record.sequence
        try:
            events[after] = codec.decode(wire.Event, record.subject, record.data)
        except CorruptRecord as exc:
            story.notes.append(str(exc))
    story.events = steps_of_stream(events)
    last = events[max(events)] if events else None
    if accepted is not None:
        story.command = codec.decode(wire.QueueEntry, accepted.subject, accepted.data).command
        story.deadline = deadline_of(story.command, last)
    if steps := story.steps():
        story.place = await whereabouts.find(connection, address, steps[-1].state)


async def _ask_history(settings: Settings, address: Address) -> Story:
    await asyncio.to_thread(_load_store)  # takes a second
    from messaging.store.engine import open_engine
    from messaging.store.reader import HistoryReader

    story = Story()
    try:
        engine = open_engine(settings.servers.database.reveal(), pool_size=1, timeout_s=_STORE_S)
    except ValueError as exc:
        story.notes.append(wrong_database(exc).message)
        story.away.append(_HISTORY)
        return story
    try:
        messages = HistoryReader(engine)
        status = await messages.find(address.client, address.message_id)
        story.command = await messages.command(address.client, address.message_id)
        stored = await messages.events(address.client, address.message_id)
        story.events = steps_of_history(stored, status.attempts if status else ())
        story.deadline = codec.unix(status.deadline) if status else 0.0
    except StoreDown as exc:
        story.notes.append(store_away(settings, exc).message)
        story.away.append(_HISTORY)
    finally:
        await engine.dispose()
    return story


def _load_store() -> None:
    import messaging.store.reader  # noqa: F401


def _facts(story: Story, address: Address, *, reveal: bool) -> Mapping[str, str]:
    command = story.command or wire.Command()
    recipient = command.recipient if reveal or not command.recipient else mask(command.recipient)
    return {
        "message": address.message_id,
        "client": address.client,
        "state": state_name(story.steps()[-1].state),
        "recipient": recipient,
        "deadline": moment(story.deadline),
        "trace": codec.trace_id_of(command.traceparent),
    }


def _document(story: Story, address: Address, *, reveal: bool) -> dict[str, Any]:
    return {
        **_facts(story, address, reveal=reveal),
        "steps": [step.document() for step in story.steps()],
        "now": attrs.asdict(story.place) if story.place else None,
        "notes": story.notes,
    }


def _print(story: Story, address: Address, *, reveal: bool) -> None:
    facts = dict(_facts(story, address, reveal=reveal))
    trace = facts.pop("trace")
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<9} {value}")
    columns = ("time", "after", "state", "provider", "attempt", "code", "why", "next")
    console().print(table(columns, _rows(story.steps()), numbers=("after",)))
    if story.place is not None:
        click.echo(f"{'now':<9} {story.place.sentence}")
    if trace:
        click.echo(f"{'trace':<9} {trace}")
    for note in story.notes:
        click.echo(f"{'note':<9} {note}")


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
