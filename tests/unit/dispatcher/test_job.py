from typing import cast

import pytest
from opentelemetry.trace import INVALID_SPAN
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.job import MOST_ATTEMPTS_TOLD, Job, following, sending
from dispatcher.verdict import Progress, Verdict
from messaging import codec
from messaging.model import Lane, new_address
from messaging.stream.consumer import Delivery
from providers.base import ACCEPTED, TRANSIENT, Outcome

ADDRESS = new_address("default", 1_700_000_000_000, "7abc8123456789abcdef")
COMMAND = wire.Command(
    message_id=ADDRESS.message_id,
    client="default",
    recipient="+233201234567",
    body="secret text",
    deadline=codec.timestamp(1600.0),
)
SENT = Verdict(pb.MESSAGE_STATE_SENT, wire.NEXT_STEP_UNSPECIFIED, "alpha")


def job(last: wire.Event | None = None, sequence: int = 0) -> Job:
    """A drawn message; nothing here acknowledges it."""
    delivery = cast("Delivery", object())
    return Job(
        delivery, COMMAND, ADDRESS, Lane.NORMAL, last or wire.Event(), sequence, INVALID_SPAN, "00-trace-span-01"
    )


def begun(times: int) -> Job:
    """A message of which so many attempts were begun, each ended as transient but the last."""
    one = job()
    for number in range(1, times + 1):
        one.last = sending(one, "alpha", "pod-1", 1000.0 + number)
        if number < times:
            again = Verdict(pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_AGAIN, "alpha", "TRANSIENT", "d")
            one.last = following(one, again, "pod-1", 1000.5 + number, Outcome(TRANSIENT, code="503", detail="d"))
    return one


def test_marker_names_the_attempt_and_whose_it_is() -> None:
    event = sending(job(), "alpha", "pod-1", 1000.0)
    assert (event.state, event.provider, event.pod) == (pb.MESSAGE_STATE_SENDING, "alpha", "pod-1")
    assert (event.message_id, event.client) == (ADDRESS.message_id, "default")
    assert (event.next, event.held, event.reason) == (wire.NEXT_STEP_UNSPECIFIED, False, "")
    (attempt,) = event.attempts
    assert (attempt.number, attempt.provider, attempt.outcome) == (1, "alpha", pb.ATTEMPT_OUTCOME_UNSPECIFIED)
    assert attempt.start_time == codec.timestamp(1000.0)
    assert not attempt.HasField("end_time")


def test_outcome_closes_the_attempt_that_was_begun() -> None:
    event = following(begun(1), SENT, "pod-1", 1002.0, Outcome(ACCEPTED, "p-9", "200"))
    (attempt,) = event.attempts
    assert (attempt.outcome, attempt.provider_message_id, attempt.code) == (ACCEPTED, "p-9", "200")
    assert attempt.end_time == codec.timestamp(1002.0)
    assert event.attempt_count == 1


def test_verdict_is_written_whole() -> None:
    verdict = Verdict(
        pb.MESSAGE_STATE_QUEUED,
        wire.NEXT_STEP_LATER,
        "beta",
        "TRANSIENT",
        "why",
        1500.0,
        held=True,
        round=2,
        tried=("alpha",),
    )
    event = following(begun(1), verdict, "pod-1", 1002.0, Outcome(TRANSIENT))
    assert (event.state, event.next, event.provider) == (pb.MESSAGE_STATE_QUEUED, wire.NEXT_STEP_LATER, "beta")
    assert (event.reason, event.detail, event.held, event.round) == ("TRANSIENT", "why", True, 2)
    assert (list(event.tried), event.due_time) == (["alpha"], codec.timestamp(1500.0))


def test_due_time_is_written_for_later_only() -> None:
    assert not following(begun(1), SENT, "pod-1", 1002.0).HasField("due_time")


def test_step_without_an_outcome_leaves_the_attempts_as_they_are() -> None:
    one = begun(2)
    event = following(one, SENT, "pod-1", 1003.0)
    assert list(event.attempts) == list(one.last.attempts)


@pytest.mark.parametrize("times", [1, MOST_ATTEMPTS_TOLD, MOST_ATTEMPTS_TOLD + 1, MOST_ATTEMPTS_TOLD + 30])
def test_very_long_story_keeps_its_newest_attempts_and_counts_all(times: int) -> None:
    event = following(begun(times), SENT, "pod-1", 5000.0, Outcome(ACCEPTED, "p-9"))
    numbers = [attempt.number for attempt in event.attempts]
    assert numbers == list(range(1, times + 1))[-MOST_ATTEMPTS_TOLD:]
    assert event.attempt_count == times
    assert event.attempts[-1].provider_message_id == "p-9"


def test_next_marker_goes_on_from_the_last_event() -> None:
    last = wire.Event(attempt_count=7, round=2, tried=["beta"], attempts=[pb.Attempt(number=7, provider="beta")])
    event = sending(job(last, 42), "alpha", "pod-1", 1000.0)
    assert [attempt.number for attempt in event.attempts] == [7, 8]
    assert (event.attempt_count, event.round, list(event.tried)) == (8, 2, ["beta"])


def test_progress_and_entry_come_from_the_last_event() -> None:
    one = job(wire.Event(message_id="m", attempt_count=3, round=1, tried=["beta"]), 42)
    assert one.progress == Progress(3, 1, ("beta",))
    assert one.deadline == 1600.0
    entry = one.entry()
    assert (entry.command, entry.last, entry.last_sequence) == (COMMAND, one.last, 42)


def test_event_never_holds_the_text_or_the_number() -> None:
    event = following(begun(3), SENT, "pod-1", 1002.0, Outcome(ACCEPTED)).SerializeToString()
    assert b"secret text" not in event
    assert b"233201234567" not in event
