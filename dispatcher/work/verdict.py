"""What follows from the outcome of a call. Pure: facts and `now` (Unix seconds) come in, a verdict goes out.

accepted        → SENT
throttled       → the same provider again, when its lane goes on
transient       → another untried provider now; none left: later; exhausted: dead letter
provider fault  → as transient
permanent       → FAILED, no other provider
ambiguous       → by policy of the priority: resend as transient, or hold for a receipt, a look-up, the deadline
"""

from collections.abc import Callable, Collection, Sequence

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging.events import Change
from providers.base import Outcome

NextProvider = Callable[[Collection[str]], str | None]
"""Gives a provider for the message that is not among those tried, or None."""


@attrs.frozen
class Policy:
    """What the operator chose. `resend` holds the priorities whose unclear outcomes are sent again."""

    retry_delays_s: Sequence[float]
    resend: Collection[int]
    lookup_after_s: float
    throttle_s: float = 1.0


@attrs.frozen
class Progress:
    """How far a message has come: attempts in all, rounds put off, providers tried in this round."""

    attempts: int = 0
    round: int = 0
    tried: tuple[str, ...] = ()


@attrs.frozen
class Verdict(Change):
    """The change that follows from an outcome; `pause_s` holds the whole lane."""

    pause_s: float = 0.0


@attrs.frozen
class Case:
    """All that a verdict rests on. `unclear`: of an earlier attempt nobody knows whether it was taken."""

    provider: str
    priority: int
    deadline: float
    progress: Progress
    policy: Policy
    next_provider: NextProvider
    can_look_up: bool
    now: float
    unclear: bool = False


def judge(outcome: Outcome, case: Case) -> Verdict:
    """Decide what follows from an outcome."""
    match outcome.kind:
        case pb.ATTEMPT_OUTCOME_ACCEPTED:
            return _end(case, pb.MESSAGE_STATE_SENT)
        case pb.ATTEMPT_OUTCOME_PERMANENT:
            failed = (case, pb.MESSAGE_STATE_FAILED, "REFUSED", outcome.detail)
            return _bury(*failed) if case.unclear else _end(*failed)
        case pb.ATTEMPT_OUTCOME_THROTTLED:
            pause = outcome.retry_after_s if outcome.retry_after_s is not None else case.policy.throttle_s
            if case.now + pause < case.deadline:
                again = _step(case, wire.NEXT_STEP_AGAIN, case.provider, "THROTTLED", outcome.detail)
                return attrs.evolve(again, pause_s=pause)
            return attrs.evolve(_elsewhere(case, "THROTTLED", outcome.detail), pause_s=pause)
        case pb.ATTEMPT_OUTCOME_TRANSIENT:
            return _elsewhere(case, "TRANSIENT", outcome.detail)
        case pb.ATTEMPT_OUTCOME_PROVIDER_FAULT:
            return _elsewhere(case, "PROVIDER_FAULT", outcome.detail)
        case _:
            if case.priority in case.policy.resend:
                again = _elsewhere(case, "UNCLEAR_RESENT", outcome.detail)
                if again.next != wire.NEXT_STEP_BURY:
                    return again
            return hold(case, outcome.detail)  # with nothing left to try it is still unclear, not a failure


def hold(case: Case, detail: str, waited_s: float = 0.0) -> Verdict:
    """Wait for clarity: a look-up after a while, each time twice as late, and UNKNOWN at the deadline."""
    if case.now >= case.deadline:
        return _bury(case, pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN", detail)
    wait = max(case.policy.lookup_after_s, waited_s) if case.can_look_up else case.deadline - case.now
    return Verdict(
        pb.MESSAGE_STATE_SENDING,
        wire.NEXT_STEP_LATER,
        case.provider,
        "UNCLEAR",
        detail,
        due=min(case.deadline, case.now + wait),
        held=True,
        round=case.progress.round,
        tried=case.progress.tried,
    )


def expire(case: Case) -> Verdict:
    """End a message whose deadline has passed before a provider took it."""
    return _bury(case, pb.MESSAGE_STATE_EXPIRED, "EXPIRED", "the deadline passed before a provider took it")


def not_sent(case: Case, detail: str) -> Verdict:
    """Try again at the same provider: the attempt was marked, and its bytes never left."""
    if case.now >= case.deadline:
        return expire(case)
    return _step(case, wire.NEXT_STEP_AGAIN, case.provider, "NOT_SENT", detail)


def step_aside(case: Case, target: str) -> Verdict:
    """Move a message that waits behind an open breaker; it was not tried, so nothing is marked as tried."""
    return _step(case, wire.NEXT_STEP_MOVE, target, "BREAKER_OPEN", f"{case.provider} is not available now")


def _elsewhere(case: Case, reason: str, detail: str) -> Verdict:
    tried = tuple(dict.fromkeys((*case.progress.tried, case.provider)))
    if (target := case.next_provider(tried)) is not None:
        return attrs.evolve(_step(case, wire.NEXT_STEP_MOVE, target, reason, detail), tried=tried)
    if case.progress.round >= len(case.policy.retry_delays_s):
        return _bury(case, pb.MESSAGE_STATE_FAILED, "EXHAUSTED", f"every attempt failed, the last: {detail}")
    due = case.now + case.policy.retry_delays_s[case.progress.round]
    if due >= case.deadline:
        return _bury(case, pb.MESSAGE_STATE_EXPIRED, "EXPIRED", f"no attempt is left before the deadline: {detail}")
    target = case.next_provider(()) or case.provider
    later = _step(case, wire.NEXT_STEP_LATER, target, reason, detail)
    return attrs.evolve(later, due=due, round=case.progress.round + 1, tried=())


def _step(case: Case, step: wire.NextStep.ValueType, provider: str, reason: str, detail: str) -> Verdict:
    return Verdict(
        pb.MESSAGE_STATE_QUEUED,
        step,
        provider,
        reason,
        detail,
        round=case.progress.round,
        tried=case.progress.tried,
    )


def _end(case: Case, state: pb.MessageState.ValueType, reason: str = "", detail: str = "") -> Verdict:
    progress = case.progress
    return Verdict(
        state,
        wire.NEXT_STEP_UNSPECIFIED,
        case.provider,
        reason,
        detail,
        round=progress.round,
        tried=progress.tried,
    )


def _bury(case: Case, state: pb.MessageState.ValueType, reason: str, detail: str) -> Verdict:
    """Give up; with an unclear attempt behind it nobody can say that the message was not sent."""
    if case.unclear and state != pb.MESSAGE_STATE_UNKNOWN:
        state, reason, detail = pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN", f"an earlier attempt is unclear; {detail}"
    return attrs.evolve(_end(case, state, reason, detail), next=wire.NEXT_STEP_BURY)
