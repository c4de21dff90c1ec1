"""An event loop whose clock jumps: what waits is woken in order, at once, and `time.monotonic` is never asked."""

import asyncio
import functools
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from unittest import mock

_T = TypeVar("_T")
_P = ParamSpec("_P")

EPOCH = 1_800_000_000.0
"""The Unix second at which `run_whole` begins."""


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for the time-out, moves the clock on by it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everything waits, and nothing will ever come")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in which seconds pass without being waited for."""

    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


def run(work: Callable[[Callable[[], float]], Coroutine[Any, Any, _T]]) -> _T:
    """Run `work(clock)` to its end in virtual seconds; `clock` is the loop's own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        return runner.run(work(loop.time))


def run_whole(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end where `time.time` and `time.monotonic`, too, are the loop's clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()

        def now() -> float:
            return EPOCH + loop.time()

        def boot_time(_clock: int) -> float:
            return loop.time()

        with (
            mock.patch.object(time, "monotonic", loop.time),
            mock.patch.object(time, "clock_gettime", boot_time),
            mock.patch.object(time, "time", now),
        ):
            return runner.run(work)


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Make an async test one that `run_whole` runs."""

    @functools.wraps(test)
    def run_test(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run_whole(test(*args, **kwargs))

    return run_test
