"""The stream on three servers: replicas, conditions, reads, and a leader that dies."""

import asyncio
import pathlib
import time
from collections import Counter
from collections.abc import AsyncIterator

import attrs
import pytest
import pytest_asyncio
from sms.dispatch.v1 import dispatch_pb2 as wire

from dispatcher.duties.source_watch import SourceWatch
from messaging.errors import StreamDown
from messaging.model import Address, Lane, parse_address
from messaging.runtime.config import FleetSettings, ServerSettings, Settings
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection
from messaging.stream.interface import Connection, Consumer
from messaging.stream.publisher import Accepted, AlreadyAccepted, Publisher
from ops.embedded import NatsCluster, NatsServer
from tests.integration.streams import PROVIDERS, an_address
from tests.machine import Machine

# What a dying server was delivering to a pod is redelivered after `ack_wait`.
SETTINGS = Settings(servers=ServerSettings(replicas=3), fleet=FleetSettings(ack_wait_s=5))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsCluster]:
    one = NatsCluster(tmp_path_factory.mktemp("cluster"))
    one.start()
    async with open_connection(one.url, "test") as connection:
        await setup.ensure(connection, SETTINGS, PROVIDERS)
    yield one
    one.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def connections(cluster: NatsCluster) -> AsyncIterator[list[Connection]]:
    """One client at each server."""
    one, two, three = cluster.servers
    async with (
        open_connection(one.url, "one") as first,
        open_connection(two.url, "two") as second,
        open_connection(three.url, "three") as third,
    ):
        yield [first, second, third]


async def accept(
    connection: Connection, address: Address, lane: str = Lane.BULK, *, budget_s: float = 8.0
) -> Accepted | AlreadyAccepted:
    command = wire.Command(message_id=address.message_id, client="default", body="Hello", provider="p1")
    entry = wire.QueueEntry(command=command)
    return await Publisher(connection).accept(entry, address, lane, ttl_s=None, budget_s=budget_s)


async def leader_of(connection: Connection, stream: str) -> str:
    """Return the name of the server that leads a stream, once there is one."""
    end = time.monotonic() + 40
    while True:
        try:
            if leader := (await connection.api(f"STREAM.INFO.{stream}")).get("cluster", {}).get("leader"):
                return str(leader)
        except StreamDown:
            assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_restarted_cluster_has_the_same_names_and_messages(tmp_path: pathlib.Path) -> None:
    first = NatsCluster(tmp_path)
    first.start()
    first.start()
    names = [server.name for server in first.servers]
    async with open_connection(first.url, "x") as c:
        await setup.ensure(c, SETTINGS, PROVIDERS)
        address = an_address()
        await accept(c, address)
    first.kill()
    first.kill()
    again = NatsCluster(tmp_path)
    again.start()
    assert [server.name for server in again.servers] == names
    async with open_connection(again.url, "x") as c:
        assert await leader_of(c, topo.ACCEPT) in names
        assert await c.last(topo.ACCEPT, topo.accept_filter(address)) is not None
        assert isinstance(await accept(c, address), Accepted), "its own message, found again"
    again.stop()
    again.stop()


async def test_every_stream_consumer_and_bucket_has_three_replicas(connections: list[Connection]) -> None:
    c = connections[0]
    wanted = topo.streams(SETTINGS, PROVIDERS)
    assert len(wanted) == 7
    for stream in wanted:
        info = await c.api(f"STREAM.INFO.{stream.name}")
        assert (info["config"]["num_replicas"], len(info["cluster"].get("replicas", ()))) == (3, 2), stream.name
        for durable in stream.consumers:
            info = await c.api(f"CONSUMER.INFO.{stream.name}.{durable}")
            assert len(info["cluster"].get("replicas", ())) == 2, durable
    assert {one.state for one in await setup.ensure(c, SETTINGS, PROVIDERS)} == {"as wanted"}


async def test_same_request_at_three_servers_becomes_one_message(connections: list[Connection]) -> None:
    for n in range(60):
        base = an_address(f"race-{n}")
        addresses = [attrs.evolve(base, time=f"{int(base.time, 16) + i:012x}") for i in range(3)]
        answers = await asyncio.gather(*map(accept, connections, addresses))
        assert sorted(type(answer).__name__ for answer in answers) == ["Accepted", "AlreadyAccepted", "AlreadyAccepted"]
        [winner] = [address for address, answer in zip(addresses, answers, strict=True) if isinstance(answer, Accepted)]
        assert {parse_address(answer.record.subject) for answer in answers if isinstance(answer, AlreadyAccepted)} == {
            winner
        }


async def test_one_of_three_writers_of_the_next_event_wins(connections: list[Connection]) -> None:
    for _ in range(40):
        address = an_address()
        events = [wire.Event(message_id=address.message_id, pod=pod) for pod in "abc"]
        writing = (Publisher(c).append_event(address, event, 0) for c, event in zip(connections, events, strict=True))
        assert sum(answer is not None for answer in await asyncio.gather(*writing)) == 1


async def test_write_is_visible_at_once_at_every_server(connections: list[Connection]) -> None:
    """A replica that has not yet applied a write would answer with the previous one."""
    slots, stale = asyncio.Semaphore(3), Counter[str]()

    async def write_and_read(n: int) -> None:
        writer, address, key = connections[n % 3], an_address(), f"t.{n}"
        async with slots:
            sequence = 0
            for _ in range(3):
                event = wire.Event(message_id=address.message_id)
                sequence = await Publisher(writer).append_event(address, event, sequence) or 0
                subject = topo.event_subject(address)
                found = await asyncio.gather(*(one.last(topo.EVENT, subject) for one in connections))
                stale["event"] += sum(record is None or record.sequence != sequence for record in found)
                revision = await Bucket(writer, topo.LIMITS_BUCKET).put(key, {"n": n})
                there = await asyncio.gather(*(Bucket(one, topo.LIMITS_BUCKET).get(key) for one in connections))
                stale["bucket"] += sum(last != revision for last, _ in there)
            await Bucket(writer, topo.LIMITS_BUCKET).delete(key)

    await asyncio.gather(*map(write_and_read, range(300)))
    assert stale.total() == 0, stale


async def test_process_that_starts_while_a_stream_has_no_leader_waits_for_one(
    cluster: NatsCluster, connections: list[Connection]
) -> None:
    victim = cluster.named(await leader_of(connections[0], topo.ACCEPT))
    witness = next(c for c, server in zip(connections, cluster.servers, strict=True) if server is not victim)
    await asyncio.to_thread(victim.kill)
    try:
        found = await setup.ensure(witness, SETTINGS, PROVIDERS, patience_s=setup.LEADERLESS_S)
        assert {one.state for one in found} == {"as wanted"}
    finally:
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(cluster.wait_until_current)


async def crash(server: NatsServer, after_s: float, for_s: float) -> None:
    await asyncio.sleep(after_s)
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(for_s)
    await asyncio.to_thread(server.start)


class Drawing:
    """Draws a lane at every server until every message was delivered; counts the queue entries of each."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._drawn: set[int] = set()
        self.entries: Counter[Address] = Counter()
        self.longest_pause_s = 0.0
        self._last = time.monotonic()

    async def draw(self, consumer: Consumer) -> None:
        while len(self.entries) < self._expected:
            deliveries = await consumer.fetch(50, 1)
            for one in deliveries:
                address = parse_address(one.subject)
                assert address is not None
                if one.sequence not in self._drawn:
                    self._drawn.add(one.sequence)
                    self.entries[address] += 1
                    self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - self._last)
                    self._last = time.monotonic()
            await asyncio.gather(*(one.ack() for one in deliveries))


@pytest.mark.parametrize(("victim", "lane"), [(topo.ACCEPT, Lane.OTP), (topo.SEND, Lane.NORMAL)])
async def test_killed_leader_under_load_loses_and_duplicates_no_accepted_message(
    cluster: NatsCluster, connections: list[Connection], victim: str, lane: Lane, machine: Machine
) -> None:
    server = cluster.named(await leader_of(connections[0], victim))
    addresses = [an_address() for _ in range(1500)]
    durable = topo.dispatch_consumer("p1", lane)
    consumers = [await c.consumer(topo.SEND, durable) for c in connections]
    drawing, slots = Drawing(len(addresses)), asyncio.Semaphore(24)

    async def accept_slowly(connection: Connection, address: Address) -> None:
        async with slots:
            await asyncio.sleep(0.06)
            assert isinstance(await accept(connection, address, lane, budget_s=40), Accepted)

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        feeding = group.create_task(SourceWatch(connections[0]).run())
        group.create_task(crash(server, after_s=1.0, for_s=4.0))
        drawn = [group.create_task(drawing.draw(consumer)) for consumer in consumers]
        for number, address in enumerate(addresses):
            group.create_task(accept_slowly(connections[number % 3], address))
        await asyncio.gather(*drawn)
        feeding.cancel()
    await asyncio.to_thread(cluster.wait_until_current)
    for address in addresses[::25]:
        assert await connections[0].last(topo.ACCEPT, topo.accept_filter(address)) is not None
    assert await asyncio.gather(*(consumer.fetch(5, 1) for consumer in consumers)) == [[], [], []]
    assert drawing.entries == Counter(addresses), "each reached the queue as one entry"
    machine.reaches(drawing.longest_pause_s, below=15)  # without help the servers take 20 s or more
