"""The pod's hold on its share: permits in order, and one last look right before the bytes leave."""

import asyncio
import time
from collections.abc import Callable

from dispatcher.rate.window import Permit, Window
from dispatcher.transport.gate import GateClosed

_LOOK_AGAIN_S = 0.2
_RATE_SPAN_S = 0.4
_LEAD_S = 0.03
"""A permit is handed out so much early: the attempt's marker is written meanwhile, and the gate waits for the rest."""


class Pacer:
    """Hands out permits while the lease is valid, the share allows, and the provider has not asked for a pause.

    Monotonic seconds throughout. The lease says how large the share is, and until when it is good.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = Window(window_s, lead_s=_LEAD_S)
        self._clock = clock
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._valid_until = 0.0
        self._paused_until = 0.0
        self.sent_units = 0
        self.waiting_cost = 0

    @property
    def share(self) -> int:
        """Units a second that this pod may use."""
        return self._window.share

    @property
    def paused_s(self) -> float:
        """How long the provider's pause still lasts."""
        return max(0.0, self._paused_until - self._clock())

    def rate(self) -> float:
        """Units a second that were lately sent; looks back so little that an idle pod is soon known as idle."""
        return self._window.used(self._clock(), _RATE_SPAN_S) / _RATE_SPAN_S

    def set_share(self, share: int) -> None:
        """Apply a table: lowering holds from this moment."""
        self._window.share = share
        self._wake()

    def renewed(self, valid_until: float) -> None:
        """Note until when the lease is good."""
        self._valid_until = max(self._valid_until, valid_until)
        self._wake()

    def give_up(self) -> None:
        """Send nothing more: the lease is handed back."""
        self._valid_until = float("-inf")
        self._window.share = 0

    def pause(self, seconds: float) -> None:
        """Obey a provider's Retry-After: no send begins before it is over."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def acquire(self, cost: int) -> Permit:
        """Wait for a permit, first come first served."""
        async with self._turn:
            self.waiting_cost = cost
            try:
                while True:
                    now = self._clock()
                    wait = self._wait_s(now, cost)
                    if wait == 0.0:
                        return self._window.take(now, cost)
                    await self._pause_or_change(wait)
            finally:
                self.waiting_cost = 0

    def _wait_s(self, now: float, cost: int) -> float | None:
        if now >= self._valid_until:
            return None
        if now < self._paused_until:
            return self._paused_until - now
        return self._window.wait_s(now, cost)

    async def _pause_or_change(self, wait: float | None) -> None:
        if wait is not None:
            await asyncio.sleep(min(wait, _LOOK_AGAIN_S))
            return
        self._changed.clear()
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._changed.wait()
        except TimeoutError:
            return

    def is_good(self, permit: Permit) -> bool:
        """Whether a permit may be used now: it is ours, the share was not lowered, the lease holds, no pause began."""
        now = self._clock()
        usable = not permit.closed and not permit.retired
        return usable and self._paused_until <= now < self._valid_until

    def wrote(self, permit: Permit) -> None:
        """Note the time after a permit's bytes were written."""
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


class PermitGate:
    """The gate of one attempt: passes while the permit is good, takes a new one when it is not, gives up in time.

    `give_up_at` (monotonic) bounds how long the attempt's marker may stand before the bytes leave, so that whoever
    finds the marker knows when to stop waiting; `deadline` is Unix seconds.
    """

    def __init__(
        self,
        pacer: Pacer,
        permit: Permit,
        give_up_at: float,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
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
        """Pass, or raise GateClosed; nothing stands between the last look and the write."""
        while True:
            if not self._pacer.is_good(self._permit):
                await self._take_another()
            elif (early := self._permit.ready_at - self._clock()) > 0:
                await asyncio.sleep(early)
            else:
                break
        if self._clock() >= self._give_up_at or self._wall_clock() >= self._deadline:
            raise GateClosed
        self.passed = True

    async def _take_another(self) -> None:
        cost = self._permit.cost
        self._pacer.give_back(self._permit)
        try:
            async with asyncio.timeout(max(0.0, self._give_up_at - self._clock())):
                self._permit = await self._pacer.acquire(cost)
        except TimeoutError:
            raise GateClosed from None

    def wrote(self) -> None:
        """Note that the bytes have left."""
        self._pacer.wrote(self._permit)

    def close(self) -> None:
        """End the attempt: an unused permit goes back, and one whose write was never noted counts from now."""
        if self.passed:
            self._pacer.wrote(self._permit)
        else:
            self._pacer.give_back(self._permit)
