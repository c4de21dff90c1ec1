"""What keeps the messages of each provider from being sent now, for the reason of those that expire."""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from messaging.documents import BreakerState, Lease, Mode, Pause
from messaging.errors import Unavailable
from messaging.instants import utc
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard, LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.interface import Connection

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0


def obstacle(provider: str, breakers: Mapping[str, BreakerState], pauses: Mapping[str, Pause], served: bool) -> str:  # noqa: FBT001
    """Say what is in the way of a provider's messages; empty when nothing is. `served`: a pod of it runs."""
    state = breakers.get(provider, BreakerState())
    since = f" since {utc(state.since)}" if state.since else ""
    if state.mode is Mode.OPEN:
        return f"the breaker of {provider} is open{since} ({state.reason or 'no reason given'})"
    if state.mode is Mode.HALF_OPEN:
        opened = f"; it opened{since.replace('since', 'at')}" if since else ""
        return f"the breaker of {provider} is half-open and lets one message through at a time{opened}"
    if (pause := pauses.get(provider)) is not None:
        until = f" until {utc(pause.until)}" if pause.until else ""
        return f"{provider} asked for a pause{until} ({pause.reason or 'no reason given'})"
    return "" if served else f"no pod of {provider} runs"


class Obstacles:
    """The latest known obstacles. They are read beside the sweeper's work, and nothing waits for them."""

    def __init__(self, connection: Connection) -> None:
        self._breakers_board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
        self._limits = LimitsBoard(Bucket(connection, topo.LIMITS_BUCKET))
        self._breakers: Mapping[str, BreakerState] = {}
        self._pauses: Mapping[str, Pause] = {}
        self._leases: Collection[Lease] | None = None

    async def run(self) -> None:
        """Read them regularly until cancelled."""
        while True:
            try:
                await self.read()
            except Unavailable as exc:
                _log.debug("obstacles not read", error=str(exc))
            await asyncio.sleep(_EVERY_S)

    async def read(self) -> None:
        """Read them once; raises StreamDown."""
        self._breakers = await self._breakers_board.breakers()
        self._pauses = await self._breakers_board.pauses()
        self._leases = [lease for _, lease in (await self._limits.leases()).values() if not lease.gone]

    def of(self, provider: str) -> str:
        """Say what is in the way of a provider's messages; empty when nothing is known."""
        served = self._leases is None or any(lease.provider == provider for lease in self._leases)
        return obstacle(provider, self._breakers, self._pauses, served)
