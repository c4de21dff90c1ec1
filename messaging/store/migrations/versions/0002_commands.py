"""Store what was accepted as one serialized command, with columns only for what is searched.

Every stored message is rewritten, in one transaction that locks the table from the start, so that nothing is written
between reading the old columns and dropping them. Processes of the previous version find the history unavailable from
then until they are replaced; they keep what they have to write, and lose nothing.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sms.dispatch.v1 import dispatch_pb2

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BATCH = 5000

# The columns of revision 0001 that were fields of a Command, as they were then.
_DROPPED = {
    "sender": "text",
    "body": "text",
    "priority": "smallint",
    "encoding": "smallint",
    "segments": "integer",
    "providers": "text[]",
    "route_reason": "text",
    "accept_time": "timestamptz",
    "schedule_time": "timestamptz",
    "labels": "jsonb",
    "callback_url": "text",
    "fingerprint": "bytea",
    "traceparent": "text",
}
_FIELDS = ("client", "request_id", "recipient", "client_reference", "deadline", *_DROPPED)

_COMMENTS = {
    "command": "dispatch.v1.Command, serialized, as it was accepted",
    "command_key": "names the key under which command is encrypted; null: it is not",
    "deadline": "the one in force: of the newest event that gives one",
}


def upgrade() -> None:
    """Add the serialized command, fill it from the columns, and drop the columns."""
    op.execute("alter table messages add column command bytea, add column command_key text")
    _fill(op.get_bind())
    op.execute("alter table messages " + ", ".join(f"drop column {name}" for name in (*_DROPPED, "trace_id")))
    for name, text in _COMMENTS.items():
        op.execute(f"comment on column messages.{name} is '{text}'")


def downgrade() -> None:
    """Add the columns again, fill them from the command, and drop the command."""
    kinds = ", ".join(f"add column {name} {kind}" for name, kind in (*_DROPPED.items(), ("trace_id", "text")))
    op.execute(f"alter table messages {kinds}")
    _unfold(op.get_bind())
    op.execute("alter table messages drop column command, drop column command_key")
    op.execute("comment on column messages.trace_id is 'the middle part of traceparent'")
    op.execute("comment on column messages.deadline is null")


def _fill(connection: sa.Connection) -> None:
    """Fill the command of all accepted messages, in the order of their ids."""
    page = sa.text(
        f"select message_id, first_provider, {', '.join(_FIELDS)} from messages"  # noqa: S608 - names of ours
        " where accept_sequence is not null and (cast(:after as uuid) is null or message_id > :after)"
        " order by message_id limit :size"
    )
    write = sa.text(
        "update messages set command = given.command"
        " from unnest(cast(:ids as uuid[]), cast(:commands as bytea[])) as given (id, command)"
        " where message_id = given.id"
    )
    after = None
    while rows := connection.execute(page, {"after": after, "size": _BATCH}).all():
        commands = [_command(row).SerializeToString() for row in rows]
        connection.execute(write, {"ids": [row.message_id for row in rows], "commands": commands})
        after = rows[-1].message_id


def _command(row: Any) -> dispatch_pb2.Command:
    command = dispatch_pb2.Command(message_id=str(row.message_id), provider=row.first_provider or "")
    for name in _FIELDS:
        match getattr(row, name):
            case None:
                continue
            case datetime() as value:
                getattr(command, name).FromDatetime(value)
            case dict() as value:
                getattr(command, name).update(value)
            case str() | bytes() | int() as value:
                setattr(command, name, value)
            case Sequence() as value:
                getattr(command, name).extend(value)
    return command


def _unfold(connection: sa.Connection) -> None:
    """Fill the old columns of all accepted messages."""
    page = sa.text(
        "select message_id, command from messages"
        " where command is not null and (cast(:after as uuid) is null or message_id > :after)"
        " order by message_id limit :size"
    )
    columns = ", ".join(f"{name} = cast(:{name} as {kind})" for name, kind in _DROPPED.items())
    write = sa.text(f"update messages set {columns}, trace_id = :trace_id where message_id = :message_id")  # noqa: S608
    after = None
    while rows := connection.execute(page, {"after": after, "size": _BATCH}).all():
        connection.execute(write, [{"message_id": row.message_id, **_old_columns(row.command)} for row in rows])
        after = rows[-1].message_id


def _old_columns(data: bytes) -> dict[str, Any]:
    command = dispatch_pb2.Command.FromString(data)
    trace = command.traceparent.split("-")
    values: dict[str, Any] = {"trace_id": trace[1] if len(trace) == 4 else None}
    for name, kind in _DROPPED.items():
        value = getattr(command, name)
        if kind == "timestamptz":
            values[name] = value.ToDatetime(tzinfo=UTC) if command.HasField(name) else None  # type: ignore[arg-type]
        elif kind == "jsonb":
            values[name] = json.dumps({key: _text(one) for key, one in value.items()})
        elif kind == "text[]":
            values[name] = [_text(one) for one in value]
        elif kind == "text":
            values[name] = _text(value) or None
        else:
            values[name] = value or None if kind == "bytea" else value
    return values


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd")  # PostgreSQL cannot store NUL
