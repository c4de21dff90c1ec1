"""`smsctl send`: send one message now or later, or show what would be done."""

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Any

import click
import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from messaging.model import mask, outcome_name, state_name
from ops.commands.failure import FAILED
from ops.commands.gateway_client import CALL_S, calling, gateway_option, refusal_in
from ops.commands.output import as_document, json_option, print_json, print_line, say
from ops.commands.request import BadField, make

_RESUMES = 30
_PAUSE_S = 1.0
_GOOD = frozenset({pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_DELIVERED})
_ENCODINGS = {pb.ENCODING_GSM7: "GSM-7", pb.ENCODING_UCS2: "UCS-2"}


def _labels(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [one.partition("=") for one in value]
    if any(not key or not equals for key, equals, _ in pairs):
        raise click.BadParameter("must be KEY=VALUE")
    if len({key for key, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("names a key twice: a message has one value for each")
    return {key: text for key, _, text in pairs}


@click.command()
@click.argument("recipient")
@click.argument("text")
@click.option("--sender", default="", help="Sender ID; default: the provider's.")
@click.option("--priority", type=click.Choice(["otp", "normal", "bulk"]), default="normal", show_default=True)
@click.option("--ttl", metavar="SECONDS", default="", help="How long the message is worth sending; also 15m, 1h, 2d.")
@click.option("--at", metavar="TIME", default="", help="Not before: RFC 3339, or +SECONDS from now.")
@click.option("--provider", "providers", multiple=True, help="Only this one; repeat for several, in order.")
@click.option("--request-id", default="", help="Makes a repeat safe: the same id sends nothing twice.")
@click.option("--reference", default="", help="For your own use; returned unchanged.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", callback=_labels, help="For your own use; repeatable."
)
@click.option("--smart", is_flag=True, help="Replace typographic characters when the text then fits GSM-7.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and send nothing.")
@click.option("--wait", is_flag=True, help="Follow the message until it is sent or final; exit code 1 if not sent.")
@gateway_option
@json_option
def send(
    *,
    providers: tuple[str, ...],
    labels: dict[str, str],
    smart: bool,
    dry_run: bool,
    wait: bool,
    gateway: str | None,
    as_json: bool,
    text: str,
    **given: str,
) -> None:
    """Send TEXT to RECIPIENT (E.164, such as +233201234567)."""
    if dry_run and wait:
        raise click.UsageError("--wait does not work with --dry-run, which sends nothing")
    try:
        request = make({**given, "body": text, "smart": str(smart)}, providers, labels, time.time())
    except BadField as exc:
        raise click.BadParameter(exc.reason, param_hint=f"--{exc.field}") from exc
    except ValueError as exc:
        raise click.UsageError("recipient, text and options must be UTF-8") from exc
    if dry_run:
        asyncio.run(_estimate(request, gateway, as_json=as_json))
    else:
        sys.exit(asyncio.run(_send(request, gateway, wait=wait, as_json=as_json)))


async def _estimate(request: api.SendSmsRequest, gateway: str | None, *, as_json: bool) -> None:
    async with calling(gateway) as stub:
        found = await stub.EstimateSms(api.EstimateSmsRequest(message=request), timeout=CALL_S)
    if as_json:
        print_json(as_document(found))
        return
    region = f" ({found.region})" if found.region else ""
    say(f"recipient  {mask(found.recipient)}{region}")
    say(f"encoding   {_ENCODINGS[found.encoding]}, {_segments(found.segments)}")
    say(f"units      {found.units}, room for {found.units_left} more")
    if found.culprits:
        culprits = ", ".join(f"{one.character!r} at {one.position}" for one in found.culprits)
        say(f"culprits   {culprits}: these force UCS-2; --smart replaces those that have a similar character")
    if found.replacements:
        say(f"replaced   {_replaced(found.replacements)}")
    say(f"route      {', then '.join(found.providers)} ({found.route_reason})")
    say("Nothing was sent.")


async def _send(request: api.SendSmsRequest, gateway: str | None, *, wait: bool, as_json: bool) -> int:
    """Send, and follow the message with `wait`; returns the exit code."""
    async with calling(gateway) as stub:
        answer = await stub.SendSms(request, timeout=CALL_S)
        if not as_json:
            _print_accepted(answer)
        elif wait:
            print_line(as_document(answer))
        else:
            print_json(as_document(answer))
        return await _follow(stub, answer.message_id, as_json=as_json) if wait else 0


def _print_accepted(answer: api.SendSmsResponse) -> None:
    what = "Accepted before, nothing was sent again" if answer.replayed else "Accepted"
    how = f"{_ENCODINGS[answer.encoding]}, {_segments(answer.segments)}"
    say(f"{what}: {answer.message_id} is {state_name(answer.state)}, provider {answer.provider}, {how}")
    if answer.replacements:
        say(f"Replaced in the text: {_replaced(answer.replacements)}")


def _replaced(replacements: Iterable[api.Replacement]) -> str:
    return ", ".join(f"{getattr(one, 'from')!r} by {one.to!r}" for one in replacements)


def _segments(count: int) -> str:
    return f"{count} segment" + ("" if count == 1 else "s")


async def _follow(stub: rpc.SmsGatewayServiceStub, message_id: str, *, as_json: bool) -> int:
    """Print every change until nothing is left to do; reconnects when the stream breaks. Returns the exit code."""
    last = pb.MessageStatus()
    for resumes in range(_RESUMES + 1):
        try:
            async for response in stub.WatchStatus(api.WatchStatusRequest(message_id=message_id)):
                if response.status != last:
                    _print_status(response.status, as_json=as_json)
                last = response.status
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or resumes == _RESUMES:
                raise
            refusal = refusal_in(error)
            await asyncio.sleep((refusal.retry_s if refusal else None) or _PAUSE_S)
        else:
            break
    return 0 if last.state in _GOOD else FAILED


def _print_status(status: pb.MessageStatus, *, as_json: bool) -> None:
    if as_json:
        print_line(as_document(status))
        return
    line: list[Any] = [f"{state_name(status.state):<10}", status.provider]
    if status.attempts:
        attempt = status.attempts[-1]
        line.append(f"attempt {attempt.number} {outcome_name(attempt.outcome)} {attempt.code}".rstrip())
    if status.error.reason:
        line.append(f"{status.error.reason}: {status.error.detail}")
    say("  ".join(line))
