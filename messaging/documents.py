"""The values in the shared buckets: breakers, pauses, leases, the table of shares, the leader. Pure.

A bucket holds JSON documents. `to_document` converts a value to its document, and a `read_…` function converts it back.
A document of the wrong shape raises CorruptRecord; keys that only a newer version knows are ignored.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from messaging.errors import CorruptRecord

_T = TypeVar("_T")

ALLOC, LEADER, BACKLOG = "alloc", "leader", "backlog"
"""Keys of the limits bucket, besides those of the leases."""

_MOST_TEXTS, _LONGEST_TEXT = 16, 500
THROTTLED, REFUSED = "throttled", "refused"
"""Causes of an open breaker besides failed calls."""

_LAST_MOMENT = 2.0**40
_LONGEST_PAUSE_S = 7 * 86_400.0 + 1


def breaker_key(provider: str) -> str:
    """Name the key of a provider's breaker, in the breakers bucket."""
    return f"breaker.{provider}"


def pause_key(provider: str) -> str:
    """Name the key of a provider's pause, in the breakers bucket."""
    return f"pause.{provider}"


def lease_key(pod: str) -> str:
    """Name the key of a pod's lease, in the limits bucket."""
    return f"lease.{pod}"


NOTICES = "notice.*"
"""The keys of all notices, in the limits bucket."""


def notice_key(pod: str) -> str:
    """Name the key of a process's notice, in the limits bucket."""
    return "notice." + pod.replace(".", "-")


class Mode(enum.StrEnum):
    """The three modes of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.frozen
class BreakerState:
    """The state of one breaker, shared by all pods and the gateway.

    `generation` counts changes. `probe` names the pod that may send a probe while the breaker is half-open. `forced`:
    an operator opened it, and it stays open until an operator resets it. `cause` is THROTTLED, REFUSED or empty (calls
    failed). `until` (Unix seconds) is when an open breaker may probe; 0: a cooldown after it was seen. `since` (Unix
    seconds) is when it was last closed; 0: it is closed, or a pod of an older version opened it.
    """

    mode: Mode = Mode.CLOSED
    generation: int = 0
    reason: str = ""
    probe: str = ""
    forced: bool = False
    cause: str = ""
    until: float = 0.0
    since: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return {
            "state": str(self.mode),
            "generation": self.generation,
            "reason": self.reason,
            "probe": self.probe,
            "forced": self.forced,
            "cause": self.cause,
            "until": self.until,
            "since": self.since,
        }


@attrs.frozen
class Pause:
    """A short time without sends to a provider: at most `seconds`, and until `until` (Unix seconds), for a `reason`.

    One that a pod of an older version wrote has neither `until` nor `reason`, and lasts `seconds` from when it is read.
    """

    seconds: float
    until: float = 0.0
    reason: str = ""

    def left_s(self, unix_now: float) -> float:
        """Return how long it still lasts."""
        return min(self.seconds, max(0.0, self.until - unix_now)) if self.until else self.seconds

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return {"pause_s": self.seconds, "until": self.until, "reason": self.reason}


@attrs.frozen
class Lease:
    """What a pod reports: the rate it wants (`demand`), its costliest waiting message (`floor`), the table it applied.

    `demand` and `floor` are units a second, `version` is that of the table. `sent` counts its sends since it started,
    and `lately` those in the second before the report; None from a pod of an older version.
    `gone`: the pod has stopped sending and gives its share back. With `rests_s` the pod rests: it renews seldom, sends
    nothing after this lease's usual time, and may take its share up again within `rests_s` seconds.
    """

    provider: str
    demand: int
    floor: int = 1
    version: int = 0
    sent: int = 0
    gone: bool = False
    lately: int | None = None
    rests_s: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return attrs.asdict(self)


@attrs.frozen
class Grant:
    """A pod's `share`, and the older share that it may still be using (`held`) until it confirms `held_version`."""

    provider: str
    share: int = 0
    held: int = 0
    held_version: int = 0

    @property
    def reserved(self) -> int:
        """The most that the pod can be using."""
        return max(self.share, self.held)


@attrs.frozen
class Table:
    """The shares of all pods, by pod: one document, and each change is a new version."""

    version: int = 0
    grants: Mapping[str, Grant] = attrs.Factory(dict)

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return {"version": self.version, "grants": {pod: attrs.asdict(grant) for pod, grant in self.grants.items()}}


@attrs.frozen
class Notice:
    """What keeps a process (`service`, such as dispatcher) from its work: (code, sentence) of each problem."""

    service: str
    problems: tuple[tuple[str, str], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return {"service": self.service, "problems": dict(self.problems)}


@attrs.frozen
class Backlog:
    """What waits in the work queue, counted once for the whole fleet by a coordinator (`by`).

    `waiting` counts each provider's messages by lane: (not delivered, delivered and not acknowledged). A provider whose
    queue is empty is there too. `uncounted` messages have no consumer. `storage_fill` is the part of the account's own
    limit that is used; `storage_limited` says whether there is one.
    """

    by: str
    waiting: Mapping[str, Mapping[str, tuple[int, int]]] = attrs.Factory(dict)
    uncounted: int = 0
    storage_bytes: int = 0
    storage_fill: float = 0.0
    storage_limited: bool = True

    def of_each(self) -> dict[str, int]:
        """Count each provider's messages, in all lanes."""
        return {name: sum(map(sum, lanes.values())) for name, lanes in self.waiting.items()}

    def in_lane(self, provider: str, lane: str) -> int:
        """Count one provider's messages in a lane."""
        return sum(self.waiting.get(provider, {}).get(lane, (0, 0)))

    def to_document(self) -> dict[str, Any]:
        """Convert it for the bucket."""
        return attrs.asdict(self)


class _Fields:
    """Reads the fields of one document; each must have its type, and absent ones take their default."""

    def __init__(self, key: str, document: object) -> None:
        if not isinstance(document, Mapping):
            raise CorruptRecord(key, "not an object")
        self._key = key
        self._document = document

    def _read(self, name: str, kind: type[_T], default: _T | None) -> _T:
        value = self._document.get(name, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CorruptRecord(self._key, f"its {name} is missing or of the wrong type")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        return self._read(name, str, default)

    def flag(self, name: str) -> bool:
        return self._read(name, bool, default=False)

    def count(self, name: str, default: int | None = None) -> int:
        number = self._read(name, int, default)
        if not 0 <= number < 2**63:
            raise CorruptRecord(self._key, f"its {name} is out of range")
        return number

    def count_or_none(self, name: str) -> int | None:
        """Read a count that may be absent or null."""
        number = self._read(name, int, -1) if self._document.get(name) is not None else -1
        if not -1 <= number < 2**63:
            raise CorruptRecord(self._key, f"its {name} is out of range")
        return None if number < 0 else number

    def texts(self, name: str) -> dict[str, str]:
        """Read an object of texts; at most `_MOST_TEXTS` of them, each cut to a readable length."""
        found = list(self._read(name, dict, None).items())[:_MOST_TEXTS]
        if not all(isinstance(value, str) for _, value in found):
            raise CorruptRecord(self._key, f"its {name} are not texts")
        return {str(key)[:_LONGEST_TEXT]: value[:_LONGEST_TEXT] for key, value in found}

    def moment(self, name: str, below: float = _LAST_MOMENT, default: float | None = 0.0) -> float:
        value = self._document.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
            raise CorruptRecord(self._key, f"its {name} is no time")
        return float(value)

    def pairs(self) -> dict[str, tuple[int, int]]:
        """Read this object's pairs of counts."""
        found = {}
        for name, pair in self._document.items():
            if not isinstance(pair, list) or [type(one) for one in pair] != [int, int] or min(pair) < 0:
                raise CorruptRecord(self._key, "one of its pairs is no pair of counts")
            found[str(name)] = (pair[0], pair[1])
        return found

    def fields(self, name: str) -> dict[str, "_Fields"]:
        return {str(key): _Fields(self._key, one) for key, one in self._read(name, dict, None).items()}


def read_breaker(key: str, document: object) -> BreakerState:
    """Read a breaker's state; raises CorruptRecord."""
    fields = _Fields(key, document)
    mode = fields.text("state", Mode.CLOSED)
    if mode not in list(Mode):
        raise CorruptRecord(key, "its state is unknown")
    return BreakerState(
        Mode(mode),
        fields.count("generation", 0),
        fields.text("reason", ""),
        fields.text("probe", ""),
        forced=fields.flag("forced"),
        cause=fields.text("cause", ""),
        until=fields.moment("until"),
        since=fields.moment("since"),
    )


def read_pause(key: str, document: object) -> Pause:
    """Read for how long nothing may be sent to a provider; raises CorruptRecord."""
    fields = _Fields(key, document)
    seconds = fields.moment("pause_s", below=_LONGEST_PAUSE_S, default=None)
    return Pause(seconds, fields.moment("until"), fields.text("reason", ""))


def read_lease(key: str, document: object) -> Lease:
    """Read a pod's lease; raises CorruptRecord."""
    fields = _Fields(key, document)
    return Lease(
        fields.text("provider"),
        fields.count("demand"),
        fields.count("floor", 1),
        fields.count("version", 0),
        fields.count("sent", 0),
        gone=fields.flag("gone"),
        lately=fields.count_or_none("lately"),
        rests_s=fields.moment("rests_s"),
    )


def read_table(key: str, document: object) -> Table:
    """Read the table of shares; raises CorruptRecord."""
    fields = _Fields(key, document)
    grants = {
        pod: Grant(one.text("provider"), one.count("share", 0), one.count("held", 0), one.count("held_version", 0))
        for pod, one in fields.fields("grants").items()
    }
    return Table(fields.count("version"), grants)


def read_notice(key: str, document: object) -> Notice:
    """Read a process's notice; raises CorruptRecord."""
    fields = _Fields(key, document)
    return Notice(fields.text("service"), tuple(fields.texts("problems").items()))


def read_backlog(key: str, document: object) -> Backlog:
    """Read the count of what waits; raises CorruptRecord."""
    fields = _Fields(key, document)
    return Backlog(
        fields.text("by"),
        {name: one.pairs() for name, one in fields.fields("waiting").items()},
        fields.count("uncounted", 0),
        fields.count("storage_bytes", 0),
        fields.moment("storage_fill"),
        storage_limited=fields.flag("storage_limited"),
    )


def read_leader(key: str, document: object) -> str:
    """Read the name of the leading coordinator; raises CorruptRecord."""
    return _Fields(key, document).text("name")


def read_rests(key: str, document: object) -> float:
    """Read for how many seconds this leader lets pods rest, 0 when it knows nothing of it; raises CorruptRecord."""
    return _Fields(key, document).moment("rests_s")


Reader = Callable[[str, object], _T]
"""Reads one kind of document, (key, document), into its value; raises CorruptRecord."""
