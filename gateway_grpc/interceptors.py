"""Around every call: a server span in the caller's trace, one log line, and errors as gRPC's rich status.

Servicers raise domain errors; this outermost interceptor maps them. It also binds the caller's name, `Call.client`:
until there are keys, it is always `default`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind, Status, StatusCode

from gateway_grpc.drain_gate import DrainGate
from gateway_grpc.errors import grpc_status_of
from messaging.errors import GatewayError
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer

_log = structlog.get_logger(__name__)

DEFAULT_CLIENT = "default"


class Interceptor:
    """Stands in the server's place where a service registers its methods, and wraps each of them once.

    An interceptor in grpc.aio's sense is asked anew for the handler of every call, which costs more than it does.
    """

    def __init__(self, server: grpc.aio.Server, tracer: Tracer, gate: DrainGate) -> None:
        self._server = server
        self._tracer = tracer
        self._gate = gate
        self._registered: dict[str, frozenset[str]] = {}

    def add_generic_rpc_handlers(self, _handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Leave out what is registered by name as well; `verify` tells whether all of it was."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Register a service's methods, each traced, logged, and with its errors mapped."""
        wrapped = {method: self._wrap(service, method, handler) for method, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)
        self._registered[service] = frozenset(wrapped)

    def verify(self, service: ServiceDescriptor) -> None:
        """Raise TypeError when a method of the service was not registered: it would be served as UNIMPLEMENTED."""
        missing = set(service.methods_by_name) - self._registered.get(service.full_name, frozenset())
        if missing:
            names = ", ".join(sorted(missing))
            raise TypeError(f"{service.full_name}: {names} came by no add_registered_method_handlers; is gen/ stale?")

    def _wrap(
        self, service: str, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        begin = functools.partial(Call, self._tracer, f"{service}/{method}", _attributes(service, method))
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        gate = self._gate
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_unary(begin, gate, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(_stream(begin, gate, handler.unary_stream), **codecs)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(_stream(begin, gate, handler.stream_stream), **codecs)
        raise TypeError(f"{service}/{method} takes a stream and gives one answer, which nobody wraps yet")


_Begin: TypeAlias = "Callable[[grpc.aio.ServicerContext[Any, Any]], Call]"


def _unary(begin: _Begin, gate: DrainGate, behaviour: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with gate, begin(context) as one:
            try:
                if gate.holds:
                    await gate.refused()
                return await behaviour(request, context)
            except GatewayError as error:
                await one.abort(error)

    return call


def _stream(begin: _Begin, gate: DrainGate, behaviour: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        with gate, begin(context) as one:
            try:
                if gate.holds:
                    await gate.refused()
                async with contextlib.aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except GatewayError as error:
                await one.abort(error)

    return call


def _attributes(service: str, method: str) -> dict[str, str]:
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


class Call:
    """One call under way: whose it is (`client`), its span, and what its one log line tells besides."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        attributes: Mapping[str, str],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        self._context = context
        self._method = attributes["rpc.method"]
        self._began = time.monotonic()
        self._code = grpc.StatusCode.OK
        self._reason = ""
        self._facts: dict[str, str | int | bool] = {}
        self.client = DEFAULT_CLIENT
        caller = {key: str(value) for key, value in context.invocation_metadata() or () if key in telemetry.CARRIED}
        self.span = tracer.start(name, telemetry.caller_of(caller), SpanKind.SERVER, attributes)

    def __enter__(self) -> Self:
        _current.set(self)
        return self

    def note(self, **facts: str | int | bool) -> None:
        """Add to the log line of this call; never a text, a whole number or a key."""
        self._facts.update(facts)

    async def abort(self, error: GatewayError) -> None:
        """End the call with the error's status; what is our own fault goes into the log with its trace."""
        status = grpc_status_of(error)
        self._code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        self._reason = error.reason
        if self._code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}:
            _log.error("call failed", method=self._method, reason=error.reason, exc_info=error)
        await self._context.abort_with_status(rpc_status.to_status(status))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and self._code is grpc.StatusCode.OK:
            # A cancelled call is the caller's doing; anything else that got here is a bug, and grpc says UNKNOWN.
            cancelled = not issubclass(kind, Exception)
            self._code = grpc.StatusCode.CANCELLED if cancelled else grpc.StatusCode.UNKNOWN
            if not cancelled:
                _log.error("call broke", method=self._method, error=kind.__name__, exc_info=error)
        if self.span.is_recording():
            self.span.set_attribute("rpc.grpc.status_code", self._code.value[0])
            if self._code is not grpc.StatusCode.OK:
                self.span.set_status(Status(StatusCode.ERROR, self._reason or self._code.name))
            self.span.end()
        _log.info(
            "call",
            method=self._method,
            code=self._code.name,
            reason=self._reason or None,
            **self._facts,
            seconds=round(time.monotonic() - self._began, 4),
            trace_id=telemetry.trace_id(self.span),
        )


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("call")


def current_call() -> Call:
    """Give the call that this task works for."""
    return _current.get()
