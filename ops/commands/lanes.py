"""`smsctl lanes`: every provider's rate, share, backlog and breaker."""

import asyncio
import contextlib

import attrs
import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ops import target
from ops.commands.output import console, json_option, print_json, print_line, table
from ops.commands.servers import connected
from ops.fleet import FleetPicture, FleetWatch, LanePicture

_EVERY_S = 1.0
_COLUMNS = ("provider", "pods", "rate/s", "share", "limit", "backlog", "breaker", "paused")
_NUMBERS = ("pods", "rate/s", "share", "limit", "backlog")


@click.command()
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
@json_option
def lanes(*, watch: bool, as_json: bool) -> None:
    """Show rates, shares, backlogs and breakers of every provider."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_show(watch=watch, as_json=as_json))


async def _show(*, watch: bool, as_json: bool) -> None:
    settings, providers = target.settings(), target.providers()
    async with connected(settings) as connection:
        fleet = FleetWatch(connection, providers, settings.fleet.rate_per_s)
        await fleet.picture()  # the first one knows no rates
        await asyncio.sleep(_EVERY_S)
        if watch:
            await _watch(fleet, as_json=as_json)
        elif as_json:
            print_json(_document(await fleet.picture()))
        else:
            console().print(_drawn(await fleet.picture()))


async def _watch(fleet: FleetWatch, *, as_json: bool) -> None:
    out = console()
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(Live(console=out, auto_refresh=False)) if out.is_terminal and not as_json else None
        while True:
            picture = await fleet.picture()
            if as_json:
                print_line(_document(picture))
            elif live is not None:
                live.update(_drawn(picture), refresh=True)
            else:
                out.print(_drawn(picture))
            await asyncio.sleep(_EVERY_S)


def _document(picture: FleetPicture) -> dict[str, object]:
    together = {"rate": picture.rate, "backlog": picture.backlog}
    return {**attrs.asdict(picture), **together}


def _drawn(picture: FleetPicture) -> Group:
    lines = table(_COLUMNS, map(_row, picture.lanes), numbers=_NUMBERS)
    totals = (
        f"{picture.rate:.0f} of {picture.limit} a second, {picture.backlog:,} waiting, "
        f"{picture.scheduled:,} for a later time"
    )
    return Group(lines, Text(totals))


def _row(lane: LanePicture) -> tuple[str, ...]:
    rate = "" if lane.rate is None else f"{lane.rate:.0f}"
    why = ", ".join(filter(None, ("forced" if lane.forced else "", lane.breaker_reason)))
    breaker = f"{lane.breaker} ({why})" if why else lane.breaker
    counts = (str(lane.share), str(lane.limit), f"{lane.backlog:,}")
    return lane.provider, str(lane.pods), rate, *counts, breaker, "yes" if lane.paused else ""
