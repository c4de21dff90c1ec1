"""`smsctl breaker`: show, open and reset the breakers of providers."""

import asyncio
import time

import click

from messaging.documents import BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.interface import Connection
from ops import discovery
from ops.commands.failure import Failure
from ops.commands.output import console, json_option, print_json, table
from ops.commands.servers import connected

_TRIES = 10
_COLUMNS = ("provider", "state", "forced", "reason", "probe", "generation")


@click.group()
def breaker() -> None:
    """Show, open and reset the breakers of providers."""


@breaker.command()
@click.argument("provider", required=False)
@json_option
def show(provider: str | None, *, as_json: bool) -> None:
    """Show one breaker, or all."""

    async def look() -> dict[str, BreakerState]:
        async with connected(discovery.settings()) as connection:
            return {name: (await _board(connection).breaker(name))[1] for name in _names(provider)}

    _print(asyncio.run(look()), as_json=as_json)


@breaker.command("open")
@click.argument("provider")
@click.option("--reason", default="opened by an operator", show_default=True, help="Shown with the breaker.")
@json_option
def open_breaker(provider: str, reason: str, *, as_json: bool) -> None:
    """Send nothing to PROVIDER until its breaker is reset; waiting messages move to other providers."""
    wanted = BreakerState(Mode.OPEN, reason=reason, forced=True)
    _print({provider: asyncio.run(_set(provider, wanted))}, as_json=as_json)


@breaker.command()
@click.argument("provider")
@json_option
def reset(provider: str, *, as_json: bool) -> None:
    """Close the breaker of PROVIDER, even if an operator opened it; clear its failures and end a pause."""
    _print({provider: asyncio.run(_set(provider, BreakerState()))}, as_json=as_json)


def _names(provider: str | None) -> list[str]:
    known = [one.name for one in discovery.providers()]
    if provider is None:
        return known
    if provider not in known:
        raise click.UsageError(f"provider {provider} is not in the providers file, which has {', '.join(known)}")
    return [provider]


def _board(connection: Connection) -> BreakerBoard:
    return BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))


async def _set(provider: str, wanted: BreakerState) -> BreakerState:
    """Write a state as the next generation; tries again when a pod wrote first."""
    import attrs

    [name] = _names(provider)
    async with connected(discovery.settings()) as connection:
        board = _board(connection)
        for _ in range(_TRIES):
            revision, state = await board.breaker(name)
            since = 0.0 if wanted.mode is Mode.CLOSED else state.since or time.time()
            written = attrs.evolve(wanted, generation=state.generation + 1, since=since)
            if await board.set_breaker(name, written, revision) is not None:
                if wanted.mode is Mode.CLOSED:
                    await board.end_pause(name)
                return written
    raise Failure(f"the breaker of {name} keeps changing: try again")


def _print(found: dict[str, BreakerState], *, as_json: bool) -> None:
    if as_json:
        print_json({name: state.to_document() for name, state in found.items()})
        return
    rows = [
        (name, str(one.mode), "yes" if one.forced else "", one.reason, one.probe, str(one.generation))
        for name, one in found.items()
    ]
    console().print(table(_COLUMNS, rows, numbers=("generation",)))
