"""What a caller hears about a message whose records cannot be read."""

import time
from typing import Any

import pytest
import structlog
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.lookup import Lookup
from messaging.errors import CorruptRecord, NotFound
from messaging.stream import topology as topo
from tests.hostile_records import an_address
from tests.unit.small_fleet import SmallFleet
from tests.unit.virtual_time import in_virtual_time


class History:
    """A history with at most one message."""

    def __init__(self, status: pb.MessageStatus | None) -> None:
        self.status = status

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        return self.status

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        return self.status

    async def list_page(self, *_: Any) -> list[pb.MessageStatus]:
        return []


def lookup(fleet: SmallFleet, status: pb.MessageStatus | None) -> Lookup:
    return Lookup(fleet.caller.connection, History(status), lambda _client, request_id: request_id, "g")


@in_virtual_time
async def test_unreadable_acceptance_counts_as_absent_and_the_history_answers() -> None:
    fleet = SmallFleet()
    address = an_address(time.time())
    await fleet.caller.connection.publish(topo.accept_subject("p1", "normal", address), b"{")
    stored = pb.MessageStatus(message_id=address.message_id, state=pb.MESSAGE_STATE_SENT)
    with structlog.testing.capture_logs() as lines:
        asked = lookup(fleet, stored)
        for _ in range(3):
            found = await asked.find("default", message_id=address.message_id)
            assert found.status.state == pb.MESSAGE_STATE_SENT
    assert [line["event"] for line in lines] == ["an unreadable acceptance counts as absent"]
    with pytest.raises(NotFound):
        await lookup(fleet, None).find("default", message_id=address.message_id)


@in_virtual_time
async def test_unreadable_event_is_an_error_and_never_an_older_state() -> None:
    fleet = SmallFleet()
    address = await fleet.accept("a")
    await fleet.caller.connection.publish(topo.event_subject(address), b"{")
    with pytest.raises(CorruptRecord):
        await lookup(fleet, None).find("default", message_id=address.message_id)
