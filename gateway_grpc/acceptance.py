"""Accepts messages: from a request to an acknowledged publish, after which a message is never lost."""

import asyncio
import os
from typing import Protocol

from opentelemetry.trace import Span, SpanKind
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.admission import Admission
from gateway_grpc.repeats import fingerprint, repeats, window_start
from gateway_grpc.segments import Segmentation, segment
from gateway_grpc.validation import REQUEST_ID, CheckedRequest, Rules, check
from messaging import codec, routing
from messaging.errors import BacklogFull, CallerError, ClockWrong, Draining, NoRoute, RequestIdReused, StreamFull
from messaging.model import (
    KEY_BYTES,
    LATER,
    Address,
    address_of,
    key_from_bytes,
    key_of_request,
    new_address,
    parse_address,
)
from messaging.runtime import telemetry
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import Tracer
from messaging.status import first_state
from messaging.stream import topology as topo
from messaging.stream.clock import StreamClock
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection
from messaging.stream.publisher import Accepted, AlreadyAccepted, Publisher


class AcceptedMessages(Protocol):
    """What acceptance reads from the history."""

    async def command(self, client: str, message_id: str) -> wire.Command | None:
        """Return what was accepted; None when it is not there. Raises StoreDown."""


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
        history: AcceptedMessages | None = None,
    ) -> None:
        self._connection = connection
        self._publisher = Publisher(connection)
        self._view = view
        self._clock = clock or StreamClock(connection)
        self._history = history
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
        address = new_address(client, int(now * 1000), self._key(client, request.request_id))
        try:
            checked = check(request, self._rules, now)
            choice = self._choose(request)
        except (CallerError, BacklogFull, StreamFull):
            # Today's rules do not matter to what was accepted before.
            if (repeated := await self._repeated(address, request, accepted=True)) is not None:
                return repeated
            raise
        # The window of a scheduled message counts from its time, that of the stream of acceptances from acceptance.
        if request.HasField("schedule_time"):
            repeated = await self._repeated(address, request, accepted=False)
            if repeated is not None:
                return repeated
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
            return _response(command, checked.segmentation)
        return await self._first(result, request)

    async def _first(self, result: AlreadyAccepted, request: api.SendSmsRequest) -> api.SendSmsResponse:
        first = codec.decode(wire.QueueEntry, result.record.subject, result.record.data).command
        if (repeated := await self._replay(first, request)) is None:
            raise RequestIdReused(first.message_id)
        return repeated

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

    def _choose(self, request: api.SendSmsRequest) -> routing.Choice:
        choice = routing.choose(self._view.facts(), request.providers, self._rotation)
        if choice is None:
            raise NoRoute(tuple(request.providers))
        self._admission.check(choice.provider)
        return choice

    async def _repeated(
        self, address: Address, request: api.SendSmsRequest, *, accepted: bool
    ) -> api.SendSmsResponse | None:
        """Answer a repeat; None when it is none, or cannot be read to be compared.

        Without `accepted`, the stream of acceptances is not asked: the publish does that. Raises RequestIdReused, and
        Unavailable when it cannot be known.
        """
        if not request.request_id or not REQUEST_ID.fullmatch(request.request_id):
            return None
        client, key = address.client, address.key
        found = await self._record(topo.ACCEPT, topo.accept_key_filter(client, key)) if accepted else None
        command = found or await self._scheduled(client, key)
        return None if command is None else await self._replay(command, request)

    async def _scheduled(self, client: str, key: str) -> wire.Command | None:
        """Find a message by its key after the stream of acceptances has forgotten it, while its window is open.

        Its schedule is there until its time and for its window after that, unless it was canceled: then its event is.
        """
        waiting, fired = topo.later_key_filters(client, key)
        first, second, event = await asyncio.gather(
            self._record(topo.LATER_STREAM, waiting),
            self._record(topo.LATER_STREAM, fired),
            self._connection.last(topo.EVENT, topo.event_key_filter(client, key)),
        )
        command = first or second
        if command is None and event is not None and self._history is not None:
            if await self._connection.last(topo.ACCEPT, topo.accept_key_filter(client, key)) is not None:
                return None
            command = await self._history.command(client, parse_address(event.subject).message_id)
        remembered = command is not None and self._clock.now() < window_start(command) + self._settings.window_s
        return command if remembered else None

    async def _record(self, stream: str, subject: str) -> wire.Command | None:
        record = await self._connection.last(stream, subject)
        return None if record is None else codec.decode(wire.QueueEntry, record.subject, record.data).command

    async def _replay(self, command: wire.Command, request: api.SendSmsRequest) -> api.SendSmsResponse | None:
        is_same = repeats(command, request, self._rules)
        if is_same is None:
            return None
        if not is_same:
            raise RequestIdReused(command.message_id)
        response = _response(command, segment(request.body, smart=request.smart_encoding))
        response.replayed = True
        address = address_of(command.client, command.message_id)
        event = await self._connection.last(topo.EVENT, topo.event_subject(address))
        if event is not None:
            response.state = codec.decode(wire.Event, event.subject, event.data).state
        return response


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


def _response(command: wire.Command, found: Segmentation | None = None) -> api.SendSmsResponse:
    response = api.SendSmsResponse()
    response.message_id = command.message_id
    response.state = first_state(command)
    response.provider = command.provider
    response.encoding = command.encoding
    response.segments = command.segments
    response.recipient = command.recipient
    response.accept_time.CopyFrom(command.accept_time)
    response.deadline.CopyFrom(command.deadline)
    if found is not None and found.replaced:
        response.replacements.extend(replacements_of(found))
    return response


def replacements_of(found: Segmentation) -> list[api.Replacement]:
    """Return what smart encoding replaced, as the API says it."""
    return [api.Replacement(**{"from": old, "to": new}) for old, new in found.replaced]
