"""No answer is larger than a client takes that was told nothing: 4 MiB."""

import time
from collections.abc import Sequence

import grpc
from memory_gateway import EmptyHistory, serving
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.answers import MAX_ANSWER_BYTES, page_of, shortened
from messaging import codec
from messaging.runtime.config import GatewaySettings


def message_id(number: int) -> str:
    return f"01a20146-8421-7000-8000-{number:012x}"


def large(number: int, label_bytes: int = 16_320) -> pb.MessageStatus:
    labels = {f"k{one}": "é" * (label_bytes // 32) for one in range(16)}
    return pb.MessageStatus(message_id=message_id(number), labels=labels)


class LargeHistory(EmptyHistory):  # type: ignore[misc]
    """Holds messages with as many labels as may be; the newest has the highest number."""

    def __init__(self, messages: Sequence[pb.MessageStatus]) -> None:
        self._messages = list(messages)

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        return next((one for one in self._messages if one.message_id == message_id), None)

    async def list_page(
        self, client: str, request: api.ListMessagesRequest, after: str | None, limit: int
    ) -> list[pb.MessageStatus]:
        return [one for one in reversed(self._messages) if after is None or one.message_id < after][:limit]


async def test_page_of_messages_with_many_labels_is_shorter_and_the_next_one_goes_on() -> None:
    history = LargeHistory([large(number) for number in range(700)])
    async with (
        serving(GatewaySettings(), history) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        stub, token, seen, pages = rpc.SmsGatewayServiceStub(channel), "", list[str](), 0
        while pages == 0 or token:
            page = await stub.ListMessages(api.ListMessagesRequest(page_size=500, page_token=token))
            assert page.ByteSize() <= MAX_ANSWER_BYTES + 1024
            seen += [one.message_id for one in page.messages]
            token, pages = page.next_page_token, pages + 1
    assert seen == [message_id(number) for number in reversed(range(700))]
    assert pages > 3


async def test_status_with_very_many_attempts_leaves_out_the_oldest() -> None:
    attempts = [pb.Attempt(number=number, detail="x" * 1000) for number in range(1, 10_001)]
    status = pb.MessageStatus(message_id=message_id(1), attempts=attempts)
    async with (
        serving(GatewaySettings(), LargeHistory([status])) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        stub = rpc.SmsGatewayServiceStub(channel)
        answer = await stub.GetStatus(api.GetStatusRequest(message_id=message_id(1)))
    numbers = [one.number for one in answer.status.attempts]
    assert numbers == list(range(10_001 - len(numbers), 10_001))
    assert 0.98 * MAX_ANSWER_BYTES < answer.ByteSize() <= MAX_ANSWER_BYTES + 1024
    assert len(status.attempts) == 10_000, "what was found is not changed"


def test_page_has_at_least_one_message_and_at_most_as_many_as_were_asked_for() -> None:
    huge = large(1, 16_320 * 300)
    assert page_of([huge, huge], 2) == [huge]
    assert page_of([large(1, 32)] * 5, 3) == [large(1, 32)] * 3
    assert page_of([], 3) == []
    assert shortened(large(1, 32)) == large(1, 32)


async def test_list_shows_a_scheduled_message_as_queued_from_its_time_on() -> None:
    now = time.time()
    scheduled = [
        pb.MessageStatus(
            message_id=message_id(number),
            state=pb.MESSAGE_STATE_SCHEDULED,
            schedule_time=codec.timestamp(now + due_in_s),
        )
        for number, due_in_s in enumerate((-1.0, 600.0))
    ]
    async with (
        serving(GatewaySettings(), LargeHistory(scheduled)) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        page = await rpc.SmsGatewayServiceStub(channel).ListMessages(api.ListMessagesRequest())
    assert [one.state for one in page.messages] == [pb.MESSAGE_STATE_SCHEDULED, pb.MESSAGE_STATE_QUEUED]
