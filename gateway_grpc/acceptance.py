"""Accepts messages: from a request to an acknowledged publish, after which a message is never lost."""

import asyncio
import hashlib
import os

from opentelemetry.trace import Span, SpanKind
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.admission import Admission
from gateway_grpc.validation import CheckedRequest, Rules, check
from messaging import codec, routing
from messaging.errors import BacklogFull, ClockWrong, Draining, NoRoute, RequestIdReused, StreamFull
from messaging.model import KEY_BYTES, LATER, Address, key_from_bytes, key_of_request, new_address, parse_address
from messaging.runtime import telemetry
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import Tracer
from messaging.status import first_state
from messaging.stream import topology as topo
from messaging.stream.clock import StreamClock
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection, Record
from messaging.stream.publisher import Accepted, Publisher


class Acceptance:
    """Accepts messages for one gateway process."""

    def __init__(
        self,
        connection: Connection,
        view: FleetView,
        admission: Admission,
        settings: GatewaySettings,
        tracer: Tracer,
        clock: StreamClock | None = None,
    ) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._view = view
        self._clock = clock or StreamClock(connection)
        self._admission = admission
        self._settings = settings
        self._tracer = tracer
        self._rotation = routing.Rotation()
        self._secret = settings.id_key.reveal().encode()
        self._slots = asyncio.Semaphore(settings.publish_in_flight)
        self._rules = Rules(tuple(view.providers), settings.default_region, settings.strict_numbers)
        self.closed = False

    def close(self) -> None:
        """Accept nothing more: later requests are refused as Draining."""
        self.closed = True

    async def accept(self, client: str, request: api.SendSmsRequest, call: Span) -> api.SendSmsResponse:
        """Accept one message within the span of its call; when it raises a GatewayError, nothing was stored.

        The exception is StreamDown, whose outcome is unknown: a repeat with the same request_id finds a stored message.
        """
        if self.closed:
            raise Draining
        if not self._clock.right:
            raise ClockWrong
        now = self._clock.now()
        checked = check(request, self._rules, now)
        address = new_address(client, int(now * 1000), self._key(client, request.request_id))
        choice = routing.choose(self._view.facts(), request.providers, self._rotation)
        if choice is None:
            raise NoRoute(tuple(request.providers))
        try:
            self._admission.check(choice.provider)
        except (BacklogFull, StreamFull):
            if (response := await self._already_accepted(address, request)) is not None:
                return response
            raise
        entry = wire.QueueEntry()
        command = entry.command
        _fill(command, checked, address, choice, now)
        lane = LATER if checked.schedule is not None else checked.lane
        async with self._slots:
            with telemetry.span(
                self._tracer,
                "publish",
                call,
                SpanKind.PRODUCER,
                attributes={"sms.message_id": command.message_id, "sms.provider": choice.provider, "sms.lane": lane},
            ) as span:
                command.traceparent = telemetry.traceparent_of(span)
                result = await self._publisher.accept(
                    entry,
                    address,
                    lane,
                    # With the lane LATER, the record is the only copy until the scheduler has moved it.
                    ttl_s=None if request.request_id or lane == LATER else self._settings.unkeyed_ttl_s,
                    budget_s=self._settings.accept_budget_s,
                )
        if isinstance(result, Accepted):
            return _response(command)
        return await self._replay(result.record, request)

    def estimate(self, request: api.SendSmsRequest) -> tuple[CheckedRequest, list[str], str]:
        """Check a message as `accept` does, and publish nothing: (checked, providers in failover order, reason)."""
        checked = check(request, self._rules, self._clock.now(), prefix="message.")
        facts, rotation, order, why = self._view.facts(), self._rotation.copy(), list[str](), ""
        while (choice := routing.choose(facts, request.providers, rotation, order)) is not None:
            why = why or choice.reason
            order.append(choice.provider)
        if not order:
            raise NoRoute(tuple(request.providers))
        return checked, order, why

    def key(self, client: str, request_id: str) -> str:
        """Return the idempotency key of a request_id."""
        return key_of_request(self._secret, client, request_id)

    def _key(self, client: str, request_id: str) -> str:
        return self.key(client, request_id) if request_id else key_from_bytes(os.urandom(KEY_BYTES))

    async def _already_accepted(self, address: Address, request: api.SendSmsRequest) -> api.SendSmsResponse | None:
        if not request.request_id:
            return None
        record = await self._connection.last(topo.ACCEPT, topo.accept_key_filter(address.client, address.key))
        return None if record is None else await self._replay(record, request)

    async def _replay(self, record: Record, request: api.SendSmsRequest) -> api.SendSmsResponse:
        command = codec.decode(wire.QueueEntry, record.subject, record.data).command
        if command.fingerprint != fingerprint(request):
            raise RequestIdReused(command.message_id)
        response = _response(command)
        response.replayed = True
        event = await self._connection.last(topo.EVENT, topo.event_subject(parse_address(record.subject)))
        if event is not None:
            response.state = codec.decode(wire.Event, event.subject, event.data).state
        return response


def fingerprint(request: api.SendSmsRequest) -> bytes:
    """Hash a request: equal for equal contents, in any order of labels."""
    return hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


def _fill(command: wire.Command, checked: CheckedRequest, address: Address, choice: routing.Choice, now: float) -> None:
    """Fill in the command of a checked request; fields that the caller left out are skipped, which is faster."""
    request, segmentation = checked.request, checked.segmentation
    command.message_id = address.message_id
    command.client = address.client
    command.request_id = request.request_id
    command.recipient = checked.recipient
    command.body = segmentation.text
    command.priority = request.priority
    command.provider = choice.provider
    command.route_reason = choice.reason
    codec.set_timestamp(command.accept_time, now)
    codec.set_timestamp(command.deadline, checked.deadline)
    command.encoding = segmentation.encoding
    command.segments = segmentation.segments
    command.fingerprint = fingerprint(request)
    if request.sender:
        command.sender = request.sender
    if request.client_reference:
        command.client_reference = request.client_reference
    if request.callback_url:
        command.callback_url = request.callback_url
    if request.providers:
        command.providers.extend(request.providers)
    if request.labels:
        command.labels.update(request.labels)
    if checked.schedule is not None:
        codec.set_timestamp(command.schedule_time, checked.schedule)


def _response(command: wire.Command) -> api.SendSmsResponse:
    response = api.SendSmsResponse()
    response.message_id = command.message_id
    response.state = first_state(command)
    response.provider = command.provider
    response.encoding = command.encoding
    response.segments = command.segments
    response.recipient = command.recipient
    response.accept_time.CopyFrom(command.accept_time)
    response.deadline.CopyFrom(command.deadline)
    return response
