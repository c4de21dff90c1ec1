import asyncio
import itertools
from collections.abc import Callable

import pytest

from messaging.errors import StoreDown, StreamDown, StreamFull
from messaging.runtime.backoff import Backoff, retry
from tests.unit.virtual_time import run

BACKOFF = Backoff(first_s=0.1, longest_s=1.0)


class Tries:
    """Fails as told, one error after the other, then succeeds; notes when each try began."""

    def __init__(self, clock: Callable[[], float], *errors: Exception, lasts_s: float = 0.0) -> None:
        self.began: list[float] = []
        self._clock = clock
        self._errors = iter(errors)
        self._lasts_s = lasts_s

    async def __call__(self) -> str:
        self.began.append(round(self._clock(), 6))
        await asyncio.sleep(self._lasts_s)
        for error in self._errors:
            raise error
        return "done"


def test_pauses_double_from_the_first_to_the_longest_and_stay_there() -> None:
    assert list(itertools.islice(BACKOFF.pauses(), 7)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_pauses_whose_first_is_the_longest_are_all_the_same() -> None:
    assert list(itertools.islice(Backoff(0.5, 0.5).pauses(), 3)) == [0.5, 0.5, 0.5]


def test_each_round_of_pauses_begins_with_the_first() -> None:
    assert next(BACKOFF.pauses()) == next(BACKOFF.pauses()) == 0.1


def test_what_succeeds_at_once_is_tried_once() -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock)
        assert await retry(tries, BACKOFF, StreamDown, 0.0) == "done"
        assert tries.began == [0.0]

    run(work)


def test_it_is_tried_after_each_pause_until_it_succeeds_however_long_without_a_budget() -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock, *[StreamDown("x")] * 100)
        assert await retry(tries, BACKOFF, StreamDown) == "done"
        assert tries.began[:6] == [0.0, 0.1, 0.3, 0.7, 1.5, 2.5]
        assert len(tries.began) == 101

    run(work)


@pytest.mark.parametrize(
    ("budget_s", "began"),
    [(-1.0, [0.0]), (0.0, [0.0]), (0.05, [0.0]), (0.25, [0.0, 0.1]), (0.75, [0.0, 0.1, 0.3, 0.7])],
)
def test_no_try_but_the_first_begins_after_the_budget(budget_s: float, began: list[float]) -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock, *[StreamDown("x")] * 100)
        with pytest.raises(StreamDown):
            await retry(tries, BACKOFF, StreamDown, budget_s)
        assert tries.began == began
        assert round(clock(), 6) == began[-1], "it does not pause before it gives up"

    run(work)


def test_any_other_exception_ends_it_at_once() -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock, StreamDown("x"), StoreDown("y"), StreamDown("z"))
        with pytest.raises(StoreDown):
            await retry(tries, BACKOFF, StreamDown)
        assert tries.began == [0.0, 0.1]

    run(work)


def test_several_kinds_of_exceptions_may_be_tried_again() -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock, StreamDown("x"), StreamFull("y"))
        assert await retry(tries, BACKOFF, (StreamDown, StreamFull)) == "done"

    run(work)


def test_time_that_the_tries_take_counts_against_the_budget() -> None:
    async def work(clock: Callable[[], float]) -> None:
        tries = Tries(clock, *[StreamDown("x")] * 100, lasts_s=1.0)
        with pytest.raises(StreamDown):
            await retry(tries, BACKOFF, StreamDown, 2.5)
        assert tries.began == [0.0, 1.1, 2.3]

    run(work)
