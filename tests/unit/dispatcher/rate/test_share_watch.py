"""A pod without a share says so once, with the reason and the cure."""

import asyncio
import time

from structlog.testing import capture_logs

from dispatcher.rate.allocator import Timing
from dispatcher.rate.share_watch import why_no_share
from messaging.documents import Grant, Table
from messaging.runtime.problems import NO_SHARE, STANDBY, Problems
from tests.unit.dispatcher.rate.fleet import FakeFleet, Weather
from tests.unit.virtual_time import in_virtual_time


def test_reason_names_what_is_missing() -> None:
    table = Table(3, {"a": Grant("p1", 50), "b": Grant("p1", 0)})
    assert why_no_share("p1", "b", table, None)[0] == NO_SHARE
    assert "coordinate" in why_no_share("p1", "b", None, None)[1]
    assert "providers file" in why_no_share("p9", "c", table, "c1")[1]
    assert why_no_share("p1", "b", table, "c1")[0] == STANDBY


async def begun(fleet: FakeFleet, provider: str) -> Problems:
    problems = Problems()
    pod = fleet.add(provider, 50)
    pod.holder._watch._problems = problems
    return problems


@in_virtual_time
async def test_pod_without_a_coordinator_says_so_once_and_says_when_it_has_a_share() -> None:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 50})
    with capture_logs() as lines:
        problems = await begun(fleet, "p1")
        await asyncio.sleep(60)
        (problem,) = problems
        assert problem.code == NO_SHARE
        assert "no coordinator leads" in problem.detail
        fleet.lead("c1")
        await asyncio.sleep(10)
        assert not list(problems)
    await fleet.close()
    assert [line["log_level"] for line in lines if "problem" in line] == ["error", "warning"]


@in_virtual_time
async def test_pod_of_a_provider_that_the_coordinator_does_not_know_says_so() -> None:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 50})
    fleet.lead("c1")
    problems = await begun(fleet, "p9")
    await asyncio.sleep(20)
    (problem,) = problems
    assert "does the providers file of the coordinator name p9?" in problem.detail
    await fleet.close()


@in_virtual_time
async def test_second_pod_of_a_rate_of_one_stands_by_and_is_ready() -> None:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 1})
    fleet.lead("c1")
    first = await begun(fleet, "p1")
    await asyncio.sleep(10)
    second = await begun(fleet, "p1")
    await asyncio.sleep(20)
    codes = sorted(one.code for one in [*first, *second])
    assert codes == [STANDBY]
    assert not first.blocking
    assert not second.blocking
    await fleet.close()


@in_virtual_time
async def test_lost_lease_is_logged_once_and_so_is_the_next_share() -> None:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 50}, weather=Weather())
    fleet.lead("c1")
    with capture_logs() as lines:
        pod = fleet.add("p1", 50)
        await asyncio.sleep(10)
        pod.bucket.cut = True
        await asyncio.sleep(20)
        pod.bucket.cut = False
        await asyncio.sleep(20)
        assert pod.pacer.share == 50
    await fleet.close()
    said = [line["event"] for line in lines if line["log_level"] == "warning" and "provider" in line]
    assert said == ["lease lost", "has a share again"]
    assert Timing().lease_s <= next(line["silent_s"] for line in lines if line["event"] == "lease lost") < 6


@in_virtual_time
async def test_slow_network_does_not_cost_the_lease() -> None:
    fleet = FakeFleet(time.monotonic, 200, {"p1": 50, "p2": 50})
    fleet.lead("c1")
    pods = [fleet.add("p1", 50), fleet.add("p2", 50)]
    await asyncio.sleep(10)
    for pod in pods:
        pod.bucket.weather = Weather(usual_s=0.3)  # answers take 0.6 s, and up to 1.2 s
    with capture_logs() as lines:
        await asyncio.sleep(60)
    assert not [line for line in lines if line["event"] == "lease lost"]
    assert [pod.pacer.share for pod in pods] == [50, 50]
    fleet.check()
    await fleet.close()
