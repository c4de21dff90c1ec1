"""The client of the gateway's gRPC API: its address, a stub, and its errors as sentences."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import attrs
import click
import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops import discovery
from ops.commands.failure import FAILED, UNAVAILABLE, Failure

_F = TypeVar("_F", bound=Callable[..., Any])
_D = TypeVar("_D", bound=Message)

CALL_S = 15.0
"""Longer than the gateway's own time-outs, so that its error arrives before the call times out."""

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - replaced, never bound
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]


def gateway_option(function: _F) -> _F:
    """Add --gateway to a command."""
    text = "Address of the gateway; default: SMSGW_LISTEN."
    return click.option("--gateway", metavar="HOST:PORT", callback=_host_and_port, help=text)(function)


def _host_and_port(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not ((found := _ADDRESS.fullmatch(value)) and 0 < int(found[1]) < 65536):
        raise click.BadParameter("must be HOST:PORT, such as 127.0.0.1:50051")
    return value


def address_of(gateway: str | None) -> str:
    """Return the address to call; without `gateway` it is read from the settings. Raises ConfigError."""
    if gateway:
        return gateway
    host, _, port = discovery.settings().gateway.listen.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


@attrs.frozen
class Refusal:
    """The contents of a google.rpc.Status. `retry_s` is None when it does not say when to try again."""

    reason: str
    sentence: str
    violations: tuple[tuple[str, str], ...] = ()
    retry_s: float | None = None

    def lines(self) -> tuple[str, ...]:
        """Return the lines that follow the sentence."""
        again = () if self.retry_s is None else (f"try again in {self.retry_s:g} s",)
        return (*(f"{field}: {text}" for field, text in self.violations), *again)


def refusal_of(status: status_pb2.Status) -> Refusal:
    """Read the details of a status; without a reason, the name of its code is used."""
    info, bad, retry = (_detail(status, kind) for kind in (details.ErrorInfo, details.BadRequest, details.RetryInfo))
    code = next((one.name for one in grpc.StatusCode if one.value[0] == status.code), str(status.code))
    return Refusal(
        info.reason if info else code,
        status.message,
        tuple((one.field, one.description) for one in bad.field_violations) if bad else (),
        retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry else None,
    )


def _detail(status: status_pb2.Status, kind: type[_D]) -> _D | None:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


def refusal_in(error: grpc.aio.AioRpcError) -> Refusal | None:
    """Read the rich status of a failed call; None when no answer of the gateway arrived."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the methods of a Call
    return None if status is None else refusal_of(status)


def no_gateway_at(address: str) -> Failure:
    """Return the failure for an address at which no gateway answers."""
    cure = "start it with `smsctl up`, or name another one with --gateway"
    return Failure(f"no gateway answers at {address}: {cure}", UNAVAILABLE)


def failure_of(error: grpc.aio.AioRpcError, address: str) -> Failure:
    """Turn the error of a call into a Failure."""
    code = UNAVAILABLE if error.code() in _AWAY else FAILED
    refusal = refusal_in(error)
    if refusal is None:
        if error.code() in _AWAY:
            return no_gateway_at(address)
        return Failure(f"{error.code().name}: {error.details()}", code)
    sentence = "the request is not valid" if refusal.violations else refusal.sentence
    return Failure(f"{refusal.reason}: {sentence}", code, refusal.lines())


@contextlib.asynccontextmanager
async def calling(gateway: str | None) -> AsyncIterator[rpc.SmsGatewayServiceStub]:
    """Open a stub; the error of a call ends the command, with its reason and every bad field."""
    address = address_of(gateway)
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            yield rpc.SmsGatewayServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, address) from error
