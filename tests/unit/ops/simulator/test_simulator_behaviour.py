import random
from collections import Counter
from typing import Any

import pytest

from ops.simulator.behaviour import FAULTS, Behaviour, BehaviourError, ResponseMode, fault_for

TO = "+233241234567"


def problems_of(**values: Any) -> list[str]:
    with pytest.raises(BehaviourError) as caught:
        Behaviour(**values)
    return caught.value.problems


def test_the_table_holds_every_fault_that_the_project_plays() -> None:
    assert set(FAULTS) == {
        "ok", "throttle", "bad_request", "unauthorized", "payment", "server_error", "unavailable", "hang", "reset",
        "take_and_hang", "take_and_reset", "take_and_500", "trickle", "malformed", "lie",
    }  # fmt: skip


def test_a_fault_without_an_answer_has_status_0_and_only_that() -> None:
    for fault in FAULTS.values():
        assert (fault.status == 0) == (fault.mode in {ResponseMode.HANG, ResponseMode.RESET})
        assert bool(fault.code) == (fault.status >= 400)


def test_nothing_set_means_ok() -> None:
    assert fault_for(Behaviour(), TO, 0.0) == "ok"


def test_force_beats_suffix_and_rates() -> None:
    behaviour = Behaviour(force="reset", by_suffix={"7": "hang"}, rates={"lie": 1.0})
    assert fault_for(behaviour, TO, 0.5) == "reset"


def test_a_suffix_beats_the_rates() -> None:
    behaviour = Behaviour(by_suffix={"7": "hang"}, rates={"lie": 1.0})
    assert fault_for(behaviour, TO, 0.5) == "hang"
    assert fault_for(behaviour, "+233241234568", 0.5) == "lie"


def test_the_longest_suffix_wins_whatever_the_order() -> None:
    suffixes = {"7": "hang", "234567": "payment", "67": "lie"}
    assert fault_for(Behaviour(by_suffix=suffixes), TO, 0.5) == "payment"
    assert fault_for(Behaviour(by_suffix=dict(reversed(suffixes.items()))), "+233000000067", 0.5) == "lie"


def test_a_suffix_may_make_a_recipient_safe_from_the_rates() -> None:
    assert fault_for(Behaviour(by_suffix={"7": "ok"}, rates={"hang": 1.0}), TO, 0.0) == "ok"


@pytest.mark.parametrize(
    ("draw", "fault"), [(0.0, "lie"), (0.249, "lie"), (0.25, "hang"), (0.749, "hang"), (0.75, "ok"), (0.999, "ok")]
)
def test_the_draw_falls_among_the_rates_and_the_rest_is_ok(draw: float, fault: str) -> None:
    assert fault_for(Behaviour(rates={"lie": 0.25, "hang": 0.5}), TO, draw) == fault


def test_rates_come_true_over_many_draws() -> None:
    chance = random.Random(7)
    behaviour = Behaviour(rates={"server_error": 0.1, "throttle": 0.3})
    seen = Counter(fault_for(behaviour, TO, chance.random()) for _ in range(20_000))
    assert abs(seen["server_error"] / 20_000 - 0.1) < 0.01
    assert abs(seen["throttle"] / 20_000 - 0.3) < 0.01


def test_probabilities_that_are_one_but_for_rounding_are_taken() -> None:
    rates = {"lie": 0.7, "hang": 0.2, "reset": 0.1, "throttle": 0.0}
    assert Behaviour(rates=rates).rates == rates


def test_the_mappings_of_a_behaviour_cannot_be_changed_from_outside() -> None:
    rates = {"lie": 0.5}
    behaviour = Behaviour(rates=rates)
    rates["lie"] = 0.0
    assert behaviour.rates["lie"] == 0.5
    with pytest.raises(TypeError):
        behaviour.rates["lie"] = 0.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"latency_s": -0.1}, "latency_s"),
        ({"latency_s": True}, "latency_s"),
        ({"latency_s": "1"}, "latency_s"),
        ({"latency_s": float("nan")}, "latency_s"),
        ({"latency_jitter_s": float("inf")}, "latency_jitter_s"),
        ({"hang_s": None}, "hang_s"),
        ({"trickle_s": 10**400}, "trickle_s"),
        ({"retry_after_s": -1}, "retry_after_s"),
        ({"rates": {"sulk": 0.5}}, "rates: 'sulk'"),
        ({"rates": {"hang": 1.1}}, "rates: hang"),
        ({"rates": {"hang": "0.1"}}, "rates: hang"),
        ({"rates": {"hang": 0.6, "lie": 0.6}}, "rates: the probabilities"),
        ({"rates": ["hang"]}, "rates"),
        ({"by_suffix": {"1234567": "hang"}}, "by_suffix: '1234567'"),
        ({"by_suffix": {"": "hang"}}, "by_suffix: ''"),
        ({"by_suffix": {"+1": "hang"}}, "by_suffix: '+1'"),
        ({"by_suffix": {"1": "sulk"}}, "by_suffix: 'sulk'"),
        ({"by_suffix": {"1": ["hang"]}}, "by_suffix: ['hang']"),
        ({"by_suffix": "1"}, "by_suffix"),
        ({"force": "sulk"}, "force: 'sulk'"),
        ({"force": []}, "force: []"),
        ({"limit_per_s": 0}, "limit_per_s"),
        ({"limit_per_s": 1.5}, "limit_per_s"),
        ({"seed": "x"}, "seed"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], named: str) -> None:
    (problem,) = problems_of(**values)
    assert problem.startswith(named)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems_of(latency_s=-1, force="sulk", limit_per_s=0, rates={"x": 2})) == 5


def test_json_goes_there_and_back() -> None:
    behaviour = Behaviour(
        latency_s=0.5, rates={"lie": 0.5}, by_suffix={"99": "hang"}, limit_per_s=7, retry_after_s=None, seed=3
    )
    assert Behaviour.from_json(behaviour.to_json()) == behaviour
    assert Behaviour.from_json({}) == Behaviour()


def test_unknown_keys_are_named_beside_wrong_values() -> None:
    with pytest.raises(BehaviourError) as caught:
        Behaviour.from_json({"latncy_s": 1, "force": "sulk"})
    assert caught.value.problems == ["latncy_s: unknown key", "force: 'sulk' is not a fault"]
    with pytest.raises(BehaviourError, match="latncy_s: unknown key"):
        Behaviour.from_json({"latncy_s": 1})


@pytest.mark.parametrize("document", [None, [], "ok", 1])
def test_what_is_no_object_is_no_behaviour(document: object) -> None:
    with pytest.raises(BehaviourError, match="JSON object"):
        Behaviour.from_json(document)
