import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import FINAL_STATES
from messaging.status import as_of, first_state, overlay, status_of

COMMAND = wire.Command(
    message_id="id-1",
    client="default",
    request_id="r-1",
    recipient="+233201234567",
    body="secret text",
    sender="ACME",
    priority=pb.PRIORITY_OTP,
    provider="alpha",
    route_reason="by weight",
    accept_time=codec.timestamp(100.0),
    deadline=codec.timestamp(700.0),
    encoding=pb.ENCODING_GSM7,
    segments=2,
    client_reference="order 7",
    labels={"k": "v"},
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def event(**changes: object) -> wire.Event:
    one = wire.Event(message_id="id-1", client="default", provider="beta", time=codec.timestamp(200.0))
    one.MergeFrom(wire.Event(**changes))  # type: ignore[arg-type]
    return one


def test_status_of_a_message_without_events_is_built_from_its_acceptance() -> None:
    status = status_of(COMMAND, None)
    assert (status.state, status.final, status.provider) == (pb.MESSAGE_STATE_ACCEPTED, False, "alpha")
    assert (status.update_time, status.deadline) == (COMMAND.accept_time, COMMAND.deadline)
    assert (status.trace_id, dict(status.labels)) == ("4bf92f3577b34da6a3ce929d0e0e4736", {"k": "v"})
    assert not status.HasField("schedule_time")
    for name in ("request_id", "client_reference", "recipient", "sender", "encoding", "segments", "priority"):
        assert getattr(status, name) == getattr(COMMAND, name)


def test_status_never_holds_the_text() -> None:
    assert b"secret text" not in status_of(COMMAND, event(detail="x")).SerializeToString()


@pytest.mark.parametrize(
    ("schedule", "state"),
    [(None, pb.MESSAGE_STATE_ACCEPTED), (99.0, pb.MESSAGE_STATE_ACCEPTED), (101.0, pb.MESSAGE_STATE_SCHEDULED)],
)
def test_first_state_is_scheduled_only_for_a_time_ahead(schedule: float | None, state: int) -> None:
    command = wire.Command()
    command.CopyFrom(COMMAND)
    if schedule is not None:
        command.schedule_time.CopyFrom(codec.timestamp(schedule))
    assert first_state(command) == state == status_of(command, None).state


@pytest.mark.parametrize("state", sorted(set(pb.MessageState.values()) - {0}))
def test_final_is_set_for_final_states_only(state: int) -> None:
    status = status_of(COMMAND, event(state=state))
    assert (status.state, status.final) == (state, state in FINAL_STATES)


def test_last_event_overrides_and_leaves_nothing_stale() -> None:
    waiting = event(
        state=pb.MESSAGE_STATE_QUEUED,
        reason="TRANSIENT",
        detail="no connection",
        next=wire.NEXT_STEP_LATER,
        due_time=codec.timestamp(300.0),
        attempts=[pb.Attempt(number=1, provider="beta"), pb.Attempt(number=2, provider="alpha")],
    )
    status = status_of(COMMAND, waiting)
    assert status.next_attempt_time == codec.timestamp(300.0)
    assert (status.error.reason, status.provider, len(status.attempts)) == ("TRANSIENT", "beta", 2)
    taken = [pb.Attempt(number=1, provider="alpha"), pb.Attempt(number=2, provider="beta", provider_message_id="p-9")]
    overlay(status, event(state=pb.MESSAGE_STATE_SENT, attempts=taken))
    assert not status.HasField("next_attempt_time")
    assert not status.HasField("error")
    assert (status.provider_message_id, len(status.attempts)) == ("p-9", 2)


def test_due_time_is_shown_only_while_the_message_waits_for_it() -> None:
    moved = event(state=pb.MESSAGE_STATE_QUEUED, next=wire.NEXT_STEP_MOVE, due_time=codec.timestamp(300.0))
    assert not status_of(COMMAND, moved).HasField("next_attempt_time")


def test_event_without_a_provider_keeps_the_last_one() -> None:
    nameless = event(state=pb.MESSAGE_STATE_CANCELED)
    nameless.provider = ""
    assert status_of(COMMAND, nameless).provider == "alpha"


def test_scheduled_message_whose_time_has_come_is_shown_as_queued() -> None:
    status = pb.MessageStatus(state=pb.MESSAGE_STATE_SCHEDULED, schedule_time=codec.timestamp(100.0))
    assert as_of(status, 99.0).state == pb.MESSAGE_STATE_SCHEDULED
    assert as_of(status, 100.0).state == pb.MESSAGE_STATE_QUEUED
    status.state = pb.MESSAGE_STATE_CANCELED
    assert as_of(status, 101.0).state == pb.MESSAGE_STATE_CANCELED
