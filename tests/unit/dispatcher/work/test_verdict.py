from collections.abc import Collection

import attrs
import pytest
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.verdict import Policy, Progress, Verdict, VerdictFacts, expire, hold, judge, move
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


def facts(
    *,
    others: str = "",
    tried: str = "",
    round_: int = 0,
    deadline: float = DEADLINE,
    otp: bool = False,
    looks_up: bool = False,
    now: float = NOW,
) -> VerdictFacts:
    """Facts of a message at provider `a`; `others` are the other providers it may use, one letter each."""

    def next_provider(excluded: Collection[str]) -> str | None:
        return next((name for name in others if name not in excluded), None)

    return VerdictFacts(
        provider="a",
        priority=pb.PRIORITY_OTP if otp else pb.PRIORITY_NORMAL,
        deadline=deadline,
        progress=Progress(len(tried) + 1, round_, tuple(tried)),
        policy=POLICY,
        next_provider=next_provider,
        can_look_up=looks_up,
        now=now,
    )


def outcome(kind: int, retry_after_s: float | None = None) -> Outcome:
    return Outcome(pb.AttemptOutcome.ValueType(kind), "p-1", "code", "detail", retry_after_s)


NOTHING = Verdict(QUEUED, END, "a")


def unclear(given: VerdictFacts) -> VerdictFacts:
    return attrs.evolve(given, unclear_attempts=1)


def throttled(given: VerdictFacts, times: int) -> VerdictFacts:
    return attrs.evolve(given, throttled_before=times)


def faulty(given: VerdictFacts) -> VerdictFacts:
    return attrs.evolve(given, refusal_is_fault=True)


FAILS_OVER = (TRANSIENT, PROVIDER_FAULT)
REASON = {TRANSIENT: "TRANSIENT", PROVIDER_FAULT: "PROVIDER_FAULT"}

# outcome, facts, and the verdict: state, step, provider, reason, due, held, round, tried
# fmt: off
TABLE = [
    # accepted
    (outcome(ACCEPTED), facts(), SENT, END, "a", "", 0, False, 0, ""),
    (outcome(ACCEPTED), facts(tried="b", round_=2), SENT, END, "a", "", 0, False, 2, "b"),
    (outcome(ACCEPTED), facts(now=DEADLINE + 1), SENT, END, "a", "", 0, False, 0, ""),
    # permanent: never another provider
    (outcome(PERMANENT), facts(others="bc"), FAILED, END, "a", "REFUSED", 0, False, 0, ""),
    # throttled: the message waits by itself, a short time here
    (outcome(THROTTLED), facts(others="b"), QUEUED, AGAIN, "a", "THROTTLED", NOW + 1, False, 0, ""),
    (outcome(THROTTLED, 4.5), facts(others="b"), QUEUED, AGAIN, "a", "THROTTLED", NOW + 4.5, False, 0, ""),
    (outcome(THROTTLED, 0.0), facts(others="b"), QUEUED, AGAIN, "a", "THROTTLED", NOW + 1, False, 0, ""),
    (outcome(THROTTLED), throttled(facts(others="b"), 1), QUEUED, AGAIN, "a", "THROTTLED", NOW + 2, False, 0, ""),
    # … and a long time, or after the third in a row, at another provider
    (outcome(THROTTLED, 7.5), facts(others="b"), QUEUED, MOVE, "b", "THROTTLED", 0, False, 0, "a"),
    (outcome(THROTTLED, 3600.0), facts(others="b"), QUEUED, MOVE, "b", "THROTTLED", 0, False, 0, "a"),
    (outcome(THROTTLED), throttled(facts(others="b"), 2), QUEUED, MOVE, "b", "THROTTLED", 0, False, 0, "a"),
    # … or, where there is none, later, at most a minute, in the same round
    (outcome(THROTTLED, 7.5), facts(), QUEUED, LATER, "a", "THROTTLED", NOW + 7.5, False, 0, ""),
    (outcome(THROTTLED, 3600.0), facts(), QUEUED, LATER, "a", "THROTTLED", NOW + 60, False, 0, ""),
    (outcome(THROTTLED), throttled(facts(), 40), QUEUED, LATER, "a", "THROTTLED", NOW + 60, False, 0, ""),
    # … unless the wait would end after the deadline
    (outcome(THROTTLED, 4.0), facts(others="b", deadline=NOW + 4), QUEUED, MOVE, "b", "THROTTLED", 0, False, 0, "a"),
    (outcome(THROTTLED), facts(deadline=NOW), EXPIRED, BURY, "a", "EXPIRED", 0, False, 0, ""),
    # refused while the provider refuses everything
    (outcome(PERMANENT), faulty(facts(others="b")), QUEUED, MOVE, "b", "REFUSED_ALIKE", 0, False, 0, "a"),
    (outcome(PERMANENT), faulty(facts()), QUEUED, LATER, "a", "REFUSED_ALIKE", NOW + 30, False, 1, ""),
    # unclear, and the operator resends this priority
    (outcome(AMBIGUOUS), facts(others="b", otp=True), QUEUED, MOVE, "b", "UNCLEAR_RESENT", 0, False, 0, "a"),
    (outcome(AMBIGUOUS), facts(otp=True), QUEUED, LATER, "a", "UNCLEAR_RESENT", NOW + 30, False, 1, ""),
    # unclear, and held: until the deadline or the next look-up
    (outcome(AMBIGUOUS), facts(others="b"), SENDING, LATER, "a", "UNCLEAR", DEADLINE, True, 0, ""),
    (outcome(AMBIGUOUS), facts(looks_up=True), SENDING, LATER, "a", "UNCLEAR", NOW + 5, True, 0, ""),
    (outcome(AMBIGUOUS), facts(looks_up=True, deadline=1002.0), SENDING, LATER, "a", "UNCLEAR", 1002.0, True, 0, ""),
    (outcome(AMBIGUOUS), facts(tried="b", round_=2), SENDING, LATER, "a", "UNCLEAR", DEADLINE, True, 2, "b"),
    (outcome(AMBIGUOUS), facts(deadline=NOW), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, ""),
    # after an unclear attempt no ending may say that the message was not sent
    (outcome(PERMANENT), unclear(facts(others="bc")), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, ""),
    (outcome(TRANSIENT), unclear(facts(round_=3)), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 3, ""),
    (outcome(TRANSIENT), unclear(facts(deadline=NOW + 30)), UNKNOWN, BURY, "a", "UNKNOWN", 0, False, 0, ""),
    (outcome(TRANSIENT), unclear(facts(others="b")), QUEUED, MOVE, "b", "TRANSIENT", 0, False, 0, "a"),
    (outcome(ACCEPTED), unclear(facts()), SENT, END, "a", "", 0, False, 0, ""),
]
for _no in FAILS_OVER:
    TABLE += [
        # another untried provider, now
        (outcome(_no), facts(others="ab"), QUEUED, MOVE, "b", REASON[_no], 0, False, 0, "a"),
        (outcome(_no), facts(others="abc", tried="b"), QUEUED, MOVE, "c", REASON[_no], 0, False, 0, "ba"),
        (outcome(_no), facts(others="abc", tried="ab", round_=1), QUEUED, MOVE, "c", REASON[_no], 0, False, 1, "ab"),
        # none left: the next round, in which every provider may be tried again
        (outcome(_no), facts(), QUEUED, LATER, "a", REASON[_no], NOW + 30, False, 1, ""),
        (outcome(_no), facts(others="ba", tried="b"), QUEUED, LATER, "b", REASON[_no], NOW + 30, False, 1, ""),
        (outcome(_no), facts(round_=1), QUEUED, LATER, "a", REASON[_no], NOW + 300, False, 2, ""),
        # never past the deadline
        (outcome(_no), facts(round_=2), EXPIRED, BURY, "a", "EXPIRED", 0, False, 2, ""),
        (outcome(_no), facts(deadline=NOW + 30), EXPIRED, BURY, "a", "EXPIRED", 0, False, 0, ""),
        (outcome(_no), facts(deadline=NOW + 30.1), QUEUED, LATER, "a", REASON[_no], NOW + 30, False, 1, ""),
        # no round is left
        (outcome(_no), facts(round_=3), FAILED, BURY, "a", "EXHAUSTED", 0, False, 3, ""),
        (outcome(_no), facts(round_=3, others="b"), QUEUED, MOVE, "b", REASON[_no], 0, False, 3, "a"),
    ]
# fmt: on


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "")
def test_verdict_follows_from_outcome_and_facts(row: tuple[Outcome, VerdictFacts, object]) -> None:
    answer, given, *expected = row
    found = judge(answer, given)
    assert [
        found.state,
        found.next,
        found.provider,
        found.reason,
        found.due,
        found.held,
        found.round,
        "".join(found.tried or ()),
    ] == expected
    assert may_follow(SENDING, found.state), "a running attempt can end like this"


def test_every_outcome_is_in_the_table() -> None:
    covered = {row[0].kind for row in TABLE}
    assert covered == set(pb.AttemptOutcome.values()) - {pb.ATTEMPT_OUTCOME_UNSPECIFIED}


def test_detail_of_a_dead_letter_names_the_last_failure_and_of_a_success_nothing() -> None:
    assert judge(outcome(TRANSIENT), facts(round_=3)).detail == "every attempt failed, the last: detail"
    assert judge(outcome(ACCEPTED), facts()).detail == ""


@pytest.mark.parametrize("priority", sorted(pb.Priority.values()))
def test_operator_chooses_for_each_priority_whether_unclear_messages_are_resent(priority: int) -> None:
    always = attrs.evolve(facts(others="b"), priority=priority, policy=attrs.evolve(POLICY, resend={priority}))
    never = attrs.evolve(always, policy=attrs.evolve(POLICY, resend=frozenset()))
    assert judge(outcome(AMBIGUOUS), always).next == MOVE
    assert judge(outcome(AMBIGUOUS), never).held


@pytest.mark.parametrize(("round_", "deadline"), [(3, DEADLINE), (2, DEADLINE), (0, NOW + 1)])
def test_unclear_outcome_is_held_when_nothing_is_left_to_try(round_: int, deadline: float) -> None:
    """The message may have been sent, so it ends as UNKNOWN and never as FAILED."""
    given = facts(otp=True, round_=round_, deadline=deadline)
    found = judge(outcome(AMBIGUOUS), given)
    assert (found.state, found.held, found.due) == (SENDING, True, deadline)
    found = judge(outcome(AMBIGUOUS), attrs.evolve(given, now=deadline))
    assert (found.state, found.next, found.reason) == (UNKNOWN, BURY, "UNKNOWN")


@pytest.mark.parametrize(
    ("resends", "unclear_before", "resent"), [(1, 0, True), (1, 1, False), (0, 0, False), (3, 2, True)]
)
def test_unclear_message_is_resent_a_bounded_number_of_times(
    resends: int, unclear_before: int, *, resent: bool
) -> None:
    policy = attrs.evolve(POLICY, resends=resends)
    given = attrs.evolve(facts(others="bc", otp=True), policy=policy, unclear_attempts=unclear_before)
    found = judge(outcome(AMBIGUOUS), given)
    assert (found.next == MOVE, found.held) == (resent, not resent)


def test_waits_between_look_ups_double_until_the_deadline() -> None:
    given, waited, dues = facts(looks_up=True), 0.0, []
    while (found := hold(given, "detail", waited)).held:
        dues.append(found.due - NOW)
        waited = 2 * (found.due - given.now)
        given = attrs.evolve(given, now=found.due)
    assert dues == [5.0, 15.0, 35.0, 75.0, 155.0, 315.0, 600.0]
    assert (found.state, found.next, found.reason) == (UNKNOWN, BURY, "UNKNOWN")


def test_expired_message_goes_to_the_dead_letters_with_its_reason() -> None:
    found = expire(facts(tried="b", round_=1))
    assert (found.state, found.next, found.reason, found.tried) == (EXPIRED, BURY, "EXPIRED", ("b",))


def test_moving_away_from_an_open_breaker_marks_no_provider_as_tried() -> None:
    found = move(facts(tried="b", round_=1), "c")
    assert (found.state, found.next, found.provider) == (QUEUED, MOVE, "c")
    assert (found.reason, found.tried, found.round) == ("BREAKER_OPEN", ("b",), 1)
