"""The report of a run, for people and for programs."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from tests.load.chaos.checker import Finding
from tests.load.chaos.records import Arrival
from tests.load.chaos.stage import Done

_SPAN_S = 2.0
_SHARE = 0.9
_STEP_S = 0.25


@attrs.frozen
class Report:
    """One run. `recovery_s` is by kind of fault; None means that the load ended before the rate was full again."""

    command: str
    accepted: int
    repeats: int
    seconds: float
    rate_per_s: float
    failures: Mapping[str, int]
    states: Mapping[str, int]
    findings: Sequence[Finding]
    faults: Sequence[str]
    recovery_s: Mapping[str, Sequence[float | None]]

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return any(one.broken for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as one document."""
        return {**attrs.asdict(self), "broken": self.broken}

    def to_markdown(self) -> str:
        """Format the report as a section of a page."""
        lines = [
            f"`{self.command}`",
            "",
            f"{self.accepted:,} messages accepted, {self.repeats:,} of them asked for twice,",
            f"sent in {self.seconds:.0f} s at {self.rate_per_s:.0f} a second, through {len(self.faults)} faults.",
            "Callers had to retry: " + (_counts(self.failures) or "never") + ".",
            "Final states: " + _counts(self.states) + ".",
            "",
            "| what | count | |",
            "|---|---:|---|",
            *(f"| {one.name} | {one.count} | {_mark(one)} |" for one in self.findings),
            "",
            "| fault | times | until the rate was full again (median) | longest |",
            "|---|---:|---:|---:|",
            *(_recovery(kind, times) for kind, times in sorted(self.recovery_s.items())),
        ]
        return "\n".join(lines) + "\n"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _mark(finding: Finding) -> str:
    if not finding.promise:
        return "reported"
    return "**BROKEN** " + ", ".join(finding.examples) if finding.broken else "kept"


def _recovery(kind: str, times: Sequence[float | None]) -> str:
    known = [one for one in times if one is not None]
    if not known:
        return f"| {kind} | {len(times)} | not measured | |"
    return f"| {kind} | {len(times)} | {statistics.median(known):.1f} s | {max(known):.1f} s |"


def recovery(
    done: Sequence[Done], arrivals: Sequence[Arrival], limit: int, end: float
) -> dict[str, list[float | None]]:
    """Measure how long after each fault's end the fleet used 90 % of its limit again, over a stretch of 2 s.

    When faults overlap, the effect of the later one counts for both. `end` (Unix seconds) is the end of the load.
    """
    times = sorted(one.at_ns / 1e9 for one in arrivals)
    found: dict[str, list[float | None]] = {}
    for one in done:
        found.setdefault(one.fault.kind, []).append(_until_full(times, one.ended, limit, end))
    return found


def _until_full(times: Sequence[float], start: float, limit: int, end: float) -> float | None:
    from bisect import bisect_left

    at = start
    while at + _SPAN_S <= end:
        if bisect_left(times, at + _SPAN_S) - bisect_left(times, at) >= _SHARE * limit * _SPAN_S:
            return at - start
        at += _STEP_S
    return None
