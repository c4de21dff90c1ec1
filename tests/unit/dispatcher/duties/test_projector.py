"""The projector on the in-memory stream: every record reaches the store, and is acknowledged only after that."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.projector import Projector
from messaging.errors import CorruptRecord, StoreDown, StoreRefuses
from messaging.model import Address
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.writer import Projected
from messaging.stream import topology as topo
from tests.memory_stream import Crash
from tests.unit.processes import Process
from tests.unit.small_fleet import ACK_WAIT_S, SmallFleet
from tests.unit.virtual_time import in_virtual_time

BOTH = ((topo.ACCEPT, topo.PROJECT_ACCEPT), (topo.EVENT, topo.PROJECT_EVENT))


class FakeStore:
    """Keeps what is written; is down for `failures_left` writes, and refuses the records of `refused` messages."""

    def __init__(self) -> None:
        self.batches: list[list[Projected]] = []
        self.partitions = 0
        self.failures_left = 0
        self.refused: set[str] = set()
        self.error: type[StoreRefuses | CorruptRecord] = StoreRefuses

    async def write(self, batch: Sequence[Projected]) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise StoreDown("test")
        for one in batch:
            if message_id_of(one) in self.refused:
                raise CorruptRecord("x", "test") if self.error is CorruptRecord else StoreRefuses("test")
        self.batches.append(list(batch))

    async def ensure_partitions(self, now: datetime, weeks_ahead: int = 5) -> object:
        self.partitions += 1
        return None

    @property
    def written(self) -> list[tuple[str, int]]:
        """Kind and sequence of everything, in the order in which it was written."""
        return [("event" if one.event else "accept", one.sequence) for batch in self.batches for one in batch]


def message_id_of(one: Projected) -> str:
    return one.event.message_id if one.event else one.entry.command.message_id if one.entry else ""


def start(fleet: SmallFleet, store: FakeStore, plan: Callable[[str], None] = lambda _: None) -> Process:
    process = Process(fleet.stream, plan)
    process.start(Projector(process.connection, store, Tracer(None, ChosenIds(), 0.0), ACK_WAIT_S).run())
    return process


async def fill(fleet: SmallFleet, count: int) -> list[Address]:
    """Accept messages and write one event for each."""
    found = [await fleet.accept(f"{number}") for number in range(count)]
    for address in found:
        event = wire.Event(message_id=address.message_id, client="default", state=pb.MESSAGE_STATE_SENDING)
        await fleet.publisher.append_event(address, event, 0)
    return found


def unacknowledged(fleet: SmallFleet) -> int:
    """How many records are not acknowledged."""
    infos = [fleet.stream.queue(*one).info() for one in BOTH]
    return sum(int(one["num_pending"]) + int(one["num_ack_pending"]) for one in infos)


def delivered(fleet: SmallFleet) -> list[int]:
    return [fleet.stream.queue(*one).info()["delivered"]["consumer_seq"] for one in BOTH]


ALL = {(kind, number) for kind in ("accept", "event") for number in range(1, 6)}


@in_virtual_time
async def test_everything_is_written_in_batches_and_acknowledged() -> None:
    fleet, store = SmallFleet(), FakeStore()
    await fill(fleet, 5)
    process = start(fleet, store)
    await asyncio.sleep(2)
    assert set(store.written) == ALL
    assert len(store.batches) == 2
    assert store.partitions == 1
    assert unacknowledged(fleet) == 0
    await fill(fleet, 1)
    await asyncio.sleep(2)
    assert set(store.written) == ALL | {("accept", 6), ("event", 6)}
    await process.kill()


@in_virtual_time
async def test_nothing_is_acknowledged_before_it_is_written_or_redelivered_meanwhile() -> None:
    fleet, store = SmallFleet(), FakeStore()
    store.failures_left = 20
    await fill(fleet, 5)
    process = start(fleet, store)
    await asyncio.sleep(3 * ACK_WAIT_S)
    assert store.failures_left
    assert unacknowledged(fleet) == 10
    assert delivered(fleet) == [5, 5]
    await asyncio.sleep(60)
    assert sorted(store.written) == sorted(ALL), "once"
    assert unacknowledged(fleet) == 0
    await process.kill()


@pytest.mark.parametrize("step", ["ack_lightly SMS_EVENT", "ack SMS_EVENT", "ack SMS_ACCEPT", "fetch project-event"])
@pytest.mark.parametrize("moment", ["before", "after"])
@in_virtual_time
async def test_next_projector_writes_what_a_crashed_one_left(moment: str, step: str) -> None:
    fleet, store = SmallFleet(), FakeStore()
    await fill(fleet, 5)

    def crash(taken: str) -> None:
        if taken == f"{moment} {step}":
            raise Crash

    first = start(fleet, store, crash)
    await first.crashed.wait()
    await first.kill()
    second = start(fleet, store)
    await asyncio.sleep(3 * ACK_WAIT_S)
    assert set(store.written) == ALL
    assert unacknowledged(fleet) == 0
    await second.kill()


@pytest.mark.parametrize("error", [StoreRefuses, CorruptRecord])
@in_virtual_time
async def test_only_the_record_that_the_store_refuses_is_left_out(
    error: type[StoreRefuses | CorruptRecord],
) -> None:
    fleet, store = SmallFleet(), FakeStore()
    addresses = await fill(fleet, 5)
    store.refused, store.error = {addresses[3].message_id}, error
    process = start(fleet, store)
    await asyncio.sleep(2)
    assert set(store.written) == ALL - {("accept", 4), ("event", 4)}
    assert unacknowledged(fleet) == 0
    await process.kill()


@in_virtual_time
async def test_unreadable_record_is_left_out_and_acknowledged() -> None:
    fleet, store = SmallFleet(), FakeStore()
    await fleet.caller.connection.publish("sms.event.a.b.c", b"\xff")
    process = start(fleet, store)
    await asyncio.sleep(2)
    assert not store.written
    assert unacknowledged(fleet) == 0
    await fill(fleet, 1)
    await asyncio.sleep(2)
    assert set(store.written) == {("accept", 1), ("event", 2)}
    await process.kill()


@in_virtual_time
async def test_partitions_are_created_regularly_even_after_the_store_was_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatcher.duties.projector._PARTITIONS_EVERY_S", 60.0)
    fleet, store = SmallFleet(), FakeStore()
    create, failures = store.ensure_partitions, iter([True, True, True])

    async def fail_at_first(now: datetime, weeks_ahead: int = 5) -> object:
        if next(failures, False):
            raise StoreDown("test")
        return await create(now, weeks_ahead)

    store.ensure_partitions = fail_at_first  # type: ignore[method-assign]
    process = start(fleet, store)
    await asyncio.sleep(30)
    assert store.partitions == 1
    await asyncio.sleep(60)
    assert store.partitions == 2
    await process.kill()
