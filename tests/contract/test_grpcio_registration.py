"""What the gateway's interceptor takes for granted of grpcio: how generated code registers a service with a server."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Gateway(rpc.SmsGatewayServiceServicer):
    async def EstimateSms(self, request: Any, context: object) -> api.EstimateSmsResponse:  # noqa: N802
        return api.EstimateSmsResponse(segments=3)

    async def BatchSend(self, requests: Any, context: object) -> AsyncIterator[api.BatchSendResponse]:  # noqa: N802
        async for request in requests:
            yield api.BatchSendResponse(sequence=request.sequence)


class Standing:
    """Stands in a server's place, and hands on only what is registered by name."""

    def __init__(self, server: grpc.aio.Server | None = None) -> None:
        self.server = server
        self.asked: list[str] = []
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        self.asked.append("generic")

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.asked.append(service)
        self.handlers |= handlers
        if self.server is not None:
            self.server.add_registered_method_handlers(service, cast("Any", handlers))


def registered(server: grpc.aio.Server | None = None) -> Standing:
    standing = Standing(server)
    rpc.add_SmsGatewayServiceServicer_to_server(Gateway(), cast("Any", standing))  # type: ignore[abstract]
    return standing


@pytest_asyncio.fixture
async def stub() -> AsyncIterator[rpc.SmsGatewayServiceStub]:
    server = grpc.aio.server()
    registered(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield rpc.SmsGatewayServiceStub(channel)
    await server.stop(None)


def test_generated_code_registers_each_service_both_ways_and_asks_a_server_for_nothing_else() -> None:
    assert sorted(registered().asked) == ["generic", "sms.gateway.v1.SmsGatewayService"]


@pytest.mark.parametrize("method", [one.name for one in api.DESCRIPTOR.services_by_name["SmsGatewayService"].methods])
def test_a_handler_has_one_behaviour_and_its_codecs(method: str) -> None:
    handler = registered().handlers[method]
    assert sum(getattr(handler, kind) is not None for kind in KINDS) == 1
    assert callable(handler.request_deserializer)
    assert callable(handler.response_serializer)


async def test_a_unary_method_that_is_registered_by_name_alone_is_served(stub: rpc.SmsGatewayServiceStub) -> None:
    assert (await stub.EstimateSms(api.EstimateSmsRequest(), timeout=10)).segments == 3


async def test_a_stream_that_is_registered_by_name_alone_is_served(stub: rpc.SmsGatewayServiceStub) -> None:
    requests = (api.BatchSendRequest(sequence=n) for n in (1, 2))
    assert [answer.sequence async for answer in stub.BatchSend(requests, timeout=10)] == [1, 2]
