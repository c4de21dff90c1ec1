"""Every field of a command survives the store, the sweeper, the dead letter and the replay."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.projector import Projector
from dispatcher.duties.sweeper import Sweeper
from messaging import codec
from messaging.model import Lane
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.reader import HistoryReader
from messaging.store.writer import HistoryWriter
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from ops.dead_letters import DeadLetters, Ready, Wish
from tests.descriptors import filled
from tests.integration.dead_letters.letters import queued
from tests.integration.streams import an_address

KEPT_S = 3600.0


async def stored(engine: AsyncEngine, message_id: str) -> wire.Command:
    reader = HistoryReader(engine)
    while (command := await reader.command("default", message_id)) is None:
        await asyncio.sleep(0.02)
    return command


async def test_every_field_of_a_command_survives_store_sweep_dead_letter_and_replay(
    connection: Connection, engine: AsyncEngine
) -> None:
    address, now = an_address(), time.time()
    command = filled(wire.Command)
    command.message_id, command.client, command.provider = address.message_id, "default", "p1"
    command.ClearField("providers")  # the caller's list would forbid this provider
    command.providers.append("p1")
    for name, at in {"accept_time": now - 120, "schedule_time": now - 120, "deadline": now - 60}.items():
        codec.set_timestamp(getattr(command, name), at)
    entry = wire.QueueEntry(command=command)
    await Publisher(connection).accept(entry, address, Lane.BULK, ttl_s=None, budget_s=5)

    # Otherwise the projector creates them later, and the sweep may meet a row while it moves to its partition.
    await HistoryWriter(engine).ensure_partitions(datetime.now(UTC))
    projector = Projector(connection, HistoryWriter(engine), Tracer(None, ChosenIds(), 0.0), 20.0)
    projecting = asyncio.create_task(projector.run())
    async with asyncio.timeout(20):
        assert await stored(engine, address.message_id) == command
        overdue = await HistoryReader(engine).overdue(datetime.now(UTC), 10)
        assert address.message_id in [one.message_id for one in overdue]
        assert await Sweeper(connection, HistoryReader(engine), "sweeper", KEPT_S).sweep(now) == 1
    projecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await projecting

    letters = DeadLetters(connection, ["p1", "p2"])
    letter = await letters.find("default", address.message_id)
    assert letter is not None
    assert letter.content.command == command
    assert letter.content.last.state == pb.MESSAGE_STATE_EXPIRED
    assert isinstance(await letters.replay(letter, Wish(ttl_s=600), now=now), Ready)
    found = await queued(connection, address)
    assert found is not None
    replayed = found[1].command
    assert codec.unix(replayed.deadline) > now
    replayed.deadline.CopyFrom(command.deadline)  # a replay gives it a new one
    assert replayed == command
