"""Whatever an outcome holds, a verdict follows and the event can be written: else it would look like a lost process."""

from hypothesis import given
from hypothesis import strategies as st
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.app import policy_of
from dispatcher.work.verdict import Progress, VerdictFacts, judge, throttle_pause_s
from messaging import events
from messaging.lifecycle import may_follow
from messaging.runtime.config import FleetSettings
from providers.base import Outcome

KINDS = [kind for kind in pb.AttemptOutcome.values() if kind]
COMMAND = wire.Command(message_id="m-1", client="c", provider="a")
_TEXTS = st.text(st.characters(), max_size=500)
_PAUSES = st.sampled_from([None, float("nan"), float("inf"), -1e308]) | st.floats() | st.integers(-(10**15), 10**15)


@given(
    kind=st.sampled_from(KINDS),
    words=_TEXTS,
    pause=_PAUSES,
    priority=st.sampled_from(pb.Priority.values()),
    left_s=st.floats(-1e6, 1e6),
    others=st.sampled_from(["", "b"]),
    round_=st.integers(0, 20),
    can_look_up=st.booleans(),
)
def test_verdict_follows_every_outcome_and_its_event_can_be_written(
    kind: pb.AttemptOutcome.ValueType,
    words: str,
    pause: float | None,
    priority: int,
    left_s: float,
    others: str,
    round_: int,
    *,
    can_look_up: bool,
) -> None:
    now = 1.8e9
    facts = VerdictFacts(
        provider="a",
        priority=priority,
        deadline=now + left_s,
        progress=Progress(1, round_, ()),
        policy=policy_of(FleetSettings()),
        next_provider=lambda tried: next((one for one in others if one not in tried), None),
        can_look_up=can_look_up,
        now=now,
    )
    outcome = Outcome(kind, words, words, words, pause, said=words)
    verdict = judge(outcome, facts)
    started = events.attempt_started(COMMAND, wire.Event(), "a", events.Writer("pod"), now)
    event = events.following(COMMAND, started, verdict, events.Writer("pod"), now, outcome)
    assert may_follow(started.state, event.state)
    assert wire.Event.FromString(event.SerializeToString()) == event
    assert 0 <= throttle_pause_s(outcome, facts) <= 86_400
