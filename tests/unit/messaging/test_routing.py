from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.routing import ProviderFacts, Rotation, choose, failover_target, reroute_target

A, B, C = (ProviderFacts(name) for name in "abc")
THREE = {one.name: one for one in (A, B, C)}


def facts(**changes: dict[str, Any]) -> dict[str, ProviderFacts]:
    """Three equal providers, some of them changed."""
    return {name: attrs.evolve(one, **changes.get(name, {})) for name, one in THREE.items()}


def names(given_facts: dict[str, ProviderFacts], asked: tuple[str, ...] = (), count: int = 60) -> Counter[str]:
    rotation = Rotation()
    choices = [choose(given_facts, asked, rotation) for _ in range(count)]
    return Counter(choice.provider for choice in choices if choice is not None)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_weights_are_met_exactly_over_one_round(weights: list[int]) -> None:
    candidates = [ProviderFacts(str(index), weight) for index, weight in enumerate(weights)]
    rotation = Rotation()
    picked = Counter(rotation.pick(candidates).name for _ in range(sum(weights)))
    assert [picked[one.name] for one in candidates] == weights


def test_picks_of_a_heavy_provider_are_interleaved() -> None:
    rotation = Rotation()
    candidates = [ProviderFacts("a", 5), ProviderFacts("b", 1), ProviderFacts("c", 1)]
    order = "".join(rotation.pick(candidates).name for _ in range(14))
    assert order == "aabacaa" * 2  # the known sequence of smooth weighted round-robin for 5, 1, 1


def test_copy_continues_from_the_same_place_and_does_not_affect_the_original() -> None:
    rotation = Rotation()
    rotation.pick([A, B, C])
    copied = rotation.copy()
    ahead = [copied.pick([A, B, C]).name for _ in range(7)]
    assert [rotation.pick([A, B, C]).name for _ in range(7)] == ahead


# What keeps a provider from being chosen


@pytest.mark.parametrize(
    "sick", [{"breaker_open": True}, {"backlog": 10, "room": 10}, {"enabled": False}, {"draining": True}]
)
def test_unhealthy_provider_is_skipped_while_another_is_healthy(sick: dict[str, object]) -> None:
    assert names(facts(a=sick)) == {"b": 30, "c": 30}
    assert names(facts(a=sick), asked=("a", "b")) == {"b": 60}


@pytest.mark.parametrize("gone", [{"enabled": False}, {"draining": True}])
def test_disabled_or_draining_provider_is_never_chosen(gone: dict[str, object]) -> None:
    none_left = facts(a=gone, b=gone, c=gone)
    assert choose(none_left, (), Rotation()) is None
    assert choose(none_left, ("a",), Rotation()) is None


def test_when_all_breakers_are_open_a_provider_is_chosen_all_the_same() -> None:
    all_open = facts(a={"breaker_open": True}, b={"breaker_open": True}, c={"breaker_open": True})
    assert names(all_open) == {"a": 20, "b": 20, "c": 20}


def test_full_provider_is_better_than_one_with_an_open_breaker() -> None:
    full, broken = {"backlog": 9, "room": 9}, {"breaker_open": True}
    assert names(facts(a=full, b=broken, c=broken)) == {"a": 60}


def test_lower_priority_number_goes_first_and_the_next_one_takes_over() -> None:
    ranked = facts(b={"priority": 1}, c={"priority": 1})
    assert names(ranked) == {"a": 60}
    ranked["a"] = attrs.evolve(A, breaker_open=True)
    assert names(ranked) == {"b": 30, "c": 30}


# The caller's list


def test_only_the_callers_list_is_used_and_in_its_order() -> None:
    assert names(THREE, asked=("c", "a")) == {"c": 60}
    assert names(facts(c={"breaker_open": True}), asked=("c",)) == {"c": 60}, "b and a were not asked for"
    assert choose(THREE, ("unknown",), Rotation()) is None


def test_callers_list_beats_weight_and_priority() -> None:
    heavy = facts(a={"weight": 1000}, b={"priority": 9})
    assert names(heavy, asked=("b", "a")) == {"b": 60}


_FACTS = st.builds(
    lambda flags: {
        name: ProviderFacts(name, weight, priority, enabled, draining, is_open, backlog, 5)
        for name, (weight, priority, enabled, draining, is_open, backlog) in zip("abcd", flags, strict=True)
    },
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 2), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9)),
        min_size=4,
        max_size=4,
    ),
)
_NAMES = st.lists(st.sampled_from("abcdx"), unique=True, max_size=4).map(tuple)


@given(_FACTS, _NAMES, _NAMES)
def test_choice_is_always_allowed(
    some: dict[str, ProviderFacts], asked: tuple[str, ...], tried: tuple[str, ...]
) -> None:
    allowed = {
        name for name, one in some.items() if one.available and name not in tried and (not asked or name in asked)
    }
    choice = choose(some, asked, Rotation(), tried)
    assert (choice is None) == (not allowed)
    if choice is not None:
        assert choice.provider in allowed
        assert some[choice.provider].healthy or not any(some[name].healthy for name in allowed)


@given(_FACTS, _NAMES)
def test_failover_visits_each_provider_once_and_none_with_an_open_breaker(
    some: dict[str, ProviderFacts], asked: tuple[str, ...]
) -> None:
    rotation, tried = Rotation(), list[str]()
    while (choice := failover_target(some, asked, rotation, tried)) is not None:
        tried.append(choice.provider)
    usable = {name for name, one in some.items() if one.available and not one.breaker_open}
    assert len(tried) == len(set(tried))
    assert set(tried) == {name for name in usable if not asked or name in asked}


@given(_FACTS, _NAMES, _NAMES)
def test_reroute_target_is_another_healthy_and_untried_provider(
    some: dict[str, ProviderFacts], asked: tuple[str, ...], tried: tuple[str, ...]
) -> None:
    good = {name for name, one in some.items() if one.healthy and name != "a" and name not in tried}
    choice = reroute_target(some, asked, Rotation(), "a", tried)
    assert (choice is None) == (not {name for name in good if not asked or name in asked})
    assert choice is None or choice.provider in good


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(["all", "some", "new facts", "copy"]), st.integers(0, 5)), max_size=30),
)
def test_choice_among_all_takes_the_same_turns_as_one_that_finds_its_candidates_anew(
    weights: list[int], steps: list[tuple[str, int]]
) -> None:
    given_facts = {str(n): ProviderFacts(str(n), weight) for n, weight in enumerate(weights)}
    kept, plain = Rotation(), Rotation()
    for what, n in steps:
        match what:
            case "all":
                found = choose(given_facts, (), kept)
                assert found is not None
                assert found.provider == plain.pick([one for one in given_facts.values() if one.healthy]).name
            case "some":
                some = list(given_facts.values())[: n + 1]
                assert kept.pick(some) is plain.pick(some)
            case "new facts" if n < len(weights) - 1:  # one provider stays healthy
                given_facts = {
                    name: attrs.evolve(one, breaker_open=int(name) <= n) for name, one in given_facts.items()
                }
            case "copy":
                kept, plain = kept.copy(), plain.copy()


def test_without_any_provider_there_is_no_choice() -> None:
    assert choose({}, (), Rotation()) is None
