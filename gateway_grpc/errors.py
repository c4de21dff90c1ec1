"""Maps the errors of `messaging.errors` to gRPC status codes and error details."""

from collections.abc import Callable

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from messaging import errors

DOMAIN = "sms.gateway"

CODES: dict[type[errors.GatewayError], grpc.StatusCode] = {
    errors.GatewayError: grpc.StatusCode.INTERNAL,
    errors.CallerError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotCancelable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoRoute: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BacklogFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StreamDown: grpc.StatusCode.UNAVAILABLE,
    errors.StreamFull: grpc.StatusCode.UNAVAILABLE,
    errors.StoreDown: grpc.StatusCode.UNAVAILABLE,
    errors.StoreRefuses: grpc.StatusCode.UNAVAILABLE,
    errors.ClockWrong: grpc.StatusCode.UNAVAILABLE,
    errors.GatewayBusy: grpc.StatusCode.UNAVAILABLE,
    errors.CallTooLong: grpc.StatusCode.UNAVAILABLE,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.SetupError: grpc.StatusCode.INTERNAL,
    errors.ConfigError: grpc.StatusCode.INTERNAL,
    errors.ServerTooOld: grpc.StatusCode.INTERNAL,
    errors.TooFewServers: grpc.StatusCode.INTERNAL,
    errors.TopologyConflict: grpc.StatusCode.INTERNAL,
    errors.StoppedEarly: grpc.StatusCode.INTERNAL,
    errors.CorruptRecord: grpc.StatusCode.DATA_LOSS,
}
"""Every class of messaging.errors; a test checks that none is missing."""

MAX_STATUS_BYTES = 4096
"""Size limit of a status with its details. Callers get it in trailers, of which many clients refuse more than 8 kB."""

_MAX_TEXT, _MAX_FIELD, _MAX_DESCRIPTION = 1000, 120, 400
_SPARE_BYTES = 4  # the tag and the length of a violation
_ANY_BYTES = 80  # the type URL of a detail, tags and lengths

_INTERNAL_TEXT = "the gateway failed; the operator's log says more"
_HIDDEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)


def code_of(error: errors.GatewayError) -> grpc.StatusCode:
    """Return an error's code: that of its class, or of the nearest base class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _invalid(error: errors.GatewayError, room: int) -> list[Message]:
    """List the violations, as many as fit into `room` bytes."""
    if not isinstance(error, errors.InvalidRequest):
        return []
    listed = details.BadRequest()
    for field, text in error.violations:
        violation = details.BadRequest.FieldViolation(field=field[:_MAX_FIELD], description=text[:_MAX_DESCRIPTION])
        room -= violation.ByteSize() + _SPARE_BYTES
        if room < 0:
            break
        listed.field_violations.append(violation)
    return [listed]


def _retry(error: errors.GatewayError, _room: int) -> list[Message]:
    if not isinstance(error, errors.BacklogFull | errors.Unavailable):
        return []
    millis = int(error.retry_after_s * 1000)
    return [details.RetryInfo(retry_delay=Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000))]


def _quota(error: errors.GatewayError, _room: int) -> list[Message]:
    if not isinstance(error, errors.BacklogFull):
        return []
    violation = details.QuotaFailure.Violation(subject=error.scope[:_MAX_FIELD], description=_cut(str(error)))
    return [details.QuotaFailure(violations=[violation])]


def _metadata(error: errors.GatewayError) -> dict[str, str]:
    names = ("message_id", "state", "scope", "stream")
    return {name: str(getattr(error, name))[:_MAX_FIELD] for name in names if hasattr(error, name)}


_DETAILS: tuple[Callable[[errors.GatewayError, int], list[Message]], ...] = (_retry, _quota, _invalid)


def grpc_status_of(error: errors.GatewayError) -> status_pb2.Status:
    """Build the google.rpc.Status of an error, of at most MAX_STATUS_BYTES.

    The text of an internal error is not shown to callers.
    """
    code = code_of(error)
    number: int = code.value[0]
    info = details.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if code not in _HIDDEN:
        info.metadata.update(_metadata(error))
    status = status_pb2.Status(code=number, message=_INTERNAL_TEXT if code in _HIDDEN else _cut(str(error)))
    _attach(status, info)
    for build in _DETAILS:
        for detail in build(error, MAX_STATUS_BYTES - status.ByteSize() - _ANY_BYTES):
            _attach(status, detail)
    return status


def without_fields(status: status_pb2.Status) -> status_pb2.Status:
    """Copy a status without its BadRequest."""
    shorter = status_pb2.Status(code=status.code, message=status.message)
    shorter.details.extend(one for one in status.details if not one.Is(details.BadRequest.DESCRIPTOR))
    return shorter


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str) -> str:
    """Shorten a text so that it takes at most _MAX_TEXT bytes in grpc-message, where others than ASCII take three."""
    if text.isascii():
        return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
    room = _MAX_TEXT - 3
    for index, char in enumerate(text):
        room -= 1 if char.isascii() else 3 * len(char.encode())
        if room < 0:
            return f"{text[:index]}..."
    return text
