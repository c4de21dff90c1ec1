"""Thousands of deadlines at one moment: every state is final two seconds later."""

import asyncio
import time

from sms.dispatch.v1 import dispatch_pb2 as wire
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.sweeper import Sweeper
from messaging import codec
from messaging.store.reader import HistoryReader
from messaging.store.writer import HistoryWriter, Projected
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from tests.integration.streams import an_address

MANY, LATEST_S = 2000, 2.0


async def count(connection: Connection, stream: str) -> int:
    return int((await connection.api(f"STREAM.INFO.{stream}"))["state"]["messages"])


async def test_two_thousand_messages_with_one_deadline_are_final_in_time(
    engine: AsyncEngine, connection: Connection
) -> None:
    deadline = time.time() + 3.0
    batch = []
    for number in range(MANY):
        address = an_address()
        command = wire.Command(message_id=address.message_id, client="default", provider="p1", segments=1)
        command.accept_time.CopyFrom(codec.timestamp(deadline - 60))
        command.deadline.CopyFrom(codec.timestamp(deadline))
        batch.append(Projected(number + 1, entry=wire.QueueEntry(command=command)))
    await HistoryWriter(engine).write(batch)
    before = await count(connection, topo.EVENT)
    sweeping = asyncio.create_task(Sweeper(connection, HistoryReader(engine), "test", 3600.0).run())
    await asyncio.sleep(max(0.0, deadline + LATEST_S - time.time()))
    assert await count(connection, topo.EVENT) - before == MANY
    sweeping.cancel()
