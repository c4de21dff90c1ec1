"""gRPC health checks of a process that has no gRPC API.

The service `live` is SERVING as long as the event loop runs. The empty service name also requires that the stream has
answered recently and that the process is not draining. Without an address nothing listens, and gRPC is not imported.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog

from messaging.errors import StreamDown
from messaging.stream.interface import ApiError, Connection

_log = structlog.get_logger(__name__)

READY, ALIVE = "", "live"
_EVERY_S = 1.0
_STALE_S = 5.0


@contextlib.asynccontextmanager
async def health_server(listen: str, connection: Connection, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Answer health checks on `listen` inside the context; does nothing when it is empty."""
    if not listen:
        yield
        return
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    status = health_pb2.HealthCheckResponse
    servicer = health.aio.HealthServicer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(listen)

    async def report(*, ready: bool) -> None:
        await servicer.set(READY, status.SERVING if ready else status.NOT_SERVING)

    async def watch() -> None:
        answered_at = time.monotonic()
        while not stopping.is_set():
            if await _answers(connection):
                answered_at = time.monotonic()
            await report(ready=time.monotonic() < answered_at + _STALE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _EVERY_S)
        await report(ready=False)

    await servicer.set(ALIVE, status.SERVING)
    await report(ready=True)
    await server.start()
    _log.info("answering health checks", port=port)
    watcher = asyncio.create_task(watch(), name="health")
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait({watcher})
        await server.stop(None)


async def _answers(connection: Connection) -> bool:
    try:
        await connection.api("INFO", timeout_s=_EVERY_S)
    except (StreamDown, ApiError):
        return False
    return True
