"""gRPC health checks of a process that has no gRPC API.

The service `live` is SERVING as long as the event loop runs. The empty service name also requires that the stream has
answered recently, that no problem keeps the process from its work, and that it is not draining. Without an address
nothing listens, and gRPC is not imported.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import structlog

from messaging.errors import StreamDown
from messaging.runtime.problems import Problems
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

READY, ALIVE = "", "live"
_EVERY_S = 1.0
_STALE_S = 5.0


@attrs.define
class Opening:
    """Stands for a connection to the stream until there is one: then it is set as `connection`."""

    connection: Connection | None = None

    async def api(self, verb: str, *, timeout_s: float) -> dict[str, Any]:
        """Ask the stream; raises StreamDown while there is no connection."""
        if self.connection is None:
            raise StreamDown("connecting")
        return await self.connection.api(verb, timeout_s=timeout_s)


@contextlib.asynccontextmanager
async def health_server(
    listen: str, connection: Connection | Opening | None, stopping: asyncio.Event, problems: Problems | None = None
) -> AsyncIterator[None]:
    """Answer health checks on `listen` inside the context; does nothing when it is empty.

    Every other call is answered with UNAVAILABLE, so that callers of a process that is about to start call again.
    """
    if not listen:
        yield
        return
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    status = health_pb2.HealthCheckResponse
    servicer = health.aio.HealthServicer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((_not_yet(),))
    port = server.add_insecure_port(listen)

    async def report(*, ready: bool) -> None:
        await servicer.set(READY, status.SERVING if ready else status.NOT_SERVING)

    async def watch(answered_at: float) -> None:
        while not stopping.is_set():
            if await _answers(connection):
                answered_at = time.monotonic()
            blocked = problems is not None and problems.blocking
            await report(ready=time.monotonic() < answered_at + _STALE_S and not blocked)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _EVERY_S)
        await report(ready=False)

    await servicer.set(ALIVE, status.SERVING)
    answers = await _answers(connection)
    await report(ready=answers and not (problems is not None and problems.blocking))
    await server.start()
    _log.info("answering health checks", port=port)
    watcher = asyncio.create_task(watch(time.monotonic() if answers else float("-inf")), name="health")
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait({watcher})
        await server.stop(None)


def _not_yet() -> Any:
    """Make the handler of every call that is not a health check."""
    import grpc

    async def refuse(_requests: object, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this process is not ready: call again")

    class NotYet(grpc.GenericRpcHandler):
        def service(self, _details: object) -> Any:
            return grpc.stream_stream_rpc_method_handler(refuse)

    return NotYet()


async def _answers(connection: Connection | Opening | None) -> bool:
    if connection is None:
        return False
    try:
        await connection.api("INFO", timeout_s=_EVERY_S)
    except (StreamDown, ApiError):
        return False
    return True
