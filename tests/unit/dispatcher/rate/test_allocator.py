from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.rate.allocator import Allocator, Timing, waterfill
from messaging.documents import Grant, Lease, Table

T = Timing()
CAPS = st.dictionaries(st.text(alphabet="abcdef", min_size=1, max_size=2), st.integers(0, 300), max_size=8)


# Waterfill


@given(st.integers(0, 500), CAPS)
@example(200, {"a": 50, "b": 50, "c": 50})
@example(7, dict.fromkeys("abc", 300))
def test_waterfill_gives_all_that_can_be_taken_and_never_more(total: int, caps: dict[str, int]) -> None:
    parts = waterfill(total, caps)
    assert set(parts) == set(caps)
    assert all(0 <= parts[name] <= cap for name, cap in caps.items())
    assert sum(parts.values()) == min(total, sum(caps.values()))


@given(st.integers(0, 500), CAPS)
@example(4, {"a": 2, "b": 5, "c": 5})
def test_waterfill_is_as_equal_as_the_caps_allow(total: int, caps: dict[str, int]) -> None:
    parts = waterfill(total, caps)
    unsated = [parts[name] for name, cap in caps.items() if parts[name] < cap]
    if unsated:
        assert max(parts.values()) <= min(unsated) + 1, "nobody has much more than one who could take more"


@given(st.integers(0, 500), CAPS)
def test_waterfill_does_not_depend_on_the_order(total: int, caps: dict[str, int]) -> None:
    assert waterfill(total, caps) == waterfill(total, dict(reversed(caps.items())))


# The allocator, step by step


class Bench:
    """An allocator whose clock only moves when told, and leases that are written by hand."""

    def __init__(self, limit: int = 100, rates: dict[str, int] | None = None, table: Table | None = None) -> None:
        self.now = 0.0
        self.sequence = 0
        self.leases: dict[str, tuple[int, Lease]] = {}
        self.rates = rates or {"p": 50, "q": 50, "r": 50}
        self.allocator = Allocator(limit, self.rates, table or Table(), self.now, T)

    def tell(self, pod: str, demand: int, version: int = 0, floor: int = 1, *, gone: bool = False) -> None:
        self.sequence += 1
        self.leases[pod] = (self.sequence, Lease(pod[0], demand, floor, version, gone=gone))

    def step(self, after_s: float = 0.0) -> dict[str, Grant]:
        self.now += after_s
        self.allocator.observe(self.leases, self.now)
        return dict(self.allocator.step(self.now).grants)

    @property
    def version(self) -> int:
        return self.allocator.table.version


def test_lone_pod_gets_what_it_wishes_up_to_its_providers_rate() -> None:
    bench = Bench()
    bench.tell("p1", 30)
    assert bench.step()["p1"] == Grant("p", 30, 0, 0) or bench.step()["p1"].share == 30
    bench.tell("p1", 500)
    assert bench.step()["p1"].share == 50


def test_idle_pod_keeps_a_little_so_that_its_first_message_need_not_wait() -> None:
    bench = Bench()
    bench.tell("p1", 0)
    assert bench.step()["p1"].share == 2


def test_unchanged_world_leaves_the_same_table() -> None:
    bench = Bench()
    bench.tell("p1", 30)
    bench.step()
    before = bench.allocator.table
    bench.tell("p1", 30, bench.version)
    bench.step(0.5)
    assert bench.allocator.table is before


def test_lowered_share_stays_reserved_until_confirmed_and_one_window_past() -> None:
    bench = Bench(rates={"p": 50})
    bench.tell("p1", 50)
    bench.step()
    bench.tell("p1", 50, 1)
    bench.tell("p2", 50)
    grants = bench.step(0.5)
    assert (grants["p1"].share, grants["p1"].held, grants["p2"].share) == (25, 50, 0)
    lowering = bench.version
    for _ in range(4):  # not confirmed: nothing is free, however long it takes
        bench.tell("p1", 50, lowering - 1)
        bench.tell("p2", 50, lowering)
        grants = bench.step(1.0)
    assert grants["p2"].share == 0
    bench.tell("p1", 50, lowering)
    bench.tell("p2", 50, lowering)
    assert bench.step(0.1)["p2"].share == 0
    assert bench.step(T.window_s)["p2"].share == 0
    assert bench.step(T.guard_s + 0.001)["p2"].share == 25


def test_silent_pod_keeps_its_reservation_until_its_lease_must_have_ended_and_one_window_past() -> None:
    bench = Bench(rates={"p": 50})
    bench.tell("p1", 50)
    bench.tell("p2", 50)
    bench.step()
    for _ in range(7):
        bench.tell("p2", 50, bench.version)
        grants = bench.step(0.5)
        assert grants["p1"].reserved == 25
        assert grants["p2"].share == 25
    bench.tell("p2", 50, bench.version)
    grants = bench.step(0.06)
    assert "p1" not in grants
    assert grants["p2"].share == 50


def test_lease_that_stays_in_the_bucket_makes_nobody_live_again() -> None:
    """A pod that was killed leaves its last lease behind for 30 s; its share is free after 4."""
    bench = Bench(rates={"p": 50})
    bench.tell("p1", 50)
    bench.tell("p2", 50)
    bench.step()
    shares = []
    for _ in range(60):
        bench.tell("p2", 50, bench.version)
        shares.append(bench.step(0.5)["p2"].share)
    assert shares[8:] == [50] * 52


def test_pod_that_fell_silent_and_comes_back_is_taken_in_again() -> None:
    bench = Bench(rates={"p": 50})
    bench.tell("p1", 50)
    bench.step()
    bench.step(10.0)
    bench.tell("p1", 50)
    assert bench.step(0.1)["p1"].share == 50


def test_share_of_a_pod_that_says_goodbye_is_free_after_one_window() -> None:
    bench = Bench(rates={"p": 50})
    bench.tell("p1", 50)
    bench.tell("p2", 50)
    bench.step()
    bench.tell("p1", 0, 1, gone=True)
    bench.tell("p2", 50, 1)
    assert bench.step(0.1)["p2"].share == 25
    bench.tell("p2", 50, bench.version)
    assert bench.step(T.window_s)["p2"].share == 25
    bench.tell("p2", 50, bench.version)
    assert bench.step(T.guard_s + 0.001)["p2"].share == 50


def test_after_the_table_was_lost_nothing_is_granted_for_one_lease_and_one_window() -> None:
    allocator = Allocator(100, {"p": 50}, None, 0.0, T)
    sequence, now = 0, 0.0
    while now < T.lease_s + T.window_s:
        sequence += 1
        allocator.observe({"p1": (sequence, Lease("p", 50))}, now)
        assert not any(grant.reserved for grant in allocator.step(now).grants.values())
        now += 0.25
    allocator.observe({"p1": (sequence + 1, Lease("p", 50))}, now)
    assert allocator.step(now).grants["p1"].share == 50


def test_next_leader_goes_on_from_the_stored_table() -> None:
    stored = Table(7, {"p1": Grant("p", 30), "p2": Grant("p", 10, held=20, held_version=6)})
    bench = Bench(rates={"p": 50}, table=stored)
    bench.tell("p1", 30, 7)
    bench.tell("p2", 20, 5)
    grants = bench.step(0.1)
    assert sum(grant.reserved for grant in grants.values()) <= 50
    assert grants["p2"].reserved == 20, "it has not confirmed table 6"
    assert bench.version == 7 or bench.version == 8  # noqa: PLR1714


def test_dearest_message_gets_its_floor_before_others_get_more() -> None:
    bench = Bench(limit=10, rates={"p": 10})
    bench.tell("p1", 10, floor=8)
    bench.tell("p2", 10, floor=1)
    grants = bench.step()
    assert grants["p1"].share >= 8
    assert grants["p1"].share + grants["p2"].share == 10


def test_provider_that_is_not_configured_gets_nothing() -> None:
    bench = Bench()
    bench.tell("x1", 50)
    bench.tell("p1", 50)
    assert set(bench.step()) == {"p1"}


def test_fleets_limit_is_shared_by_providers_and_then_by_pods() -> None:
    bench = Bench(limit=90)
    for pod in ("p1", "p2", "q1", "r1"):
        bench.tell(pod, 50)
    grants = bench.step()
    assert {pod: grant.share for pod, grant in grants.items()} == {"p1": 15, "p2": 15, "q1": 30, "r1": 30}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.sampled_from(["p1", "p2", "q1", "q2", "r1"]), st.integers(0, 80)),
        st.tuples(st.just("gone"), st.sampled_from(["p1", "p2", "q1", "q2", "r1"]), st.just(0)),
        st.tuples(st.just("tick"), st.just(""), st.integers(1, 30)),
        st.tuples(st.just("leader"), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(st.integers(1, 160), STEPS)
def test_never_more_is_reserved_than_the_limit_and_each_providers_rate(
    limit: int, steps: list[tuple[str, str, int]]
) -> None:
    bench = Bench(limit)
    for what, pod, number in steps:
        match what:
            case "tell":
                bench.tell(pod, number, bench.version)
            case "gone":
                bench.tell(pod, 0, bench.version, gone=True)
            case "leader":
                bench.allocator = Allocator(limit, bench.rates, bench.allocator.table, bench.now, T)
            case _:
                grants = bench.step(number / 10)
                assert sum(grant.reserved for grant in grants.values()) <= limit
                for provider, rate in bench.rates.items():
                    assert sum(one.reserved for one in grants.values() if one.provider == provider) <= rate
