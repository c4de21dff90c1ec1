"""The RPC methods: each checks its request and calls what does the work."""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc import validation
from gateway_grpc.acceptance import Acceptance, replacements_of
from gateway_grpc.answers import page_of, shortened
from gateway_grpc.batch import Batches
from gateway_grpc.event_hints import EventHints
from gateway_grpc.interceptors import current_call
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Lookup, StoredMessages
from gateway_grpc.watching import Watching
from messaging import codec
from messaging.errors import InvalidRequest
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import Tracer
from messaging.status import as_of

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_DEFAULT_PAGE = 50


class SmsGateway(rpc.SmsGatewayServiceServicer):
    """sms.gateway.v1.SmsGatewayService."""

    def __init__(
        self,
        acceptance: Acceptance,
        lookup: Lookup,
        history: StoredMessages,
        tracer: Tracer,
        settings: GatewaySettings,
        limits: CallLimits,
        hints: EventHints,
    ) -> None:
        self._acceptance = acceptance
        self._lookup = lookup
        self._history = history
        self._watching = Watching(lookup, hints, lambda: acceptance.closed, settings.stream_s, limits)
        self._batches = Batches(acceptance, tracer, settings, limits)

    async def SendSms(self, request: api.SendSmsRequest, context: _Context) -> api.SendSmsResponse:  # noqa: N802
        """Accept one message."""
        call = current_call()
        response = await self._acceptance.accept(call.client, request, call.span)
        call.span.set_attribute("sms.message_id", response.message_id)
        call.add_log_fields(
            message_id=response.message_id,
            provider=response.provider,
            segments=response.segments,
            replayed=response.replayed,
        )
        return response

    def BatchSend(  # noqa: N802
        self, request_iterator: AsyncIterator[Any], context: _Context
    ) -> AsyncIterator[Any]:
        """Accept chunks, and answer in order; both are bytes here."""
        return self._batches.serve(request_iterator, context.peer())

    async def GetStatus(self, request: api.GetStatusRequest, context: _Context) -> api.GetStatusResponse:  # noqa: N802
        """Return a message's status."""
        found = await self._lookup.find(current_call().client, **_key(request))
        return api.GetStatusResponse(status=shortened(found.status))

    def WatchStatus(  # noqa: N802
        self, request: api.WatchStatusRequest, context: _Context
    ) -> AsyncIterator[api.WatchStatusResponse]:
        """Return a message's status now and after every change, until it is settled."""
        validation.check_key("message_id", request.message_id)
        return self._watching.serve(current_call().client, request.message_id, context.peer())

    async def ListMessages(self, request: api.ListMessagesRequest, context: _Context) -> api.ListMessagesResponse:  # noqa: N802
        """List messages from the history, which may lag behind the stream by a moment."""
        validation.check_list(request)
        size = request.page_size or _DEFAULT_PAGE
        after = _after(request.page_token)
        found = await self._history.list_page(current_call().client, request, after, size + 1)
        now = time.time()
        page = page_of([as_of(one, now) for one in found], size)
        token = (
            base64.urlsafe_b64encode(uuid.UUID(page[-1].message_id).bytes).decode() if len(found) > len(page) else ""
        )
        return api.ListMessagesResponse(messages=page, next_page_token=token)

    async def CancelMessage(self, request: api.CancelMessageRequest, context: _Context) -> api.CancelMessageResponse:  # noqa: N802
        """Cancel a message."""
        status = await self._lookup.cancel(current_call().client, **_key(request))
        current_call().add_log_fields(message_id=status.message_id)
        return api.CancelMessageResponse(status=shortened(status))

    async def EstimateSms(self, request: api.EstimateSmsRequest, context: _Context) -> api.EstimateSmsResponse:  # noqa: N802
        """Return what SendSms would do."""
        validation.check_estimate(request)
        checked, order, why = self._acceptance.estimate(request.message)
        segmentation = checked.segmentation
        return api.EstimateSmsResponse(
            recipient=checked.recipient,
            region=checked.region,
            encoding=segmentation.encoding,
            segments=segmentation.segments,
            units=segmentation.units,
            units_left=segmentation.units_left,
            culprits=[api.Culprit(character=char, position=position) for position, char in segmentation.non_gsm7],
            replacements=replacements_of(segmentation),
            providers=order,
            route_reason=why,
            deadline=codec.timestamp(checked.deadline),
        )


def _key(request: api.GetStatusRequest | api.CancelMessageRequest) -> dict[str, str]:
    kind = request.WhichOneof("key")
    value = getattr(request, kind) if kind else ""
    validation.check_key(kind, value)
    return {str(kind): value}


def _after(token: str) -> str | None:
    if not token:
        return None
    try:
        return str(uuid.UUID(bytes=base64.urlsafe_b64decode(token.encode())))
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest([("page_token", "is not a token from ListMessages")]) from exc
