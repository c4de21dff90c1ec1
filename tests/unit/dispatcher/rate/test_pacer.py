import asyncio
import itertools
from collections.abc import Callable

import pytest

from dispatcher.rate.pacer import Pacer, PermitGate
from dispatcher.rate.window import Permit
from dispatcher.transport.gate import GateClosed
from tests.unit.virtual_time import run

Clock = Callable[[], float]
WINDOW_S = 1.002
FOREVER = 10.0**9


def ready_pacer(clock: Clock, share: int, valid_until: float = FOREVER) -> Pacer:
    pacer = Pacer(WINDOW_S, clock)
    pacer.renewed(valid_until)
    pacer.set_share(share)
    return pacer


async def send(pacer: Pacer, clock: Clock, cost: int = 1, *, at_once: bool = False) -> float:
    """Take a permit, pass the gate, write; return the time of the write."""
    gate = PermitGate(pacer, await pacer.acquire(cost, at_once=at_once), clock() + 100, FOREVER, clock, clock)
    await gate.enter()
    at = clock()
    gate.wrote()
    gate.close()
    return at


def highest(times: list[float], window_s: float = 1.0) -> int:
    return max(sum(1 for other in times if at <= other < at + window_s) for at in times)


# The pacer


@pytest.mark.parametrize("share", [1, 2, 7, 50])
def test_backlog_uses_the_whole_share_and_never_more(share: int) -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, share)
        return [await send(pacer, clock) for _ in range(20 * share)]

    times = run(work)
    assert highest(times) == share
    seconds = times[-1] - times[0]
    assert (len(times) - 1) / seconds >= 0.99 * share


def test_sends_are_spread_over_the_second() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 50)
        return [await send(pacer, clock) for _ in range(200)]

    times = run(work)
    assert highest(times, 0.1) <= 7, "not fifty at once and then a pause"


def test_cost_counts_in_units() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 10)
        return [await send(pacer, clock, 3) for _ in range(60)]

    times = run(work)
    assert highest(times) == 3, "nine of ten units"


def test_permits_are_issued_first_come_first_served() -> None:
    async def work(clock: Clock) -> list[int]:
        pacer, order = ready_pacer(clock, 5), list[int]()

        async def one(number: int, cost: int) -> None:
            await send(pacer, clock, cost)
            order.append(number)

        tasks = [asyncio.create_task(one(number, 5 if number == 2 else 1)) for number in range(8)]
        await asyncio.gather(*tasks)
        return order

    assert run(work) == list(range(8)), "an expensive message is not overtaken by cheap ones"


def test_no_permit_is_issued_without_a_lease_or_a_share() -> None:
    async def work(clock: Clock) -> tuple[float, float]:
        pacer = Pacer(WINDOW_S, clock)
        waiting = asyncio.create_task(pacer.acquire(1))
        await asyncio.sleep(5)
        pacer.set_share(5)
        await asyncio.sleep(5)
        assert not waiting.done()
        pacer.renewed(clock() + 1)
        await waiting
        first = clock()
        await asyncio.sleep(2)
        late = asyncio.create_task(pacer.acquire(1))
        await asyncio.sleep(5)
        assert not late.done(), "the lease has run out"
        late.cancel()
        return first, pacer.waiting_cost

    first, _ = run(work)
    assert first == pytest.approx(10.0, abs=0.21)


def test_raised_share_wakes_a_waiting_message() -> None:
    async def work(clock: Clock) -> float:
        pacer = ready_pacer(clock, 2)
        waiting = asyncio.create_task(pacer.acquire(5))
        await asyncio.sleep(3)
        assert pacer.waiting_cost == 5
        pacer.set_share(5)
        await waiting
        assert pacer.waiting_cost == 0
        return clock()

    assert run(work) == pytest.approx(3.0, abs=0.01)


def test_pause_is_obeyed_to_its_end_and_a_shorter_one_does_not_shorten_it() -> None:
    async def work(clock: Clock) -> float:
        pacer = ready_pacer(clock, 5)
        pacer.pause(7.0)
        pacer.pause(1.0)
        assert pacer.paused_s == 7.0
        return await send(pacer, clock)

    assert run(work) >= 7.0


def test_cancelled_wait_lets_the_next_message_go_first() -> None:
    async def work(clock: Clock) -> float:
        pacer = ready_pacer(clock, 1)
        await send(pacer, clock)
        first, second = (asyncio.create_task(pacer.acquire(1)) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        return clock()

    assert run(work) == pytest.approx(WINDOW_S, abs=0.05)


def test_returned_permit_costs_nothing() -> None:
    async def work(clock: Clock) -> float:
        pacer = ready_pacer(clock, 1)
        pacer.give_back(await pacer.acquire(1))
        return await send(pacer, clock)

    assert run(work) < WINDOW_S


def test_lowered_share_is_effective_at_once_and_raising_it_again_gains_no_sends() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 10)
        times = [await send(pacer, clock) for _ in range(30)]
        for share in (2, 10, 1, 10, 0, 10, 3, 10):
            pacer.set_share(share)
            times += [await send(pacer, clock) for _ in range(share and 4)]
        return times

    assert highest(run(work)) <= 10


def test_unused_slots_of_a_share_raised_earlier_give_no_extra_sends() -> None:
    """Used slots return before unused ones: shares 5, 3, three sends, shares 1, 3 permit no fourth send."""

    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 5)
        pacer.set_share(3)
        times = [await send(pacer, clock) for _ in range(3)]
        pacer.set_share(1)
        pacer.set_share(3)
        return times + [await send(pacer, clock) for _ in range(6)]

    assert highest(run(work)) <= 3


def test_sent_units_count_only_what_was_written() -> None:
    async def work(clock: Clock) -> int:
        pacer = ready_pacer(clock, 10)
        await send(pacer, clock, 3)
        pacer.give_back(await pacer.acquire(2))
        permit = await pacer.acquire(1)
        await asyncio.sleep(1)
        pacer.wrote(permit)
        pacer.wrote(permit)
        return pacer.sent_units

    assert run(work) == 4


# The gate


class Situation:
    """A pacer, a permit taken from it, and the gate for that permit."""

    def __init__(self, clock: Clock, give_up_in: float = 2.0, deadline: float = FOREVER, share: int = 5) -> None:
        self.clock = clock
        self.pacer = ready_pacer(clock, share)
        self.give_up_at = clock() + give_up_in
        self.deadline = deadline

    async def gate(self) -> PermitGate:
        self.permit: Permit = await self.pacer.acquire(1)
        return PermitGate(self.pacer, self.permit, self.give_up_at, self.deadline, self.clock, self.clock)


def closed(situation: Callable[[Clock], Situation], change: Callable[[Situation], None], after_s: float = 0.0) -> float:
    """Change something between permit and gate; return when the gate closed."""

    async def work(clock: Clock) -> float:
        one = situation(clock)
        gate = await one.gate()
        await asyncio.sleep(after_s)
        change(one)
        with pytest.raises(GateClosed):
            await gate.enter()
        assert not gate.passed
        gate.close()
        assert one.pacer.sent_units == 0
        assert not one.pacer._window._busy, "the permit was returned"
        return clock()

    return run(work)


def test_usable_permit_passes_at_once() -> None:
    async def work(clock: Clock) -> float:
        gate = await Situation(clock).gate()
        await gate.enter()
        assert gate.passed
        return clock()

    assert run(work) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        lambda situation: situation.pacer.give_up(),
        lambda situation: situation.pacer.set_share(0),
        lambda situation: situation.pacer.pause(60.0),
    ],
    ids=["lease given back", "share gone", "provider pauses"],
)
def test_gate_waits_for_a_usable_permit_and_closes_in_time(change: Callable[[Situation], None]) -> None:
    assert closed(Situation, change) == pytest.approx(2.0)


def test_lease_that_ends_between_permit_and_write_closes_the_gate() -> None:
    def situation(clock: Clock) -> Situation:
        one = Situation(clock)
        one.pacer._valid_until = 0.5
        return one

    assert closed(situation, lambda _: None, after_s=0.6) == pytest.approx(2.0)


def test_permit_is_not_used_after_the_time_that_the_marker_allows() -> None:
    assert closed(Situation, lambda _: None, after_s=2.0) == 2.0


def test_message_is_not_sent_after_its_deadline() -> None:
    assert closed(lambda clock: Situation(clock, deadline=1.0), lambda _: None, after_s=1.0) == 1.0


def test_gate_takes_a_new_permit_when_the_old_one_is_not_usable() -> None:
    async def work(clock: Clock) -> tuple[float, bool]:
        situation = Situation(clock)
        gate = await situation.gate()
        situation.pacer.pause(1.0)
        await gate.enter()
        gate.wrote()
        gate.close()
        return clock(), situation.permit.sent_at is None

    at, old_unused = run(work)
    assert at == pytest.approx(1.0, abs=0.05)
    assert old_unused


def test_gate_cancelled_during_its_wait_never_uses_the_permit_it_returned() -> None:
    async def work(clock: Clock) -> None:
        situation = Situation(clock, give_up_in=10.0, share=1)
        gate = await situation.gate()
        situation.pacer.pause(1.0)
        first = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.5)
        first.cancel()
        other = asyncio.create_task(situation.pacer.acquire(1))
        await asyncio.sleep(1.0)
        assert other.done(), "the only slot belongs to another permit now"
        again = asyncio.create_task(gate.enter())
        await asyncio.sleep(1.0)
        assert not again.done()
        situation.pacer.wrote(other.result())
        await again
        assert clock() >= 2.5 + WINDOW_S - 1e-9

    run(work)


def test_write_that_was_not_noted_counts_from_the_end_of_the_attempt() -> None:
    async def work(clock: Clock) -> int:
        situation = Situation(clock, share=1)
        gate = await situation.gate()
        await gate.enter()
        await asyncio.sleep(1.5)  # cut off: `wrote` was never called
        gate.close()
        assert situation.pacer.sent_units == 1
        again = await send(situation.pacer, clock)
        assert again >= 1.5 + WINDOW_S
        return situation.pacer.sent_units

    assert run(work) == 2


def test_permit_issued_early_is_not_used_before_it_is_ready() -> None:
    async def work(clock: Clock) -> list[float]:
        pacer = ready_pacer(clock, 1)
        taken, times = [], []
        for _ in range(5):
            permit = await pacer.acquire(1)
            taken.append(clock())
            gate = PermitGate(pacer, permit, clock() + 10, FOREVER, clock, clock)
            await gate.enter()
            times.append(clock())
            gate.wrote()
        assert any(early < late for early, late in zip(taken, times, strict=True))
        return times

    times = run(work)
    assert all(later - earlier >= WINDOW_S - 1e-9 for earlier, later in itertools.pairwise(times))
