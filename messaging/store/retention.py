"""Which weeks have a partition, and how a missing one is made beside running readers and writers."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from messaging.store.engine import connected, reading
from messaging.store.tables import PARTITIONED

_WEEK = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BITS = 80
_LOCK = 0x534D_5347_5702

_EXISTING = text(
    "select child.relname from pg_inherits join pg_class child on child.oid = inhrelid where inhparent = any(:parents)"
)


def lowest_id(at: datetime) -> uuid.UUID:
    """Give the lower bound of the ids of all messages accepted in or after the millisecond of `at`."""
    milliseconds = max(0, (at - _EPOCH) // timedelta(milliseconds=1))
    return uuid.UUID(int=milliseconds << _RANDOM_BITS)


@attrs.frozen
class Partition:
    """One table's rows of one week, which begins on a Monday at 00:00 UTC."""

    table: str
    monday: datetime

    @property
    def name(self) -> str:
        """The partition's own name, such as `messages_w20241118`."""
        return f"{self.table}_w{self.monday:%Y%m%d}"

    @property
    def bounds(self) -> tuple[uuid.UUID, uuid.UUID]:
        """The first id, and the first that no longer belongs."""
        return lowest_id(self.monday), lowest_id(self.monday + _WEEK)


def wanted(now: datetime, weeks_ahead: int, tables: tuple[Table, ...] = PARTITIONED) -> Iterator[Partition]:
    """Name the partitions from last week (late events, and clocks that differ) to `weeks_ahead` weeks from now."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    for table in tables:
        for week in range(-1, weeks_ahead + 1):
            yield Partition(table.name, monday + week * _WEEK)


async def ensure_partitions(engine: AsyncEngine, now: datetime, weeks_ahead: int) -> list[str]:
    """Make what is missing, each partition in a transaction of its own; gives the names of those made.

    Writers lock several tables one after the other: holding one table's net while waiting for another's could become
    a deadlock. Raises StoreDown, also when a net stays in use too long; what was made until then stays.
    """
    async with reading(engine, "look for partitions") as connection:
        existing = await _existing(connection)
    made = []
    for partition in wanted(now, weeks_ahead):
        if partition.name in existing:
            continue
        async with connected(engine, "make a partition") as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if partition.name not in await _existing(connection):
                await _make(connection, partition)
                made.append(partition.name)
    return made


async def _existing(connection: AsyncConnection) -> set[str]:
    oids = [await connection.scalar(text("select to_regclass(:name)::oid"), {"name": t.name}) for t in PARTITIONED]
    return set((await connection.scalars(_EXISTING, {"parents": oids})).all())


async def _make(connection: AsyncConnection, partition: Partition) -> None:
    """Make one partition, with the week's rows that had fallen into the net until now.

    ATTACH lets readers and writers of the other weeks go on; CREATE … PARTITION OF would lock them all out.
    """
    table, name, net = partition.table, partition.name, f"{partition.table}_default"
    low, high = partition.bounds
    week = f"message_id >= '{low}' and message_id < '{high}'"
    run = connection.exec_driver_sql
    await run("set local lock_timeout = '2s'")
    await run(f"create table {name} (like {table} including defaults including constraints)")
    await run(f"lock table {net} in access exclusive mode")
    if (await run(f"select exists (select from {net} where {week})")).scalar():  # noqa: S608
        await run(f"alter table {net} disable trigger user")  # moving a row is not changing it
        await run(f"with moved as (delete from {net} where {week} returning *) insert into {name} select * from moved")  # noqa: S608
        await run(f"alter table {net} enable trigger user")
    await run(f"alter table {table} attach partition {name} for values from ('{low}') to ('{high}')")
