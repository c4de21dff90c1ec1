"""Sees that accepted and due messages flow into the work queue, also after a server has died.

The server that leads the work queue draws from the other streams by itself. When it or the other stream's leader dies,
taking that up again may cost it 20 seconds and more (seen: 45). A new leader takes it up at once, and so one is asked
for. Where there is only one server nobody else could lead, and nothing is done.
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
    """Judges by what the server says of the queue's sources; monotonic seconds come in as `now`.

    A source that lives is heard of every second. `silent_s` is how long one may be silent, `patience_s` how long that
    must go on under one and the same leader before it is asked to step down, and before it is asked again.
    """

    silent_s: float = 2.5
    patience_s: float = 2.0
    _leader: str = ""
    _since: float | None = None

    def stalled(self, queue: Mapping[str, Any], now: float) -> list[str]:
        """Name the sources that must be taken up anew by another leader; none while there is hope."""
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
        """Whether nothing was heard for too long; a negative time means that nothing was heard at all."""
        active_s = source.get("active", 0) / topo.NANOS
        return not 0 <= active_s <= self.silent_s


class SourceWatch:
    """Asks for another leader of the work queue when its sources have dried up."""

    def __init__(self, connection: Connection, health: SourceHealth | None = None) -> None:
        self._connection = connection
        self._health = health or SourceHealth()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.look()
            except (StreamDown, ApiError) as exc:
                _log.debug("the queue's sources could not be looked at", error=str(exc))

    async def look(self) -> bool:
        """Look once; True when another leader was asked for. Raises StreamDown, ApiError."""
        queue = await self._connection.api(f"STREAM.INFO.{topo.SEND}")
        dry = self._health.stalled(queue, time.monotonic())
        for source in dry:
            # Without a leader of its own a source cannot be drawn from by anyone.
            if not (await self._connection.api(f"STREAM.INFO.{source}"))["cluster"].get("leader"):
                return False
        if dry:
            _log.warning("the work queue is not fed: asking for another leader", sources=dry)
            await self._connection.api(f"STREAM.LEADER.STEPDOWN.{topo.SEND}", timeout_s=_ASK_S)
        return bool(dry)
