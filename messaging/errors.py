"""The tree of all errors. Each class has a stable `reason` and typed fields, and builds its own sentence.

GatewayError
├── CallerError                 the caller must change the request
│   ├── InvalidRequest          fields are wrong (all of them at once)
│   │   └── RequestTooLarge     the request has more bytes than are read
│   ├── NotFound                no such message of this client
│   ├── RequestIdReused         the request_id belongs to another message
│   ├── NotCancelable           a provider has taken it or may have, or the message is final
│   └── NoRoute                 no provider may take the message
├── BacklogFull                 a limit on accepted, unsent messages is reached
├── Unavailable                 something is unavailable; trying again later helps
│   ├── StreamDown              JetStream does not answer
│   ├── StreamFull              JetStream has no room
│   ├── StoreDown               PostgreSQL does not answer
│   │   └── StoreRefuses        PostgreSQL rejects this data
│   ├── ClockWrong              this machine's clock differs from the stream's
│   ├── GatewayBusy             this gateway has as many calls under way as it may
│   ├── CallTooLong             a streaming call was open or idle for too long
│   └── Draining                this process is stopping
├── SetupError                  an operator must fix something before a process can run
│   ├── ConfigError             settings are wrong (all of them at once)
│   ├── ServerTooOld            nats-server lacks a feature that is needed
│   ├── TooFewServers           there are fewer servers than copies of each stream
│   ├── TopologyConflict        a live stream differs in a way that would lose data
│   ├── ServerFailed            an embedded server did not start (ops.embedded)
│   └── ProcessFailed           one of our processes ended by itself (ops.system)
├── StoppedEarly                the process was told to stop before it could begin
└── CorruptRecord               a record on the stream that no version of this project wrote

No sentence ever contains a message's text, a whole phone number or a key.
"""

from typing import ClassVar


class GatewayError(Exception):
    """The base of all errors that this project raises on purpose."""

    reason: ClassVar[str] = "INTERNAL"


class CallerError(GatewayError):
    """The caller must change the request; repeating the same call does not help."""

    reason = "BAD_REQUEST"


class InvalidRequest(CallerError):
    """One or more fields are wrong; `violations` holds (field path, what is wrong and how to fix it), at most 20."""

    reason = "INVALID_FIELDS"
    most: ClassVar[int] = 20

    def __init__(self, violations: list[tuple[str, str]]) -> None:
        self.violations = violations[: self.most]
        shown = [f"{field}: {text}" for field, text in self.violations]
        if left_out := len(violations) - len(self.violations):
            shown.append(f"and {left_out} more")
        super().__init__("; ".join(shown))


class RequestTooLarge(InvalidRequest):
    """A request, a chunk, or a message of a chunk has more bytes than the gateway reads."""

    reason = "REQUEST_TOO_LARGE"

    def __init__(self, what: str, size_bytes: int, limit: int, cure: str) -> None:
        self.limit = limit
        super().__init__([(what, f"has {size_bytes} bytes, at most {limit} are read: {cure}")])


class NotFound(CallerError):
    """This client has no message with that id."""

    reason = "MESSAGE_NOT_FOUND"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"you have no message with this {key}")


class RequestIdReused(CallerError):
    """The request_id was used before, within the idempotency window, for a message with other contents."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(f"request_id belongs to message {message_id}, which has other contents: use a new request_id")


class NotCancelable(CallerError):
    """A provider has taken the message or may have, an attempt is in progress, or the state is final."""

    reason = "NOT_CANCELABLE"

    def __init__(self, message_id: str, state: str, *, unclear: bool = False) -> None:
        self.message_id = message_id
        self.state = state
        self.unclear = unclear
        why = (
            "the outcome of an attempt is unclear, so a provider may have taken it"
            if unclear
            else "only a waiting message that no provider has taken can be canceled"
        )
        super().__init__(f"message {message_id} is {state}: {why}")


class NoRoute(CallerError):
    """None of the providers that the caller allows is configured and enabled."""

    reason = "NO_ROUTE"

    def __init__(self, asked: tuple[str, ...]) -> None:
        self.asked = asked
        what = f"none of {', '.join(asked)} is" if asked else "no provider is"
        super().__init__(f"{what} configured and enabled: leave `providers` empty, or name others")


class BacklogFull(GatewayError):
    """Too many accepted messages wait to be sent."""

    reason = "BACKLOG_FULL"

    def __init__(self, scope: str, limit: int, retry_after_s: float) -> None:
        self.scope = scope
        self.limit = limit
        self.retry_after_s = retry_after_s
        super().__init__(f"too many messages wait for {scope}: try again later")


class Unavailable(GatewayError):
    """Something that is needed is unavailable; nothing was left half done, and trying again later helps."""

    reason = "UNAVAILABLE"
    retry_after_s: ClassVar[float] = 1.0


class StreamDown(Unavailable):
    """JetStream does not answer, or reports that it cannot work."""

    reason = "STREAM_DOWN"

    def __init__(self, during: str) -> None:
        self.during = during
        super().__init__(f"the message stream is unavailable ({during}): try again with the same request_id")


class StreamFull(Unavailable):
    """JetStream has reached a storage limit."""

    reason = "STREAM_FULL"
    retry_after_s = 10.0

    def __init__(self, stream: str) -> None:
        self.stream = stream
        super().__init__(f"the message stream {stream} is full: try again later with the same request_id")


class StoreDown(Unavailable):
    """PostgreSQL does not answer."""

    reason = "STORE_DOWN"
    retry_after_s = 2.0

    def __init__(self, during: str) -> None:
        self.during = during
        super().__init__(f"the message history is unavailable ({during}): try again later")


class StoreRefuses(StoreDown):
    """PostgreSQL answers, and will never accept this data."""


class ClockWrong(Unavailable):
    """This machine's clock differs too much from the stream's, so that times and deadlines would be wrong."""

    reason = "CLOCK_WRONG"

    def __init__(self) -> None:
        super().__init__("this gateway cannot accept messages now: call again, and another one answers")


class GatewayBusy(Unavailable):
    """This gateway has as many calls of this kind under way as `setting` allows."""

    reason = "GATEWAY_BUSY"

    def __init__(self, setting: str, limit: int) -> None:
        self.setting = setting
        self.limit = limit
        super().__init__("this gateway has as many calls under way as it may: call again a little later")


class CallTooLong(Unavailable):
    """A streaming call was open, or idle, for longer than calls may be."""

    reason = "CALL_TOO_LONG"

    def __init__(self, what: str, limit_s: float) -> None:
        self.what = what
        self.limit_s = limit_s
        super().__init__(
            f"this call was {what} for {limit_s:g} s, which is as long as it may be: call again, and send what was not "
            "answered with the same request_ids"
        )


class Draining(Unavailable):
    """This process is stopping and accepts no new calls."""

    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("this gateway is stopping: call again, and another one answers")


class SetupError(GatewayError):
    """Something that an operator must fix before a process can run."""

    reason = "SETUP"


class ConfigError(SetupError):
    """Settings are wrong; `faults` holds all of them as (key, what is wrong)."""

    reason = "CONFIG"

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{key}: {text}" for key, text in faults))


class ServerTooOld(SetupError):
    """The nats-server lacks a feature that is needed."""

    reason = "SERVER_TOO_OLD"

    def __init__(self, found: str, needed: str) -> None:
        self.found = found
        self.needed = needed
        super().__init__(
            f"nats-server offers {found}, and {needed} is needed: an older server silently ignores schedules and "
            "conditions, so this one is refused; upgrade it to 2.14 or later"
        )


class TooFewServers(SetupError):
    """The streams need several copies, and there is only a single nats-server."""

    reason = "TOO_FEW_SERVERS"

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        super().__init__(
            f"SMSGW_REPLICAS: {replicas} copies of every stream are wanted, but SMSGW_NATS_URL names a single server: "
            "set SMSGW_REPLICAS=1, or name a cluster of at least as many servers"
        )


class TopologyConflict(SetupError):
    """A live stream or consumer differs in a way that would lose data if it were changed."""

    reason = "TOPOLOGY_CONFLICT"

    def __init__(self, name: str, differences: list[str]) -> None:
        self.name = name
        self.differences = differences
        super().__init__(f"{name} was not changed, because changing it would lose data: {'; '.join(differences)}")


class StoppedEarly(GatewayError):
    """The process was told to stop while it waited for the stream, or for the right time."""

    reason = "STOPPED"


class CorruptRecord(GatewayError):
    """A record on the stream that no version of this project wrote."""

    reason = "CORRUPT_RECORD"

    def __init__(self, subject: str, why: str) -> None:
        self.subject = subject
        self.why = why
        super().__init__(f"a record on {subject} cannot be read: {why}")
