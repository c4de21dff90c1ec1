"""`smsctl topology` and `smsctl migrate`: check and create the streams, and bring the database to the newest schema."""

import asyncio
from collections.abc import Sequence

import attrs
import click

from messaging.errors import StoreDown
from messaging.stream import setup
from messaging.stream.backlog import limited
from messaging.stream.fleet import UNLIMITED
from messaging.stream.setup import Finding
from ops import discovery
from ops.commands.failure import Failure
from ops.commands.output import console, json_option, print_json, say, table
from ops.commands.servers import connected, store_away, wrong_database


@click.command()
@click.option(
    "--create", is_flag=True, help="Create what is missing, and change what can be changed without losing data."
)
@json_option
def topology(*, create: bool, as_json: bool) -> None:
    """Show the state of the streams and consumers, or create them.

    A stream is never changed in a way that would lose data: then the differences are printed, and nothing else is
    changed either. Exit code 1 when anything is missing or differs.
    """
    findings, has_limit = asyncio.run(_look(create=create))
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    else:
        columns = ("name", "state", "messages", "size", "details")
        console().print(table(columns, map(_row, findings), numbers=("messages", "size")))
    settings = discovery.settings()
    if not has_limit and settings.servers.replicas > 1 and not settings.gateway.storage_max_bytes:
        raise Failure(f"not fit for production: {UNLIMITED}")
    wrong = sum(1 for finding in findings if finding.state in {"missing", "differs", "conflict"})
    if wrong:
        cure = "`smsctl topology --create` creates what is missing and changes what can be changed safely"
        raise Failure(f"{wrong} of {len(findings)} are not as they should be: {cure}")


def _row(finding: Finding) -> tuple[str, str, str, str, str]:
    messages = "" if finding.messages is None else f"{finding.messages:,}"
    size = "" if finding.size_bytes is None else _size(finding.size_bytes)
    return finding.name, finding.state, messages, size, "; ".join(finding.details)


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


async def _look(*, create: bool) -> tuple[Sequence[Finding], bool]:
    """Return the state of everything, and whether the account has a storage limit."""
    settings = discovery.settings()
    names = [provider.name for provider in discovery.providers()]
    async with connected(settings) as connection:
        has_limit = limited(await connection.api("INFO"))
        if not create:
            return await setup.inspect(connection, settings, names), has_limit
        made = {finding.name: finding for finding in await setup.ensure(connection, settings, names)}
        findings = [
            attrs.evolve(now, state=made[now.name].state, details=made[now.name].details) if now.name in made else now
            for now in await setup.inspect(connection, settings, names)
        ]
        return findings, has_limit


@click.command()
@click.option("--back-to", metavar="REVISION", help="Go back to an older schema, before an older version is installed.")
@json_option
def migrate(*, back_to: str | None, as_json: bool) -> None:
    """Bring the database to the newest schema; safe to run several times at once."""
    settings = discovery.settings()
    from messaging.store.migrate import current, downgrade, head, upgrade

    url = settings.servers.database.reveal()
    try:
        before = current(url)
    except ValueError as exc:
        raise wrong_database(exc) from exc
    except StoreDown as exc:
        raise store_away(settings, exc) from exc
    try:
        if back_to is None or back_to == head():
            upgrade(url)
        else:
            downgrade(url, back_to)
        after = current(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--back-to") from exc
    except StoreDown as exc:
        raise store_away(settings, exc) from exc
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        say(f"The database is at {after} already.")
    else:
        say(f"The database went from {before or 'nothing'} to {after}.")
