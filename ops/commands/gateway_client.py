"""The front door from outside: its address, a stub, and what its errors say to people."""

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

from ops import target
from ops.commands.failure import FAILED, UNAVAILABLE, Failure

_F = TypeVar("_F", bound=Callable[..., Any])
_D = TypeVar("_D", bound=Message)

CALL_S = 15.0
"""Longer than the gateway takes to give up, so that its own answer is heard."""

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - translated, never bound
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000)]


def gateway_option(function: _F) -> _F:
    """Add --gateway to a command."""
    text = "Address of the front door; without it SMSGW_LISTEN says where."
    return click.option("--gateway", metavar="HOST:PORT", callback=_host_and_port, help=text)(function)


def _host_and_port(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not ((found := _ADDRESS.fullmatch(value)) and 0 < int(found[1]) < 65536):
        raise click.BadParameter("must be HOST:PORT, such as 127.0.0.1:50051")
    return value


def address_of(gateway: str | None) -> str:
    """Give the address to call; raises ConfigError when it must be read and cannot."""
    if gateway:
        return gateway
    host, _, port = target.settings().gateway.listen.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


@attrs.frozen
class Refusal:
    """What a google.rpc.Status says. `retry_s` is None when it does not say when to try again."""

    reason: str
    sentence: str
    violations: tuple[tuple[str, str], ...] = ()
    retry_s: float | None = None

    def lines(self) -> tuple[str, ...]:
        """Give what follows the sentence, each on a line of its own."""
        again = () if self.retry_s is None else (f"try again in {self.retry_s:g} s",)
        return (*(f"{field}: {text}" for field, text in self.violations), *again)


def refusal_of(status: status_pb2.Status) -> Refusal:
    """Read the details of a status; the reason is its code's name when it carries none."""
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
    """Read the rich status of a call that failed; None when the call never got an answer of the gateway's."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what a Call has
    return None if status is None else refusal_of(status)


def nobody_at(address: str) -> Failure:
    """Say that no gateway answers, where, and what to do."""
    cure = "start it with `smsctl up`, or name another one with --gateway"
    return Failure(f"no gateway answers at {address}: {cure}", UNAVAILABLE)


def failure_of(error: grpc.aio.AioRpcError, address: str) -> Failure:
    """Say for people why a call failed."""
    code = UNAVAILABLE if error.code() in _AWAY else FAILED
    refusal = refusal_in(error)
    if refusal is None:
        if error.code() in _AWAY:
            return nobody_at(address)
        return Failure(f"{error.code().name}: {error.details()}", code)
    sentence = "the request is not valid" if refusal.violations else refusal.sentence
    return Failure(f"{refusal.reason}: {sentence}", code, refusal.lines())


@contextlib.asynccontextmanager
async def calling(gateway: str | None) -> AsyncIterator[rpc.SmsGatewayServiceStub]:
    """Give a stub; a call's error ends the command with its reason and every bad field."""
    address = address_of(gateway)
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            yield rpc.SmsGatewayServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, address) from error
