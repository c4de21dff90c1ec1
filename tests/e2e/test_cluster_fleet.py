"""The whole system on three servers under load: one is killed, then each is restarted."""

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rig import BULK, NORMAL, Rig, running

from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from ops.embedded import NatsCluster, NatsServer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(open_folder: pathlib.Path) -> AsyncIterator[Rig]:
    folder = open_folder / "cluster-fleet"
    async with running(folder, nats_servers=3, dispatchers_each=2) as rig:
        yield rig


async def leader_of(cluster: NatsCluster, stream: str) -> NatsServer:
    async with open_connection(cluster.url, "test", timeout_s=10) as connection:
        info = await connection.api(f"STREAM.INFO.{stream}")
        return cluster.named(info["cluster"]["leader"])


@pytest.mark.timeout(240)
async def test_killed_and_restarted_servers_lose_and_duplicate_nothing_and_the_limits_hold(rig: Rig) -> None:
    cluster = rig.system.nats
    assert isinstance(cluster, NatsCluster)
    ids = set(await rig.send_until_accepted(rig.load(700, priority=BULK), at_once=100))
    await rig.until_received(150, ids, 30)
    sending = asyncio.create_task(rig.send_until_accepted(rig.load(900, priority=NORMAL), at_once=2))
    victim = await leader_of(cluster, topo.SEND)
    await asyncio.to_thread(victim.kill)
    await asyncio.sleep(3)
    await asyncio.to_thread(victim.start)
    await asyncio.to_thread(cluster.wait_until_current)
    for server in cluster.servers:
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(cluster.wait_until_current)
    ids |= set(await sending)
    assert len(ids) == 1600
    await rig.all_settle(ids, 90)
    assert rig.system.dead() == [], "no process has ended"
