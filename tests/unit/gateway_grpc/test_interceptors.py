"""Every method of a service is registered, and a missing one is reported at the start."""

from collections.abc import AsyncIterator
from typing import Any, cast
from unittest.mock import Mock

import grpc
import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc.drain_gate import DrainGate
from gateway_grpc.interceptors import Interceptor, current_call
from gateway_grpc.limits import CallLimits
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import ChosenIds, Tracer

SERVICE = api.DESCRIPTOR.services_by_name["SmsGatewayService"]


def interceptor() -> tuple[Interceptor, Mock]:
    server = Mock()
    return Interceptor(server, Tracer(None, ChosenIds(), 0.0), DrainGate(), CallLimits(GatewaySettings())), server


def test_every_method_of_the_service_is_registered() -> None:
    watched, server = interceptor()
    rpc.add_SmsGatewayServiceServicer_to_server(cast("Any", Mock()), cast("Any", watched))
    watched.verify(SERVICE)
    ((name, handlers), _) = server.add_registered_method_handlers.call_args
    assert (name, set(handlers)) == (SERVICE.full_name, set(SERVICE.methods_by_name))


def test_service_that_registers_only_the_generic_way_is_refused() -> None:
    watched, _ = interceptor()
    watched.add_generic_rpc_handlers([Mock()])
    with pytest.raises(TypeError, match=r"did not register .*: BatchSend, CancelMessage, .*WatchStatus;"):
        watched.verify(SERVICE)


def test_method_that_was_forgotten_is_named() -> None:
    watched, _ = interceptor()
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(Mock()) for name in SERVICE.methods_by_name if name != "GetStatus"
    }
    watched.add_registered_method_handlers(SERVICE.full_name, handlers)
    with pytest.raises(TypeError, match="SmsGatewayService did not register these methods by name: GetStatus;"):
        watched.verify(SERVICE)


def test_a_kind_of_method_that_cannot_be_wrapped_is_refused() -> None:
    watched, _ = interceptor()
    with pytest.raises(TypeError, match="Upload takes a stream"):
        watched.add_registered_method_handlers("s", {"Upload": grpc.stream_unary_rpc_method_handler(Mock())})


class Context:
    """A call without metadata."""

    def invocation_metadata(self) -> None:
        return None


async def _one_answer(*_: Any) -> str:
    return current_call().client


async def _answers(*_: Any) -> AsyncIterator[str]:
    yield current_call().client


@pytest.mark.parametrize(
    "handler",
    [
        grpc.unary_unary_rpc_method_handler(_one_answer),
        grpc.unary_stream_rpc_method_handler(_answers),
        grpc.stream_stream_rpc_method_handler(_answers),
    ],
    ids=["unary", "server stream", "both streams"],
)
async def test_each_kind_of_method_is_bound_to_its_client_before_it_runs(handler: Any) -> None:
    watched, server = interceptor()
    watched.add_registered_method_handlers("s", {"Method": handler})
    ((_, wrapped), _) = server.add_registered_method_handlers.call_args
    one = wrapped["Method"]
    call = (one.unary_unary or one.unary_stream or one.stream_stream)(Mock(), Context())
    clients = [await call] if one.unary_unary else [client async for client in call]
    assert clients == ["default"]
