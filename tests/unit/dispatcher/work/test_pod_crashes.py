"""Processes crash, lose their connection or lose an answer at any step. Another one takes over, and nothing is lost.

First, each message of a script meets a fault at every step taken for it. Then Hypothesis chooses messages, the
providers' answers and up to three faults at any step.
"""

from collections.abc import Sequence

import attrs
import hypothesis
import pytest
from hypothesis import strategies as st
from sms.gateway.v1 import message_pb2 as pb

from tests.unit.depth import DEEP
from tests.unit.fake_provider import LATE_S, Reply
from tests.unit.small_fleet import FLEET, SmallFleet
from tests.unit.supervised import Fault, Kind, Supervised, check, replay
from tests.unit.virtual_time import run_whole

HOLD = attrs.evolve(FLEET, ambiguous_otp="hold", ambiguous_other="hold")
RESEND = attrs.evolve(FLEET, ambiguous_otp="resend", ambiguous_other="resend")
TTL_S = 14.0
NO_EFFECT = ("fetch", "KV", "listening")
"""Steps that have no effect on a message."""
KINDS = ("crash", "lost", "cut") if DEEP else ("crash",)


@attrs.frozen
class Sent:
    """A message, and what each provider does to it."""

    first: Sequence[Reply] = ()
    second: Sequence[Reply] = ()
    priority: pb.Priority.ValueType = pb.PRIORITY_OTP
    due_in_s: float | None = None


async def explore(
    messages: Sequence[Sent], faults: Sequence[Fault], *, resends: bool = False, can_look_up: bool = False
) -> list[Fault]:
    """Send messages under `faults`; return every step that was taken, as a fault that can be injected there.

    Of a provider that takes messages late, a look-up's no counts only after that time: its setting says so.
    """
    script = {
        "p1": {str(number): one.first for number, one in enumerate(messages)},
        "p2": {str(number): one.second for number, one in enumerate(messages)},
    }
    takes_late = any(Reply.TAKES_LATE in (*one.first, *one.second) for one in messages)
    missing_after_s = LATE_S + 1 if takes_late else 0.0
    fleet = SmallFleet(script, RESEND if resends else HOLD, can_look_up=can_look_up, missing_after_s=missing_after_s)
    supervised = Supervised(fleet, faults)
    supervised.start()
    accepted = [
        await fleet.accept(str(number), priority=one.priority, due_in_s=one.due_in_s, ttl_s=TTL_S)
        for number, one in enumerate(messages)
    ]
    await fleet.until_idle()
    steps = [step for step in supervised.steps if not any(word in step for word in NO_EFFECT)]
    taken = [Fault(step, count) for step in steps for count in range(1, supervised.steps[step] + 1)]
    check(fleet, accepted, resends=resends)
    await replay(fleet, accepted)
    await supervised.close()
    return taken


SCRIPT = {
    "taken": Sent(),
    "failed at both providers": Sent([Reply.FAILS], [Reply.FAILS]),
    "throttled": Sent([Reply.THROTTLES]),
    "answer lost": Sent([Reply.TAKES_UNHEARD]),
    "refused": Sent([Reply.REFUSES]),
    "scheduled": Sent(due_in_s=3.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCRIPT)
def test_message_is_neither_lost_nor_duplicated_whichever_step_fails(name: str, kind: Kind) -> None:
    message = SCRIPT[name]
    for place in run_whole(explore([message], []))[:: 1 if DEEP else 3]:
        fault = attrs.evolve(place, kind=kind)
        try:
            run_whole(explore([message], [fault]))
        except BaseException as exc:
            raise AssertionError(f"with {fault}: {exc}") from exc


STEPS = [
    f"{moment} {what}"
    for moment in ("before", "after")
    for what in (
        *("publish sms.event", "publish sms.send", "publish sms.later", "publish sms.dlq"),
        *("last SMS_EVENT", "ack SMS_SEND", "ack SMS_ACCEPT", "give_back SMS_SEND", "keep SMS_SEND", "call"),
        *("fetch dispatch-p1-otp", "fetch dispatch-p2-otp", "fetch schedule", "next_after SMS_LATER"),
    )
] + ["after write", "before look-up"]
REPLIES = st.lists(st.sampled_from(Reply), max_size=2)
PRIORITIES = (pb.PRIORITY_OTP, pb.PRIORITY_NORMAL)
MESSAGES = st.lists(
    st.builds(
        Sent, REPLIES, REPLIES, st.sampled_from([pb.PRIORITY_OTP, pb.PRIORITY_NORMAL]), st.sampled_from([None, 2.0])
    ),
    min_size=1,
    max_size=4,
)
FAULTS = st.lists(
    st.builds(Fault, st.sampled_from(STEPS), st.integers(1, 6), st.sampled_from(["crash", "lost", "cut"])), max_size=3
)


@hypothesis.given(messages=MESSAGES, faults=FAULTS, resends=st.booleans(), can_look_up=st.booleans())
@hypothesis.example(
    messages=[Sent([Reply.FAILS]), Sent([Reply.TAKES_UNHEARD], [Reply.THROTTLES_SLOWLY, Reply.TAKES_LATE])],
    faults=[],
    resends=True,
    can_look_up=False,
)
@hypothesis.example(messages=[Sent([Reply.TAKES_LATE])], faults=[], resends=False, can_look_up=True)
def test_messages_are_neither_lost_nor_duplicated_whatever_fails(
    messages: list[Sent],
    faults: list[Fault],
    resends: bool,  # noqa: FBT001
    can_look_up: bool,  # noqa: FBT001
) -> None:
    run_whole(explore(messages, faults, resends=resends, can_look_up=can_look_up))
