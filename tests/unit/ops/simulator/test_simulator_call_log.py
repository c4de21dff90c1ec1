import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.call_log import SECOND_NS, CallLog, RateLimit, highest_window

# A coarse grid, so that times fall exactly on the edges of windows often.
TIMES = st.lists(st.integers(0, 40).map(lambda tick: tick * SECOND_NS // 4), max_size=40)


def brute_force(times: list[int], costs: list[int], width_ns: int) -> int:
    """Sum every half-open window that begins at a time; the highest one is among them."""
    sums = [
        sum(cost for time, cost in zip(times, costs, strict=True) if start <= time < start + width_ns)
        for start in times
    ]
    return max(sums, default=0)


def noted(record: CallLog, reference: str, at_ns: int = 0, *, segments: int = 1, taken: bool = True) -> None:
    entry = record.append(at_ns, reference, "+233241234567", segments, taken=taken, traceparent="")
    entry.status, entry.finished = 200, True


@given(TIMES, st.integers(1, 3 * SECOND_NS))
def test_highest_count_is_that_of_brute_force(times: list[int], width_ns: int) -> None:
    assert highest_window(times, width_ns=width_ns) == brute_force(times, [1] * len(times), width_ns)
    assert highest_window(times) == brute_force(times, [1] * len(times), SECOND_NS)


@given(TIMES, st.data())
def test_highest_cost_is_that_of_brute_force(times: list[int], data: st.DataObject) -> None:
    costs = data.draw(st.lists(st.integers(0, 9), min_size=len(times), max_size=len(times)))
    assert highest_window(times, costs) == brute_force(times, costs, SECOND_NS)


def test_two_sends_exactly_a_second_apart_share_no_window() -> None:
    assert highest_window([0, SECOND_NS]) == 1
    assert highest_window([0, SECOND_NS], [3, 4]) == 4
    assert highest_window([0, SECOND_NS - 1]) == 2
    assert highest_window([0, SECOND_NS - 1], [3, 4]) == 7


def test_nothing_received_makes_a_window_of_0() -> None:
    assert highest_window([]) == 0
    assert highest_window([], []) == 0


def test_records_may_be_joined() -> None:
    one, other = ([5, 2 * SECOND_NS], [1, 1]), ([0, 1], [2, 3])
    assert highest_window(one[0] + other[0], one[1] + other[1]) == 6


def test_costs_must_stand_beside_their_times() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        highest_window([1, 2], [1])


def test_a_window_has_a_width() -> None:
    with pytest.raises(ValueError, match="width_ns"):
        highest_window([1], width_ns=0)


@given(TIMES, st.integers(1, 5))
def test_the_door_never_lets_more_than_the_limit_into_a_second(times: list[int], limit: int) -> None:
    door = RateLimit()
    admitted = [time for time in times if door.admits(time, limit)]
    assert highest_window(admitted) <= limit


@given(TIMES, st.integers(1, 5))
def test_the_door_refuses_only_what_would_break_the_limit(times: list[int], limit: int) -> None:
    door, admitted = RateLimit(), list[int]()
    for time in times:
        if door.admits(time, limit):
            admitted.append(time)
        else:
            assert highest_window([*admitted, time]) > limit


def test_refused_sends_do_not_count_against_the_limit() -> None:
    door = RateLimit()
    assert [door.admits(tick * SECOND_NS // 10, 1) for tick in range(21)].count(True) == 3


def test_the_door_without_a_limit_lets_all_in_and_remembers_them() -> None:
    door = RateLimit()
    assert all(door.admits(tick, None) for tick in range(100))
    assert not door.admits(100, 100)
    assert door.admits(100 + SECOND_NS, 1)


def test_stats_of_an_empty_record() -> None:
    assert CallLog().stats() == {
        "requests": 0, "taken": 0, "duplicates": 0, "by_status": {}, "highest_window": 0, "highest_window_segments": 0,
        "first_at": None, "last_at": None, "lookups": 0,
    }  # fmt: skip


def test_stats_sum_up_sends_in_any_order_of_arrival() -> None:
    record = CallLog()
    noted(record, "b", 2 * SECOND_NS, segments=2)
    noted(record, "a", 1 * SECOND_NS + 1, segments=5, taken=False)
    record.append(9 * SECOND_NS, "c", "+1", 1, taken=True, traceparent="")
    assert record.stats() == {
        "requests": 3, "taken": 2, "duplicates": 0, "by_status": {"200": 2},
        "highest_window": 2, "highest_window_segments": 7,
        "first_at": 1.000000001, "last_at": 9.0, "lookups": 0,
    }  # fmt: skip


def test_a_reference_taken_three_times_is_one_duplicate() -> None:
    record = CallLog()
    for _ in range(3):
        noted(record, "again")
    noted(record, "once")
    assert record.stats()["duplicates"] == 1


def test_a_reference_refused_before_it_was_taken_is_no_duplicate() -> None:
    record = CallLog()
    noted(record, "m", taken=False)
    assert record.taken("m") is None
    noted(record, "m")
    noted(record, "m", taken=False)
    assert record.stats()["duplicates"] == 0
    assert record.taken("m") is record.entries[1]


def test_clear_forgets_all_but_goes_on_counting_ids() -> None:
    record = CallLog()
    noted(record, "m")
    noted(record, "m")
    record.clear()
    assert record.stats() == CallLog().stats()
    assert record.taken("m") is None
    noted(record, "m")
    assert (record.entries[0].n, record.entries[0].serial) == (0, 2)
    assert record.stats()["duplicates"] == 0


def test_an_entry_does_not_show_the_number_in_its_repr() -> None:
    record = CallLog()
    noted(record, "m")
    assert "241234567" not in repr(record.entries)
