"""Messages that the sweeper cannot end: they do not block the others, and no event is made up for them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.sweeper import BATCH, Sweeper
from messaging import codec
from messaging.model import Address
from messaging.store.reader import HistoryReader, Overdue
from messaging.store.writer import HistoryWriter
from messaging.stream import topology as topo
from messaging.stream.interface import Connection
from tests.integration.dead_letters.letters import last_event
from tests.integration.records import accepted, new_id
from tests.integration.streams import an_address

KEPT_S = 3600.0


class FakeHistory:
    """A history of overdue messages; it has the accepted command of some of them."""

    def __init__(self, ids: Sequence[str], commands: Sequence[wire.Command]) -> None:
        start = datetime.now(UTC) - timedelta(hours=1)
        self._late = [
            Overdue("default", one, pb.MESSAGE_STATE_QUEUED, start + timedelta(seconds=n)) for n, one in enumerate(ids)
        ]
        self._commands = {command.message_id: command for command in commands}

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        rest = self._late if after is None else self._late[self._late.index(after) + 1 :]
        return [one for one in rest if one.deadline < before][:limit]

    async def commands(self, wanted: Sequence[Overdue]) -> dict[str, wire.Command]:
        found = {one.message_id: self._commands.get(one.message_id) for one in wanted}
        return {key: command for key, command in found.items() if command is not None}


def overdue_command(late_s: float = 60.0) -> tuple[Address, wire.Command]:
    address = an_address()
    deadline = codec.timestamp(time.time() - late_s)
    command = wire.Command(message_id=address.message_id, client="default", provider="p1", deadline=deadline)
    return address, command


async def test_messages_that_cannot_be_ended_do_not_block_the_others(connection: Connection) -> None:
    address, command = overdue_command()
    stuck = [an_address().message_id for _ in range(2 * BATCH + 50)]
    sweeper = Sweeper(connection, FakeHistory([*stuck, address.message_id], [command]), "test", KEPT_S)
    assert [await sweeper.sweep(time.time()) for _ in range(3)] == [0, 0, 1]
    assert (await last_event(connection, address))[0].state == pb.MESSAGE_STATE_EXPIRED
    assert [await sweeper.sweep(time.time()) for _ in range(4)] == [0, 0, 0, 0]


async def test_unreadable_event_blocks_only_its_own_message(connection: Connection) -> None:
    (broken, bad), (address, good) = overdue_command(), overdue_command()
    await connection.publish(topo.event_subject(broken), b"\xff")
    history = FakeHistory([broken.message_id, address.message_id], [bad, good])
    assert await Sweeper(connection, history, "test", KEPT_S).sweep(time.time()) == 1
    assert (await last_event(connection, address))[0].state == pb.MESSAGE_STATE_EXPIRED


async def test_message_whose_events_may_be_deleted_does_not_expire(connection: Connection) -> None:
    address, command = overdue_command(late_s=KEPT_S)
    sweeper = Sweeper(connection, FakeHistory([address.message_id], [command]), "test", KEPT_S)
    assert await sweeper.sweep(time.time()) == 0
    assert await connection.last(topo.EVENT, topo.event_subject(address)) is None


async def test_pages_of_overdue_messages_follow_each_other(engine: AsyncEngine) -> None:
    ids = [new_id() for _ in range(5)]
    await HistoryWriter(engine).write([accepted(one) for one in ids])
    reader, later = HistoryReader(engine), datetime.now(UTC) + timedelta(days=3650)
    found: list[str] = []
    page = await reader.overdue(later, 2)
    while page:
        found += [one.message_id for one in page]
        page = await reader.overdue(later, 2, page[-1])
    assert sorted(found) == sorted(ids)
    assert len(found) == 5
