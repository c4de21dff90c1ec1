"""Reads the history. Every read is limited to one client, except those for operators and for the sweeper."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from sms.dispatch.v1 import dispatch_pb2
from sms.gateway.v1 import gateway_pb2
from sms.gateway.v1 import message_pb2 as pb
from sqlalchemy import ColumnElement, Row, Select, literal, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from messaging.store import statuses
from messaging.store.engine import reading
from messaging.store.retention import lowest_id
from messaging.store.tables import attempts, events, messages


@attrs.frozen
class StoredEvent:
    """One event as the history stores it; empty texts are None, and `next` is a dispatch.v1.NextStep."""

    message_id: uuid.UUID
    sequence: int
    client: str
    time: datetime | None
    state: int
    provider: str | None
    reason: str | None
    detail: str | None
    round: int
    attempt_number: int
    next: int
    due_time: datetime | None
    pod: str | None


@attrs.frozen
class Overdue:
    """A message that is past its deadline and not final, as far as the history knows."""

    client: str
    message_id: str
    state: int
    deadline: datetime


_UNFINISHED = text("state IN (1, 2, 3, 4)")


class HistoryReader:
    """The reader of the history. All methods raise StoreDown; an id that is not a UUID is not found."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def ping(self) -> None:
        """Return once PostgreSQL has answered."""
        async with reading(self._engine, "ping") as connection:
            await connection.execute(select(literal(1)))

    async def find(self, client: str, message_id: str | uuid.UUID) -> pb.MessageStatus | None:
        """Return a message's status, or None when the client has no such message."""
        if (known := _uuid(message_id)) is None:
            return None
        found = await self._statuses("find", _of_client(client).where(messages.c.message_id == known))
        return found[0] if found else None

    async def find_by_request_id(self, client: str, request_id: str) -> pb.MessageStatus | None:
        """Return the status of the newest message with this request_id; None when there is none or it is empty."""
        newest = _of_client(client).where(messages.c.request_id == request_id).order_by(messages.c.message_id.desc())
        found = await self._statuses("find by request_id", newest.limit(1))
        return found[0] if found else None

    async def list_page(
        self, client: str, wanted: gateway_pb2.ListMessagesRequest, after: str | uuid.UUID | None, limit: int
    ) -> list[pb.MessageStatus]:
        """List up to `limit` messages, newest first, that are older than the id `after` and match `wanted`'s filters.

        Times are compared in whole milliseconds, as ids are. The page size and page token of `wanted` are not used.
        """
        page = _of_client(client).where(*_filters(wanted)).order_by(messages.c.message_id.desc()).limit(limit)
        if after is not None:
            page = page.where(messages.c.message_id < (after if isinstance(after, uuid.UUID) else uuid.UUID(after)))
        return await self._statuses("list", page)

    async def events(self, client: str | None, message_id: str | uuid.UUID) -> list[StoredEvent]:
        """Return a message's events in their order; client None is for operators and finds any client's message."""
        if (known := _uuid(message_id)) is None:
            return []
        names = [field.name for field in attrs.fields(StoredEvent)]
        query = select(*(events.c[name] for name in names)).where(events.c.message_id == known)
        if client is not None:
            query = query.where(events.c.client == client)
        async with reading(self._engine, "read events") as connection:
            rows = await connection.execute(query.order_by(events.c.sequence))
            return [StoredEvent(**row) for row in rows.mappings()]

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        """Return messages of all clients with a deadline before `before` that are not final, oldest deadline first.

        `after` is the last message of the previous page.
        """
        place = tuple_(messages.c.deadline, messages.c.message_id)
        query = (
            select(messages.c.client, messages.c.message_id, messages.c.state, messages.c.deadline)
            .where(_UNFINISHED, messages.c.deadline < before)
            .order_by(messages.c.deadline, messages.c.message_id)
            .limit(limit)
        )
        if after is not None:
            last = literal(after.deadline, messages.c.deadline.type), literal(uuid.UUID(after.message_id))
            query = query.where(place > tuple_(*last))
        async with reading(self._engine, "find the overdue") as connection:
            rows = await connection.execute(query)
            return [Overdue(row.client, str(row.message_id), row.state, row.deadline) for row in rows]

    async def commands(self, wanted: Sequence[Overdue]) -> dict[str, dispatch_pb2.Command]:
        """Return what was accepted, by message id, without what is not projected yet.

        Of a row that cannot be read, only what identifies the message: it has to end all the same.
        """
        query = select(messages).where(messages.c.message_id.in_([uuid.UUID(one.message_id) for one in wanted]))
        async with reading(self._engine, "read commands") as connection:
            rows = (await connection.execute(query)).all() if wanted else []
        found = {}
        for row in rows:
            if (command := statuses.command_or_name(row)) is not None:
                found[str(row.message_id)] = command
        return found

    async def command(self, client: str, message_id: str | uuid.UUID) -> dispatch_pb2.Command | None:
        """Return what was accepted, including the text; None until the accept record is projected.

        Raises CorruptRecord when it cannot be read.
        """
        if (known := _uuid(message_id)) is None:
            return None
        query = _of_client(client).where(messages.c.message_id == known)
        async with reading(self._engine, "read a command") as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else statuses.command_from_row(row)

    async def _statuses(self, during: str, query: Select[*tuple[Any, ...]]) -> list[pb.MessageStatus]:
        async with reading(self._engine, during) as connection:
            rows = (await connection.execute(query)).all()
            attempts_of = await _attempts_of(connection, rows)
        return [statuses.status_from_row(row, attempts_of[row.message_id]) for row in rows]


def _uuid(message_id: str | uuid.UUID) -> uuid.UUID | None:
    if isinstance(message_id, uuid.UUID):
        return message_id
    try:
        return uuid.UUID(message_id)
    except ValueError:
        return None


def _of_client(client: str) -> Select[*tuple[Any, ...]]:
    return select(messages).where(messages.c.client == client)


def _filters(wanted: gateway_pb2.ListMessagesRequest) -> list[ColumnElement[bool]]:
    """Turn the filters that are set into conditions; times become ranges of ids, so that PostgreSQL skips weeks."""
    filters: list[ColumnElement[bool]] = []
    if wanted.HasField("start_time"):
        filters.append(messages.c.message_id >= lowest_id(wanted.start_time.ToDatetime(tzinfo=UTC)))
    if wanted.HasField("end_time"):
        filters.append(messages.c.message_id < lowest_id(wanted.end_time.ToDatetime(tzinfo=UTC)))
    if wanted.states:
        filters.append(messages.c.state.in_(list(wanted.states)))
    named = ((name, getattr(wanted, name)) for name in ("provider", "recipient", "client_reference"))
    return [*filters, *(messages.c[name] == value for name, value in named if value)]


async def _attempts_of(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> defaultdict[uuid.UUID, list[Row[Any]]]:
    """Read the attempts of a page of messages."""
    found: defaultdict[uuid.UUID, list[Row[Any]]] = defaultdict(list)
    ids = [row.message_id for row in rows if row.attempt_count]
    if not ids:
        return found
    query = select(attempts).where(attempts.c.message_id.in_(ids))
    for row in await connection.execute(query.order_by(attempts.c.message_id, attempts.c.number)):
        found[row.message_id].append(row)
    return found
