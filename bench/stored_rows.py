"""Many rows for the history, written with COPY in PostgreSQL's binary format, in batches.

Everything in message number `n` is derived from `n`, so that readers know which messages exist.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.store.engine import open_engine
from messaging.store.writer import HistoryWriter

STEP_MS = 50
"""Time between two acceptances: ten million messages take less than six days."""

PROVIDERS = 5
_BATCH = 20_000
_TIMEOUT_S = 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_ONE_FAILED_IN = 50

_Row = tuple[Any, ...]

_COLUMNS = {
    "messages": (
        "message_id client request_id recipient first_provider deadline command accept_sequence"
        " state version update_time provider attempt_count"
    ),
    "attempts": "message_id number version provider start_time end_time outcome provider_message_id",
    "events": "message_id sequence client time state provider round attempt_number next pod",
}


@attrs.frozen
class _Facts:
    """The values that all rows of one message share."""

    n: int
    message_id: str
    accepted: datetime
    provider: str
    state: int


def message_id(n: int, first_ms: int) -> uuid.UUID:
    """Return the id of message number `n`."""
    return uuid.UUID(_id(n, first_ms))


def _id(n: int, first_ms: int) -> str:
    digest = hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()
    return f"{first_ms + n * STEP_MS:012x}7{digest[:3]}8{digest[3:18]}"


def _facts(n: int, first_ms: int) -> _Facts:
    accepted = _EPOCH + timedelta(milliseconds=first_ms + n * STEP_MS)
    state = pb.MESSAGE_STATE_SENT if n % _ONE_FAILED_IN else pb.MESSAGE_STATE_FAILED
    return _Facts(n, _id(n, first_ms), accepted, f"p{n % PROVIDERS + 1}", state)


def _messages(batch: Iterable[_Facts]) -> Iterator[_Row]:
    for one in batch:
        command = _command(one)
        yield (
            *(one.message_id, command.client, command.request_id, command.recipient, one.provider),
            *(one.accepted + _DAY, command.SerializeToString(), one.n + 1),
            *(one.state, _version(one.n), one.accepted, one.provider, 1),
        )


def _command(one: _Facts) -> wire.Command:
    n = one.n
    return wire.Command(
        message_id=one.message_id,
        client="default",
        request_id=f"row-{n}",
        recipient=f"+23320{n % 10_000_000:07d}",
        body=f"A text of the usual length, number {n}",
        priority=pb.PRIORITY_NORMAL,
        provider=one.provider,
        route_reason="by weight among 5 healthy",
        accept_time=codec.timestamp(one.accepted.timestamp()),
        deadline=codec.timestamp((one.accepted + _DAY).timestamp()),
        encoding=pb.ENCODING_GSM7,
        segments=1,
        fingerprint=hashlib.md5(str(n).encode(), usedforsecurity=False).digest(),
    )


def _attempts(batch: Iterable[_Facts]) -> Iterator[_Row]:
    for one in batch:
        sent = one.state == pb.MESSAGE_STATE_SENT
        outcome = pb.ATTEMPT_OUTCOME_ACCEPTED if sent else pb.ATTEMPT_OUTCOME_PERMANENT
        yield (
            *(one.message_id, 1, _version(one.n), one.provider),
            *(one.accepted, one.accepted, outcome, f"x-{one.n}" if sent else None),
        )


def _events(batch: Iterable[_Facts]) -> Iterator[_Row]:
    for one in batch:
        for sequence, state in ((_version(one.n) - 1, pb.MESSAGE_STATE_SENDING), (_version(one.n), one.state)):
            yield one.message_id, sequence, "default", one.accepted, state, one.provider, 0, 1, 0, "bench"


def _version(n: int) -> int:
    """Return the sequence of the last of a message's two events."""
    return n * 2 + 2


_ROWS = {"messages": _messages, "attempts": _attempts, "events": _events}


async def prepare(url: str) -> None:
    """Create the partitions for the rows, as the projector does once an hour."""
    engine = open_engine(url)
    try:
        await HistoryWriter(engine).ensure_partitions(datetime.now(UTC))
    finally:
        await engine.dispose()


async def grow(url: str, first: int, last: int, first_ms: int) -> None:
    """Add the messages from `first` to before `last`, each with an attempt and two events, and analyze the tables."""
    connection = await asyncpg.connect(url)
    try:
        for begin in range(first, last, _BATCH):
            batch = [_facts(n, first_ms) for n in range(begin, min(begin + _BATCH, last))]
            for table, rows in _ROWS.items():
                columns = _COLUMNS[table].split()
                await connection.copy_records_to_table(table, records=rows(batch), columns=columns, timeout=_TIMEOUT_S)
        for table in _ROWS:
            await connection.execute(f"vacuum analyze {table}", timeout=_TIMEOUT_S)
    finally:
        await connection.close()
