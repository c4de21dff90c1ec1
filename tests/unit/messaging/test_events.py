"""Whatever an event does not set anew, it copies from the event before."""

from collections.abc import Callable

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec, events
from messaging.events import MAX_ATTEMPTS, Change, Writer, attempt_started, following
from messaging.status import status_of
from tests.descriptors import fields_of, filled

COMMAND = filled(wire.Command)
WRITER = Writer("pod-1", "00-trace-span-01")
SENT = Change(pb.MESSAGE_STATE_SENT, provider="alpha")
NOW = 1_800_000_000.0


@attrs.frozen
class Ended:
    kind: pb.AttemptOutcome.ValueType
    provider_message_id: str = ""
    code: str = ""
    detail: str = ""


def last_event() -> wire.Event:
    """The last event of a message with many events: every field is set, which no real event has."""
    event = filled(wire.Event)
    event.message_id, event.client = COMMAND.message_id, COMMAND.client
    event.attempt_count = 70
    return event


# Each kind of event: how it is made from the last one, and which copied fields it changes, with the reason.
Kind = tuple[Callable[[wire.Event], wire.Event], dict[str, str]]
BEGUN = {"attempts": "the new attempt is added", "attempt_count": "it counts the new attempt"}
KINDS: dict[str, Kind] = {
    "an attempt begins": (lambda last: attempt_started(COMMAND, last, "beta", WRITER, NOW), BEGUN),
    "an attempt ends": (
        lambda last: following(COMMAND, last, SENT, WRITER, NOW, Ended(pb.ATTEMPT_OUTCOME_ACCEPTED, "p-9")),
        {"attempts": "the last one is closed"},
    ),
    "later": (
        lambda last: following(
            COMMAND,
            last,
            Change(pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_LATER, due=NOW, round=9, tried=()),
            WRITER,
            NOW,
        ),
        {"round": "the next round begins", "tried": "no provider has been tried in it"},
    ),
    "swept": (
        lambda last: following(
            COMMAND, last, Change(pb.MESSAGE_STATE_EXPIRED, wire.NEXT_STEP_BURY, reason="EXPIRED"), Writer("s"), NOW
        ),
        {},
    ),
    "canceled": (
        lambda last: following(COMMAND, last, Change(pb.MESSAGE_STATE_CANCELED, reason="X"), Writer("g"), NOW),
        {},
    ),
    "replayed": (
        lambda last: following(
            COMMAND,
            last,
            Change(pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_MOVE, "beta", round=0, tried=(), deadline=NOW + 60),
            Writer("operator"),
            NOW,
        ),
        {"round": "a new round begins", "tried": "no provider has been tried", "deadline": "an operator gave it"},
    ),
    "delivered": (lambda last: following(COMMAND, last, Change(pb.MESSAGE_STATE_DELIVERED), Writer("r"), NOW), {}),
}


def test_every_field_of_an_event_is_copied_or_set_anew_with_a_reason() -> None:
    listed = [*events.MESSAGE_FIELDS, *events.COPIED_FIELDS, *events.NEW_FIELDS]
    assert sorted(listed) == sorted(fields_of(wire.Event)), "list the field in a table of messaging/events.py"
    assert all(events.NEW_FIELDS.values())


@pytest.mark.parametrize("field", [*events.MESSAGE_FIELDS, *events.COPIED_FIELDS])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_event_copies_the_fields_of_the_last_one(kind: str, field: str) -> None:
    make, changed = KINDS[kind]
    last = last_event()
    event = make(last)
    if field in changed:
        assert getattr(event, field) != getattr(last, field), f"{kind}: {changed[field]}"
    else:
        assert getattr(event, field) == getattr(last, field)


@pytest.mark.parametrize("field", sorted(set(events.NEW_FIELDS) - {"provider", "traceparent"}))
@pytest.mark.parametrize("kind", KINDS)
def test_no_event_depends_on_a_field_of_the_last_one_that_is_set_anew(kind: str, field: str) -> None:
    make = KINDS[kind][0]
    bare = last_event()
    bare.ClearField(field)  # type: ignore[arg-type]
    assert make(last_event()) == make(bare)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"an attempt begins", "an attempt ends", "replayed"}))
def test_an_event_that_names_no_provider_keeps_the_last_one(kind: str) -> None:
    assert KINDS[kind][0](last_event()).provider == last_event().provider
    assert KINDS[kind][0](wire.Event()).provider == COMMAND.provider


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_built_from_any_event_has_the_deadline_in_force(kind: str) -> None:
    """Events of the sweeper and of a cancellation once left out the deadline of a replay."""
    last = last_event()
    event = KINDS[kind][0](last)
    wanted = NOW + 60 if kind == "replayed" else codec.unix(last.deadline)
    assert codec.unix(status_of(COMMAND, event).deadline) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_a_traceparent(kind: str) -> None:
    make, _ = KINDS[kind]
    assert make(wire.Event()).traceparent in {WRITER.traceparent, COMMAND.traceparent}
    assert make(last_event()).traceparent in {WRITER.traceparent, last_event().traceparent}


def begun(times: int) -> wire.Event:
    """The last event of a message with so many attempts: the last one is still open, the others ended as transient."""
    last = wire.Event()
    for number in range(1, times + 1):
        last = attempt_started(COMMAND, last, "alpha", WRITER, 1000.0 + number)
        if number < times:
            again = Change(pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_AGAIN, "alpha", "TRANSIENT", "d")
            last = following(
                COMMAND, last, again, WRITER, 1000.5 + number, Ended(pb.ATTEMPT_OUTCOME_TRANSIENT, "", "503", "d")
            )
    return last


def test_marker_names_the_attempt_its_message_and_its_writer() -> None:
    event = attempt_started(COMMAND, wire.Event(), "alpha", WRITER, 1000.0)
    assert (event.state, event.provider, event.pod) == (pb.MESSAGE_STATE_SENDING, "alpha", "pod-1")
    assert (event.message_id, event.client) == (COMMAND.message_id, COMMAND.client)
    assert (event.next, event.held, event.reason) == (wire.NEXT_STEP_UNSPECIFIED, False, "")
    (attempt,) = event.attempts
    assert (attempt.number, attempt.provider, attempt.outcome) == (1, "alpha", pb.ATTEMPT_OUTCOME_UNSPECIFIED)
    assert attempt.start_time == codec.timestamp(1000.0)
    assert not attempt.HasField("end_time")


def test_outcome_closes_the_attempt_that_was_begun() -> None:
    event = following(COMMAND, begun(1), SENT, WRITER, 1002.0, Ended(pb.ATTEMPT_OUTCOME_ACCEPTED, "p-9", "200"))
    (attempt,) = event.attempts
    assert (attempt.outcome, attempt.provider_message_id) == (pb.ATTEMPT_OUTCOME_ACCEPTED, "p-9")
    assert (attempt.code, attempt.end_time) == ("200", codec.timestamp(1002.0))
    assert event.attempt_count == 1


def test_change_is_written_whole() -> None:
    change = Change(
        pb.MESSAGE_STATE_QUEUED,
        wire.NEXT_STEP_LATER,
        "beta",
        "TRANSIENT",
        "why",
        1500.0,
        held=True,
        round=2,
        tried=("alpha",),
        deadline=1900.0,
    )
    event = following(COMMAND, begun(1), change, WRITER, 1002.0)
    assert (event.state, event.next, event.provider) == (pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_LATER, "beta")
    assert (event.reason, event.detail, event.held, event.round) == ("TRANSIENT", "why", True, 2)
    assert (list(event.tried), event.due_time) == (["alpha"], codec.timestamp(1500.0))
    assert event.deadline == codec.timestamp(1900.0)


def test_due_time_is_written_for_later_only() -> None:
    assert not following(COMMAND, begun(1), SENT, WRITER, 1002.0).HasField("due_time")


def test_step_without_an_outcome_leaves_the_attempts_as_they_are() -> None:
    last = begun(2)
    assert list(following(COMMAND, last, SENT, WRITER, 1003.0).attempts) == list(last.attempts)


@pytest.mark.parametrize("times", [1, MAX_ATTEMPTS, MAX_ATTEMPTS + 1, MAX_ATTEMPTS + 30])
def test_an_event_keeps_the_newest_attempts_and_counts_all(times: int) -> None:
    event = following(COMMAND, begun(times), SENT, WRITER, 5000.0, Ended(pb.ATTEMPT_OUTCOME_ACCEPTED, "p-9"))
    numbers = [attempt.number for attempt in event.attempts]
    assert numbers == list(range(1, times + 1))[-MAX_ATTEMPTS:]
    assert event.attempt_count == times
    assert event.attempts[-1].provider_message_id == "p-9"


def test_next_marker_continues_from_the_last_event() -> None:
    last = wire.Event(attempt_count=7, round=2, tried=["beta"], attempts=[pb.Attempt(number=7, provider="beta")])
    event = attempt_started(COMMAND, last, "alpha", WRITER, 1000.0)
    assert [attempt.number for attempt in event.attempts] == [7, 8]
    assert (event.attempt_count, event.round, list(event.tried)) == (8, 2, ["beta"])


def test_event_never_holds_the_text_or_the_number() -> None:
    event = following(COMMAND, begun(3), SENT, WRITER, 1002.0, Ended(pb.ATTEMPT_OUTCOME_ACCEPTED)).SerializeToString()
    assert COMMAND.body.encode() not in event
    assert COMMAND.recipient.encode() not in event


def test_dead_letter_holds_the_event_that_asked_for_it() -> None:
    last = last_event()
    letter = events.dead_letter(COMMAND, last, 42)
    assert (letter.command, letter.last, letter.last_sequence) == (COMMAND, last, 42)
    assert (letter.reason, letter.time) == (last.reason, last.time)
