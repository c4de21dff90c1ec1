"""Counts what waits in the work queue, and how full the storage is."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from messaging.documents import Backlog
from messaging.stream import topology as topo
from messaging.stream.interface import Connection

_PAGE = 256
_LIST_AGAIN_S = 30.0


@attrs.define
class BacklogCounter:
    """Counts for the process `by`.

    The consumers are listed only while something waits: an empty queue is seen from its own state, which costs the
    server the same with any number of providers.
    """

    connection: Connection
    by: str = ""
    _listed: tuple[int, float, Backlog] | None = None

    async def count(self) -> Backlog:
        """Count now; raises StreamDown."""
        before, consumers = await self._state()
        listed = self._listed
        if before == 0 and listed and listed[0] == consumers and time.monotonic() < listed[1] + _LIST_AGAIN_S:
            counted = listed[2]
        else:
            counted = await self._list(before)
            now_empty = Backlog(self.by, {name: {} for name in counted.waiting})
            self._listed = (consumers, time.monotonic(), now_empty)
        account = await self.connection.api("INFO")
        return attrs.evolve(
            counted,
            storage_bytes=max(0, int(account.get("storage", 0))),
            storage_fill=_fill(account),
            storage_limited=limited(account),
        )

    async def _list(self, before: int) -> Backlog:
        """List the consumers. The queue is counted before and after, because it grows or shrinks meanwhile."""
        waiting: dict[str, dict[str, tuple[int, int]]] = {}
        for info in await self._consumers():
            provider, _, lane = info["name"].removeprefix("dispatch-").rpartition("-")
            counts = (info.get("num_pending", 0), info.get("num_ack_pending", 0))
            lanes = waiting.setdefault(provider, {})
            if any(counts):
                lanes[lane] = counts
        counted = Backlog(self.by, waiting)
        if before == 0:
            return counted
        after, _ = await self._state()
        return attrs.evolve(counted, uncounted=max(0, min(before, after) - sum(counted.of_each().values())))

    async def _state(self) -> tuple[int, int]:
        """Read the number of messages in the queue, and that of its consumers."""
        state = (await self.connection.api(f"STREAM.INFO.{topo.SEND}"))["state"]
        return int(state["messages"]), int(state.get("consumer_count", 0))

    async def _consumers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = await self.connection.api(f"CONSUMER.LIST.{topo.SEND}", {"offset": len(found)})
            consumers = page.get("consumers") or []
            found += consumers
            if len(consumers) < _PAGE and len(found) >= page.get("total", 0):
                return found


async def names_in_queue(connection: Connection) -> dict[str, int]:
    """Count the messages in the work queue by the provider that their subjects name; reads every subject."""
    found: dict[str, int] = {}
    offset = 0
    while True:
        body = {"subjects_filter": "sms.send.>", "offset": offset}
        info = await connection.api(f"STREAM.INFO.{topo.SEND}", body)
        subjects = info["state"].get("subjects") or {}
        for subject, count in subjects.items():
            name = subject.split(".")[2]
            found[name] = found.get(name, 0) + int(count)
        offset += len(subjects)
        if not subjects or offset >= info.get("total", 0):
            return found


def limited(account: Mapping[str, Any]) -> bool:
    """Whether an account, as the API's INFO describes it, has a storage limit of its own.

    The limit of the whole server (max_file_store) is not shown to clients.
    """
    limit = account.get("limits", {}).get("max_storage", -1)
    return limit > 0 or any(map(limited, (account.get("tiers") or {}).values()))


def _fill(info: Mapping[str, Any]) -> float:
    limit = info.get("limits", {}).get("max_storage", -1)
    tiers = info.get("tiers") or {}
    fills: Iterable[float] = (_fill(tier) for tier in tiers.values())
    own = info.get("storage", 0) / limit if limit and limit > 0 else 0.0
    return float(max([own, *fills]))
