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

_INTERNAL_TEXT = "the gateway failed; the operator's log says more"
_HIDDEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)


def code_of(error: errors.GatewayError) -> grpc.StatusCode:
    """Return an error's code: that of its class, or of the nearest base class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _invalid(error: errors.GatewayError) -> list[Message]:
    if not isinstance(error, errors.InvalidRequest):
        return []
    return [
        details.BadRequest(
            field_violations=[
                details.BadRequest.FieldViolation(field=field, description=text) for field, text in error.violations
            ]
        )
    ]


def _retry(error: errors.GatewayError) -> list[Message]:
    if not isinstance(error, errors.BacklogFull | errors.Unavailable):
        return []
    millis = int(error.retry_after_s * 1000)
    return [details.RetryInfo(retry_delay=Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000))]


def _quota(error: errors.GatewayError) -> list[Message]:
    if not isinstance(error, errors.BacklogFull):
        return []
    violation = details.QuotaFailure.Violation(subject=error.scope, description=str(error))
    return [details.QuotaFailure(violations=[violation])]


def _metadata(error: errors.GatewayError) -> dict[str, str]:
    names = ("message_id", "state", "scope", "limit", "stream")
    return {name: str(getattr(error, name)) for name in names if hasattr(error, name)}


_DETAILS: tuple[Callable[[errors.GatewayError], list[Message]], ...] = (_invalid, _retry, _quota)


def grpc_status_of(error: errors.GatewayError) -> status_pb2.Status:
    """Build the google.rpc.Status of an error; the text of an internal error is not shown to callers."""
    code = code_of(error)
    number: int = code.value[0]
    info = details.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if code not in _HIDDEN:
        info.metadata.update(_metadata(error))
    status = status_pb2.Status(code=number, message=_INTERNAL_TEXT if code in _HIDDEN else str(error))
    for detail in [info, *(one for build in _DETAILS for one in build(error))]:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
