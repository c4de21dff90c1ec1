"""What a watcher is shown, and in which order, when the stream is away and the history lags behind."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import message_pb2 as pb

from gateway_grpc import interceptors
from gateway_grpc.acceptance import Acceptance
from gateway_grpc.deferred_history import DeferredHistory
from gateway_grpc.event_hints import EventHints
from gateway_grpc.limits import CallLimits
from gateway_grpc.lookup import Found, Lookup
from gateway_grpc.service import SmsGateway
from messaging import codec
from messaging.errors import Draining
from messaging.runtime.config import GatewaySettings
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.stream.interface import Connection

MESSAGE_ID = "01a20146-8421-72d3-98b7-7a8dce1a5a06"
OPEN, FAILED, UNCLEAR, TAKEN = (
    pb.ATTEMPT_OUTCOME_UNSPECIFIED,
    pb.ATTEMPT_OUTCOME_TRANSIENT,
    pb.ATTEMPT_OUTCOME_AMBIGUOUS,
    pb.ATTEMPT_OUTCOME_ACCEPTED,
)
Look = tuple[str, Sequence[pb.AttemptOutcome.ValueType], int, float]
"""A state's name, the outcomes of its attempts, the sequence of its event (0: from the history), its time."""

ACCEPTED: Look = ("ACCEPTED", (), 0, 100.0)
FIRST: Look = ("SENDING", (OPEN,), 5, 105.0)
WAITS: Look = ("QUEUED", (FAILED,), 6, 106.0)
SECOND: Look = ("SENDING", (FAILED, OPEN), 7, 107.0)
SENT: Look = ("SENT", (FAILED, TAKEN), 8, 108.0)
CANCELED: Look = ("CANCELED", (), 9, 109.0)


def stored(look: Look) -> Look:
    """The same status, read from the history."""
    return (*look[:2], 0, look[3])


class Scripted:
    """Returns one status after the other; after the last one the gateway drains."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._looks = iter(looks)
        self.closed = False

    async def find(self, _client: str, *, message_id: str) -> Found:
        try:
            name, outcomes, sequence, at = next(self._looks)
        except StopIteration:
            raise Draining from None
        attempts = [pb.Attempt(number=number, outcome=one) for number, one in enumerate(outcomes, 1)]
        state = pb.MessageState.Value(f"MESSAGE_STATE_{name}")
        time = codec.timestamp(at)
        return Found(
            pb.MessageStatus(message_id=message_id, state=state, attempts=attempts, update_time=time), sequence
        )


def shown(*looks: Look) -> tuple[list[str], bool]:
    """The states that a watcher is shown, and whether the call ended by itself."""
    script = Scripted(looks)
    service = SmsGateway(
        cast("Acceptance", script),
        cast("Lookup", script),
        DeferredHistory(),
        Tracer(None, ChosenIds(), 0.0),
        GatewaySettings(),
        CallLimits(GatewaySettings()),
        EventHints(cast("Connection", None), looks_per_s=float("inf"), least_s=0.0),
    )
    states: list[str] = []

    async def watch() -> bool:
        interceptors._current.set(cast("interceptors.Call", SimpleNamespace(client="default")))
        try:
            request = api.WatchStatusRequest(message_id=MESSAGE_ID)
            async for answer in service.WatchStatus(request, cast("Any", SimpleNamespace(peer=lambda: "me"))):
                name = pb.MessageState.Name(answer.status.state)
                states.append(name.removeprefix("MESSAGE_STATE_"))
        except Draining:
            return False
        return True

    return states, asyncio.run(watch())


@pytest.mark.parametrize("older", [ACCEPTED, FIRST, WAITS, SECOND])
def test_an_older_status_from_the_history_is_not_shown(older: Look) -> None:
    assert shown(SECOND, stored(older), stored(older), SENT) == (["SENDING", "SENT"], True)
    assert shown(FIRST, WAITS, SECOND, stored(older), SECOND) == (["SENDING", "QUEUED", "SENDING"], False)


@pytest.mark.parametrize(
    ("before", "after"),
    [(ACCEPTED, FIRST), (FIRST, WAITS), (WAITS, SECOND), (SECOND, SENT), (ACCEPTED, SENT), (ACCEPTED, CANCELED)],
)
def test_a_newer_status_from_the_history_is_shown(before: Look, after: Look) -> None:
    names = [before[0], after[0]]
    ends = after in {SENT, CANCELED}
    assert shown(before, stored(after), stored(after)) == (names, ends)
    assert shown(stored(before), stored(after), stored(before)) == (names, ends)


def test_each_status_is_shown_once() -> None:
    assert shown(ACCEPTED, ACCEPTED, FIRST, FIRST, WAITS, WAITS, SENT) == (
        ["ACCEPTED", "SENDING", "QUEUED", "SENT"],
        True,
    )


def test_a_final_state_from_before_a_replay_does_not_end_the_watch() -> None:
    failed: Look = ("FAILED", (FAILED,), 0, 100.0)
    replayed: Look = ("QUEUED", (FAILED,), 12, 200.0)
    assert shown(replayed, failed, failed) == (["QUEUED"], False)
