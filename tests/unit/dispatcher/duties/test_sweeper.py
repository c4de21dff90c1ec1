"""The sweeper on the in-memory stream: a message that no pod draws ends once after its deadline, with a reason."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.sweeper import BATCH, Sweeper
from messaging import codec
from messaging.errors import StoreDown, StreamDown
from messaging.model import Address
from messaging.store.reader import Overdue
from messaging.stream import topology as topo
from tests.memory_stream import Crash
from tests.unit.processes import Process
from tests.unit.small_fleet import SmallFleet, StreamDeadlines
from tests.unit.virtual_time import in_virtual_time

TTL_S = 10.0
KEPT_S = 86_400.0
AMBIGUOUS = pb.Attempt(number=1, provider="p1", outcome=pb.ATTEMPT_OUTCOME_AMBIGUOUS)
# The last event of a message, the time of the sweep after its deadline, and how the message ends (None: it does not).
ENDS: dict[str, tuple[dict[str, object] | None, float, str | None]] = {
    "never drawn": (None, 2, "EXPIRED EXPIRED"),
    "only just overdue": (None, 0.4, None),
    "waiting for another attempt": ({"state": pb.MESSAGE_STATE_QUEUED}, 2, "EXPIRED EXPIRED"),
    "waiting after an unclear attempt": (
        {"state": pb.MESSAGE_STATE_QUEUED, "attempts": [AMBIGUOUS], "attempt_count": 1},
        2,
        "UNKNOWN UNKNOWN",
    ),
    "being sent": ({"state": pb.MESSAGE_STATE_SENDING}, 170, None),
    "held, with an unclear outcome": (
        {"state": pb.MESSAGE_STATE_SENDING, "held": True, "attempts": [AMBIGUOUS], "attempt_count": 1},
        1,
        "UNKNOWN UNKNOWN",
    ),
    "being sent by a pod that vanished": ({"state": pb.MESSAGE_STATE_SENDING}, 190, "UNKNOWN UNKNOWN"),
    "sent": ({"state": pb.MESSAGE_STATE_SENT}, 2, None),
    "replayed with a later deadline": (
        {"state": pb.MESSAGE_STATE_QUEUED, "deadline": codec.timestamp(4e9)},
        2,
        None,
    ),
}


class FakeHistory:
    """A history that returns prepared pages."""

    def __init__(self, *pages: Sequence[Overdue]) -> None:
        self.pages = list(pages)
        self.asked: list[Overdue | None] = []

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> Sequence[Overdue]:
        self.asked.append(after)
        return self.pages.pop(0) if self.pages else []

    async def commands(self, _wanted: Sequence[Overdue]) -> dict[str, wire.Command]:
        return {}


def sweeper(fleet: SmallFleet, plan: Callable[[str], None] = lambda _: None) -> Sweeper:
    return Sweeper(Process(fleet.stream, plan).connection, StreamDeadlines(fleet.stream), "sweeper", KEPT_S)


async def write(fleet: SmallFleet, address: Address, **fields: object) -> None:
    event = wire.Event(message_id=address.message_id, client="default", provider="p2", **fields)  # type: ignore[arg-type]
    assert await fleet.publisher.append_event(address, event, 0) is not None


@pytest.mark.parametrize("name", ENDS)
@in_virtual_time
async def test_end_of_an_overdue_message_follows_from_its_last_event(name: str) -> None:
    last, late_s, end = ENDS[name]
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    if last is not None:
        await write(fleet, address, **last)
    before = fleet.story(address)
    await asyncio.sleep(TTL_S + late_s)
    assert await sweeper(fleet).sweep(time.time()) == (end is not None)
    assert fleet.story(address) == [*before, *([end] if end else [])]
    if end:
        assert fleet.letters(address) == [end.split()[1].lower()]
        assert fleet.last(address).provider == ("p1" if last is None else "p2")
        assert await sweeper(fleet).sweep(time.time()) == 0, "once"


@in_virtual_time
async def test_schedule_of_an_ended_message_is_removed() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    entry = wire.QueueEntry(command=fleet.commands()[address])
    await fleet.publisher.schedule(entry, address, "p1", "otp", time.time() + 1000)
    await asyncio.sleep(TTL_S + 2)
    await sweeper(fleet).sweep(time.time())
    assert fleet.stream.log(topo.LATER_STREAM).last(topo.later_subject(address)) is None


@pytest.mark.parametrize("step", ["after publish sms.event", "before publish sms.dlq", "after publish sms.dlq"])
@in_virtual_time
async def test_message_ends_once_and_a_pod_writes_the_dead_letter_of_a_crashed_sweeper(step: str) -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    await asyncio.sleep(TTL_S + 2)

    def crash(taken: str) -> None:
        if taken == step:
            raise Crash

    with pytest.raises(Crash):
        await sweeper(fleet, crash).sweep(time.time())
    await sweeper(fleet).sweep(time.time())
    await fleet.pod()
    await fleet.until_idle()
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    assert fleet.letters(address) == ["expired"], "the pod that draws the remaining queue entry writes the dead letter"
    assert not fleet.took(address)
    await fleet.close()


@in_virtual_time
async def test_message_is_ended_by_either_the_sweeper_or_a_pod() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    await asyncio.sleep(TTL_S + 2)
    event = wire.Event(message_id=address.message_id, state=pb.MESSAGE_STATE_EXPIRED, reason="OTHER")

    def meanwhile(step: str) -> None:
        if step == "before publish sms.event" and not fleet.story(address):
            fleet.stream.publish(topo.event_subject(address), event.SerializeToString(), {})

    slow = sweeper(fleet, meanwhile)
    assert await slow.sweep(time.time()) == 0
    assert fleet.story(address) == ["EXPIRED OTHER"]
    assert not fleet.letters(address)


@in_virtual_time
async def test_message_whose_events_may_be_deleted_is_not_ended() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    await asyncio.sleep(KEPT_S / 2 + TTL_S + 1)
    assert await sweeper(fleet).sweep(time.time()) == 0
    assert not fleet.story(address)


@in_virtual_time
async def test_unknown_or_unreadable_message_does_not_block_the_others() -> None:
    fleet = SmallFleet()
    broken, address = [await fleet.accept(body, ttl_s=TTL_S) for body in "ab"]
    await asyncio.sleep(TTL_S + 2)
    deadlines = StreamDeadlines(fleet.stream)
    late = await deadlines.overdue(datetime.fromtimestamp(time.time(), UTC), 10)
    await fleet.caller.connection.publish(topo.event_subject(broken), b"\xff")
    unknown = Overdue("default", "01a22345-f69d-7d8b-a514-5f8a872a37a9", 1, late[0].deadline)
    deadlines.overdue = FakeHistory([unknown, *late]).overdue  # type: ignore[method-assign, assignment]
    assert await Sweeper(fleet.caller.connection, deadlines, "sweeper", KEPT_S).sweep(time.time()) == 1
    assert fleet.story(address) == ["EXPIRED EXPIRED"]


@in_virtual_time
async def test_next_sweep_continues_after_a_full_page_and_starts_again_after_the_last() -> None:
    page = [Overdue("default", f"{number}", 1, datetime.fromtimestamp(0, UTC)) for number in range(BATCH)]
    history = FakeHistory(page, page[:3], [])
    one = Sweeper(SmallFleet().caller.connection, history, "sweeper", KEPT_S)
    for _ in range(3):
        await one.sweep(time.time())
    assert history.asked == [None, page[-1], None]


@in_virtual_time
async def test_sweeper_continues_after_store_and_stream_were_down() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    process = Process(fleet.stream, failing := FailsTwice())
    deadlines = StreamDeadlines(fleet.stream)
    overdue, store_failures = deadlines.overdue, iter([True, True])

    async def fail_at_first(before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        if next(store_failures, False):
            raise StoreDown("test")
        return await overdue(before, limit, after)

    deadlines.overdue = fail_at_first  # type: ignore[method-assign]
    process.start(Sweeper(process.connection, deadlines, "sweeper", KEPT_S).run())
    await asyncio.sleep(TTL_S + 10)
    assert failing.failures == 2
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    await process.kill()


class FailsTwice:
    """Makes the first two events of the sweeper fail."""

    failures = 0

    def __call__(self, step: str) -> None:
        if step == "before publish sms.event" and self.failures < 2:
            self.failures += 1
            raise StreamDown(step)
