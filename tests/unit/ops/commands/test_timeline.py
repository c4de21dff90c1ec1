"""A message's timeline is the same whether the stream or the history tells it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from ops.commands.output import moment, span
from ops.commands.timeline import follows, step_of_acceptance, steps_of_history, steps_of_stream

NOW = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)


def attempt(
    number: int,
    outcome: pb.AttemptOutcome.ValueType = pb.ATTEMPT_OUTCOME_UNSPECIFIED,
    code: str = "",
    detail: str = "",
) -> pb.Attempt:
    made = pb.Attempt(number=number, provider="p1", outcome=outcome, code=code, detail=detail)
    made.start_time.FromDatetime(NOW)
    if outcome:
        made.end_time.FromDatetime(NOW + timedelta(milliseconds=80))
    return made


def story() -> dict[int, wire.Event]:
    """Failed once and put off, tried again with an unclear end, held, and given up."""
    failed = attempt(1, pb.ATTEMPT_OUTCOME_TRANSIENT, "503", "overloaded")
    unclear = attempt(2, pb.ATTEMPT_OUTCOME_AMBIGUOUS, "timeout", "no answer")
    later: dict[str, Any] = {"next": wire.NEXT_STEP_LATER, "due_time": NOW + timedelta(seconds=30)}
    events = [
        wire.Event(state=pb.MESSAGE_STATE_SENDING, attempts=[attempt(1)], attempt_count=1),
        wire.Event(
            state=pb.MESSAGE_STATE_QUEUED,
            attempts=[failed],
            attempt_count=1,
            reason="TRANSIENT",
            detail="overloaded",
            **later,
        ),
        wire.Event(state=pb.MESSAGE_STATE_SENDING, attempts=[failed, attempt(2)], attempt_count=2),
        wire.Event(
            state=pb.MESSAGE_STATE_SENDING, attempts=[failed, unclear], attempt_count=2, reason="UNCLEAR", **later
        ),
        wire.Event(
            state=pb.MESSAGE_STATE_UNKNOWN,
            attempts=[failed, unclear],
            attempt_count=2,
            reason="UNKNOWN",
            detail="no answer",
            next=wire.NEXT_STEP_BURY,
        ),
    ]
    for number, event in enumerate(events):
        event.provider, event.pod = "p1", "pod-1"
        event.time.FromDatetime(NOW + timedelta(seconds=number))
    return dict(enumerate(events, start=10))


def stored(sequence: int, event: wire.Event) -> SimpleNamespace:
    """The event as the history keeps it."""
    return SimpleNamespace(
        sequence=sequence,
        time=event.time.ToDatetime(tzinfo=UTC),
        state=event.state,
        provider=event.provider or None,
        reason=event.reason or None,
        detail=event.detail or None,
        attempt_number=event.attempt_count,
        next=event.next,
        due_time=event.due_time.ToDatetime(tzinfo=UTC) if event.HasField("due_time") else None,
        pod=event.pod or None,
    )


def test_attempt_is_told_where_it_began_and_where_it_ended_and_nowhere_else():
    steps = list(steps_of_stream(story()).values())
    assert [step.attempt for step in steps] == [
        "1 started",
        "1 transient in 0.080 s",
        "2 started",
        "2 ambiguous in 0.080 s",
        "",
    ]
    assert [step.code for step in steps] == ["", "503", "", "timeout", ""]
    assert steps[1].why == "TRANSIENT: overloaded"
    assert steps[3].why == "UNCLEAR: no answer"
    assert [follows(step) for step in steps] == [
        "",
        "to p1 at 2026-11-18 12:00:30.000Z",
        "",
        "to p1 at 2026-11-18 12:00:30.000Z",
        "to the dead letters",
    ]


def test_history_tells_the_same_story_as_the_stream():
    events = story()
    attempts = [*events[14].attempts]
    assert steps_of_history([stored(*item) for item in events.items()], attempts) == steps_of_stream(events)


@pytest.mark.parametrize(("later", "state", "what"), [(0, "ACCEPTED", "now"), (60, "SCHEDULED", "at 2026-11-18 12:01")])
def test_acceptance_tells_who_was_chosen_why_and_when(later: int, state: str, what: str):
    command = wire.Command(provider="p1", route_reason="by weight", accept_time=codec.timestamp(NOW.timestamp()))
    if later:
        command.schedule_time.FromDatetime(NOW + timedelta(seconds=later))
    told = step_of_acceptance(command).document()
    assert (told["state"], told["why"]) == (state, "route: by weight")
    assert told["next"].startswith(f"to p1 {what}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.000 s"),
        (12.34, "12.3 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (349_200, "4 d 1 h"),
        (-75, "-1 min 15 s"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str):
    assert span(seconds) == text


def test_step_that_only_a_newer_version_knows_is_shown_by_its_number() -> None:
    [step] = steps_of_stream({1: wire.Event(state=cast("Any", 77), next=cast("Any", 9))}).values()
    assert "step 9" in follows(step)


@pytest.mark.parametrize("seconds", [-1.0, 2.0**62, 1e300, float("nan"), float("inf")])
def test_time_outside_the_calendar_is_shown_as_a_number(seconds: float) -> None:
    assert "after 1970" in moment(seconds)
