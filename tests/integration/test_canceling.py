"""Which messages can be canceled: none that a provider has taken or may have taken."""

from typing import cast

import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.lookup import Lookup, StoredMessages
from messaging.errors import NotCancelable
from messaging.stream.interface import Connection
from messaging.stream.publisher import Publisher
from tests.integration.streams import accept, an_address

FAILED, UNCLEAR = pb.ATTEMPT_OUTCOME_TRANSIENT, pb.ATTEMPT_OUTCOME_AMBIGUOUS


@pytest.fixture
def lookup(connection: Connection) -> Lookup:
    return Lookup(connection, cast("StoredMessages", None), lambda client, request_id: request_id, "gateway")


async def waiting_after(connection: Connection, *outcomes: pb.AttemptOutcome.ValueType) -> str:
    """Store a message that waits for its next attempt; return its id."""
    address = an_address()
    await accept(connection, address)
    attempts = [pb.Attempt(number=number, outcome=outcome) for number, outcome in enumerate(outcomes, 1)]
    event = wire.Event(
        message_id=address.message_id,
        client="default",
        state=pb.MESSAGE_STATE_QUEUED,
        attempts=attempts,
        attempt_count=len(attempts),
    )
    await Publisher(connection).append_event(address, event, 0, budget_s=5)
    return address.message_id


@pytest.mark.parametrize("outcomes", [(UNCLEAR,), (UNCLEAR, FAILED), (FAILED, UNCLEAR)])
async def test_message_that_a_provider_may_have_taken_is_not_canceled(
    connection: Connection, lookup: Lookup, outcomes: tuple[pb.AttemptOutcome.ValueType, ...]
) -> None:
    message_id = await waiting_after(connection, *outcomes)
    with pytest.raises(NotCancelable, match="outcome of an attempt is unclear") as caught:
        await lookup.cancel("default", message_id=message_id)
    assert (caught.value.state, caught.value.unclear) == ("QUEUED", True)
    assert (await lookup.find("default", message_id=message_id)).status.state == pb.MESSAGE_STATE_QUEUED


@pytest.mark.parametrize("outcomes", [(), (FAILED,), (FAILED, FAILED)])
async def test_message_that_no_provider_has_taken_is_canceled(
    connection: Connection, lookup: Lookup, outcomes: tuple[pb.AttemptOutcome.ValueType, ...]
) -> None:
    message_id = await waiting_after(connection, *outcomes)
    status = await lookup.cancel("default", message_id=message_id)
    assert (status.state, len(status.attempts)) == (pb.MESSAGE_STATE_CANCELED, len(outcomes))
