"""A running system among records that no version wrote, on the real server: nothing ends, good messages are sent."""

import asyncio
import json
import pathlib
import socket
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest

from messaging.documents import BreakerState, Mode
from messaging.errors import CorruptRecord
from messaging.model import Address
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import NatsConnection, open_connection
from ops.dead_letters import DeadLetters
from ops.embedded import NatsServer
from ops.system import System
from tests.hostile_records import DOCUMENTS, STRANGE_HEADERS, a_command, an_address, hostile_records, keys
from tests.integration.control import Smsctl

_IN_FLIGHT = 32
_PATIENCE_S = 90.0
_MOST_LINES = 4000
"""A few for each of about 700 hostile records."""


async def publish_everything(connection: NatsConnection) -> list[Address]:
    """Publish every hostile record and document; return the addresses that were in queues."""
    slots, queued = asyncio.Semaphore(_IN_FLIGHT), list[Address]()

    async def publish(subject: str, data: bytes) -> None:
        async with slots:
            await connection.publish(subject, data)

    work = []
    for one in hostile_records(time.time()):
        work.append(publish(one.subject, one.data))
        if one.address is not None and one.place.startswith("send"):
            queued.append(one.address)
    for bucket, names in keys().items():
        work += [publish(f"$KV.{bucket}.{name}", data) for name in names for data in DOCUMENTS.values()]
    await asyncio.gather(*work)
    return queued


def publish_raw(url: str, subject: str, headers: bytes, data: bytes) -> None:
    """Publish a block of header bytes that no library would send."""
    parts = urlsplit(url)
    login = {"user": parts.username, "pass": parts.password, "headers": True, "verbose": False, "no_responders": True}
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as peer:
        peer.sendall(f"CONNECT {json.dumps(login)}\r\n".encode())
        peer.sendall(f"HPUB {subject} {len(headers)} {len(headers) + len(data)}\r\n".encode() + headers + data)
        peer.sendall(b"\r\nPING\r\n")
        answer = b""
        while b"PONG" not in answer:
            answer += peer.recv(4096)


def publish_strange_headers(url: str) -> None:
    for headers in STRANGE_HEADERS.values():
        for key in ("breaker.p1", "pause.p2"):
            publish_raw(url, f"$KV.{topo.BREAKERS_BUCKET}.{key}", headers, b"{}")
        publish_raw(url, f"$KV.{topo.LIMITS_BUCKET}.lease.stranger", headers, b"{")
        for subject_of in (topo.event_subject, topo.later_subject):
            publish_raw(url, subject_of(an_address(time.time())), headers, b"{")
        address = an_address(time.time())
        entry = a_command(address, time.time())
        publish_raw(url, topo.send_subject("p1", "normal", address), headers, entry.SerializeToString())


async def nothing_waits(connection: NatsConnection) -> None:
    """Wait until every consumer has finished."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        waiting = {}
        for stream in (topo.ACCEPT, topo.SEND, topo.EVENT):
            for one in (await connection.api(f"CONSUMER.LIST.{stream}", {"offset": 0}))["consumers"]:
                if left := one.get("num_pending", 0) + one.get("num_ack_pending", 0):
                    waiting[one["name"]] = left
        if not waiting:
            return
        assert time.monotonic() < end, waiting
        await asyncio.sleep(0.3)


def complaints(system: System) -> Counter[str]:
    """Count the warnings and errors of all processes, without their time; every line has to be JSON."""
    found: Counter[str] = Counter()
    for path in pathlib.Path(system.folder, "log").glob("*.log"):
        for text in path.read_text().splitlines() if path.stem != "simulator" else ():
            line = json.loads(text)
            if line["level"] in {"warning", "error"}:
                found[json.dumps({**line, "timestamp": ""}, sort_keys=True)] += 1
    return found


async def test_garbage_under_every_subject_and_key_stops_nothing(system: System, smsctl: Smsctl) -> None:
    url = system.environment["SMSGW_NATS_URL"]
    pids = {name: child.pid for name, child in system.processes.items()}
    async with open_connection(url, "attacker", timeout_s=10) as connection:
        queued = await publish_everything(connection)
        await asyncio.to_thread(publish_strange_headers, url)
        await nothing_waits(connection)
        for arguments in (["--priority", "otp"], ["--priority", "bulk"], ["--at", "+2"]):
            told = await asyncio.to_thread(smsctl, "send", "+233201234567", "Hello", *arguments, "--wait", "--json")
            assert told.exit_code == 0, told.output
            assert "SENT" in told.stdout
        letters = [letter async for letter in DeadLetters(connection).walk()]
        unreadable = {letter.address for letter in letters if letter.content.unreadable}
        assert len(unreadable & set(queued)) > len(queued) / 2
        assert all(letter.content.last.detail for letter in letters if letter.address in unreadable & set(queued))
    assert system.dead() == []
    assert {name: child.pid for name, child in system.processes.items()} == pids
    assert sum(complaints(system).values()) < _MOST_LINES
    for arguments in (
        *(["lanes"], ["lanes", "--json"], ["topology"], ["breaker", "show"], ["list"], ["list", "--json"]),
        *(["dlq", "list"], ["dlq", "list", "--json"], ["dlq", "list", "--grouped"]),
        *(["dlq", "show", queued[0].message_id], ["explain", queued[0].message_id]),
    ):
        told = await asyncio.to_thread(smsctl, *arguments)
        assert told.exit_code in {0, 1}, (arguments, told.output)
        assert told.exception is None or isinstance(told.exception, SystemExit), (arguments, told.exc_info)
        assert "Traceback" not in told.output


async def test_nothing_is_said_again_about_the_same_garbage(system: System) -> None:
    before = complaints(system)
    async with open_connection(system.environment["SMSGW_NATS_URL"], "x") as connection:
        for _ in range(12):  # as many reads of every bucket and of the history as six seconds bring
            await connection.publish(f"$KV.{topo.BREAKERS_BUCKET}.hint", b"{}")
            await asyncio.sleep(0.5)
    again = complaints(system) - before
    assert not [line for line in again if line in before]


async def test_a_record_that_the_server_can_never_take_is_said_to_be_one(system: System) -> None:
    async with open_connection(system.environment["SMSGW_NATS_URL"], "x") as connection:
        for subject, data in (("sms.dlq.p1.x.y", b"x" * 2_000_000), ("sms.dlq.p1 x.y", b"x")):
            with pytest.raises(CorruptRecord):
                await connection.publish(subject, data)
        schedule = {topo.H_SCHEDULE: "@at never", topo.H_SCHEDULE_TARGET: "sms.due.p1.normal.x"}
        with pytest.raises(CorruptRecord):
            await connection.publish("sms.later.x", b"x", schedule)


@pytest.mark.parametrize("headers", STRANGE_HEADERS.values(), ids=STRANGE_HEADERS.keys())
async def test_strange_headers_of_one_document_do_not_hide_the_others(server: NatsServer, headers: bytes) -> None:
    async with open_connection(server.url, "x") as connection:
        board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
        await asyncio.to_thread(publish_raw, server.url, f"$KV.{topo.BREAKERS_BUCKET}.breaker.b", headers, b"{}")
        revision, _ = await board.breaker("c")
        assert await board.set_breaker("c", BreakerState(Mode.OPEN), revision)
        async with asyncio.timeout(5):
            found = await board.breakers()
        assert found["c"].mode is Mode.OPEN


@pytest.mark.parametrize("headers", STRANGE_HEADERS.values(), ids=STRANGE_HEADERS.keys())
async def test_message_with_strange_headers_is_delivered_once(server: NatsServer, headers: bytes) -> None:
    address = an_address(time.time())
    async with open_connection(server.url, "x") as connection:
        consumer = await connection.consumer(topo.SEND, topo.dispatch_consumer("p2", "bulk"))
        subject = topo.send_subject("p2", "bulk", address)
        await asyncio.to_thread(publish_raw, server.url, subject, headers, b"whole")
        [delivery] = await consumer.fetch(5, 5.0)
        assert (delivery.subject, delivery.data, delivery.delivered) == (subject, b"whole", 1)
        assert await delivery.ack()
        assert (await connection.last(topo.SEND, subject)) is None
