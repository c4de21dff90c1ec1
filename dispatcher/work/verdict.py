"""Decides what follows from the outcome of a call. Pure: facts and `now` (Unix seconds) come in, a verdict goes out.

accepted        → SENT
throttled       → the same provider again after a wait that doubles; a long or repeated one: another provider
transient       → another untried provider now; none left: later; no round left: dead letter
provider fault  → as transient
permanent       → FAILED, no other provider; as provider fault while the provider refuses everything
ambiguous       → by the priority's policy: resend as transient, a bounded number of times, or hold for a receipt, a
                  look-up or the deadline
"""

from collections.abc import Callable, Collection, Sequence

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging.events import Change
from providers.base import Outcome

_SHORT_THROTTLE_S, _LONGEST_THROTTLE_S = 5.0, 60.0
"""A throttled message waits in its pod for a short time, and elsewhere for longer, at most this long."""
_MOST_THROTTLES = 3
"""After so many throttled attempts in a row a message moves, if another provider may have it."""

NextProvider = Callable[[Collection[str]], str | None]
"""Chooses a provider for the message that is not among those tried; None when there is none."""


@attrs.frozen
class Policy:
    """What the operator chose. `resend` holds the priorities whose messages are resent after an unclear outcome.

    A message is resent at most `resends` times for that reason, so that a phone gets at most one copy more than that.
    """

    retry_delays_s: Sequence[float]
    resend: Collection[int]
    lookup_after_s: float
    throttle_s: float = 1.0
    resends: int = 1


@attrs.frozen
class Progress:
    """How far a message has come: attempts in all, the number of its round, providers tried in this round."""

    attempts: int = 0
    round: int = 0
    tried: tuple[str, ...] = ()


@attrs.frozen
class Verdict(Change):
    """The change that follows from an outcome."""


@attrs.frozen(kw_only=True)
class VerdictFacts:
    """Everything a verdict depends on. `unclear_attempts` counts earlier attempts whose outcome is still unclear."""

    provider: str
    priority: int
    deadline: float
    progress: Progress
    policy: Policy
    next_provider: NextProvider
    can_look_up: bool
    now: float
    unclear_attempts: int = 0
    throttled_before: int = 0
    """How many attempts right before this one were throttled at this provider."""
    refusal_is_fault: bool = False
    """The provider refuses everything for good, so a refusal says nothing about this message."""


def judge(outcome: Outcome, facts: VerdictFacts) -> Verdict:
    """Decide what follows from an outcome."""
    match outcome.kind:
        case pb.ATTEMPT_OUTCOME_ACCEPTED:
            return _end(facts, pb.MESSAGE_STATE_SENT)
        case pb.ATTEMPT_OUTCOME_PERMANENT:
            if facts.refusal_is_fault:
                return _fail_over(facts, "REFUSED_ALIKE", f"{facts.provider} refuses every message: {outcome.detail}")
            end = _dead_letter if facts.unclear_attempts else _end
            return end(facts, pb.MESSAGE_STATE_FAILED, "REFUSED", outcome.detail)
        case pb.ATTEMPT_OUTCOME_THROTTLED:
            return _wait_or_move(facts, throttle_pause_s(outcome, facts), outcome.detail)
        case pb.ATTEMPT_OUTCOME_TRANSIENT:
            return _fail_over(facts, "TRANSIENT", outcome.detail)
        case pb.ATTEMPT_OUTCOME_PROVIDER_FAULT:
            return _fail_over(facts, "PROVIDER_FAULT", outcome.detail)
        case _:
            if facts.priority in facts.policy.resend and facts.unclear_attempts < facts.policy.resends:
                again = _fail_over(facts, "UNCLEAR_RESENT", outcome.detail)
                if again.next != wire.NEXT_STEP_BURY:
                    return again
            return hold(facts, outcome.detail)  # with nothing left to try it is still unclear, not a failure


def throttle_pause_s(outcome: Outcome, facts: VerdictFacts) -> float:
    """Return the pause that a throttled call asks for, at least the policy's."""
    return max(outcome.retry_after_s or 0.0, facts.policy.throttle_s)


def _wait_or_move(facts: VerdictFacts, pause_s: float, detail: str) -> Verdict:
    """Let a throttled message wait by itself, twice as long each time; a long wait is spent at another provider."""
    tries = facts.throttled_before + 1
    wait_s = min(_LONGEST_THROTTLE_S, max(pause_s, facts.policy.throttle_s * 2**facts.throttled_before))
    due = facts.now + wait_s
    if wait_s > _SHORT_THROTTLE_S or tries >= _MOST_THROTTLES or due >= facts.deadline:
        tried = tuple(dict.fromkeys((*facts.progress.tried, facts.provider)))
        if due >= facts.deadline or facts.next_provider(tried) is not None:
            return _fail_over(facts, "THROTTLED", detail)
    step = wire.NEXT_STEP_AGAIN if wait_s <= _SHORT_THROTTLE_S else wire.NEXT_STEP_LATER
    return attrs.evolve(_requeue(facts, step, facts.provider, "THROTTLED", detail), due=due)


def hold(facts: VerdictFacts, detail: str, least_wait_s: float = 0.0, ask_at: float = 0.0) -> Verdict:
    """Keep a message whose outcome is unclear until its next look-up, or until its deadline, when it ends as UNKNOWN.

    The look-up comes after the policy's wait or `least_wait_s`, whichever is longer, but not later than at `ask_at`
    (Unix seconds), if that is still to come.
    """
    if facts.now >= facts.deadline:
        return _dead_letter(facts, pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN", detail)
    wait_s = max(facts.policy.lookup_after_s, least_wait_s) if facts.can_look_up else facts.deadline - facts.now
    due = facts.now + wait_s
    if facts.now < ask_at:
        due = min(due, ask_at)
    return Verdict(
        state=pb.MESSAGE_STATE_SENDING,
        next=wire.NEXT_STEP_LATER,
        provider=facts.provider,
        reason="UNCLEAR",
        detail=detail,
        due=min(facts.deadline, due),
        held=True,
        round=facts.progress.round,
        tried=facts.progress.tried,
    )


def expire(facts: VerdictFacts, detail: str = "the deadline passed before a provider took it") -> Verdict:
    """End a message whose deadline has passed before a provider took it."""
    return _dead_letter(facts, pb.MESSAGE_STATE_EXPIRED, "EXPIRED", detail)


def not_sent(facts: VerdictFacts, detail: str) -> Verdict:
    """Try again at the same provider: the attempt was recorded, but its bytes never left."""
    if facts.now >= facts.deadline:
        return expire(facts)
    return _requeue(facts, wire.NEXT_STEP_AGAIN, facts.provider, "NOT_SENT", detail)


def move(facts: VerdictFacts, target: str) -> Verdict:
    """Move a message that waits behind an open breaker. Its provider was not called, so it does not count as tried."""
    return _requeue(facts, wire.NEXT_STEP_MOVE, target, "BREAKER_OPEN", f"{facts.provider} is not available now")


def _fail_over(facts: VerdictFacts, reason: str, detail: str) -> Verdict:
    """Try another provider now; when none is left, start the next round later, or give up."""
    tried = tuple(dict.fromkeys((*facts.progress.tried, facts.provider)))
    if (target := facts.next_provider(tried)) is not None:
        return attrs.evolve(_requeue(facts, wire.NEXT_STEP_MOVE, target, reason, detail), tried=tried)
    if facts.progress.round >= len(facts.policy.retry_delays_s):
        detail = f"every attempt failed, the last: {detail}"
        return _dead_letter(facts, pb.MESSAGE_STATE_FAILED, "EXHAUSTED", detail)
    due = facts.now + facts.policy.retry_delays_s[facts.progress.round]
    if due >= facts.deadline:
        detail = f"no attempt is left before the deadline: {detail}"
        return _dead_letter(facts, pb.MESSAGE_STATE_EXPIRED, "EXPIRED", detail)
    target = facts.next_provider(()) or facts.provider
    later = _requeue(facts, wire.NEXT_STEP_LATER, target, reason, detail)
    return attrs.evolve(later, due=due, round=facts.progress.round + 1, tried=())


def _requeue(facts: VerdictFacts, step: wire.NextStep.ValueType, provider: str, reason: str, detail: str) -> Verdict:
    return attrs.evolve(_end(facts, pb.MESSAGE_STATE_QUEUED, reason, detail), next=step, provider=provider)


def _end(facts: VerdictFacts, state: pb.MessageState.ValueType, reason: str = "", detail: str = "") -> Verdict:
    """Change the state without a next step."""
    return Verdict(
        state=state,
        provider=facts.provider,
        reason=reason,
        detail=detail,
        round=facts.progress.round,
        tried=facts.progress.tried,
    )


def _dead_letter(facts: VerdictFacts, state: pb.MessageState.ValueType, reason: str, detail: str) -> Verdict:
    """Give up. After an unclear attempt the state is UNKNOWN, because the message may have been sent."""
    if facts.unclear_attempts and state != pb.MESSAGE_STATE_UNKNOWN:
        state, reason, detail = pb.MESSAGE_STATE_UNKNOWN, "UNKNOWN", f"an earlier attempt is unclear; {detail}"
    return attrs.evolve(_end(facts, state, reason, detail), next=wire.NEXT_STEP_BURY)
