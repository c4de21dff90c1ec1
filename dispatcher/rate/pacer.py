"""Issues permits within a pod's share, in order, and checks each permit again right before the bytes leave."""

import asyncio
import time
from collections.abc import Callable

from dispatcher.rate.window import Permit, Window
from dispatcher.transport.gate import GateClosed
from messaging.runtime.boot_clock import boot_time

_RECHECK_S = 0.2
_RATE_SPAN_S = 0.4
_LEAD_S = 0.03
"""How early a permit is issued: the attempt's marker is written meanwhile, and the gate waits for the rest."""


class Pacer:
    """Issues permits while the lease is valid, the share has free slots, and the provider has not asked for a pause.

    All times are seconds of `boot_time`. `sent_units` counts what was sent; `waiting_cost` is the cost of the message
    that waits for a permit, 0 when none does.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = boot_time) -> None:
        self._window = Window(window_s, lead_s=_LEAD_S)
        self._clock = clock
        self._changed = asyncio.Event()
        self._queue = asyncio.Lock()
        self._valid_until = 0.0
        self._paused_until = 0.0
        self.sent_units = 0
        self.waiting_cost = 0
        self.on_wanted: Callable[[], None] = _do_nothing
        """Called, again and again, while a message waits for a permit."""

    @property
    def share(self) -> int:
        """Units a second that this pod may use."""
        return self._window.share

    @property
    def paused_s(self) -> float:
        """How long the provider's pause still lasts; 0 without one."""
        return max(0.0, self._paused_until - self._clock())

    def rate(self) -> float:
        """Units a second sent lately. The span is short, so that a pod that has become idle soon reports 0."""
        return self._window.used(self._clock(), _RATE_SPAN_S) / _RATE_SPAN_S

    def sent_in_last_second(self) -> int:
        """Count the units sent in the last second: never more than the share, because no longer window has more."""
        return self._window.sent_in(self._clock(), 1.0)

    def set_share(self, share: int) -> None:
        """Apply the share of a new table; a lower share is effective at once."""
        self._window.share = share
        self._wake()

    def renewed(self, valid_until: float) -> None:
        """Note until when the lease is valid."""
        self._valid_until = max(self._valid_until, valid_until)
        self._wake()

    def give_up(self) -> None:
        """Issue no more permits: the lease is given back."""
        self._valid_until = float("-inf")
        self._window.share = 0

    def pause(self, seconds: float) -> None:
        """Obey a provider's Retry-After: no send starts before it is over."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def resume(self) -> None:
        """End the pause before its time."""
        self._paused_until = 0.0

    async def acquire(self, cost: int, *, at_once: bool = False) -> Permit:
        """Wait for a permit of `cost` units; first come, first served.

        With `at_once` it is issued as soon as the share has room; without it the permits are spread over the second.
        """
        async with self._queue:
            self.waiting_cost = cost
            try:
                while True:
                    self.on_wanted()
                    now = self._clock()
                    wait = self._wait_s(now, cost, at_once=at_once)
                    if wait == 0.0:
                        return self._window.take(now, cost, at_once=at_once)
                    await self._wait_or_change(wait)
            finally:
                self.waiting_cost = 0

    def _wait_s(self, now: float, cost: int, *, at_once: bool = False) -> float | None:
        if now >= self._valid_until:
            return None
        if now < self._paused_until:
            return self._paused_until - now
        return self._window.wait_s(now, cost, at_once=at_once)

    async def _wait_or_change(self, wait: float | None) -> None:
        if wait is not None:
            wait = min(wait, _RECHECK_S)
        self._changed.clear()
        try:
            async with asyncio.timeout(_RECHECK_S if wait is None else wait):
                await self._changed.wait()
        except TimeoutError:
            return

    def is_usable(self, permit: Permit) -> bool:
        """Whether a permit may be used now.

        It must not have been returned, its slots must still belong to the share, the lease must be valid, and the
        provider must not have asked for a pause.
        """
        now = self._clock()
        usable = not permit.closed and not permit.retired
        return usable and self._paused_until <= now < self._valid_until

    def wrote(self, permit: Permit) -> None:
        """Note that a permit's bytes have been written."""
        if permit.sent_at is None:
            self._window.sent(permit, self._clock())
            self.sent_units += permit.cost
            self._wake()

    def give_back(self, permit: Permit) -> None:
        """Return a permit that was not used."""
        self._window.give_back(permit)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()


def _do_nothing() -> None:
    """Tell nobody."""


class PermitGate:
    """The gate of one attempt: passes with a usable permit, waits for another one otherwise, and closes in time.

    No byte leaves after `give_up_at` (seconds of `boot_time`), so another pod that finds the attempt's marker knows how
    long to wait; nor after `deadline` (Unix seconds).
    """

    def __init__(
        self,
        pacer: Pacer,
        permit: Permit,
        give_up_at: float,
        deadline: float,
        clock: Callable[[], float] = boot_time,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._pacer = pacer
        self._permit = permit
        self._give_up_at = give_up_at
        self._deadline = deadline
        self._clock = clock
        self._wall_clock = wall_clock
        self.passed = False

    async def enter(self) -> None:
        """Pass, or raise GateClosed. Nothing is awaited between the last check and the write."""
        while True:
            if not self._pacer.is_usable(self._permit):
                await self._take_another()
            elif (early := self._permit.ready_at - self._clock()) > 0:
                await asyncio.sleep(early)
            else:
                break
        if self._clock() >= self._give_up_at or self._wall_clock() >= self._deadline:
            raise GateClosed
        self.passed = True

    async def _take_another(self) -> None:
        before = self._permit
        self._pacer.give_back(before)
        try:
            async with asyncio.timeout(max(0.0, self._give_up_at - self._clock())):
                self._permit = await self._pacer.acquire(before.cost, at_once=before.at_once)
        except TimeoutError:
            raise GateClosed from None

    def wrote(self) -> None:
        """Note that the bytes have been written."""
        self._pacer.wrote(self._permit)

    def close(self) -> None:
        """End the attempt: an unused permit is returned; a used one whose write was not noted counts as written now."""
        if self.passed:
            self._pacer.wrote(self._permit)
        else:
            self._pacer.give_back(self._permit)
