"""Pods and duties on the in-memory stream, among records that no version wrote: everything goes on."""

import asyncio
import time
import traceback
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from google.protobuf.unknown_fields import UnknownFieldSet
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.duties.projector import Projector
from dispatcher.duties.sweeper import Sweeper
from dispatcher.rate.allocator import Timing
from dispatcher.rate.coordinator import Coordinator
from messaging import codec
from messaging.model import lane_of
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.reader import Overdue
from messaging.store.rows import to_rows
from messaging.store.statuses import command_or_name
from messaging.stream import topology as topo
from messaging.stream.board import LimitsBoard
from messaging.stream.buckets import Bucket
from messaging.stream.fleet import FleetView
from tests.hostile_records import (
    DOCUMENTS,
    FOURTH_PRIORITY,
    FUTURE_FIELD,
    FUTURE_NUMBER,
    Hostile,
    a_command,
    an_address,
    hostile_records,
    keys,
)
from tests.unit.fake_provider import Reply
from tests.unit.processes import Process
from tests.unit.small_fleet import ACK_WAIT_S, SmallFleet
from tests.unit.virtual_time import in_virtual_time

PROCESSED = {"fourth priority", "priority -2^31", "newer fields", "trace with a line break"}
"""They are messages that can be sent, under a subject of a queue."""


class RowStore:
    """A store that refuses what the real one would refuse before it asks PostgreSQL."""

    async def write(self, batch: Any) -> None:
        to_rows(batch)

    async def ensure_partitions(self, now: Any, weeks_ahead: int = 5) -> None: ...


def everything(fleet: SmallFleet) -> Process:
    """Start what the small fleet leaves out: a coordinator, a projector and a gateway's view."""
    process = Process(fleet.stream)
    board = LimitsBoard(Bucket(process.connection, topo.LIMITS_BUCKET))
    process.start(Coordinator(board, "c", 200, {"p1": 50, "p2": 50}, Timing()).run())
    process.start(Projector(process.connection, RowStore(), Tracer(None, ChosenIds(), 0.0), ACK_WAIT_S).run())
    process.start(FleetView(process.connection, [Provider("p1", "simulated", "http://x")], 30.0).run())
    fleet.processes.append(process)
    return process


async def publish_all(fleet: SmallFleet) -> list[Hostile]:
    """Publish every hostile record and document."""
    records = list(hostile_records(time.time()))
    for one in records:
        await fleet.caller.connection.publish(one.subject, one.data)
    for bucket, names in keys().items():
        for name in names:
            for data in DOCUMENTS.values():
                await fleet.caller.connection.publish(f"$KV.{bucket}.{name}", data)
    return records


def failures(fleet: SmallFleet) -> list[str]:
    """Tell what ended a task of any process."""
    ended = [task for process in fleet.processes for task in process.tasks if task.done() and not task.cancelled()]
    return ["".join(traceback.format_exception(exc)) for task in ended if (exc := task.exception()) is not None]


@pytest.fixture
def lines() -> Any:
    """The log lines of a test."""
    before = structlog.get_config()
    with structlog.testing.capture_logs() as found:
        yield found
    structlog.configure(**before)


@in_virtual_time
async def check_everything_goes_on(lines: list[Any]) -> None:
    fleet = SmallFleet()
    others = everything(fleet)
    duties = fleet.duties()
    for provider in ("p1", "p1", "p2"):
        await fleet.pod(provider)
    records = await publish_all(fleet)
    await asyncio.sleep(30)
    assert not failures(fleet), failures(fleet)[0]
    running = [task for process in (others, duties) for task in process.tasks if not task.done()]
    assert len(running) >= 6
    good = [await fleet.accept("a", priority=priority) for priority in pb.Priority.values()]
    good.append(await fleet.accept("a", due_in_s=20))
    await asyncio.sleep(60)
    assert [fleet.last(one).state for one in good] == [pb.MESSAGE_STATE_SENT] * len(good)
    assert not failures(fleet), failures(fleet)[0]
    _nothing_waits(fleet)
    _bad_ones_lie_in_dead_letters(fleet, records)
    told = len(lines)
    await asyncio.sleep(300)
    assert len(lines) - told < 20, Counter(line["event"] for line in lines[told:])
    await fleet.close()


def test_garbage_under_every_subject_and_key_stops_nothing(lines: list[Any]) -> None:
    check_everything_goes_on(lines)
    corrupt = [line for line in lines if line["log_level"] in {"error", "warning"}]
    repeated = Counter((line["event"], line.get("error", ""), line.get("message_id")) for line in corrupt)
    storms = {line: count for line, count in repeated.items() if count > 200}
    assert not storms


def _nothing_waits(fleet: SmallFleet) -> None:
    """Nothing is redelivered for ever: every consumer has finished."""
    for stream, queues in fleet.stream.queues.items():
        for name, queue in queues.items():
            info = queue.info()
            assert (info["num_pending"], info["num_ack_pending"]) == (0, 0), f"{stream} {name}"


def _bad_ones_lie_in_dead_letters(fleet: SmallFleet, records: list[Hostile]) -> None:
    """What came into a queue under a message's address became a dead letter, if it was not sent."""
    for one in records:
        if one.address is None or one.place.split()[0] not in {"send", "accept", "due"}:
            continue
        sent = fleet.took(one.address) > 0
        if one.content in PROCESSED:
            assert sent, f"{one.place}: {one.content}"
        elif not sent:
            assert fleet.letters(one.address), f"{one.place}: {one.content} is neither sent nor a dead letter"


@pytest.mark.parametrize("priority", [FOURTH_PRIORITY, -1])
@in_virtual_time
async def test_scheduled_message_of_an_unknown_priority_is_sent_as_normal(priority: Any) -> None:
    fleet = SmallFleet()
    fleet.duties()
    await fleet.pod()
    address = await fleet.accept("a", priority=priority, due_in_s=20)
    await asyncio.sleep(1)
    schedule = fleet.stream.log(topo.LATER_STREAM).last(topo.later_subject(address))
    assert schedule is not None
    assert schedule.headers[topo.H_SCHEDULE_TARGET] == topo.due_subject("p1", "normal", address)
    await fleet.until_idle()
    assert fleet.story(address) == ["SENDING", "SENT"]
    await fleet.close()


def test_unknown_priority_has_the_lane_of_normal() -> None:
    assert {lane_of(priority) for priority in (pb.PRIORITY_NORMAL, 4, FOURTH_PRIORITY, -1, 2**31 - 1)} == {"normal"}


@in_virtual_time
async def test_fields_of_a_newer_version_go_with_the_message_from_queue_to_queue() -> None:
    fleet = SmallFleet({"p1": {"a": [Reply.FAILS]}, "p2": {"a": [Reply.FAILS, Reply.FAILS]}})
    fleet.duties()
    await fleet.pod("p1")
    address = an_address(time.time())
    command = a_command(address, time.time())
    command.body = "a"
    command.MergeFromString(FUTURE_FIELD)
    event = wire.Event(
        message_id=address.message_id, client="default", state=pb.MESSAGE_STATE_QUEUED, time=command.accept_time
    )
    event.MergeFromString(FUTURE_FIELD)
    sequence = await fleet.publisher.append_event(address, event, 0)
    entry = wire.QueueEntry(command=command, last=event, last_sequence=sequence or 0)
    entry.MergeFromString(FUTURE_FIELD)
    await fleet.publisher.enqueue(entry, address, "p1", "normal")
    await asyncio.sleep(1)
    moved = fleet.stream.log(topo.SEND).last(topo.send_subject("p2", "normal", address))
    assert moved is not None
    found = codec.decode(wire.QueueEntry, moved.subject, moved.data)
    for record in (found, found.command, found.last, *fleet.events(address)):
        unknown: Any = UnknownFieldSet(record)
        assert [one.field_number for one in unknown] == [FUTURE_NUMBER]
    assert found.last.state == pb.MESSAGE_STATE_QUEUED
    await fleet.close()


@in_virtual_time
async def test_message_whose_event_log_is_garbage_ends_with_a_dead_letter_and_a_state() -> None:
    fleet = SmallFleet()
    fleet.duties()
    address = await fleet.accept("a", ttl_s=40)
    await fleet.caller.connection.publish(topo.event_subject(address), b"{")
    await fleet.pod()
    await asyncio.sleep(30)
    assert fleet.letters(address) == ["unreadable"]
    assert fleet.took(address) == 0
    await asyncio.sleep(240)
    last = fleet.stream.log(topo.EVENT).last(topo.event_subject(address))
    assert last is not None
    event = codec.decode(wire.Event, last.subject, last.data)
    assert (event.state, event.reason) == (pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN")
    await fleet.close()


class StrangeRow:
    """A history with an overdue row whose id is none of ours."""

    def __init__(self) -> None:
        self.message_id = "0190a1b2-c3d4-4123-8abc-0123456789ab"

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        return [Overdue("default", self.message_id, pb.MESSAGE_STATE_ACCEPTED, before - timedelta(seconds=1))]

    async def commands(self, wanted: Any) -> dict[str, wire.Command]:
        deadline = codec.timestamp(time.time() - 1)
        return {self.message_id: wire.Command(message_id=self.message_id, client="default", deadline=deadline)}


@in_virtual_time
async def check_strange_row(lines: list[Any]) -> None:
    fleet = SmallFleet()
    sweeper = Sweeper(fleet.caller.connection, StrangeRow(), "sweeper", 86_400.0)
    for _ in range(5):
        assert await sweeper.sweep(time.time()) == 0
    told = [line for line in lines if line["event"] == "a message cannot be ended"]
    assert len(told) == 1
    await fleet.close()


def test_row_with_a_strange_id_is_told_once(lines: list[Any]) -> None:
    check_strange_row(lines)


def test_row_that_cannot_be_read_still_names_a_message_that_can_end() -> None:
    deadline = datetime(2026, 11, 18, 12, tzinfo=UTC)
    row: Any = SimpleNamespace(message_id="m", client="c", deadline=deadline, command=b"{", command_key=None)
    stamp = codec.timestamp(deadline.timestamp())
    assert command_or_name(row) == wire.Command(message_id="m", client="c", deadline=stamp)
    newer: Any = SimpleNamespace(message_id="m", client="c", deadline=None, command=b"", command_key="key-7")
    assert command_or_name(newer) == wire.Command(message_id="m", client="c")
