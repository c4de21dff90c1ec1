"""Watches that accepted and due messages reach the work queue, and asks for another leader of the queue when not.

The server that leads the work queue copies from its sources, the other streams. When that server or the leader of a
source has died, resuming may take it 20 seconds or more (45 were seen). A new leader resumes at once. With a single
server there is no other leader, and nothing is done.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import attrs
import structlog

from messaging.errors import StreamDown
from messaging.stream import topology as topo
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

_EVERY_S = 0.5
_ASK_S = 5.0


@attrs.define
class SourceHealth:
    """Finds stalled sources in the queue's stream info; monotonic seconds come in as `now`.

    A live source is active every second. `silent_s` is how long a source may be silent. `patience_s` is how long that
    must last under the same leader before it is asked to step down, and before it is asked again.
    """

    silent_s: float = 2.5
    patience_s: float = 2.0
    _leader: str = ""
    _since: float | None = None

    def stalled(self, queue: Mapping[str, Any], now: float) -> list[str]:
        """List the sources for which another leader is needed now; empty while the present leader may still resume."""
        cluster = queue.get("cluster") or {}
        if not cluster.get("replicas") or not cluster.get("leader"):
            self._since = None
            return []
        silent = [source["name"] for source in queue.get("sources") or () if self._silent(source)]
        if not silent or cluster["leader"] != self._leader:
            self._since = None
        self._leader = cluster["leader"]
        if silent and self._since is None:
            self._since = now
        if self._since is None or now < self._since + self.patience_s:
            return []
        self._since = now
        return silent

    def _silent(self, source: Mapping[str, Any]) -> bool:
        """Whether a source was inactive for too long; a negative time means that it was never active."""
        active_s = source.get("active", 0) / topo.NANOS
        return not 0 <= active_s <= self.silent_s


class SourceWatch:
    """Asks for another leader of the work queue when its sources have stalled."""

    def __init__(self, connection: Connection, health: SourceHealth | None = None) -> None:
        self._connection = connection
        self._health = health or SourceHealth()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.check()
            except (StreamDown, ApiError) as exc:
                _log.debug("the queue's sources could not be checked", error=str(exc))

    async def check(self) -> bool:
        """Check once; True when another leader was asked for. Raises StreamDown, ApiError."""
        queue = await self._connection.api(f"STREAM.INFO.{topo.SEND}")
        stalled = self._health.stalled(queue, time.monotonic())
        for source in stalled:
            # No server can copy from a source that has no leader itself.
            if not (await self._connection.api(f"STREAM.INFO.{source}"))["cluster"].get("leader"):
                return False
        if stalled:
            _log.warning("the work queue is not fed: asking for another leader", sources=stalled)
            await self._connection.api(f"STREAM.LEADER.STEPDOWN.{topo.SEND}", timeout_s=_ASK_S)
        return bool(stalled)
