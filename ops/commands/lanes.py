"""`smsctl lanes`: every provider's rate, share, backlog and breaker."""

import asyncio
import contextlib

import attrs
import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ops import discovery
from ops.commands.output import console, json_option, print_json, print_line, table
from ops.commands.servers import connected
from ops.fleet import FleetSnapshot, FleetWatch, LaneSnapshot

_EVERY_S = 1.0
_COLUMNS = ("provider", "pods", "rate/s", "share", "limit", "backlog", "breaker", "paused")
_NUMBERS = ("pods", "rate/s", "share", "limit", "backlog")


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@json_option
def lanes(*, watch: bool, as_json: bool) -> None:
    """Show rates, shares, backlogs and breakers of every provider."""
    with contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
        asyncio.run(_show(watch=watch, as_json=as_json))


async def _show(*, watch: bool, as_json: bool) -> None:
    settings, providers = discovery.settings(), discovery.providers()
    async with connected(settings) as connection:
        fleet = FleetWatch(connection, providers, settings.fleet.rate_per_s)
        await fleet.snapshot()  # the first one has no rates
        await asyncio.sleep(_EVERY_S)
        if watch:
            await _watch(fleet, as_json=as_json)
        elif as_json:
            print_json(_document(await fleet.snapshot()))
        else:
            console().print(_drawn(await fleet.snapshot()))


async def _watch(fleet: FleetWatch, *, as_json: bool) -> None:
    out = console()
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=out, auto_refresh=False)) if out.is_terminal and not as_json else None
        while True:
            snapshot = await fleet.snapshot()
            if as_json:
                print_line(_document(snapshot))
            elif live is not None:
                live.update(_drawn(snapshot), refresh=True)
            else:
                out.print(_drawn(snapshot))
            await asyncio.sleep(_EVERY_S)


def _document(snapshot: FleetSnapshot) -> dict[str, object]:
    together = {"rate": snapshot.rate, "backlog": snapshot.backlog}
    return {**attrs.asdict(snapshot), **together}


def _drawn(snapshot: FleetSnapshot) -> Group:
    lines = table(_COLUMNS, map(_row, snapshot.lanes), numbers=_NUMBERS)
    totals = (
        f"{snapshot.rate:.0f} of {snapshot.limit} a second, {snapshot.backlog:,} waiting, "
        f"{snapshot.scheduled:,} for a later time"
    )
    return Group(lines, Text(totals), *(Text(f"! {notice}", style="red") for notice in snapshot.notices))


def _row(lane: LaneSnapshot) -> tuple[str, ...]:
    rate = "" if lane.rate is None else f"{lane.rate:.0f}"
    why = ", ".join(filter(None, ("forced" if lane.forced else "", lane.breaker_reason)))
    breaker = f"{lane.breaker} ({why})" if why else lane.breaker
    counts = (str(lane.share), str(lane.limit), f"{lane.backlog:,}")
    return lane.provider, str(lane.pods), rate, *counts, breaker, lane.pause
