"""Creates the weekly partitions while readers and writers run."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from messaging.store.engine import reading, transaction
from messaging.store.tables import PARTITIONED

_WEEK = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BITS = 80
_LOCK = 0x534D_5347_5702

_EXISTING = text(
    "select child.relname from pg_inherits join pg_class child on child.oid = inhrelid where inhparent = any(:parents)"
)


def lowest_id(at: datetime) -> uuid.UUID:
    """Return the lowest id that a message accepted in the millisecond of `at` or later can have."""
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
        """The first id of the week, and the first id of the next week."""
        return lowest_id(self.monday), lowest_id(self.monday + _WEEK)


def wanted(now: datetime, weeks_ahead: int, tables: tuple[Table, ...] = PARTITIONED) -> Iterator[Partition]:
    """Yield the partitions from last week (for late events and clock differences) to `weeks_ahead` weeks from now."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    for table in tables:
        for week in range(-1, weeks_ahead + 1):
            yield Partition(table.name, monday + week * _WEEK)


async def ensure_partitions(engine: AsyncEngine, now: datetime, weeks_ahead: int) -> list[str]:
    """Create the missing partitions, each in its own transaction; returns the names of those created.

    Writers lock several tables one after the other, so that holding one table's DEFAULT partition while waiting for
    another's could deadlock. Raises StoreDown, also when a DEFAULT partition stays locked too long; partitions created
    before that stay.
    """
    async with reading(engine, "look for partitions") as connection:
        existing = await _existing(connection)
    made = []
    for partition in wanted(now, weeks_ahead):
        if partition.name in existing:
            continue
        async with transaction(engine, "make a partition") as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if partition.name not in await _existing(connection):
                await _make(connection, partition)
                made.append(partition.name)
    return made


async def _existing(connection: AsyncConnection) -> set[str]:
    oids = [await connection.scalar(text("select to_regclass(:name)::oid"), {"name": t.name}) for t in PARTITIONED]
    return set((await connection.scalars(_EXISTING, {"parents": oids})).all())


async def _make(connection: AsyncConnection, partition: Partition) -> None:
    """Create one partition, and move the week's rows into it from the DEFAULT partition.

    ATTACH lets readers and writers of other weeks continue; CREATE … PARTITION OF would lock all of them out.
    """
    table, name, default = partition.table, partition.name, f"{partition.table}_default"
    low, high = partition.bounds
    week = f"message_id >= '{low}' and message_id < '{high}'"
    run = connection.exec_driver_sql
    await run("set local lock_timeout = '2s'")
    await run(f"create table {name} (like {table} including defaults including constraints)")
    await run(f"lock table {default} in access exclusive mode")
    if (await run(f"select exists (select from {default} where {week})")).scalar():  # noqa: S608
        await run(f"alter table {default} disable trigger user")  # it would refuse the delete
        moved = f"delete from {default} where {week} returning *"  # noqa: S608
        await run(f"with moved as ({moved}) insert into {name} select * from moved")  # noqa: S608
        await run(f"alter table {default} enable trigger user")
    await run(f"alter table {table} attach partition {name} for values from ('{low}') to ('{high}')")
