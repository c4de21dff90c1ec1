"""Pods and coordinators that read, wait and write in any order; what the pods could use is checked at every step.

The pods follow `rate.lease`, the coordinators follow `rate.coordinator`. Every step may be late by any time, several
coordinators may believe that they lead, and the table may be lost.
"""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.rate.allocator import Allocator, Timing
from messaging.documents import Lease, Table

T = Timing()
LIMIT, RATES = 70, {"p": 50, "q": 40}
_STALE_S = 0.5
_FOREVER = float("inf")


@attrs.define(eq=False)
class Pod:
    """What one pod knows; `spans` holds (from, until, share) of what it could use."""

    base: str
    demand: int = 60
    lease_count: int = 1
    valid_until: float | None = None
    written_at: float = 0.0
    share: int = 0
    version: int = 0
    revision: int = 0
    read: tuple[int, Table | None] | None = None
    asleep: bool = False
    rest_until: float | None = None
    asked_at: float | None = None
    spans: list[tuple[float, float, int]] = attrs.Factory(list)

    @property
    def name(self) -> str:
        return f"{self.base}={self.lease_count}"

    def note(self, now: float) -> None:
        if self.spans and self.spans[-1][1] > now:
            began, _, share = self.spans.pop()
            self.spans.append((began, now, share))
        self.spans = [span for span in self.spans if span[1] > now - 2 * T.window_s]
        if self.valid_until is not None and now < self.valid_until and self.share:
            self.spans.append((now, self.valid_until, self.share))

    def used(self, now: float) -> int:
        """The most it could have used within the window that ends now."""
        return max((share for began, end, share in self.spans if began <= now and end > now - T.window_s), default=0)


@attrs.define(eq=False)
class Leader:
    """A coordinator that believes it leads: the table and the leases as it has read them, and when."""

    allocator: Allocator
    revision: int
    leases_read: dict[str, tuple[int, Lease]] = attrs.Factory(dict)
    leases_read_at: float = -_FOREVER


class World:
    """The bucket, its readers and its writers; the clock moves only between steps."""

    def __init__(self) -> None:
        self.now, self.sequence = 1000.0, 1
        self.table: Table | None = Table()
        self.revision = 1
        self.leases: dict[str, tuple[int, Lease]] = {}
        self.pods = [Pod(base) for base in ("p1", "p2", "q1", "q2")]
        self.leaders: list[Leader | None] = [None, None]
        for _ in range(6):
            self.turn()

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence

    def take(self, what: str, who: int, number: int) -> None:  # noqa: C901, PLR0912  one arm for each thing that happens
        pod = self.pods[who % len(self.pods)]
        match what:
            case "wait":
                self.now += number / 10
            case "write" | "fetch" | "apply" | "renew" if pod.rest_until is not None:
                self.rest(pod)
            case "write":
                self.write(pod)
            case "fetch":
                pod.read = (self.revision, self.table)
            case "apply":
                self.apply(pod)
            case "renew":
                self.renew(pod)
            case "rest":
                self.rest(pod)
            case "ask":
                pod.asked_at = self.now
            case "wake":
                self.wake(pod)
            case "demand":
                pod.demand = number * 10
            case "sleep":
                pod.asleep = not pod.asleep
            case "leave":
                self.start_new_lease(pod)
            case "lead":
                self.lead(who % 2)
            case "read" | "step":
                self.coordinate(who % 2, what)
            case "lose the table":
                self.table, self.revision = None, self._next()
            case _:
                self.turn()
        self.check()

    def turn(self) -> None:
        """Every pod that is awake renews, every coordinator allocates, and a quarter of a second passes."""
        for pod in self.pods:
            if not pod.asleep:
                (self.renew if pod.rest_until is None else self.rest)(pod)
        for number in (0, 1):
            self.coordinate(number, "read")
            self.coordinate(number, "step")
        self.now += 0.25

    def write(self, pod: Pod) -> None:
        pod.written_at = self.now
        if pod.valid_until is None:
            pod.valid_until = self.now + T.lease_s
        self.leases[pod.name] = (self._next(), Lease(pod.base[0], pod.demand, 1, pod.version))

    def renew(self, pod: Pod) -> None:
        self.write(pod)
        pod.read = (self.revision, self.table)
        self.apply(pod)

    def apply(self, pod: Pod) -> None:
        """Continue a renewal whose table was read some time ago."""
        if pod.read is None or pod.valid_until is None:
            return
        (revision, table), pod.read = pod.read, None
        if (pod.revision and table is None) or self.now >= pod.valid_until:
            self.start_new_lease(pod)
            return
        pod.valid_until = pod.written_at + T.lease_s
        if table is not None and revision != pod.revision:
            grant = table.grants.get(pod.name)
            pod.share, pod.version, pod.revision = grant.share if grant else 0, table.version, revision
            self.write(pod)
        pod.note(self.now)

    def rest(self, pod: Pod) -> None:
        """Write a resting lease if the table is still the one that was applied; else apply the table first."""
        if pod.rest_until is None and (pod.valid_until is None or self.now >= pod.valid_until or not pod.revision):
            return
        if self.unchanged(pod):
            lease = Lease(pod.base[0], 0, 1, pod.version, rests_s=T.rest_s)
            self.leases[pod.name] = (self._next(), lease)
            pod.rest_until, pod.read = self.now + T.rest_s, None

    def wake(self, pod: Pod) -> None:
        """Take the share up again, with a request that was made some time ago."""
        asked_at, pod.asked_at = pod.asked_at, None
        if pod.rest_until is None or asked_at is None:
            return
        if asked_at >= pod.rest_until:
            self.start_new_lease(pod)
        elif self.unchanged(pod):
            pod.written_at, pod.valid_until = asked_at, asked_at + T.lease_s
            self.leases[pod.name] = (self._next(), Lease(pod.base[0], pod.demand, 1, pod.version))
            pod.rest_until = None
            pod.note(self.now)

    def unchanged(self, pod: Pod) -> bool:
        """Whether the stored table is the one that the pod has applied; else it applies the stored one."""
        if self.revision == pod.revision:
            return True
        if self.table is None:
            self.start_new_lease(pod)
            return False
        grant = self.table.grants.get(pod.name)
        pod.share, pod.version, pod.revision = grant.share if grant else 0, self.table.version, self.revision
        pod.note(self.now)
        return False

    def start_new_lease(self, pod: Pod) -> None:
        self.leases[pod.name] = (self._next(), Lease(pod.base[0], 0, 1, pod.version, gone=True))
        pod.lease_count, pod.share, pod.version, pod.revision = pod.lease_count + 1, 0, 0, 0
        pod.valid_until = pod.read = pod.rest_until = pod.asked_at = None
        pod.note(self.now)

    def lead(self, number: int) -> None:
        self.leaders[number] = Leader(Allocator(LIMIT, RATES, self.table, self.now, T), self.revision)

    def coordinate(self, number: int, what: str) -> None:
        leader = self.leaders[number]
        if leader is None:
            self.lead(number)
        elif what == "read":
            leader.leases_read, leader.leases_read_at = dict(self.leases), self.now
        elif self.now <= leader.leases_read_at + _STALE_S:
            leader.allocator.observe(leader.leases_read, self.now)
            before = leader.allocator.table
            after = leader.allocator.step(self.now)
            if after is before:
                return
            if leader.revision != self.revision:
                self.leaders[number] = None  # its table is no longer in force
                return
            assert after.version == before.version + 1
            self.table, self.revision = after, self._next()
            leader.revision = self.revision

    def check(self) -> None:
        grants = (self.table or Table()).grants.values()
        for names, limit in [(set(RATES), LIMIT), *(({name}, rate) for name, rate in RATES.items())]:
            assert sum(grant.reserved for grant in grants if grant.provider in names) <= limit
            used = sum(pod.used(self.now) for pod in self.pods if pod.base[0] in names)
            assert used <= limit, f"{used} of {limit} within one window"


OFTEN = ["turn", "turn", "turn", "wait", "renew", "write", "fetch", "apply", "read", "step", "demand", "demand"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [*OFTEN, *OFTEN, "sleep", "sleep", "rest", "rest", "ask", "wake", "leave", "lead", "lose the table"]
        ),
        st.integers(0, 3),
        st.integers(0, 12),
    ),
    min_size=25,
    max_size=50,
)


@given(STEPS)
def test_limit_is_kept_in_every_window_under_any_interleaving_and_used_in_full_afterwards(
    steps: list[tuple[str, int, int]],
) -> None:
    world = World()
    for what, who, number in steps:
        world.take(what, who, number)
    for pod in world.pods:
        pod.demand, pod.asleep = 60, False
    for _ in range(32):
        world.turn()
        for pod in world.pods:
            pod.asked_at = world.now
            world.wake(pod)
        world.check()
    assert sum(pod.used(world.now) for pod in world.pods) == LIMIT


def test_coordinator_with_a_stale_table_changes_nothing() -> None:
    world = World()
    world.lead(0)
    world.lead(1)
    for pod in world.pods:
        pod.demand = 0
    world.turn()
    stored = world.table
    assert world.leaders[1] is None, "the other one wrote first"
    world.lead(1)
    world.coordinate(1, "read")
    world.coordinate(1, "step")
    assert world.table is stored
