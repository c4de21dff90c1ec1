from typing import cast

from opentelemetry.trace import INVALID_SPAN
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.work.job import Job
from dispatcher.work.verdict import Progress
from messaging import codec
from messaging.events import Writer
from messaging.model import Lane, new_address
from messaging.stream.interface import Delivery

ADDRESS = new_address("default", 1_700_000_000_000, "7abc8123456789abcdef")
COMMAND = wire.Command(message_id=ADDRESS.message_id, client="default", deadline=codec.timestamp(1600.0))


def job(last: wire.Event | None = None, sequence: int = 0, *, last_is_current: bool = True) -> Job:
    """A drawn message whose delivery is never used."""
    return Job(
        delivery=cast("Delivery", object()),
        entry=wire.QueueEntry(command=COMMAND, last=last, last_sequence=sequence),
        address=ADDRESS,
        lane=Lane.NORMAL,
        span=INVALID_SPAN,
        writer=Writer("pod-1"),
        last_is_current=last_is_current,
    )


def test_progress_and_next_entry_come_from_the_last_event() -> None:
    one = job(wire.Event(message_id="m", attempt_count=3, round=1, tried=["beta"]), 42)
    assert one.progress == Progress(3, 1, ("beta",))
    assert one.deadline == 1600.0
    entry = one.next_entry()
    assert (entry.command, entry.last, entry.last_sequence) == (COMMAND, one.last, 42)


def test_deadline_of_the_last_event_wins() -> None:
    assert job(wire.Event(message_id="m", deadline=codec.timestamp(1900.0)), 42).deadline == 1900.0


def test_job_takes_over_the_last_event_from_the_stream() -> None:
    one = job(wire.Event(message_id="m", attempt_count=1), 42, last_is_current=False)
    one.set_last(wire.Event(message_id="m", attempt_count=2), 43)
    assert (one.last_is_current, one.sequence, one.progress.attempts) == (True, 43, 2)
    one.set_last(None, 0)
    assert (one.last_is_current, one.sequence, one.last) == (True, 0, wire.Event())
