"""Serves services of grpc's own libraries, health and reflection, with the same care for what cannot be decoded."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from gateway_grpc.errors import grpc_status_of
from gateway_grpc.limits import Places
from gateway_grpc.requests import Decode, decoder
from messaging.errors import GatewayError

_log = structlog.get_logger(__name__)
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_LONGEST = 65_536


class LibraryServices:
    """Takes the server's place when such a service registers its methods; its streaming calls hold `places`."""

    def __init__(self, server: grpc.aio.Server, places: Places) -> None:
        self._server = server
        self._places = places

    def add_generic_rpc_handlers(self, _handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore these: generated code also registers the methods by name."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Register a service's methods, which then get what is decoded."""
        wrapped = {name: self._wrap(name, handler) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)

    def _wrap(self, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        decode = decoder(handler.request_deserializer, _LONGEST)
        serializer = {"response_serializer": handler.response_serializer}
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_single(name, decode, handler.unary_unary), **serializer)
        if handler.unary_stream:
            wrapped = _stream(name, self._places, decode, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(wrapped, **serializer)
        wrapped = _both_streams(name, self._places, decode, handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(wrapped, **serializer)


def _single(name: str, decode: Decode, behaviour: Any) -> Any:
    async def call(raw: bytes, context: _Context) -> Any:
        try:
            request = decode(raw)
        except GatewayError as error:
            await _refuse(name, context, error)
        return await behaviour(request, context)

    return call


def _stream(name: str, places: Places, decode: Decode, behaviour: Any) -> Any:
    async def call(raw: bytes, context: _Context) -> None:
        try:
            with places:
                await behaviour(decode(raw), context)  # it writes its answers to the context
        except GatewayError as error:
            await _refuse(name, context, error)

    return call


def _both_streams(name: str, places: Places, decode: Decode, behaviour: Any) -> Any:
    async def call(chunks: AsyncIterator[bytes], context: _Context) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            received: Any = aiter(chunks)
            async with contextlib.aclosing(received):  # as in gateway_grpc.batch
                async for raw in received:
                    yield decode(raw)

        try:
            with places:
                async for answer in behaviour(requests(), context):
                    yield answer
        except GatewayError as error:
            await _refuse(name, context, error)

    return call


async def _refuse(name: str, context: _Context, error: GatewayError) -> None:
    status = grpc_status_of(error)
    code = next(code.name for code in grpc.StatusCode if code.value[0] == status.code)
    _log.info("call", method=name, code=code, reason=error.reason)
    await context.abort_with_status(rpc_status.to_status(status))
