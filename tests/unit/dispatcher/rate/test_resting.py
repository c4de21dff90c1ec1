"""Pods without work rest: they cost little, are back at once, and the limit holds whatever happens meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from dispatcher.rate import lease as lease_module
from dispatcher.rate.allocator import Allocator, Timing
from messaging.documents import LEADER, Lease, Table, lease_key
from tests.unit.dispatcher.rate.fleet import FakeFleet, Pod
from tests.unit.dispatcher.rate.test_allocation import LIMIT, RATES, STORMS, Clock, trouble
from tests.unit.dispatcher.rate.test_allocation import run as run_fixture

run = run_fixture
WINDOW_S = Timing().window_s


async def idle_fleet(clock: Clock, *providers: str) -> tuple[FakeFleet, list[Pod]]:
    """A fleet whose pods have had nothing to do for a minute."""
    fleet = FakeFleet(clock, LIMIT, RATES)
    fleet.lead("one")
    pods = [fleet.add(provider, 0) for provider in providers]
    await asyncio.sleep(60)
    return fleet, pods


def writes(fleet: FakeFleet, log: Counter[str]) -> None:
    fleet.store.listeners.append(("", lambda key, _document: log.update([key.partition(".")[0]])))


async def moods(fleet: FakeFleet) -> None:
    """Give each pod work, or none, again and again."""
    while True:
        await asyncio.sleep(fleet.chance.uniform(0, 3))
        for pod in fleet.pods.values():
            pod.demand = fleet.chance.choice([0, 0, 60])


def usable(pod: Pod, clock: Clock) -> int:
    """What the pod could send now."""
    return pod.pacer.share if clock() < pod.pacer._valid_until else 0


def test_idle_pod_writes_its_lease_six_times_a_minute_and_keeps_its_share(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> tuple[int, int]:
        fleet, pods = await idle_fleet(clock, "a", "b")
        log: Counter[str] = Counter()
        writes(fleet, log)
        await asyncio.sleep(600)
        shares = [pod.pacer.share for pod in pods]
        await fleet.close()
        return log["lease"], min(shares)

    written, share = run(work)
    assert 2 * 60 <= written <= 2 * 66
    assert share >= 2


def test_resting_pod_may_send_within_two_ways_to_the_stream(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> float:
        fleet, [pod] = await idle_fleet(clock, "a")
        assert usable(pod, clock) == 0
        began = clock()
        pod.pacer.on_wanted()
        pod.demand = 20
        while not usable(pod, clock):
            await asyncio.sleep(0.001)
        took = clock() - began
        await asyncio.sleep(2)
        assert pod.pacer.share >= 20
        await fleet.close()
        fleet.check()
        return took

    assert run(work) <= 4 * 0.002 + 0.002  # the fake network takes at most 4 ms each way


def test_share_of_a_pod_that_rests_and_was_killed_goes_to_others(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> float:
        fleet = FakeFleet(clock, 60, {"a": 60})
        fleet.lead("one")
        dead = fleet.add("a", 60)
        await asyncio.sleep(5)
        dead.demand = 0
        await asyncio.sleep(5.7)
        assert dead.pacer.share > 0
        await fleet.kill(dead)
        heir, began = fleet.add("a", 60), clock()
        while heir.pacer.share < 58:
            await asyncio.sleep(0.05)
            assert clock() < began + 60
        await fleet.close()
        fleet.check()
        return clock() - began

    timing = Timing()
    assert run(work) <= timing.lease_s + 2 * timing.window_s + 1.5


@pytest.mark.parametrize("loses_table", [False, True], ids=["table kept", "table lost"])
@pytest.mark.parametrize("weather", STORMS)
def test_limit_holds_in_every_window_while_pods_rest_and_wake(
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    weather: str,
    loses_table: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(lease_module, "_REST_AFTER_S", 0.3)
    rested: Counter[str] = Counter()

    async def work(clock: Clock) -> None:
        for seed in range(5):
            fleet = FakeFleet(clock, LIMIT, RATES, seed, STORMS[weather])
            fleet.timing = Timing(rest_s=4.0)
            fleet.store.listeners.append(
                ("lease.", lambda _key, document: rested.update(["rests"] if document["rests_s"] else ["awake"]))
            )
            changing = asyncio.create_task(moods(fleet))
            await trouble(fleet, loses_table=loses_table)
            changing.cancel()
            await fleet.close()
            fleet.check()

    run(work)
    if weather in {"calm", "slow"}:
        assert rested["rests"] > 20


def test_pod_does_not_rest_under_a_coordinator_that_knows_nothing_of_it(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> int:
        fleet = FakeFleet(clock, LIMIT, RATES)
        fleet.timing = attrs.evolve(fleet.timing, rest_s=0.0)
        fleet.lead("of the version before")
        fleet.timing = Timing()
        pod = fleet.add("a", 0)
        await asyncio.sleep(60)
        kept = usable(pod, clock)
        await fleet.close()
        fleet.check()
        return kept

    assert run(work) >= 2


def test_pod_that_rests_when_an_older_coordinator_takes_over_sends_nothing_with_its_old_lease(
    run: Callable[..., Any],
) -> None:
    async def work(clock: Clock) -> None:
        fleet, [pod] = await idle_fleet(clock, "a")
        document = fleet.store.read(LEADER)[1]
        assert document["rests_s"] == fleet.timing.rest_s
        await fleet.depose("one")
        fleet.store.write(LEADER, {"name": "older"})
        pod.demand = 20
        await asyncio.sleep(3)
        assert usable(pod, clock) == 0
        assert fleet.store.read(lease_key(f"{pod.name}=2"))[1]["demand"] == 20
        await fleet.close()
        fleet.check()

    run(work)


def test_resting_pod_uses_its_share_also_while_no_coordinator_leads(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> int:
        fleet, [pod, other] = await idle_fleet(clock, "a", "a")
        await fleet.depose("one")
        await asyncio.sleep(120)
        assert fleet.store.read(LEADER)[1] is None
        pod.demand = 20
        await asyncio.sleep(0.2)
        found = usable(pod, clock)
        fleet.lead("two")
        await asyncio.sleep(10)
        assert pod.pacer.share >= 20
        assert other.pacer.share >= 2
        await fleet.close()
        fleet.check()
        return found

    assert run(work) >= 2


def test_stopped_pod_that_rested_gives_its_share_back(run: Callable[..., Any]) -> None:
    async def work(clock: Clock) -> None:
        fleet, [pod] = await idle_fleet(clock, "a")
        await fleet.stop(pod)
        await asyncio.sleep(WINDOW_S + 1)
        [grants] = [fleet.store.read("alloc")[1]["grants"]]
        assert grants == {}
        await fleet.close()

    run(work)


def shares_of(resting: int, at_work: int, limit: int = 200) -> tuple[list[int], list[int]]:
    """What the allocator gives to pods of as many providers: those that rest, and those that could use 50 a second."""
    names = [f"r{n}" for n in range(resting)] + [f"w{n}" for n in range(at_work)]
    allocator = Allocator(limit, dict.fromkeys(names, 50), Table(), 0.0)
    leases = {
        name: (n + 1, Lease(name, 0, rests_s=30.0) if name.startswith("r") else Lease(name, 50))
        for n, name in enumerate(names)
    }
    allocator.observe(leases, 1.0)
    grants = allocator.step(1.0).grants
    assert sum(grant.reserved for grant in grants.values()) <= limit
    shares = [grants[name].share if name in grants else 0 for name in names]
    return shares[:resting], shares[resting:]


def test_hundred_resting_pods_leave_the_rate_to_five_at_work() -> None:
    resting, at_work = shares_of(100, 5)
    assert at_work == [38] * 5
    assert sum(resting) == 10


def test_few_resting_pods_keep_their_share_while_the_others_could_use_everything() -> None:
    assert shares_of(3, 10) == ([2, 2, 2], [20] * 4 + [19] * 6)


def test_resting_pods_share_what_nobody_uses() -> None:
    assert sorted(shares_of(100, 0)[0]) == [1] * 50 + [2] * 50, "a quarter is left free for a burst"
    resting, at_work = shares_of(60, 1)
    assert (sum(resting), at_work) == (100, [50])


def test_share_never_passes_the_rate_of_a_provider_whose_pods_rest_and_work() -> None:
    allocator = Allocator(200, {"p": 3}, Table(), 0.0)
    allocator.observe({"a": (1, Lease("p", 0, rests_s=30.0)), "b": (2, Lease("p", 50))}, 1.0)
    assert {pod: grant.share for pod, grant in allocator.step(1.0).grants.items()} == {"a": 2, "b": 1}
