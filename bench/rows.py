"""Many rows for the history, made by PostgreSQL itself: faster than any COPY, whose bytes a client would have to make.

Message number `n` has everything of it derived from `n`, so that whoever reads knows what to ask for.
"""

import hashlib
import uuid
from datetime import UTC, datetime

import asyncpg

from messaging.store.engine import open_engine
from messaging.store.history import History

STEP_MS = 50
"""Between one message's acceptance and the next one's: ten million lie within six days."""

PROVIDERS = 5
_STATES = "case when n % 50 = 0 then 8 else 5 end"  # one in fifty FAILED, the rest SENT
_ID = (
    "(lpad(to_hex($3::bigint + n * $4::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' ||"
    " substr(md5(n::text), 4, 15))::uuid"
)
_TIME = "to_timestamp(($3::bigint + n * $4::bigint) / 1000.0)"
_FROM = "from generate_series($1::bigint, $2::bigint - 1) as n"

_MESSAGES = f"""
insert into messages (message_id, client, request_id, recipient, body, priority, encoding, segments, providers,
  first_provider, route_reason, accept_time, deadline, labels, fingerprint, accept_sequence, state, version,
  update_time, provider, attempt_count)
select {_ID}, 'default', 'row-' || n, '+23320' || lpad((n % 10000000)::text, 7, '0'),
  'A text of the usual length, number ' || n, 2, 1, 1, array[]::text[], 'p' || (n % {PROVIDERS} + 1),
  'by weight among 5 healthy', {_TIME}, {_TIME} + interval '1 day', '{{}}'::jsonb, decode(md5(n::text), 'hex'),
  n + 1, {_STATES}, n * 2 + 2, {_TIME}, 'p' || (n % {PROVIDERS} + 1), 1
{_FROM}"""
_ATTEMPTS = f"""
insert into attempts (message_id, number, version, provider, start_time, end_time, outcome, provider_message_id)
select {_ID}, 1, n * 2 + 2, 'p' || (n % {PROVIDERS} + 1), {_TIME}, {_TIME}, 1, 'x-' || n {_FROM}"""
_EVENTS = f"""
insert into events (message_id, sequence, client, time, state, provider, round, attempt_number, next, pod)
select {_ID}, n * 2 + k, 'default', {_TIME}, case k when 1 then 4 else {_STATES} end, 'p' || (n % {PROVIDERS} + 1),
  0, 1, 0, 'bench' {_FROM} cross join generate_series(1, 2) as k"""


def message_id(n: int, first_ms: int) -> uuid.UUID:
    """Give the id of message number `n`."""
    digest = hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest()
    return uuid.UUID(f"{first_ms + n * STEP_MS:012x}7{digest[:3]}8{digest[3:18]}")


async def prepare(url: str) -> None:
    """Make the partitions that the rows will lie in, as the projector does once an hour."""
    engine = open_engine(url)
    try:
        await History(engine).ensure_partitions(datetime.now(UTC))
    finally:
        await engine.dispose()


async def grow(url: str, first: int, last: int, first_ms: int) -> None:
    """Add the messages from `first` to before `last`, with an attempt and two events each, and look at the tables."""
    connection = await asyncpg.connect(url)
    try:
        for statement in (_MESSAGES, _ATTEMPTS, _EVENTS):
            await connection.execute(statement, first, last, first_ms, STEP_MS, timeout=3600)
        for table in ("messages", "attempts", "events"):
            await connection.execute(f"vacuum analyze {table}", timeout=3600)
    finally:
        await connection.close()
