"""A gateway on a real port, whose stream is in memory."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import attrs
import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from gateway_grpc.event_hints import EventHints
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Lookup, StoredMessages
from gateway_grpc.server import Server
from gateway_grpc.service import SmsGateway
from messaging.runtime.config import GatewaySettings, Settings
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.store.reader import _filters
from messaging.stream.fleet import FleetView
from tests.memory_stream import MemoryConnection, MemoryStream

PROVIDERS = [Provider(name, "simulated", "http://127.0.0.1:9") for name in ("p1", "p2")]


class EmptyHistory:
    """A history without messages, which builds the conditions of a listing as the real one does."""

    async def find(self, client: str, message_id: str) -> pb.MessageStatus | None:
        return None

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        return None

    async def list_page(
        self, client: str, request: api.ListMessagesRequest, after: str | None, limit: int
    ) -> list[pb.MessageStatus]:
        assert isinstance(_filters(request), Sequence)
        return []


@attrs.frozen
class MemoryGateway:
    """A gateway that serves; `stream` is what it has stored."""

    address: str
    stream: MemoryStream
    connection: MemoryConnection
    acceptance: Acceptance


@contextlib.asynccontextmanager
async def serving(settings: GatewaySettings, history: StoredMessages | None = None) -> AsyncIterator[MemoryGateway]:
    """Serve on a free port."""
    stream = MemoryStream(Settings(), [provider.name for provider in PROVIDERS], time.time)
    connection = MemoryConnection(stream)
    view = FleetView(connection, PROVIDERS, 3.0)
    await view.refresh_backlog()
    admission = Admission(view, settings.max_backlog, settings.max_backlog_per_provider, settings.storage_fill)
    tracer, history = Tracer(None, ChosenIds(), 0.0), history or EmptyHistory()
    acceptance = Acceptance(connection, view, admission, settings, tracer)
    lookup = Lookup(connection, history, acceptance.key, "pod")
    limits, hints = CallLimits(settings), EventHints(connection)
    service = SmsGateway(acceptance, lookup, history, tracer, settings, limits, hints)
    server = Server(service, tracer, attrs.evolve(settings, listen="127.0.0.1:0"), limits)
    await server.start()
    following = asyncio.create_task(hints.run(), name="event-hints")
    try:
        yield MemoryGateway(f"127.0.0.1:{server.port}", stream, connection, acceptance)
    finally:
        acceptance.close()
        hints.wake_all()
        following.cancel()
        await server.drain(0.0, 2.0)


@contextlib.asynccontextmanager
async def connected(gateway: MemoryGateway) -> AsyncIterator[grpc.aio.Channel]:
    """Open a connection of its own, which can send and receive anything."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
    ]
    async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
        yield channel
