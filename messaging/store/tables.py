"""The three tables of the history: messages, their attempts, and all their events.

The tables are partitioned by ranges of message_id, one week each. The history holds 10^8 messages and more, and old
weeks are deleted: dropping a week's partition takes milliseconds, while deleting its rows would take hours and leave
the table fragmented. A partition key must be part of every primary key, and every read is by message_id or by an index
on (client, …, message_id). A message_id is a UUIDv7, whose first 48 bits are the milliseconds of its acceptance, so a
week is a range of ids. The one column is primary key, time order and partition key, and the events and attempts of a
message are in the same week as the message. A query for a time span becomes a range of ids, so that PostgreSQL skips
the other weeks.

The DEFAULT partition takes the rows of a week that has no partition yet. `retention.ensure_partitions` keeps it empty,
because a week's partition cannot be attached while the default partition holds rows of that week.

All columns that come from the accept record may be null: an event may be projected before its accept record.
"""

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

_TIME = TIMESTAMP(timezone=True)
_BY_MESSAGE = "RANGE (message_id)"

metadata = MetaData()

messages = Table(
    "messages",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("client", Text, nullable=False),
    # From the accept record; written once. There are columns only for what is searched or needed by an upsert;
    # everything else that was accepted is in `command`.
    Column("request_id", Text, comment="null when the caller gave none"),
    Column("client_reference", Text, comment="null when the caller gave none"),
    Column("recipient", Text),
    Column("first_provider", Text, comment="the first choice of the gateway"),
    Column("deadline", _TIME, comment="the one in force: of the newest event that gives one"),
    Column("command", LargeBinary, comment="dispatch.v1.Command, serialized, as it was accepted"),
    Column("command_key", Text, comment="names the key under which command is encrypted; null: it is not"),
    Column("accept_sequence", BigInteger, comment="null until the accept record is projected"),
    # From the newest event, or from the accept record while there is none.
    Column("state", SmallInteger, nullable=False),
    Column("version", BigInteger, nullable=False, comment="stream sequence of the newest event; 0: only accepted"),
    Column("update_time", _TIME),
    Column("provider", Text, comment="who has the message, or is to get it next"),
    Column("next_attempt_time", _TIME),
    Column("reason", Text),
    Column("detail", Text),
    Column("provider_message_id", Text),
    Column("attempt_count", Integer, nullable=False),
    # `request_id = …` implies the condition, so queries can use these two indexes, which stay small.
    Index(
        "messages_by_request_id",
        "client",
        "request_id",
        "message_id",
        postgresql_where=text("request_id IS NOT NULL"),
    ),
    Index(
        "messages_by_reference",
        "client",
        "client_reference",
        "message_id",
        postgresql_where=text("client_reference IS NOT NULL"),
    ),
    Index("messages_by_client", "client", "message_id"),
    Index("messages_by_recipient", "client", "recipient", "message_id"),
    Index("messages_by_state", "client", "state", "message_id"),
    Index("messages_by_provider", "client", "provider", "message_id"),
    # ACCEPTED, SCHEDULED, QUEUED, SENDING: a small part of all messages, which the sweeper searches.
    Index("messages_by_deadline", "deadline", postgresql_where=text("state IN (1, 2, 3, 4)")),
    postgresql_partition_by=_BY_MESSAGE,
)

attempts = Table(
    "attempts",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False, comment="stream sequence of the event that last told of it"),
    Column("provider", Text, nullable=False),
    Column("start_time", _TIME),
    Column("end_time", _TIME),
    Column("outcome", SmallInteger, nullable=False),
    Column("provider_message_id", Text),
    Column("code", Text),
    Column("detail", Text),
    postgresql_partition_by=_BY_MESSAGE,
)

events = Table(
    "events",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False, comment="in the stream SMS_EVENT"),
    Column("client", Text, nullable=False),
    Column("time", _TIME),
    Column("state", SmallInteger, nullable=False),
    Column("provider", Text),
    Column("reason", Text),
    Column("detail", Text),
    Column("round", Integer, nullable=False),
    Column("attempt_number", Integer, nullable=False, comment="how many attempts had been made"),
    Column("next", SmallInteger, nullable=False, comment="dispatch.v1.NextStep"),
    Column("due_time", _TIME),
    Column("pod", Text),
    comment="Append-only: a trigger refuses to change or delete a row.",
    postgresql_partition_by=_BY_MESSAGE,
)

PARTITIONED = (messages, attempts, events)
