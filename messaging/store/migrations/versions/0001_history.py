"""The history: messages, attempts and events, partitioned by message_id (see `tables.py` for the reasons)."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MESSAGES = """
create table messages (
    message_id uuid primary key,
    client text not null,
    request_id text,
    client_reference text,
    recipient text,
    sender text,
    body text,
    priority smallint,
    encoding smallint,
    segments integer,
    providers text[],
    first_provider text,
    route_reason text,
    accept_time timestamptz,
    schedule_time timestamptz,
    deadline timestamptz,
    labels jsonb,
    callback_url text,
    fingerprint bytea,
    traceparent text,
    trace_id text,
    accept_sequence bigint,
    state smallint not null,
    version bigint not null,
    update_time timestamptz,
    provider text,
    next_attempt_time timestamptz,
    reason text,
    detail text,
    provider_message_id text,
    attempt_count integer not null
) partition by range (message_id)
"""

_ATTEMPTS = """
create table attempts (
    message_id uuid,
    number integer,
    version bigint not null,
    provider text not null,
    start_time timestamptz,
    end_time timestamptz,
    outcome smallint not null,
    provider_message_id text,
    code text,
    detail text,
    primary key (message_id, number)
) partition by range (message_id)
"""

_EVENTS = """
create table events (
    message_id uuid,
    sequence bigint,
    client text not null,
    time timestamptz,
    state smallint not null,
    provider text,
    reason text,
    detail text,
    round integer not null,
    attempt_number integer not null,
    next smallint not null,
    due_time timestamptz,
    pod text,
    primary key (message_id, sequence)
) partition by range (message_id)
"""

_COMMENTS = {
    "table events": "Append-only: a trigger refuses to change or delete a row.",
    "column messages.request_id": "null when the caller gave none",
    "column messages.client_reference": "null when the caller gave none",
    "column messages.providers": "what the caller restricted the choice to",
    "column messages.first_provider": "the first choice of the gateway",
    "column messages.trace_id": "the middle part of traceparent",
    "column messages.accept_sequence": "null until the accept record is projected",
    "column messages.version": "stream sequence of the newest event; 0: only accepted",
    "column messages.provider": "who has the message, or is to get it next",
    "column attempts.version": "stream sequence of the event that last told of it",
    "column events.sequence": "in the stream SMS_EVENT",
    "column events.attempt_number": "how many attempts had been made",
    "column events.next": "dispatch.v1.NextStep",
}

_INDEXES = (
    "create index messages_by_request_id on messages (client, request_id, message_id) where request_id is not null",
    """
    create index messages_by_reference on messages (client, client_reference, message_id)
    where client_reference is not null
    """,
    "create index messages_by_client on messages (client, message_id)",
    "create index messages_by_recipient on messages (client, recipient, message_id)",
    "create index messages_by_state on messages (client, state, message_id)",
    "create index messages_by_provider on messages (client, provider, message_id)",
    "create index messages_by_deadline on messages (deadline) where state in (1, 2, 3, 4)",
)

_APPEND_ONLY = (
    """
    create function events_are_append_only() returns trigger language plpgsql as $$
    begin
        raise exception 'events are append-only: % is refused', lower(tg_op) using errcode = 'restrict_violation';
    end $$
    """,
    """
    create trigger events_are_append_only before update or delete on events
    for each row execute function events_are_append_only()
    """,
)


def upgrade() -> None:
    """Make the tables with their nets, the indexes, and the guard of the events."""
    for statement in (_MESSAGES, _ATTEMPTS, _EVENTS):
        op.execute(statement)
    for table in ("messages", "attempts", "events"):
        op.execute(f"create table {table}_default partition of {table} default")
    for statement in (*_INDEXES, *_APPEND_ONLY):
        op.execute(statement)
    for target, text in _COMMENTS.items():
        op.execute(f"comment on {target} is '{text}'")
