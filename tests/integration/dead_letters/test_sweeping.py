"""What the sweeper does about messages that it cannot end: they bar nobody's way, and nothing is made up of them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncEngine

from dispatcher.duties.sweeper import Sweeper
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


class Ledger:
    """A history of overdue messages; what was accepted is known of some."""

    def __init__(self, ids: Sequence[str], commands: Sequence[wire.Command]) -> None:
        start = datetime.now(UTC) - timedelta(hours=1)
        self._late = [
            Overdue("default", one, pb.MESSAGE_STATE_QUEUED, start + timedelta(seconds=n)) for n, one in enumerate(ids)
        ]
        self._commands = {command.message_id: command for command in commands}

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        rest = self._late if after is None else self._late[self._late.index(after) + 1 :]
        return [one for one in rest if one.deadline < before][:limit]

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        return self._commands.get(message_id)


def overdue_command(late_s: float = 60.0) -> tuple[Address, wire.Command]:
    address = an_address()
    deadline = codec.timestamp(time.time() - late_s)
    command = wire.Command(message_id=address.message_id, client="default", provider="p1", deadline=deadline)
    return address, command


async def test_those_that_cannot_be_ended_bar_nobodys_way(connection: Connection) -> None:
    address, command = overdue_command()
    stuck = [an_address().message_id for _ in range(450)]
    sweeper = Sweeper(connection, Ledger([*stuck, address.message_id], [command]), "test", KEPT_S)
    assert [await sweeper.sweep(time.time()) for _ in range(3)] == [0, 0, 1]
    assert (await last_event(connection, address))[0].state == pb.MESSAGE_STATE_EXPIRED
    assert [await sweeper.sweep(time.time()) for _ in range(4)] == [0, 0, 0, 0]


async def test_an_event_that_nobody_can_read_stops_only_its_own_message(connection: Connection) -> None:
    (broken, bad), (address, good) = overdue_command(), overdue_command()
    await connection.publish(topo.event_subject(broken), b"\xff")
    ledger = Ledger([broken.message_id, address.message_id], [bad, good])
    assert await Sweeper(connection, ledger, "test", KEPT_S).sweep(time.time()) == 1
    assert (await last_event(connection, address))[0].state == pb.MESSAGE_STATE_EXPIRED


async def test_a_message_whose_events_may_be_forgotten_is_not_said_to_have_expired(connection: Connection) -> None:
    address, command = overdue_command(late_s=KEPT_S)
    sweeper = Sweeper(connection, Ledger([address.message_id], [command]), "test", KEPT_S)
    assert await sweeper.sweep(time.time()) == 0
    assert await connection.last(topo.EVENT, topo.event_subject(address)) is None


async def test_pages_of_the_overdue_follow_each_other(engine: AsyncEngine) -> None:
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
