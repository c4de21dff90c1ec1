"""The sweeper upon the memory stream: what nobody looks at any more ends at its deadline, with a reason, once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.sweeper import Sweeper
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
# The last event of an overdue message, and how the sweeper ends it how long after its deadline; None: not at all.
ENDS: dict[str, tuple[dict[str, object] | None, float, str | None]] = {
    "never drawn": (None, 2, "EXPIRED EXPIRED"),
    "not yet over for long enough": (None, 0.5, None),
    "waits for another attempt": ({"state": pb.MESSAGE_STATE_QUEUED}, 2, "EXPIRED EXPIRED"),
    "waits after an unclear attempt": (
        {"state": pb.MESSAGE_STATE_QUEUED, "attempts": [AMBIGUOUS], "attempt_count": 1},
        2,
        "UNKNOWN UNKNOWN",
    ),
    "is being sent": ({"state": pb.MESSAGE_STATE_SENDING}, 170, None),
    "was being sent by a pod that has gone": ({"state": pb.MESSAGE_STATE_SENDING}, 190, "UNKNOWN UNKNOWN"),
    "was sent": ({"state": pb.MESSAGE_STATE_SENT}, 2, None),
    "has more time since a replay": (
        {"state": pb.MESSAGE_STATE_QUEUED, "deadline": codec.timestamp(4e9)},
        2,
        None,
    ),
}


class Told:
    """What the history tells, ready made."""

    def __init__(self, *pages: Sequence[Overdue]) -> None:
        self.pages = list(pages)
        self.asked: list[Overdue | None] = []

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> Sequence[Overdue]:
        self.asked.append(after)
        return self.pages.pop(0) if self.pages else []

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        return None


def sweeper(fleet: SmallFleet, plan: Callable[[str], None] = lambda _: None) -> Sweeper:
    return Sweeper(Process(fleet.stream, plan).connection, StreamDeadlines(fleet.stream), "sweeper", KEPT_S)


async def write(fleet: SmallFleet, address: Address, **fields: object) -> None:
    event = wire.Event(message_id=address.message_id, client="default", provider="p2", **fields)  # type: ignore[arg-type]
    assert await fleet.publisher.append_event(address, event, 0) is not None


@pytest.mark.parametrize("what", ENDS)
@in_virtual_time
async def test_overdue_message_ends_as_its_last_event_says(what: str) -> None:
    last, late_s, wanted = ENDS[what]
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    if last is not None:
        await write(fleet, address, **last)
    before = fleet.story(address)
    await asyncio.sleep(TTL_S + late_s)
    assert await sweeper(fleet).sweep(time.time()) == (wanted is not None)
    assert fleet.story(address) == [*before, *([wanted] if wanted else [])]
    if wanted:
        assert fleet.letters(address) == [wanted.split()[1].lower()]
        assert fleet.last(address).provider == ("p1" if last is None else "p2")
        assert await sweeper(fleet).sweep(time.time()) == 0, "once"


@in_virtual_time
async def test_schedule_of_a_message_that_was_ended_is_taken_back() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    entry = wire.QueueEntry(command=fleet.commands()[address])
    await fleet.publisher.schedule(entry, address, "p1", "otp", time.time() + 1000)
    await asyncio.sleep(TTL_S + 2)
    await sweeper(fleet).sweep(time.time())
    assert fleet.stream.log(topo.LATER_STREAM).last(topo.later_subject(address)) is None


@pytest.mark.parametrize("step", ["after publish sms.event", "before publish sms.dlq", "after publish sms.dlq"])
@in_virtual_time
async def test_message_is_ended_once_and_the_crash_of_a_sweeper_leaves_its_letter_to_a_pod(step: str) -> None:
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
    assert fleet.letters(address) == ["expired"], "the queue entry is still there, and whoever draws it buries it"
    assert not fleet.took(address)
    await fleet.close()


@in_virtual_time
async def test_of_a_sweeper_and_a_pod_one_ends_the_message() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    await asyncio.sleep(TTL_S + 2)
    event = wire.Event(message_id=address.message_id, state=pb.MESSAGE_STATE_EXPIRED, reason="OTHER")

    def meanwhile(step: str) -> None:
        if step == "after last SMS_EVENT" and not fleet.story(address):
            fleet.stream.publish(topo.event_subject(address), event.SerializeToString(), {})

    slow = sweeper(fleet, meanwhile)
    assert await slow.sweep(time.time()) == 0
    assert fleet.story(address) == ["EXPIRED OTHER"]
    assert not fleet.letters(address)


@in_virtual_time
async def test_message_whose_events_may_be_forgotten_is_left_alone() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    await asyncio.sleep(KEPT_S / 2 + TTL_S + 1)
    assert await sweeper(fleet).sweep(time.time()) == 0
    assert not fleet.story(address)


@in_virtual_time
async def test_message_that_the_history_does_not_know_or_nobody_can_read_bars_nobodys_way() -> None:
    fleet = SmallFleet()
    broken, address = [await fleet.accept(body, ttl_s=TTL_S) for body in "ab"]
    await asyncio.sleep(TTL_S + 2)
    deadlines = StreamDeadlines(fleet.stream)
    late = await deadlines.overdue(datetime.fromtimestamp(time.time(), UTC), 10)
    await fleet.caller.connection.publish(topo.event_subject(broken), b"\xff")
    unknown = Overdue("default", "01a22345-f69d-7d8b-a514-5f8a872a37a9", 1, late[0].deadline)
    deadlines.overdue = Told([unknown, *late]).overdue  # type: ignore[method-assign, assignment]
    assert await Sweeper(fleet.caller.connection, deadlines, "sweeper", KEPT_S).sweep(time.time()) == 1
    assert fleet.story(address) == ["EXPIRED EXPIRED"]


@in_virtual_time
async def test_next_sweep_goes_on_behind_a_full_page_and_begins_anew_after_the_last() -> None:
    page = [Overdue("default", f"{number}", 1, datetime.fromtimestamp(0, UTC)) for number in range(200)]
    told = Told(page, page[:3], [])
    one = Sweeper(SmallFleet().caller.connection, told, "sweeper", KEPT_S)
    for _ in range(3):
        await one.sweep(time.time())
    assert told.asked == [None, page[-1], None]


@in_virtual_time
async def test_sweeping_goes_on_when_store_or_stream_are_away_for_a_while() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a", ttl_s=TTL_S)
    process = Process(fleet.stream, falters := Falters())
    deadlines = StreamDeadlines(fleet.stream)
    overdue, away = deadlines.overdue, iter([True, True])

    async def sometimes(before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        if next(away, False):
            raise StoreDown("test")
        return await overdue(before, limit, after)

    deadlines.overdue = sometimes  # type: ignore[method-assign]
    process.start(Sweeper(process.connection, deadlines, "sweeper", KEPT_S).run())
    await asyncio.sleep(TTL_S + 10)
    assert falters.met == 2
    assert fleet.story(address) == ["EXPIRED EXPIRED"]
    await process.kill()


class Falters:
    """Lets the stream be away for the first two reads."""

    met = 0

    def __call__(self, step: str) -> None:
        if step == "before last SMS_EVENT" and self.met < 2:
            self.met += 1
            raise StreamDown(step)
