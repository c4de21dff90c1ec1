"""A whole fleet in virtual time: real lease holders, coordinators and pacers on a fake bucket."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import pytest
import structlog

from dispatcher.rate.allocator import Timing
from dispatcher.rate.lease import LeaseHolder
from dispatcher.rate.pacer import Pacer
from messaging.documents import Grant, Table, lease_key
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from tests.unit import virtual_time
from tests.unit.depth import DEEP
from tests.unit.dispatcher.rate.fleet import FakeFleet, Weather

RATES = {"a": 50, "b": 50, "c": 50}
LIMIT = 120
Clock = Callable[[], float]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.configure(**before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a scenario with the loop's clock in place of the monotonic one."""

    def within(work: Callable[[Clock], Coroutine[Any, Any, Any]]) -> Any:
        random.seed(0)

        async def patched(clock: Clock) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic", clock)
                patch.setattr(time, "clock_gettime", lambda _clock: clock())
                return await work(clock)

        return virtual_time.run(patched)

    return within


STORMS = {
    "calm": Weather(),
    "slow": Weather(0.02, 0.02, 0.5, lag_s=0.3),
    "lossy": Weather(0.003, 0.02, 3.0, 0.02, 0.3),
    "awful": Weather(0.003, 0.05, 3.0, 0.1, 0.3),
}


async def trouble(fleet: FakeFleet, *, loses_table: bool) -> None:
    """Twenty random events in the life of a fleet."""
    chance = fleet.chance
    fleet.lead("one")
    fleet.lead("two")
    for provider in RATES:
        for _ in range(chance.randint(1, 2)):
            fleet.add(provider, chance.randint(0, 60))
    for _ in range(20):
        await asyncio.sleep(chance.uniform(0, 2.5))
        events = [end_one, add_one, change_demand, depose_one, cut_one, *([lose_table] if loses_table else [])]
        await chance.choice(events)(fleet)


async def end_one(fleet: FakeFleet) -> None:
    pods = list(fleet.pods.values())
    if len(pods) > 2:
        await fleet.chance.choice([fleet.kill, fleet.stop])(fleet.chance.choice(pods))


async def add_one(fleet: FakeFleet) -> None:
    if len(fleet.pods) < 7:
        fleet.add(fleet.chance.choice("abc"), fleet.chance.randint(0, 60))


async def change_demand(fleet: FakeFleet) -> None:
    for pod in fleet.pods.values():
        pod.demand = fleet.chance.choice([0, 2, 10, 60])


async def depose_one(fleet: FakeFleet) -> None:
    name = fleet.chance.choice(list(fleet.coordinators))
    await fleet.depose(name)
    fleet.lead(name)


async def cut_one(fleet: FakeFleet) -> None:
    pod = fleet.chance.choice(list(fleet.pods.values()))
    pod.bucket.cut = not pod.bucket.cut


async def lose_table(fleet: FakeFleet) -> None:
    fleet.lose_table()


@pytest.mark.parametrize("weather", STORMS)
@pytest.mark.parametrize("loses_table", [False, True], ids=["table kept", "table lost"])
def test_fleet_stays_within_the_limit_in_every_window_whatever_happens(
    run: Callable[..., Any],
    weather: str,
    loses_table: bool,  # noqa: FBT001
) -> None:
    async def work(clock: Clock) -> None:
        for seed in range(4 if DEEP else 1):
            fleet = FakeFleet(clock, LIMIT, RATES, seed, STORMS[weather])
            await trouble(fleet, loses_table=loses_table)
            await fleet.close()
            fleet.check()
            assert any(pod.pacer.history for pod in fleet.everyone)

    run(work)


def test_backlog_at_every_provider_uses_the_whole_limit(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> float:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        for provider in RATES:
            fleet.add(provider, 60)
            fleet.add(provider, 60)
        await asyncio.sleep(6)
        used = []
        for _ in range(100):
            await asyncio.sleep(0.1)
            used.append(fleet.in_use())
        await fleet.close()
        fleet.check()
        return sum(used) / len(used)

    assert run(work) >= 0.99 * LIMIT


def test_unneeded_share_of_a_provider_goes_to_others_within_two_seconds(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> tuple[int, int, int]:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        pods = {provider: fleet.add(provider, 60) for provider in RATES}
        await asyncio.sleep(6)
        before = fleet.share_of("b")
        pods["a"].demand = 0
        await asyncio.sleep(2)
        after, idle = fleet.share_of("b") + fleet.share_of("c"), fleet.share_of("a")
        await fleet.close()
        fleet.check()
        return before, after, idle

    before, after, idle = run(work)
    assert (before, idle) == (40, 2)
    assert after == 100


def test_share_moves_between_the_pods_of_a_provider_within_two_seconds(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> tuple[int, int]:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        one, two = fleet.add("a", 60), fleet.add("a", 60)
        await asyncio.sleep(6)
        one.demand = 0
        await asyncio.sleep(2)
        shares = one.pacer.share, two.pacer.share
        await fleet.close()
        fleet.check()
        return shares

    assert run(work) == (2, 48)


@pytest.mark.parametrize(("end", "within_s"), [("stop", 2.0), ("kill", 4.6)])
def test_share_of_a_pod_that_ends_is_used_by_others_soon(run: Callable[..., Any], end: str, within_s: float) -> None:
    async def work(clock: Clock) -> int:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        one, two = fleet.add("a", 60), fleet.add("a", 60)
        await asyncio.sleep(6)
        assert two.pacer.share == 25
        await (fleet.stop(one) if end == "stop" else fleet.kill(one))
        await asyncio.sleep(within_s)
        share = two.pacer.share
        await asyncio.sleep(20)
        assert two.pacer.share == share, "and keeps it"
        await fleet.close()
        fleet.check()
        return share

    assert run(work) == 50


def test_lease_that_has_ended_is_never_renewed(run: Callable[..., Any]) -> None:
    """A pod that was cut off gets a new name, because its share may belong to another pod by then."""

    async def work(clock: Clock) -> tuple[int, int]:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        one, two = fleet.add("a", 60), fleet.add("a", 60)
        await asyncio.sleep(6)
        one.bucket.cut = True
        await asyncio.sleep(8)
        assert two.pacer.share == 50
        one.bucket.cut = False
        async with asyncio.timeout(2):
            while (first := one.pacer.share) == 25:
                await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        shares = one.pacer.share
        await fleet.close()
        fleet.check()
        return first, shares

    assert run(work) == (0, 25)


def test_change_of_other_pods_shares_causes_no_renewal(run: Callable[..., Any]) -> None:
    """Every renewal loads the stream, so a pod renews at once only when its own share or demand changes."""

    async def work(clock: Clock) -> tuple[int, int]:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        steady, changing = fleet.add("a", 30), fleet.add("b", 50)
        fleet.add("c", 50)
        await asyncio.sleep(6)
        renewed: list[str] = []
        fleet.store.listeners.append(("lease.", lambda key, _: renewed.append(key)))
        for n in range(40):
            changing.demand = 5 if n % 2 else 50
            await asyncio.sleep(0.25)
        await fleet.close()
        fleet.check()
        return renewed.count(lease_key(steady.name)), renewed.count(lease_key(changing.name))

    steady, changing = run(work)
    assert steady <= 10 / (0.9 * Timing().renew_s), "its own renewals"
    assert changing > 40


def test_another_coordinator_takes_over_and_shares_do_not_change(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> list[int]:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        fleet.lead("two")
        for provider in RATES:
            fleet.add(provider, 60)
        await asyncio.sleep(6)
        used = []
        for name in ("one", "two"):
            await fleet.depose(name)
            for _ in range(60):
                await asyncio.sleep(0.1)
                used.append(fleet.in_use())
            fleet.lead(name)
        await fleet.close()
        fleet.check()
        return used

    assert set(run(work)) == {LIMIT}


def test_fleet_starts_again_after_the_table_was_lost(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> int:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        for provider in RATES:
            fleet.add(provider, 60)
        await asyncio.sleep(6)
        fleet.lose_table()
        await asyncio.sleep(8)
        used = fleet.in_use()
        await fleet.close()
        fleet.check()
        return used

    assert run(work) == LIMIT


def test_fleet_starts_again_after_the_whole_bucket_was_lost(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> int:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.lead("one")
        for provider in RATES:
            fleet.add(provider, 60)
        await asyncio.sleep(20)
        fleet.store.recreate()
        await asyncio.sleep(12)
        used = fleet.in_use()
        await fleet.close()
        fleet.check()
        return used

    assert run(work) == LIMIT


class SlowBucket:
    """A bucket whose answer is an old table by the time it arrives."""

    def __init__(self) -> None:
        self.asked, self.answering = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, document: Any, *, ttl_s: int | None = None) -> int:
        return 1

    async def get(self, key: str) -> tuple[int, Any]:
        self.asked.set()
        await self.answering.wait()
        return 1, {"version": 11, "grants": {"pod": {"provider": "a", "share": 5, "held": 10, "held_version": 0}}}


async def test_table_that_arrives_while_an_older_one_is_read_causes_another_renewal() -> None:
    bucket, pacer = SlowBucket(), Pacer(1.0)
    pacer.set_share(10)
    holder = LeaseHolder(
        board=LimitsBoard(cast("Bucket", bucket)),
        pod="pod",
        provider="a",
        pacer=pacer,
        timing=Timing(),
        demand=lambda: (10, 1),
    )
    reading = asyncio.create_task(holder.sync())
    await bucket.asked.wait()
    holder._on_table(Table(12, {"pod": Grant("a", 10, 10)}))
    bucket.answering.set()
    await reading
    assert (pacer.share, holder._renew_now.is_set()) == (5, True)
