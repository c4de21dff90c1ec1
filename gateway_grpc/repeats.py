"""Decides whether a request repeats a message that was accepted before, under the same request_id. Pure.

What counts is the message that the request asks for, not how it is spelled: the same number in another form, or a ttl
or priority that is the default. Equal bytes are a repeat whatever today's rules say about them.
"""

import hashlib

from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.numbers import to_e164
from gateway_grpc.segments import segment
from gateway_grpc.validation import PAST_S, RECIPIENT, Rules, ttl_of
from messaging import codec
from messaging.model import LANE_OF_PRIORITY

_SAME_S = 0.001
"""Times are stored to the microsecond, so two that differ by less are the same."""


def fingerprint(request: api.SendSmsRequest) -> bytes:
    """Hash a request: equal for equal contents, in any order of labels."""
    return hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


def repeats(command: wire.Command, request: api.SendSmsRequest, rules: Rules) -> bool | None:
    """Whether `request` asks for the message of `command`; None when its number or priority cannot be read."""
    if command.fingerprint == fingerprint(request):
        return True
    if not RECIPIENT.fullmatch(request.recipient) or request.priority not in LANE_OF_PRIORITY:
        return None
    recipient, fault = to_e164(request.recipient, rules.default_region)
    if fault:
        return None
    return (
        recipient == command.recipient
        and _one_end(segment(request.body, smart=request.smart_encoding).text) == _one_end(command.body)
        and request.sender == command.sender
        and LANE_OF_PRIORITY[request.priority] is LANE_OF_PRIORITY.get(command.priority)
        and list(request.providers) == list(command.providers)
        and request.client_reference == command.client_reference
        and request.callback_url == command.callback_url
        and dict(request.labels) == dict(command.labels)
        and _same_times(command, request)
    )


def window_start(command: wire.Command) -> float:
    """Return from when the idempotency window counts: its schedule_time, or its acceptance (Unix seconds)."""
    return codec.unix(command.schedule_time if command.HasField("schedule_time") else command.accept_time)


def _one_end(text: str) -> str:
    """Write every line end as LF: editors and spreadsheets change them, and phones show no difference."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _same_times(command: wire.Command, request: api.SendSmsRequest) -> bool:
    """Compare when to send and for how long; a schedule_time that had passed at acceptance meant now."""
    accepted = codec.unix(command.accept_time)
    begin = window_start(command)
    asked = codec.unix(request.schedule_time) if request.HasField("schedule_time") else accepted
    if asked < accepted - PAST_S or abs(max(asked, accepted) - begin) >= _SAME_S:
        return False
    return abs(codec.unix(command.deadline) - begin - ttl_of(request)) < _SAME_S
