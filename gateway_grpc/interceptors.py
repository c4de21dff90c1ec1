"""Wraps every call with a server span in the caller's trace, one log line, and the mapping of errors to gRPC status.

Servicers raise the errors of `messaging.errors`, and this outermost layer maps them. It also sets the caller's name,
`Call.client`, which is always `default` until there are API keys.
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
from gateway_grpc.limits import CallLimits, Places
from gateway_grpc.requests import Decode, decoder, forget_frames
from messaging.errors import CorruptRecord, GatewayError
from messaging.runtime import telemetry
from messaging.runtime.spans import Tracer

_log = structlog.get_logger(__name__)

DEFAULT_CLIENT = "default"


class Interceptor:
    """Takes the server's place when a service registers its methods, and wraps each method once.

    An interceptor of grpc.aio would look up the handler again for every call, which takes longer than all it does.
    """

    def __init__(self, server: grpc.aio.Server, tracer: Tracer, gate: DrainGate, limits: CallLimits) -> None:
        self._server = server
        self._tracer = tracer
        self._gate = gate
        self._limits = limits
        self._registered: dict[str, frozenset[str]] = {}

    def add_generic_rpc_handlers(self, _handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore these: generated code also registers the methods by name, and `verify` checks that it did."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Register a service's methods, each with tracing, logging and error mapping."""
        wrapped = {method: self._wrap(service, method, handler) for method, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)
        self._registered[service] = frozenset(wrapped)

    def verify(self, service: ServiceDescriptor) -> None:
        """Raise TypeError when a method of the service was not registered: it would be served as UNIMPLEMENTED."""
        missing = set(service.methods_by_name) - self._registered.get(service.full_name, frozenset())
        if missing:
            names = ", ".join(sorted(missing))
            raise TypeError(f"{service.full_name} did not register these methods by name: {names}; is gen/ stale?")

    def _wrap(
        self, service: str, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        begin = functools.partial(Call, self._tracer, f"{service}/{method}", _attributes(service, method))
        gate, limits = self._gate, self._limits
        # Without a deserializer, grpc gives us the bytes: what cannot be decoded is refused as any other request.
        serializer = {"response_serializer": handler.response_serializer}
        if handler.stream_stream:
            # Both sides are bytes here: what waits to be sent takes a fraction of the memory.
            return grpc.stream_stream_rpc_method_handler(
                _stream(begin, gate, limits.batches, _as_it_is, handler.stream_stream)
            )
        if handler.stream_unary:
            raise TypeError(f"{service}/{method} takes a stream and returns one answer, which this does not wrap yet")
        decode = decoder(handler.request_deserializer, limits.request_bytes)
        if handler.unary_stream:
            wrapped = _stream(begin, gate, limits.watches, decode, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(wrapped, **serializer)
        wrapped = _unary(begin, gate, limits.unary, decode, handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(wrapped, **serializer)


_Begin: TypeAlias = "Callable[[grpc.aio.ServicerContext[Any, Any]], Call]"


def _as_it_is(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    return chunks


def _unary(begin: _Begin, gate: DrainGate, places: Places, decode: Decode, behaviour: Any) -> Any:
    async def call(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with gate, begin(context) as one:
            try:
                await _admit(one, gate)
                with places:
                    request = decode(raw)
                    raw = b""
                    return await behaviour(request, context)
            except GatewayError as error:
                raw, request = b"", None  # see forget_frames
                await one.abort(error)

    return call


def _stream(begin: _Begin, gate: DrainGate, places: Places, decode: Callable[[Any], Any], behaviour: Any) -> Any:
    async def call(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        with gate, begin(context) as one:
            try:
                await _admit(one, gate)
                with places:
                    request = decode(raw)
                    raw = b""
                    async with contextlib.aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            yield response
            except GatewayError as error:
                raw, request = b"", None
                await one.abort(error)

    return call


async def _admit(call: Call, gate: DrainGate) -> None:
    """Bind the call to its client, or refuse it: the one place for every kind of method. Raises GatewayError."""
    call.client = DEFAULT_CLIENT
    if gate.holding:
        await gate.wait_and_refuse()


def _attributes(service: str, method: str) -> dict[str, str]:
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


class Call:
    """One call under way: its `client`, its span, and the extra fields of its log line."""

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
        self._log_fields: dict[str, str | int | bool] = {}
        self.client = ""
        caller = {key: str(value) for key, value in context.invocation_metadata() or () if key in telemetry.CARRIED}
        self.span = tracer.start(name, telemetry.caller_of(caller), SpanKind.SERVER, attributes)

    def __enter__(self) -> Self:
        _current.set(self)
        return self

    def add_log_fields(self, **fields: str | int | bool) -> None:
        """Add fields to the log line of this call; never a text, a whole phone number or a key."""
        self._log_fields.update(fields)

    async def abort(self, error: GatewayError) -> None:
        """End the call with the error's status; an internal error is also logged with its traceback."""
        status = grpc_status_of(error)
        self._code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        self._reason = error.reason
        if self._code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}:
            # A record on the stream is at fault, not our code: no traceback would say more.
            trace = {"error": str(error)} if isinstance(error, CorruptRecord) else {"exc_info": error}
            _log.error("call failed", method=self._method, reason=error.reason, **trace)
        forget_frames(error)
        await self._context.abort_with_status(rpc_status.to_status(status))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and self._code is grpc.StatusCode.OK:
            # The caller cancels a call; any other exception that gets here is a bug, which grpc reports as UNKNOWN.
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
            **self._log_fields,
            seconds=round(time.monotonic() - self._began, 4),
            trace_id=telemetry.trace_id(self.span),
        )


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("call")


def current_call() -> Call:
    """Return the call that the current task works for."""
    return _current.get()
