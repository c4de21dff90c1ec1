"""`smsctl dlq`: show, replay and discard dead letters."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import click
from google.protobuf.timestamp_pb2 import Timestamp

from messaging import codec
from messaging.model import mask, outcome_name, state_name
from ops import discovery
from ops.commands import options
from ops.commands.failure import FAILED, Failure
from ops.commands.options import Amount, author_option, client_option, reveal_option, since_option
from ops.commands.output import as_document, console, json_option, moment, print_json, print_line, say, span, table
from ops.commands.servers import connected, right_time
from ops.dead_letters import DeadLetters, Letter, Ready, Stays, Wish

_NONE = "No dead letters."
_NO_LETTERS = "Messages that a provider refused for good are no dead letters: `smsctl list --state FAILED` shows them."
_Option = Callable[[Callable[..., None]], Callable[..., None]]


def _token(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and (
        not value or not all(char.isascii() and (char.isalnum() or char in "-_") for char in value)
    ):
        raise click.BadParameter("may contain only letters, digits, - and _")
    return value


_provider: _Option = click.option("--provider", callback=_token, help="Only those of this provider.")
_reason: _Option = click.option("--reason", callback=_token, help="Only those with this reason, such as EXPIRED.")
_limit: _Option = click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the oldest N of them.")


@click.group()
def dlq() -> None:
    """List, replay and discard dead letters."""


@dlq.command("list")
@_provider
@_reason
@since_option
@click.option("--grouped", is_flag=True, help="Count them by provider and reason.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Maximum number to show.")
@json_option
def list_letters(
    provider: str | None, reason: str | None, since: Timestamp | None, limit: int, *, grouped: bool, as_json: bool
) -> None:
    """List dead letters, oldest first.

    Messages that a provider refused for good are not among them, because a replay would be refused again: `smsctl list
    --state FAILED` shows them.
    """
    if grouped and since is not None:
        raise click.UsageError("--since does not work with --grouped, which counts without reading")
    if grouped:
        asyncio.run(_count(provider, reason, as_json=as_json))
    else:
        asyncio.run(_list(provider, reason, _unix(since), limit, as_json=as_json))


def _unix(moment_: Timestamp | None) -> float:
    return 0.0 if moment_ is None else codec.unix(moment_)


async def _count(provider: str | None, reason: str | None, *, as_json: bool) -> None:
    async with connected(discovery.settings()) as connection:
        counts = await DeadLetters(connection).counts()
    wanted = sorted(
        (*key, count)
        for key, count in counts.items()
        if provider in {None, key[0]} and (reason is None or reason.upper() == key[1])
    )
    if as_json:
        print_json([{"provider": name, "reason": why, "count": count} for name, why, count in wanted])
    elif not wanted:
        _say_none()
    else:
        console().print(table(("provider", "reason", "count"), wanted, numbers=("count",)))


def _say_none() -> None:
    say(_NONE)
    say(_NO_LETTERS, err=True)


async def _list(provider: str | None, reason: str | None, since: float, limit: int, *, as_json: bool) -> None:
    rows: list[tuple[str, ...]] = []
    more = False
    async with connected(discovery.settings()) as connection:
        async for letter in DeadLetters(connection).walk(provider, reason, since):
            if len(rows) == limit:
                more = True
                break
            rows.append(_row(letter))
            if as_json:
                print_line(_document(letter))
    if not as_json and not rows:
        _say_none()
    elif not as_json:
        columns = ("message", "client", "given up", "provider", "reason", "state", "attempts", "recipient", "detail")
        console().print(table(columns, rows, numbers=("attempts",)))
    if more:
        say(f"These are the oldest {limit}; --limit shows more, --grouped counts them all.", err=True)


def _row(letter: Letter) -> tuple[str, ...]:
    content = letter.content
    return (
        letter.address.message_id,
        letter.address.client,
        moment(codec.unix(content.time), "seconds"),
        letter.provider,
        content.reason,
        state_name(content.last.state) if content.last.state else "",
        str(content.last.attempt_count),
        mask(content.command.recipient) if content.command.recipient else "",
        content.last.detail,
    )


def _document(letter: Letter, *, reveal: bool = False) -> dict[str, object]:
    found = as_document(letter.content, reveal=reveal)
    return {"sequence": letter.sequence, "provider": letter.provider, **found}


@dlq.command()
@click.argument("message_id", callback=options.message_id)
@client_option
@reveal_option
@json_option
def show(message_id: str, client: str, *, reveal: bool, as_json: bool) -> None:
    """Show a dead letter: what was tried, and why it was given up."""

    async def find() -> tuple[Letter, Ready | Stays]:
        async with connected(discovery.settings()) as connection:
            letters = DeadLetters(connection, [one.name for one in discovery.providers()])
            letter = await _found(letters, client, message_id)
            return letter, await letters.examine(letter, now=await right_time(connection))

    letter, outlook = asyncio.run(find())
    if as_json:
        print_json(_document(letter, reveal=reveal))
        return
    command, last = letter.content.command, letter.content.last
    pairs = (
        ("message", command.message_id),
        ("client", command.client),
        ("reason", letter.content.reason),
        ("detail", last.detail),
        ("given up", moment(codec.unix(letter.content.time))),
        ("state", state_name(last.state) if last.state else ""),
        ("provider", letter.provider),
        ("recipient", command.recipient if reveal else mask(command.recipient)),
        ("deadline", moment(codec.unix(command.deadline))),
        ("trace", codec.trace_id_of(command.traceparent)),
        ("replay", outlook.why if isinstance(outlook, Stays) else f"possible, to {outlook.provider}"),
    )
    for name, value in pairs:
        if value:
            say(f"{name:<10} {value}")
    if last.attempts:
        rows = [
            (str(one.number), one.provider, outcome_name(one.outcome), one.code, one.detail) for one in last.attempts
        ]
        console().print(table(("attempt", "provider", "outcome", "code", "detail"), rows, numbers=("attempt",)))


async def _found(letters: DeadLetters, client: str, message_id: str) -> Letter:
    letter = await letters.find(client, message_id)
    if letter is None:
        raise Failure(
            f"no dead letter for message {message_id}: `smsctl explain {message_id}` shows what happened to it"
        )
    return letter


@attrs.frozen
class _Choice:
    """The letters that a command is about: those that are named, or the oldest `limit` of all that match."""

    message_ids: tuple[str, ...]
    provider: str | None
    reason: str | None
    client: str
    since: float
    limit: int | None

    async def of(self, letters: DeadLetters) -> AsyncIterator[Letter]:
        for message_id in self.message_ids:
            yield await _found(letters, self.client, message_id)
        if self.message_ids:
            return
        count = 0
        async for letter in letters.walk(self.provider, self.reason, self.since):
            if count == self.limit:
                return
            if letter.address.client == self.client:
                count += 1
                yield letter


def _choice(function: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and the options that choose letters, and pass them on as `choice`."""

    @click.argument("message_ids", metavar="[MESSAGE_ID]...", nargs=-1, callback=options.message_id)
    @click.option("--all", "everything", is_flag=True, help="All with the reason that --reason names.")
    @_provider
    @_reason
    @client_option
    @since_option
    @_limit
    @functools.wraps(function)
    def with_choice(
        *,
        message_ids: tuple[str, ...],
        everything: bool,
        provider: str | None,
        reason: str | None,
        client: str,
        since: Timestamp | None,
        limit: int | None,
        **rest: Any,
    ) -> None:
        if bool(message_ids) == everything:
            raise click.UsageError("name messages by MESSAGE_ID, or all of them by --all --reason REASON")
        if everything and reason is None:
            raise click.UsageError("--all needs --reason: letters with other reasons need a decision of their own")
        if message_ids and (provider or reason or since or limit):
            raise click.UsageError("--provider, --reason, --since and --limit need --all")
        function(choice=_Choice(message_ids, provider, reason, client, _unix(since), limit), **rest)

    return with_choice


@dlq.command()
@_choice
@click.option("--to", callback=_token, metavar="PROVIDER", help="Send it there instead of where it failed.")
@click.option("--over-callers-choice", is_flag=True, help="With --to: also where the caller did not allow it.")
@click.option("--ttl", type=Amount(5, 259_200), metavar="SECONDS", help="A new deadline, counted from now.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--rate", type=Amount(0.1, 1000), default=50.0, show_default=True, help="Letters a second.")
@author_option
@json_option
def replay(
    choice: _Choice,
    to: str | None,
    ttl: float | None,
    rate: float,
    author: str,
    *,
    over_callers_choice: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put messages back into a queue. Exit code 1 when any of them cannot be replayed and stays.

    Safe to repeat. A message that ended as UNKNOWN may have reached its recipient: replaying it may send it twice.
    """
    if over_callers_choice and to is None:
        raise click.UsageError("--over-callers-choice needs --to")
    wish = Wish(to, ttl, over_callers_choice, author)

    async def run() -> int:
        async with connected(discovery.settings()) as connection:
            names = [one.name for one in discovery.providers()]
            if to is not None and to not in names:
                raise click.UsageError(f"provider {to} is not in the providers file, which has {', '.join(names)}")
            letters = DeadLetters(connection, names)
            step = letters.examine if dry_run else letters.replay

            async def one(letter: Letter) -> tuple[bool, str]:
                found = await step(letter, wish, now=await right_time(connection))
                if isinstance(found, Stays):
                    return False, found.why
                deadline = moment(codec.unix(found.entry.command.deadline))
                return True, f"to {found.provider}, lane {found.lane}, until {deadline}"

            done = "would be replayed" if dry_run else "replayed"
            return await _each(choice.of(letters), one, done, rate, as_json)

    raise SystemExit(FAILED if asyncio.run(run()) else 0)


@dlq.command()
@_choice
@click.option("--yes", is_flag=True, help="Required, because this cannot be undone.")
@author_option
@json_option
def discard(choice: _Choice, author: str, *, yes: bool, as_json: bool) -> None:
    """Delete dead letters for good; the messages keep their states, and their story says who did it."""
    if not yes:
        raise click.UsageError("--yes is needed: a discarded letter cannot be replayed any more")

    async def run() -> int:
        async with connected(discovery.settings()) as connection:
            letters = DeadLetters(connection)

            async def one(letter: Letter) -> tuple[bool, str]:
                await letters.discard(letter, author, now=await right_time(connection))
                return True, letter.content.reason

            return await _each(choice.of(letters), one, "discarded", None, as_json)

    raise SystemExit(FAILED if asyncio.run(run()) else 0)


async def _each(
    letters: AsyncIterator[Letter],
    work: Callable[[Letter], Awaitable[tuple[bool, str]]],
    done: str,
    rate: float | None,
    as_json: bool,  # noqa: FBT001 - a private function
) -> int:
    """Process letters one by one at a rate and print the result of each; returns how many stay."""
    began, count, stay = time.monotonic(), 0, 0
    async for letter in letters:
        if rate is not None:
            await asyncio.sleep(began + count / rate - time.monotonic())
        good, why = await work(letter)
        count, stay = count + 1, stay + (not good)
        message_id = letter.address.message_id
        if as_json:
            print_line({"message_id": message_id, "result": done if good else "stays", "detail": why})
        else:
            say(f"{message_id} {done if good else 'stays'}: {why}")
    if not as_json:
        took = span(time.monotonic() - began)
        say(f"{count - stay} {done}, {stay} stay ({took})" if stay else f"{count - stay} {done} ({took})")
    return stay
