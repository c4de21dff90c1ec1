from collections.abc import Collection

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.verdict import Case, Policy, Progress, Verdict, expire, hold, judge, step_aside
from messaging.lifecycle import may_follow
from providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Outcome,
)

NOW, DEADLINE = 1000.0, 1600.0
POLICY = Policy((30.0, 300.0, 1800.0), frozenset({pb.PRIORITY_OTP}), lookup_after_s=5.0, throttle_s=1.0)
END, AGAIN = wire.NEXT_STEP_UNSPECIFIED, wire.NEXT_STEP_AGAIN
MOVE, LATER, BURY = wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER, wire.NEXT_STEP_BURY
QUEUED, SENDING, SENT = pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_SENT
FAILED, EXPIRED, UNKNOWN = pb.MESSAGE_STATE_FAILED, pb.MESSAGE_STATE_EXPIRED, pb.MESSAGE_STATE_UNKNOWN


def case(
    *,
    others: str = "",
    tried: str = "",
    round_: int = 0,
    deadline: float = DEADLINE,
    otp: bool = False,
    looks_up: bool = False,
    now: float = NOW,
) -> Case:
    """The message is with provider `a`; `others` are the providers that could take it too, one letter each."""

    def next_provider(gone: Collection[str]) -> str | None:
        return next((name for name in others if name not in gone), None)

    return Case(
        "a",
        pb.PRIORITY_OTP if otp else pb.PRIORITY_NORMAL,
        deadline,
        Progress(len(tried) + 1, round_, tuple(tried)),
        POLICY,
        next_provider,
        looks_up,
        now,
    )


def outcome(kind: int, retry_after_s: float | None = None) -> Outcome:
    return Outcome(pb.AttemptOutcome.ValueType(kind), "p-1", "code", "detail", retry_after_s)


NOTHING = Verdict(QUEUED, END, "a")


def unclear(situation: Case) -> Case:
    return attrs.evolve(situation, unclear=True)


ELSEWHERE = (TRANSIENT, PROVIDER_FAULT)
WORD = {TRANSIENT: "TRANSIENT", PROVIDER_FAULT: "PROVIDER_FAULT"}

# What came back, in which situation, and what follows: state, step, provider, reason, due, held, round, tried, pause.
# fmt: off
TABLE = [
    # accepted
    (outcome(ACCEPTED), case(), SENT, END, "a", "", 0, False, 0, "", 0),
    (outcome(ACCEPTED), case(tried="b", round_=2), SENT, END, "a", "", 0, False, 2, "b", 0),
    (outcome(ACCEPTED), case(now=DEADLINE + 1), SENT, END, "a", "", 0, False, 0, "", 0),
    # permanent: never another provider
    (outcome(PERMANENT), case(others="bc"), FAILED, END, "a", "REFUSED", 0, False, 0, "", 0),
    # throttled: the lane pauses, the message stays
    (outcome(THROTTLED), case(others="b"), QUEUED, AGAIN, "a", "THROTTLED", 0, False, 0, "", 1.0),
    (outcome(THROTTLED, 7.5), case(others="b"), QUEUED, AGAIN, "a", "THROTTLED", 0, False, 0, "", 7.5),
    (outcome(THROTTLED, 0.0), case(others="b"), QUEUED, AGAIN, "a", "THROTTLED", 0, False, 0, "", 0.0),
    (outcome(THROTTLED, 599.0), case(others="b"), QUEUED, AGAIN, "a", "THROTTLED", 0, False, 0, "", 599.0),
    # … unless the pause would outlive it
    (outcome(THROTTLED, 600.0), case(others="b"), QUEUED, MOVE, "b", "THROTTLED", 0, False, 0, "a", 600.0),
    (outcome(THROTTLED, 600.0), case(), QUEUED, LATER, "a", "THROTTLED", NOW + 30, False, 1, "", 600.0),
    (outcome(THROTTLED), case(deadline=NOW), EXPIRED, BURY, "a", "EXPIRED", 0, False, 0, "", 1.0),
    # unclear, and the operator resends this priority
    (outcome(AMBIGUOUS), case(others="b", otp=True), QUEUED, MOVE, "b", "UNCLEAR_RESENT", 0, False, 0, "a", 0),
    (outcome(AMBIGUOUS), case(otp=True), QUEUED, LATER, "a", "UNCLEAR_RESENT", NOW + 30, False, 1, "", 0),
    # unclear, and held: until the deadline, or until it is time to ask
    (outcome(AMBIGUOUS), case(others="b"), SENDING, LATER, "a", "UNCLEAR", DEADLINE, True, 0, "", 0),
    (outcome(AMBIGUOUS), case(looks_up=True), SENDING, LATER, "a", "UNCLEAR", NOW + 5, True, 0, "", 0),
    (outcome(AMBIGUOUS), case(looks_up=True, deadline=1002.0), SENDING, LATER, "a", "UNCLEAR", 1002.0, True, 0, "", 0),
    (outcome(AMBIGUOUS), case(tried="b", round_=2), SENDING, LATER, "a", "UNCLEAR", DEADLINE, True, 2, "b", 0),
    (outcome(AMBIGUOUS), case(deadline=NOW), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, "", 0),
    # whatever ends a message that has an unclear attempt behind it, nobody can say that it was not sent
    (outcome(PERMANENT), unclear(case(others="bc")), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, "", 0),
    (outcome(TRANSIENT), unclear(case(round_=3)), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 3, "", 0),
    (outcome(TRANSIENT), unclear(case(deadline=NOW + 30)), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, "", 0),
    (outcome(TRANSIENT), unclear(case(others="b")), QUEUED, MOVE, "b", "TRANSIENT", 0, False, 0, "a", 0),
    (outcome(ACCEPTED), unclear(case()), SENT, END, "a", "", 0, False, 0, "", 0),
]
for _no in ELSEWHERE:
    TABLE += [
        # another untried provider, now
        (outcome(_no), case(others="ab"), QUEUED, MOVE, "b", WORD[_no], 0, False, 0, "a", 0),
        (outcome(_no), case(others="abc", tried="b"), QUEUED, MOVE, "c", WORD[_no], 0, False, 0, "ba", 0),
        (outcome(_no), case(others="abc", tried="ab", round_=1), QUEUED, MOVE, "c", WORD[_no], 0, False, 1, "ab", 0),
        # none left: later, and everybody may be tried again
        (outcome(_no), case(), QUEUED, LATER, "a", WORD[_no], NOW + 30, False, 1, "", 0),
        (outcome(_no), case(others="ba", tried="b"), QUEUED, LATER, "b", WORD[_no], NOW + 30, False, 1, "", 0),
        (outcome(_no), case(round_=1), QUEUED, LATER, "a", WORD[_no], NOW + 300, False, 2, "", 0),
        # never past the deadline
        (outcome(_no), case(round_=2), EXPIRED, BURY, "a", "EXPIRED", 0, False, 2, "", 0),
        (outcome(_no), case(deadline=NOW + 30), EXPIRED, BURY, "a", "EXPIRED", 0, False, 0, "", 0),
        (outcome(_no), case(deadline=NOW + 30.1), QUEUED, LATER, "a", WORD[_no], NOW + 30, False, 1, "", 0),
        # every round was made
        (outcome(_no), case(round_=3), FAILED, BURY, "a", "EXHAUSTED", 0, False, 3, "", 0),
        (outcome(_no), case(round_=3, others="b"), QUEUED, MOVE, "b", WORD[_no], 0, False, 3, "a", 0),
    ]
# fmt: on


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "")
def test_verdict_follows_from_outcome_and_situation(row: tuple[Outcome, Case, object]) -> None:
    came_back, situation, *expected = row
    found = judge(came_back, situation)
    assert [
        found.state,
        found.next,
        found.provider,
        found.reason,
        found.due,
        found.held,
        found.round,
        "".join(found.tried or ()),
        found.pause_s,
    ] == expected
    assert may_follow(SENDING, found.state), "an attempt that was begun can end like this"


def test_every_outcome_stands_in_the_table() -> None:
    told = {row[0].kind for row in TABLE}
    assert told == set(pb.AttemptOutcome.values()) - {pb.ATTEMPT_OUTCOME_UNSPECIFIED}


def test_detail_of_a_dead_letter_names_the_last_failure_and_of_a_success_nothing() -> None:
    assert judge(outcome(TRANSIENT), case(round_=3)).detail == "every attempt failed, the last: detail"
    assert judge(outcome(ACCEPTED), case()).detail == ""


@pytest.mark.parametrize("priority", sorted(pb.Priority.values()))
def test_resending_what_is_unclear_is_the_operators_choice_for_each_priority(priority: int) -> None:
    always = attrs.evolve(case(others="b"), priority=priority, policy=attrs.evolve(POLICY, resend={priority}))
    never = attrs.evolve(always, policy=attrs.evolve(POLICY, resend=frozenset()))
    assert judge(outcome(AMBIGUOUS), always).next == MOVE
    assert judge(outcome(AMBIGUOUS), never).held


@pytest.mark.parametrize(("round_", "deadline"), [(3, DEADLINE), (2, DEADLINE), (0, NOW + 1)])
def test_unclear_outcome_is_held_when_nothing_is_left_to_try(round_: int, deadline: float) -> None:
    """Nobody knows whether the carrier took it: that is waited for and ends as UNKNOWN, never as a failure."""
    situation = case(otp=True, round_=round_, deadline=deadline)
    found = judge(outcome(AMBIGUOUS), situation)
    assert (found.state, found.held, found.due) == (SENDING, True, deadline)
    found = judge(outcome(AMBIGUOUS), attrs.evolve(situation, now=deadline))
    assert (found.state, found.next, found.reason) == (UNKNOWN, BURY, "UNKNOWN")


def test_held_message_is_asked_about_ever_more_seldom_and_ends_at_its_deadline() -> None:
    situation, waited, dues = case(looks_up=True), 0.0, []
    while (found := hold(situation, "detail", waited)).held:
        dues.append(found.due - NOW)
        waited = 2 * (found.due - situation.now)
        situation = attrs.evolve(situation, now=found.due)
    assert dues == [5.0, 15.0, 35.0, 75.0, 155.0, 315.0, 600.0]
    assert (found.state, found.next, found.reason) == (UNKNOWN, BURY, "UNKNOWN")


def test_expired_message_goes_to_the_dead_letters_with_its_reason() -> None:
    found = expire(case(tried="b", round_=1))
    assert (found.state, found.next, found.reason, found.tried) == (EXPIRED, BURY, "EXPIRED", ("b",))


def test_stepping_aside_marks_nobody_as_tried() -> None:
    found = step_aside(case(tried="b", round_=1), "c")
    assert (found.state, found.next, found.provider) == (QUEUED, MOVE, "c")
    assert (found.reason, found.tried, found.round) == ("BREAKER_OPEN", ("b",), 1)
