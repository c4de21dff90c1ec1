"""The gRPC server: our service, health and reflection, on one address."""

import asyncio
import time
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc.drain_gate import DrainGate
from gateway_grpc.interceptors import Interceptor
from gateway_grpc.library_services import LibraryServices
from gateway_grpc.limits import CallLimits
from gateway_grpc.service import SmsGateway
from messaging.runtime.config import GatewaySettings
from messaging.runtime.problems import Problems
from messaging.runtime.spans import Tracer
from messaging.stream.fleet import FleetView

_SERVICE = api.DESCRIPTOR.services_by_name["SmsGatewayService"]
SERVICE: str = _SERVICE.full_name
ALIVE = "live"
"""The health service name that is SERVING while the process runs, for liveness probes, which restart it."""

_HEALTH_EVERY_S = 0.2
_QUIET_POLLS, _QUIET_TIMEOUT_S = 10, 1.0
_GOAWAY_S = 0.1
_WATCHERS_S = 1.0
"""Time for answers that are being sent; only callers that watch health are still connected at its end."""
_DEAD_S, _DEAD_AFTER_S = 60, 20
_WINDOW_BYTES = 262_144
_PENDING = 20_000
_SPARE_BYTES = 65_536
"""What grpc itself reads beyond our limits, so that a request a little too long is refused with a cure, not by grpc."""


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    """Return grpc's options: limits on connections, and on what one connection may do."""
    longest = max(settings.chunk_max_bytes, settings.request_max_bytes) + _SPARE_BYTES
    options = [
        ("grpc.max_receive_message_length", longest),
        ("grpc.max_send_message_length", 16 * 1024 * 1024),
        # A stream's window: with the probe, grpc would buffer megabytes of chunks that wait for their turn.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.max_concurrent_streams", settings.streams_per_connection),
        # Calls that we have not looked at yet. grpc ends those beyond its own limit as CANCELLED; ours say more.
        ("grpc.server.max_pending_requests", _PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # A caller that vanished without a word is noticed, and its calls end.
        ("grpc.keepalive_time_ms", _DEAD_S * 1000),
        ("grpc.keepalive_timeout_ms", _DEAD_AFTER_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(settings.ping_interval_s * 1000)),
        ("grpc.so_reuseport", 0),
    ]
    if settings.connection_idle_s:
        options.append(("grpc.max_connection_idle_ms", int(settings.connection_idle_s * 1000)))
    if settings.connection_age_s:
        options.append(("grpc.max_connection_age_ms", int(settings.connection_age_s * 1000)))
        # No call is open for longer than stream_s, so this ends only calls whose caller does not read the end.
        options.append(("grpc.max_connection_age_grace_ms", int((settings.stream_s + _DEAD_S) * 1000)))
    return options


class Server:
    """Listens from `start` on; its health is NOT_SERVING while the stream is away or the process drains."""

    def __init__(self, service: SmsGateway, tracer: Tracer, settings: GatewaySettings, limits: CallLimits) -> None:
        self._server = grpc.aio.server(options=_options(settings))
        self._health = health.aio.HealthServicer()
        self._gate = DrainGate()
        watched: Any = Interceptor(self._server, tracer, self._gate, limits)
        rpc.add_SmsGatewayServiceServicer_to_server(service, watched)
        watched.verify(_SERVICE)
        careful: Any = LibraryServices(self._server, limits.library_streams)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, careful)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        shown: Any = reflection.aio.ReflectionServicer(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(shown, careful)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(settings.listen)

    async def start(self) -> None:
        """Start listening."""
        await self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def watch_health(self, view: FleetView, problems: Problems) -> None:
        """Report SERVING while the stream answers and no problem keeps us from work, until cancelled."""
        while True:
            await self._set_health(serving=view.fresh() and not problems.blocking)
            await asyncio.sleep(_HEALTH_EVERY_S)

    async def _set_health(self, *, serving: bool) -> None:
        state = health_pb2.HealthCheckResponse
        status = state.SERVING if serving else state.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def drain(self, linger_s: float, budget_s: float) -> None:
        """Report NOT_SERVING, wait `linger_s` for load balancers to notice, then finish the calls under way.

        Calls that arrive meanwhile are held until every connection has been told to close: see DrainGate. Callers that
        only watch health are not waited for.
        """
        end = time.monotonic() + budget_s
        self._gate.hold()
        await self._set_health(serving=False)
        await asyncio.sleep(min(linger_s, budget_s / 4))
        await self._gate.wait_until_quiet(_QUIET_POLLS, min(_QUIET_TIMEOUT_S, budget_s / 4))
        stopping = asyncio.create_task(self._server.stop(_left(end)), name="stop")
        await asyncio.sleep(min(_GOAWAY_S, budget_s / 4))
        self._gate.refuse()
        await self._gate.wait_until_empty(_left(end))
        await self._server.stop(min(_WATCHERS_S, _left(end)))
        await stopping


def _left(end: float) -> float:
    return max(0.1, end - time.monotonic())
