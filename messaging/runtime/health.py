"""What a process without a front door answers to gRPC health checks.

`live` says SERVING as long as the event loop turns; the empty name also asks that the stream has answered lately and
that nothing drains. Without an address nothing listens and gRPC is not even loaded.
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
async def answering(listen: str, connection: Connection, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Answer on `listen` meanwhile; nothing happens when it is empty."""
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

    async def say(*, ready: bool) -> None:
        await servicer.set(READY, status.SERVING if ready else status.NOT_SERVING)

    async def watch() -> None:
        heard = time.monotonic()
        while not stopping.is_set():
            if await _answers(connection):
                heard = time.monotonic()
            await say(ready=time.monotonic() < heard + _STALE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _EVERY_S)
        await say(ready=False)

    await servicer.set(ALIVE, status.SERVING)
    await say(ready=True)
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
