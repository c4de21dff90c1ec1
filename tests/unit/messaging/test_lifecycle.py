import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from messaging.lifecycle import REPLAYABLE, TRANSITIONS, may_follow
from messaging.model import FINAL_STATES, SETTLED_STATES

STATES = frozenset(pb.MessageState.values()) - {pb.MESSAGE_STATE_UNSPECIFIED}
RECEIPTS = frozenset({pb.MESSAGE_STATE_SENT, pb.MESSAGE_STATE_DELIVERED, pb.MESSAGE_STATE_UNDELIVERED})


def test_table_has_a_row_for_every_state_and_names_no_other() -> None:
    assert set(TRANSITIONS) == STATES
    assert set().union(*TRANSITIONS.values()) <= STATES


def test_final_state_never_changes_except_by_a_late_receipt_for_an_unclear_attempt() -> None:
    for state in FINAL_STATES - {pb.MESSAGE_STATE_UNKNOWN}:
        assert TRANSITIONS[state] == frozenset(), pb.MessageState.Name(state)
    assert TRANSITIONS[pb.MESSAGE_STATE_UNKNOWN] <= RECEIPTS


def test_after_a_provider_accepted_it_only_a_receipt_changes_the_state() -> None:
    assert TRANSITIONS[pb.MESSAGE_STATE_SENT] == RECEIPTS - {pb.MESSAGE_STATE_SENT}
    assert {pb.MESSAGE_STATE_SENT} == SETTLED_STATES - FINAL_STATES


def _reachable(start: int) -> set[int]:
    found: set[int] = set()
    edge = {start}
    while edge:
        edge = set().union(*(TRANSITIONS[state] for state in edge)) - found
        found |= edge
    return found


def test_no_state_leads_back_to_accepted_or_scheduled() -> None:
    assert all(pb.MESSAGE_STATE_ACCEPTED not in after for after in TRANSITIONS.values())
    for state in STATES - {pb.MESSAGE_STATE_ACCEPTED}:
        assert pb.MESSAGE_STATE_SCHEDULED not in _reachable(state), pb.MessageState.Name(state)


def test_only_queued_and_sending_may_repeat() -> None:
    repeats = {state for state in STATES if state in _reachable(state)}
    assert repeats == {pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING}


def test_every_state_is_reached_and_every_message_can_end() -> None:
    assert _reachable(pb.MESSAGE_STATE_ACCEPTED) == STATES - {pb.MESSAGE_STATE_ACCEPTED}
    for state in STATES - FINAL_STATES:
        assert _reachable(state) & FINAL_STATES, pb.MessageState.Name(state)


def test_unknown_requires_an_attempt() -> None:
    before = {state for state in STATES if may_follow(state, pb.MESSAGE_STATE_UNKNOWN)}
    # QUEUED: waiting for another attempt after an unclear one.
    assert before == {pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_QUEUED}


def test_cancelling_requires_that_no_attempt_is_under_way() -> None:
    before = {state for state in STATES if may_follow(state, pb.MESSAGE_STATE_CANCELED)}
    assert before == {pb.MESSAGE_STATE_ACCEPTED, pb.MESSAGE_STATE_SCHEDULED, pb.MESSAGE_STATE_QUEUED}


def test_may_follow_is_the_table() -> None:
    for before, after in itertools.product(pb.MessageState.values(), repeat=2):
        assert may_follow(before, after) == (after in TRANSITIONS.get(before, ()))


@pytest.mark.parametrize("number", [0, 13, 99, -1])
def test_unknown_number_follows_nothing_and_nothing_follows_it(number: int) -> None:
    assert not any(may_follow(number, state) or may_follow(state, number) for state in STATES)


def test_dead_letter_of_a_message_that_was_sent_or_withdrawn_is_not_replayed() -> None:
    assert REPLAYABLE <= FINAL_STATES
    assert not REPLAYABLE & {
        pb.MESSAGE_STATE_SENT,
        pb.MESSAGE_STATE_DELIVERED,
        pb.MESSAGE_STATE_UNDELIVERED,
        pb.MESSAGE_STATE_CANCELED,
    }


RANK: dict[int, int] = {
    pb.MESSAGE_STATE_ACCEPTED: 0,
    pb.MESSAGE_STATE_SCHEDULED: 1,
    pb.MESSAGE_STATE_QUEUED: 2,
    pb.MESSAGE_STATE_SENDING: 2,
    pb.MESSAGE_STATE_UNKNOWN: 3,
    pb.MESSAGE_STATE_SENT: 4,
    **dict.fromkeys(FINAL_STATES - {pb.MESSAGE_STATE_UNKNOWN}, 5),
}
"""How far a message has come; only QUEUED and SENDING may alternate."""

ON_THE_WAY = [state for state in sorted(STATES) if state not in FINAL_STATES or state == pb.MESSAGE_STATE_UNKNOWN]
ANY_EVENTS = st.lists(st.sampled_from([*pb.MessageState.values(), 99, *ON_THE_WAY * 3]), min_size=10, max_size=30)


def walk(start: int, events: list[int]) -> list[int]:
    """Every state of a message that gets these events and applies only those that may follow."""
    states = [start]
    for event in events:
        states.append(event if may_follow(states[-1], event) else states[-1])
    return states


@given(st.sampled_from([pb.MESSAGE_STATE_ACCEPTED, pb.MESSAGE_STATE_SCHEDULED]), ANY_EVENTS)
def test_message_never_moves_backward_for_any_events_in_any_order(start: int, events: list[int]) -> None:
    states = walk(start, events + events)
    for before, after in itertools.pairwise(states):
        assert RANK[after] >= RANK[before]
        if before in FINAL_STATES - {pb.MESSAGE_STATE_UNKNOWN}:
            assert after == before
        if before in SETTLED_STATES:
            assert after in SETTLED_STATES, "a settled message is never taken up again"


@given(ANY_EVENTS, st.lists(st.integers(0, 29), max_size=30))
def test_late_and_repeated_events_change_a_settled_message_only_as_a_receipt_may(
    events: list[int], again: list[int]
) -> None:
    states = walk(pb.MESSAGE_STATE_ACCEPTED, events)
    if states[-1] not in SETTLED_STATES:
        return
    late = walk(states[-1], [states[number] for number in again if number < len(states)])
    assert set(late) <= {states[-1]} | TRANSITIONS[states[-1]] & RECEIPTS
