"""What a large fleet costs: shares settle in two seconds, and requests to the bucket grow with the pods at work."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import structlog

from dispatcher.rate.allocator import Allocator
from messaging.documents import Lease, Table
from tests.unit.depth import DEEP
from tests.unit.dispatcher.rate.large_fleet import BUSY, IDLE, LITTLE, PROVIDER_RATE, LargeFleet
from tests.unit.virtual_time import run_whole

SIZES = [(500, 200), (200, 80)] if DEEP else [(8, 4)]
LONGEST_S = 2.0
AT_WORK_PER_S, AT_REST_PER_S, COORDINATORS_PER_S = 4.4, 0.25, 12.0
LONGEST_MESSAGE_BYTES = 1_048_576
EVERY_SIZE = pytest.mark.parametrize(("pods", "providers"), SIZES)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@EVERY_SIZE
def test_shares_settle_within_two_seconds_when_work_moves_to_other_providers(pods: int, providers: int) -> None:
    async def move() -> None:
        fleet = LargeFleet(time.monotonic, pods, providers)
        await asyncio.sleep(8)
        for turn in range(2):
            busy = fleet.give_work(range(turn, providers, 2).__contains__, LITTLE)
            assert await fleet.convergence_s(3) <= LONGEST_S
            kept = 2 * (pods - len(busy))  # a pod with little work keeps a share of 2
            assert sum(pod.pacer.share for pod in busy) >= fleet.limit - kept
            assert fleet.in_use() == fleet.limit
        await fleet.close()
        fleet.check()

    run_whole(move())


@EVERY_SIZE
@pytest.mark.parametrize("every", [1, 3], ids=["all at work", "a third at work"])
def test_requests_grow_with_the_pods_at_work_only(pods: int, providers: int, every: int) -> None:
    async def count() -> None:
        fleet = LargeFleet(time.monotonic, pods, providers)
        at_work = len(fleet.give_work(lambda provider: provider % every == 0, IDLE))
        await asyncio.sleep(8)
        requests = sum((await fleet.counted(10)).requests.values()) / 10
        await fleet.close()
        most = AT_WORK_PER_S * at_work + AT_REST_PER_S * (pods - at_work) + COORDINATORS_PER_S
        assert requests <= most, f"{requests:.0f} a second, {at_work} of {pods} at work"

    run_whole(count())


@EVERY_SIZE
def test_table_of_shares_of_a_large_fleet_fits_into_a_message_many_times(pods: int, providers: int) -> None:
    rates = {f"p{n}": PROVIDER_RATE for n in range(providers)}
    allocator = Allocator(providers * PROVIDER_RATE, rates, Table(), 0.0)
    name = "dispatcher-{}-7d9f8b6c5d-xk2p9"
    leases = {name.format(n): (n + 1, Lease(f"p{n % providers}", BUSY)) for n in range(pods)}
    allocator.observe(leases, 1.0)
    document = allocator.step(1.0).to_document()
    assert len(str(document)) <= LONGEST_MESSAGE_BYTES * pods / 5000
