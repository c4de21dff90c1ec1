"""What a simulated provider received and when: the log of calls, the busiest second, and a rate limit."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SECOND_NS = 1_000_000_000


def highest_window(times_ns: Sequence[int], costs: Sequence[int] | None = None, width_ns: int = SECOND_NS) -> int:
    """Find the highest sum of costs (or the count, without costs) in any window of `width_ns`; 0 when empty.

    Windows are half-open: two times exactly `width_ns` apart never share one. The times may be in any order, so several
    logs can be concatenated. Costs are at least 0, one for each time. Takes O(n log n), O(n) when sorted.
    """
    if width_ns < 1:
        raise ValueError("width_ns must be at least 1")
    if costs is None:
        return _highest_count(sorted(times_ns), width_ns)
    pairs = sorted(zip(times_ns, costs, strict=True))
    highest = total = left = 0
    for time_ns, cost in pairs:
        total += cost
        while time_ns - pairs[left][0] >= width_ns:
            total -= pairs[left][1]
            left += 1
        highest = max(highest, total)
    return highest


def _highest_count(ordered_ns: list[int], width_ns: int) -> int:
    left = 0
    for time_ns in ordered_ns:
        # `left` moves at most one step for each time, so the range [left, right] never shrinks: its final width is
        # the highest count.
        if time_ns - ordered_ns[left] >= width_ns:
            left += 1
    return len(ordered_ns) - left


class RateLimit:
    """Admits sends up to a limit a second, by their arrival times alone.

    Only admitted sends count against the limit. Arrivals may be slightly out of order.
    """

    def __init__(self) -> None:
        self._admitted_ns: list[int] = []

    def admits(self, at_ns: int, limit: int | None) -> bool:
        """Admit one send unless it would be more than `limit` in some half-open second; None means no limit."""
        if limit is not None and self._busiest_with(at_ns) > limit:
            return False
        insort(self._admitted_ns, at_ns)
        return True

    def _busiest_with(self, at_ns: int) -> int:
        times = self._admitted_ns
        later = times[bisect_right(times, at_ns) : bisect_left(times, at_ns + SECOND_NS)]
        return 1 + max(bisect_right(times, end) - bisect_right(times, end - SECOND_NS) for end in (at_ns, *later))


@dataclass(slots=True)
class Entry:
    """One send that arrived.

    `at_ns` is when its first byte arrived, in Unix nanoseconds. `n` is its index in the log. `serial` is not reset when
    the log is cleared, so that ids stay unique. `status` is the HTTP status that was sent (the peer may not have read
    it), 0 when none was; it is set when `finished` is.
    """

    n: int
    serial: int
    at_ns: int
    reference: str
    to: str = field(repr=False)
    segments: int
    taken: bool
    traceparent: str
    status: int = 0
    finished: bool = False

    @property
    def at(self) -> float:
        """The arrival in Unix seconds, rounded; `at_ns` is exact."""
        return self.at_ns / SECOND_NS

    def to_json(self) -> dict[str, Any]:
        """Return the entry as `GET /_requests` shows it on one line."""
        return {
            "n": self.n,
            "at": self.at,
            "at_ns": self.at_ns,
            "reference": self.reference,
            "to": self.to,
            "segments": self.segments,
            "status": self.status,
            "taken": self.taken,
            "traceparent": self.traceparent,
            "finished": self.finished,
        }


class CallLog:
    """All sends that one provider received since its start or the last `clear`, in the order they were read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.lookups = 0
        self._serial = 0
        self._first_taken: dict[str, Entry] = {}
        self._taken_again: set[str] = set()

    def append(self, at_ns: int, reference: str, to: str, segments: int, *, taken: bool, traceparent: str) -> Entry:
        """Record a send, and whether its message was taken."""
        entry = Entry(len(self.entries), self._serial, at_ns, reference, to, segments, taken, traceparent)
        self._serial += 1
        self.entries.append(entry)
        if taken and self._first_taken.setdefault(reference, entry) is not entry:
            self._taken_again.add(reference)
        return entry

    def taken(self, reference: str) -> Entry | None:
        """Return the first send with this reference that was taken; None when there is none."""
        return self._first_taken.get(reference)

    def clear(self) -> None:
        """Clear everything but the serial."""
        self.entries.clear()
        self.lookups = 0
        self._first_taken.clear()
        self._taken_again.clear()

    def highest_window(self) -> int:
        """Return the most sends in any half-open second, whatever their outcome."""
        return highest_window([entry.at_ns for entry in self.entries])

    def highest_window_segments(self) -> int:
        """Return the most segments in any half-open second."""
        return highest_window([entry.at_ns for entry in self.entries], [entry.segments for entry in self.entries])

    def stats(self) -> dict[str, Any]:
        """Summarize the log; `by_status` counts finished sends only, those without an answer under "0"."""
        times = [entry.at_ns for entry in self.entries]
        statuses = Counter(entry.status for entry in self.entries if entry.finished)
        return {
            "requests": len(self.entries),
            "taken": sum(entry.taken for entry in self.entries),
            "duplicates": len(self._taken_again),
            "by_status": {str(status): count for status, count in sorted(statuses.items())},
            "highest_window": self.highest_window(),
            "highest_window_segments": self.highest_window_segments(),
            "first_at": min(times) / SECOND_NS if times else None,
            "last_at": max(times) / SECOND_NS if times else None,
            "lookups": self.lookups,
        }
