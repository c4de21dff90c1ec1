"""`smsctl status`, `cancel` and `list`: messages as the gateway knows them."""

import asyncio
from collections.abc import AsyncIterator

import click
from google.protobuf.timestamp_pb2 import Timestamp
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import mask, outcome_name, priority_name, state_name
from ops.bulk.identity import bare
from ops.commands import options
from ops.commands.gateway_client import CALL_S, calling, gateway_option
from ops.commands.options import reveal_option
from ops.commands.output import as_document, console, json_option, moment, print_json, print_line, say, span, table

_STATES = tuple(name.removeprefix("MESSAGE_STATE_") for name in pb.MessageState.keys() if not name.endswith("FIED"))  # noqa: SIM118 - not a mapping
_PAGE = 200


def _key(message_id: str | None, request_id: str | None) -> dict[str, str]:
    if message_id and not request_id:
        return {"message_id": message_id}
    if request_id and not message_id:
        return {"request_id": request_id}
    raise click.UsageError("name the message by either MESSAGE_ID or --request-id")


@click.command()
@click.argument("message_id", required=False, callback=options.message_id)
@click.option("--request-id", help="Name the message by the request id that its caller gave.")
@reveal_option
@gateway_option
@json_option
def status(message_id: str | None, request_id: str | None, *, reveal: bool, gateway: str | None, as_json: bool) -> None:
    """Show the status of a message."""
    request = api.GetStatusRequest(**_key(message_id, request_id))

    async def ask() -> pb.MessageStatus:
        async with calling(gateway) as stub:
            answer: api.GetStatusResponse = await stub.GetStatus(request, timeout=CALL_S)
            return answer.status

    _print(asyncio.run(ask()), reveal=reveal, as_json=as_json)


@click.command()
@click.argument("message_id", required=False, callback=options.message_id)
@click.option("--request-id", help="Name the message by the request id that its caller gave.")
@gateway_option
@json_option
def cancel(message_id: str | None, request_id: str | None, *, gateway: str | None, as_json: bool) -> None:
    """Cancel a waiting message; refused when a provider has taken it or may have."""
    request = api.CancelMessageRequest(**_key(message_id, request_id))

    async def ask() -> pb.MessageStatus:
        async with calling(gateway) as stub:
            answer: api.CancelMessageResponse = await stub.CancelMessage(request, timeout=CALL_S)
            return answer.status

    found = asyncio.run(ask())
    if as_json:
        print_json(as_document(found))
    else:
        say(f"{found.message_id} is {state_name(found.state)}")


def _print(found: pb.MessageStatus, *, reveal: bool, as_json: bool) -> None:
    if as_json:
        print_json(as_document(found, reveal=reveal))
        return
    error = f"{found.error.reason}: {found.error.detail}" if found.error.reason else ""
    pairs = (
        ("message", found.message_id),
        ("state", state_name(found.state) + (" (final)" if found.final else "")),
        ("why", error),
        ("provider", found.provider),
        ("provider's id", found.provider_message_id),
        ("recipient", found.recipient if reveal else mask(found.recipient)),
        ("sender", found.sender),
        ("priority", priority_name(found.priority)),
        ("segments", str(found.segments) if found.segments else ""),
        ("request id", found.request_id),
        ("reference", found.client_reference),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(found.labels.items()))),
        ("accepted", moment(codec.unix(found.accept_time))),
        ("scheduled", moment(codec.unix(found.schedule_time))),
        ("changed", moment(codec.unix(found.update_time))),
        ("next attempt", moment(codec.unix(found.next_attempt_time))),
        ("deadline", moment(codec.unix(found.deadline))),
        ("route", found.route_reason),
        ("trace", found.trace_id),
    )
    for name, value in pairs:
        if value:
            say(f"{name:<14} {value}")
    if found.attempts:
        columns = ("attempt", "provider", "outcome", "code", "began", "took", "detail")
        console().print(table(columns, map(_attempt, found.attempts), numbers=("attempt",)))


def _attempt(one: pb.Attempt) -> tuple[str, ...]:
    began, ended = codec.unix(one.start_time), codec.unix(one.end_time)
    took = span(ended - began) if ended else ""
    return str(one.number), one.provider, outcome_name(one.outcome), one.code, moment(began), took, one.detail


@click.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES, case_sensitive=False), help="Repeatable.")
@options.filter_option("--provider", "Only those at this provider.")
@options.filter_option("--recipient", "Only those to this number, in E.164.")
@options.filter_option("--reference", "Only those with this client_reference.")
@options.since_option
@options.until_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Maximum number to show.")
@gateway_option
@json_option
def list_messages(
    states: tuple[str, ...],
    provider: str,
    recipient: str,
    reference: str,
    since: Timestamp | None,
    until: Timestamp | None,
    limit: int,
    gateway: str | None,
    *,
    as_json: bool,
) -> None:
    """List messages, newest first. Very recent changes may be missing."""
    request = api.ListMessagesRequest(
        states=[pb.MessageState.Value(f"MESSAGE_STATE_{name}") for name in states],
        provider=provider,
        recipient=bare(recipient),
        client_reference=reference,
        start_time=since,
        end_time=until,
    )
    asyncio.run(_list(request, limit, gateway, as_json=as_json))


async def _list(request: api.ListMessagesRequest, limit: int, gateway: str | None, *, as_json: bool) -> None:
    rows = []
    async for one in _pages(request, limit, gateway):
        if as_json:
            print_line(as_document(one))
        else:
            rows.append(_row(one))
    if as_json:
        return
    columns = ("message", "accepted", "state", "provider", "priority", "attempts", "recipient", "why")
    console().print(table(columns, rows, numbers=("attempts",)))
    if len(rows) == limit:
        say(f"These are the newest {limit}; --limit shows more.", err=True)


def _row(one: pb.MessageStatus) -> tuple[str, ...]:
    return (
        one.message_id,
        moment(codec.unix(one.accept_time), "seconds"),
        state_name(one.state),
        one.provider,
        priority_name(one.priority),
        str(len(one.attempts)),
        mask(one.recipient),
        one.error.reason,
    )


async def _pages(request: api.ListMessagesRequest, limit: int, gateway: str | None) -> AsyncIterator[pb.MessageStatus]:
    """Yield up to `limit` messages, page by page."""
    left = limit
    async with calling(gateway) as stub:
        while True:
            request.page_size = min(left, _PAGE)
            page = await stub.ListMessages(request, timeout=CALL_S)
            for one in page.messages:
                yield one
            left -= len(page.messages)
            request.page_token = page.next_page_token
            if not page.next_page_token or left <= 0:
                return
