"""Compares the three records. Pure: each promise is one finding, with how often it was broken and examples."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs
from sms.gateway.v1 import message_pb2 as pb

from messaging.lifecycle import may_follow
from ops.simulator.call_log import highest_window
from tests.load.chaos.ledger import Acceptance, Ledger
from tests.load.chaos.records import Arrival, History

FINAL = frozenset(
    {
        pb.MESSAGE_STATE_SENT,
        pb.MESSAGE_STATE_FAILED,
        pb.MESSAGE_STATE_EXPIRED,
        pb.MESSAGE_STATE_CANCELED,
        pb.MESSAGE_STATE_REJECTED,
        pb.MESSAGE_STATE_UNKNOWN,
    }
)
_RECORDED_S = 0.25
"""An event's time is taken before the stream has it. A send within this time after it is not a repeated one."""

_EXAMPLES = 5
_OVERTAKEN_BY = 5


@attrs.frozen
class Finding:
    """One line of the report. The `count` of a `promise` must be 0; other lines are only reported."""

    name: str
    count: int
    examples: tuple[str, ...] = ()
    promise: bool = True

    @property
    def broken(self) -> bool:
        """Whether this breaks a promise."""
        return self.promise and self.count > 0


@attrs.frozen
class Limits:
    """What was bought, in requests a second."""

    provider: int
    fleet: int


def check(
    ledger: Ledger,
    arrivals: Sequence[Arrival],
    history: History,
    limits: Limits,
    ended: Sequence[str] = (),
    departures: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> list[Finding]:
    """Check a run whose deadlines have passed; `ended` are processes that failed or did not drain in time.

    `departures` are the times (nanoseconds) at which requests left for providers behind a network that loses packets:
    there they are what the limit is about, because the network may bring them together.
    """
    accepted = ledger.accepted
    taken: dict[str, list[int]] = {}
    for one in arrivals:
        if one.taken:
            taken.setdefault(one.message_id, []).append(one.at_ns)
    again = [name for name, times in taken.items() if len(times) > 1]
    known = [name for name in again if _known_before(taken[name], name, history)]
    blind = [name for name in again if len(taken[name]) - 1 > _unclear(history, name)]
    lied = {one.message_id for one in arrivals if one.denied}
    once = [name for name in again if not _is_one_time(history, name)]
    return [
        _finding("accepted and missing", _missing(accepted, taken, history)),
        _finding("one request, two messages", ledger.mismatches),
        _finding("refused for good without a reason", [f"{name} {why}" for name, why in ledger.refused.items()]),
        _finding("received twice although the answer had been recorded", known),
        _finding("received twice without an unclear attempt", blind),
        _finding("received twice without being a one-time code", [name for name in once if name not in lied]),
        _finding(
            "received twice after a provider broke its word", [name for name in once if name in lied], promise=False
        ),
        _finding("received twice after an unclear attempt, and marked so", sorted({*again} - {*blind}), promise=False),
        _finding("sent although nobody accepted it", [name for name in taken if name not in history.stored]),
        *_windows(arrivals, departures, limits),
        _finding("without a final state after the deadline", _unfinished(accepted, history)),
        _finding("expired untried, overtaken by half of its time", _overtaken(accepted, history), promise=False),
        _finding("moved backward", _backward(history)),
        _finding("store and stream disagree", _disagreeing(history)),
        _finding("processes that broke, or did not drain in time", ended),
    ]


def states(ledger: Ledger, history: History) -> dict[str, int]:
    """Count the accepted messages by their last state."""
    found = (history.stored.get(name) for name in ledger.accepted)
    names = (pb.MessageState.Name(one.state).removeprefix("MESSAGE_STATE_") if one else "MISSING" for one in found)  # type: ignore[arg-type]
    return dict(Counter(names).most_common())


def _finding(name: str, examples: Sequence[str], *, promise: bool = True) -> Finding:
    return Finding(name, len(examples), tuple(sorted(examples)[:_EXAMPLES]), promise)


def _missing(accepted: Mapping[str, Acceptance], taken: Mapping[str, object], history: History) -> list[str]:
    """Return lost messages: unknown to the store, or SENT although no provider took them."""
    return [
        name
        for name in accepted
        if (one := history.stored.get(name)) is None or (one.state == pb.MESSAGE_STATE_SENT and name not in taken)
    ]


def _known_before(times: Sequence[int], name: str, history: History) -> bool:
    recorded = [one.at for one in history.moments.get(name, ()) if one.accepted]
    return bool(recorded) and max(times) / 1e9 > min(recorded) + _RECORDED_S


def _unclear(history: History, name: str) -> int:
    stored = history.stored.get(name)
    return sum(1 for one in stored.outcomes if one == pb.ATTEMPT_OUTCOME_AMBIGUOUS) if stored else 0


def _is_one_time(history: History, name: str) -> bool:
    stored = history.stored.get(name)
    return stored is not None and stored.lane.endswith(f"/{pb.PRIORITY_OTP}")


def _windows(arrivals: Sequence[Arrival], departures: Mapping[str, Sequence[int]], limits: Limits) -> list[Finding]:
    findings = []
    times: dict[str, list[int]] = {name: list(found) for name, found in departures.items()}
    for one in arrivals:
        if one.provider not in departures:
            times.setdefault(one.provider, []).append(one.at_ns)
    for provider, found in sorted(times.items()):
        highest = highest_window(found)
        over = max(0, highest - limits.provider)
        findings.append(Finding(f"above the limit of {provider} (highest second {highest})", over))
    highest = highest_window(list(itertools.chain.from_iterable(times.values())))
    return [*findings, Finding(f"above the fleet's limit (highest second {highest})", max(0, highest - limits.fleet))]


def _unfinished(accepted: Mapping[str, Acceptance], history: History) -> list[str]:
    return [name for name in accepted if (one := history.stored.get(name)) is not None and one.state not in FINAL]


def _overtaken(accepted: Mapping[str, Acceptance], history: History) -> list[str]:
    """Return messages that expired without an attempt although later ones of their lane were tried in half their time.

    Some pod drew them and kept or dropped them. If it was killed or paused, they go to another pod in time, unless the
    lane has stood still since. That is why this line is only reported.
    """
    tried: dict[str, list[tuple[int, float]]] = {}
    for name, stored in history.stored.items():
        begun = [moment.at for moment in history.moments.get(name, ()) if moment.state == pb.MESSAGE_STATE_SENDING]
        if begun:
            tried.setdefault(stored.lane, []).append((stored.place, min(begun)))
    found = []
    for name, one in accepted.items():
        ended, steps = history.stored.get(name), history.moments.get(name, ())
        if ended is None or ended.state != pb.MESSAGE_STATE_EXPIRED or len(steps) > 1:
            continue
        half = (one.answered_at + one.deadline) / 2
        later = (place > ended.place and at <= half for place, at in tried.get(ended.lane, ()))
        if sum(later) >= _OVERTAKEN_BY:
            found.append(name)
    return found


def _backward(history: History) -> list[str]:
    found = []
    for name, moments in history.moments.items():
        steps = itertools.pairwise(moments)
        if any(not may_follow(before.state, after.state) for before, after in steps):
            found.append(name)
    return found


def _disagreeing(history: History) -> list[str]:
    wrong = [
        name
        for name, (sequence, state) in history.newest.items()
        if (one := history.stored.get(name)) is None or (one.version, one.state) != (sequence, state)
    ]
    return wrong + [name for name, one in history.stored.items() if one.version and name not in history.newest]
