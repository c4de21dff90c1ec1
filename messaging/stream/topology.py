"""The wanted streams, consumers and buckets, and the names of all subjects and headers. Pure.

Every subject of a message ends with its address (`<client>.<key>.<time>`):

    sms.accept.<provider>.<lane>.<address>   accepted; the lane is `later` for a scheduled message
    sms.send.<provider>.<lane>.<address>     queued for a provider
    sms.event.<address>                      its events; the last one gives its state
    sms.later.<address>                      its schedule, which fires to sms.due.<provider>.<lane>.<address>
    sms.dlq.<provider>.<reason>.<address>    its dead letter, for an operator
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from messaging.errors import CorruptRecord
from messaging.model import LATER, Address, Lane
from messaging.runtime.config import Settings

EVERY_EVENT = "sms.event.>"
"""The subjects of all events."""

ACCEPT, SEND, EVENT, LATER_STREAM, DLQ = "SMS_ACCEPT", "SMS_SEND", "SMS_EVENT", "SMS_LATER", "SMS_DLQ"
LIMITS_BUCKET, BREAKERS_BUCKET = "SMS_LIMITS", "SMS_BREAKERS"
SCHEDULE_CONSUMER, PROJECT_ACCEPT, PROJECT_EVENT = "schedule", "project-accept", "project-event"

H_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
H_EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
H_TTL = "Nats-TTL"
H_SCHEDULE, H_SCHEDULE_TARGET, H_SCHEDULE_TTL = "Nats-Schedule", "Nats-Schedule-Target", "Nats-Schedule-TTL"
H_SCHEDULER, H_SCHEDULE_NEXT = "Nats-Scheduler", "Nats-Schedule-Next"

NANOS = 1_000_000_000
DUE_KEPT_S = 72 * 3600
"""How long a schedule that has fired is kept: as long as a message may be valid after it."""
MIN_API_LEVEL = 4
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_token(name: str) -> bool:
    """Whether a name may be a part of a subject and of a consumer's name as it is."""
    return _TOKEN.fullmatch(name) is not None


def token(name: str) -> str:
    """Return what may become a part of a subject as it is; raises CorruptRecord."""
    if not is_token(name):
        raise CorruptRecord("a subject", "a name in it would not be one part of the subject")
    return name


def accept_subject(provider: str, lane: str, address: Address) -> str:
    """Name the subject of a message's acceptance; `lane` may be LATER."""
    return f"sms.accept.{provider}.{lane}.{address}"


def accept_key_filter(client: str, key: str) -> str:
    """Match every acceptance under one idempotency key; all writers must use this exact filter."""
    return f"sms.accept.*.*.{client}.{key}.*"


def accept_filter(address: Address) -> str:
    """Match the acceptance of one message."""
    return f"sms.accept.*.*.{address}"


def send_subject(provider: str, lane: str, address: Address) -> str:
    """Name the subject of a message in a provider's queue."""
    return f"sms.send.{provider}.{lane}.{address}"


def event_subject(address: Address) -> str:
    """Name the subject of a message's events."""
    return f"sms.event.{address}"


def event_key_filter(client: str, key: str) -> str:
    """Match the events of every message under one idempotency key."""
    return f"sms.event.{client}.{key}.*"


def later_subject(address: Address) -> str:
    """Name the subject of a message's schedule."""
    return f"sms.later.{address}"


def later_key_filters(client: str, key: str) -> tuple[str, str]:
    """Match every schedule under one idempotency key: those that wait, and those that have fired."""
    return f"sms.later.{client}.{key}.*", f"sms.due.*.*.{client}.{key}.*"


def due_subject(provider: str, lane: str, address: Address) -> str:
    """Name the subject to which a message's schedule fires."""
    return f"sms.due.{provider}.{lane}.{address}"


def dlq_subject(provider: str, reason: str, address: Address) -> str:
    """Name the subject of a message's dead letter."""
    return f"sms.dlq.{provider}.{reason}.{address}"


def dispatch_consumer(provider: str, lane: str) -> str:
    """Name the durable consumer of one lane."""
    return f"dispatch-{provider}-{lane}"


@attrs.frozen
class Stream:
    """One stream: its `config` as the server's API takes it, and the configs of its `consumers` by name."""

    name: str
    config: Mapping[str, Any]
    consumers: Mapping[str, Mapping[str, Any]] = attrs.Factory(dict)


def _lane_transform(lane: str) -> dict[str, str]:
    tail = ".".join(f"{{{{wildcard({n})}}}}" for n in (2, 3, 4))
    return {"src": f"sms.accept.*.{lane}.*.*.*", "dest": f"sms.send.{{{{wildcard(1)}}}}.{lane}.{tail}"}


_DUE_TRANSFORM = {
    "src": "sms.due.*.*.*.*.*",
    "dest": "sms.send." + ".".join(f"{{{{wildcard({n})}}}}" for n in (1, 2, 3, 4, 5)),
}


def streams(settings: Settings, providers: Iterable[str]) -> list[Stream]:
    """Return all streams that must exist, in an order in which they can be created."""
    servers, gateway = settings.servers, settings.gateway
    common = {"storage": "file", "num_replicas": servers.replicas}
    limits = {**common, "retention": "limits", "max_msgs_per_subject": -1, "discard": "old"}
    ack_wait = settings.fleet.ack_wait_s
    return [
        Stream(
            ACCEPT,
            {
                **limits,
                "subjects": ["sms.accept.>"],
                "max_msgs_per_subject": 1,
                "max_age": int(gateway.window_s * NANOS),
                "max_bytes": servers.accept_max_bytes,
                "discard": "new",
                "allow_msg_ttl": True,
            },
            {
                SCHEDULE_CONSUMER: _pull(f"sms.accept.*.{LATER}.>", ack_wait),
                PROJECT_ACCEPT: _pull("sms.accept.>", ack_wait, pending=20_000),
            },
        ),
        Stream(
            LATER_STREAM,
            {
                **limits,
                "subjects": ["sms.later.>", "sms.due.>"],
                "allow_msg_schedules": True,
                "allow_msg_ttl": True,
                "allow_rollup_hdrs": True,
            },
        ),
        _queues(common, providers, ack_wait),
        Stream(
            EVENT,
            {**limits, "subjects": [EVERY_EVENT], "max_age": int(servers.event_days * 86400 * NANOS)},
            {PROJECT_EVENT: _pull(EVERY_EVENT, ack_wait, pending=20_000)},
        ),
        Stream(DLQ, {**limits, "subjects": ["sms.dlq.>"], "max_age": int(servers.dead_letter_days * 86400 * NANOS)}),
        *(_bucket(name, common) for name in (LIMITS_BUCKET, BREAKERS_BUCKET)),
    ]


def _queues(common: Mapping[str, Any], providers: Iterable[str], ack_wait_s: float) -> Stream:
    return Stream(
        SEND,
        {
            **common,
            "retention": "workqueue",
            "discard": "old",
            "subjects": ["sms.send.>"],
            "max_msgs_per_subject": 1,
            "sources": [
                {"name": ACCEPT, "subject_transforms": [_lane_transform(lane) for lane in Lane]},
                {"name": LATER_STREAM, "subject_transforms": [_DUE_TRANSFORM]},
            ],
        },
        {
            dispatch_consumer(provider, lane): _pull(f"sms.send.{provider}.{lane}.>", ack_wait_s)
            for provider in providers
            for lane in Lane
        },
    )


def _bucket(name: str, common: Mapping[str, Any]) -> Stream:
    return Stream(
        f"KV_{name}",
        {
            **common,
            "retention": "limits",
            "discard": "new",
            "subjects": [f"$KV.{name}.>"],
            "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
        },
    )


def _pull(subject: str, ack_wait_s: float, *, pending: int = 1024) -> dict[str, Any]:
    # max_deliver is unlimited: beyond a limit, a work queue would keep a message without ever delivering it.
    return {
        "filter_subject": subject,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * NANOS),
        "max_deliver": -1,
        "max_ack_pending": pending,
        "max_waiting": 512,
    }


# Fields that may change on a live stream without losing a message.
_SAFE_TO_CHANGE = frozenset({"num_replicas", "allow_direct", "allow_msg_ttl", "allow_rollup_hdrs", "discard"})
# Fields that may grow, while lowering them would delete messages.
_LIMITS = frozenset({"max_age", "max_bytes"})
_UNLIMITED = {"max_age": 0, "max_bytes": -1}


@attrs.frozen
class Difference:
    """One field of a live stream that is not as wanted; `loses_data`: changing it could lose messages."""

    field: str
    live: Any
    wanted: Any
    loses_data: bool

    def __str__(self) -> str:
        """Describe it for people."""
        return f"{self.field} is {self.live!r}, wanted {self.wanted!r}"


def differences(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Difference]:
    """Compare every field of a stream's or consumer's wanted configuration with the live one."""
    found = []
    for field, value in wanted.items():
        current = live.get(field, _absent(value))
        if field == "sources":
            current = [{k: source.get(k) for k in ("name", "subject_transforms")} for source in current]
        if current != value:
            found.append(Difference(field, current, value, _loses_data(field, current, value)))
    return found


def _absent(wanted: Any) -> Any:
    if isinstance(wanted, bool):
        return False
    if isinstance(wanted, int):
        return 0 if wanted >= 0 else -1
    return [] if isinstance(wanted, list) else ""


def _loses_data(field: str, live: Any, wanted: Any) -> bool:
    if field in _SAFE_TO_CHANGE:
        return False
    if field in _LIMITS:
        unlimited = _UNLIMITED[field]
        return bool(wanted != unlimited and (live == unlimited or wanted < live))
    return True
