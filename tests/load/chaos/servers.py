"""What faults need to know and to do about the servers: who leads, a stream that is full, a process with children."""

import asyncio
import contextlib
import os
import pathlib
import signal
from collections.abc import Mapping

import structlog

from messaging.errors import Unavailable
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from messaging.stream.interface import ApiError

_log = structlog.get_logger(__name__)


async def leader_of_queue(url: str) -> str:
    """Return the leader of the work queue, once there is one."""
    async with open_connection(url, "chaos") as connection:
        while True:
            with contextlib.suppress(Unavailable, ApiError):
                info = await connection.api(f"STREAM.INFO.{topo.SEND}")
                if leader := info.get("cluster", {}).get("leader"):
                    return str(leader)
            await asyncio.sleep(0.2)


async def fill_stream(url: str, lasts_s: float) -> None:
    """Make the stream of accepted messages refuse new ones, as when its disk is full."""
    try:
        async with open_connection(url, "chaos") as connection:
            info = await connection.api(f"STREAM.INFO.{topo.ACCEPT}")
            full = {**info["config"], "max_bytes": max(1, int(info["state"]["bytes"]))}
            await connection.api(f"STREAM.UPDATE.{topo.ACCEPT}", full)
            await asyncio.sleep(lasts_s)
            await _empty(url, info["config"])
    except (Unavailable, ApiError) as exc:
        _log.warning("not filled", error=str(exc))


async def _empty(url: str, config: Mapping[str, object]) -> None:
    while True:
        try:
            async with open_connection(url, "chaos") as connection:
                await connection.api(f"STREAM.UPDATE.{topo.ACCEPT}", config)
                return
        except (Unavailable, ApiError):
            await asyncio.sleep(0.5)


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Signal a server and its child processes, as PostgreSQL has several."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (pid, *map(int, children)):
        os.kill(one, number)
