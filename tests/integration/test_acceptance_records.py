"""How long the stream keeps what the gateway accepts, on a real server."""

import time

import pytest
from opentelemetry.trace import INVALID_SPAN
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from messaging import codec
from messaging.model import address_of
from messaging.runtime.config import GatewaySettings
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream import topology as topo
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection
from tests.integration.streams import PROVIDERS, SETTINGS

GATEWAY = GatewaySettings()


@pytest.mark.parametrize(
    ("request_id", "in_s", "ttl"),
    [
        ("", None, f"{GATEWAY.unkeyed_ttl_s:.0f}"),
        ("kept", None, None),
        ("", 3600, None),  # the only copy until the scheduler has it
        ("kept-for-later", 3600, None),
    ],
)
async def test_only_messages_that_are_queued_at_once_and_have_no_request_id_expire_early(
    connection: Connection, request_id: str, in_s: float | None, ttl: str | None
) -> None:
    providers = [Provider(name, "simulated", "http://127.0.0.1:1") for name in PROVIDERS]
    view = FleetView(connection, providers, SETTINGS.fleet.room_s)
    admission = Admission(view, GATEWAY.max_backlog, GATEWAY.max_backlog_per_provider, GATEWAY.storage_fill)
    acceptance = Acceptance(connection, view, admission, GATEWAY, Tracer(None, ChosenIds(), 0.0))
    request = api.SendSmsRequest(recipient="+233201234567", body="Hello", request_id=request_id)
    if in_s is not None:
        request.schedule_time.CopyFrom(codec.timestamp(time.time() + in_s))
    answer = await acceptance.accept("default", request, INVALID_SPAN)
    record = await connection.last(topo.ACCEPT, topo.accept_filter(address_of("default", answer.message_id)))
    assert record is not None
    assert record.headers.get(topo.H_TTL) == ttl
