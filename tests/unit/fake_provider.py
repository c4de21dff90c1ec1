"""A provider that follows a script and remembers the messages it took, and the client of one pod for it."""

import asyncio
import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from dispatcher.transport.gate import WriteGate
from providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Outcome,
    Submission,
)
from tests.unit.processes import Process

SLOW_S = 1.5
LATE_S = 12.0
PAUSE_S = 2.0


class Reply(enum.Enum):
    """What the provider does with one call."""

    TAKES = "takes it"
    TAKES_SLOWLY = "takes it after a while"
    THROTTLES = "asks for a pause"
    THROTTLES_SLOWLY = "asks for a pause after a while"
    FAILS = "cannot take it now"
    FAULTY = "refuses us, whatever we send"
    REFUSES = "refuses this message for good"
    TAKES_UNHEARD = "takes it, and its answer is lost"
    LOSES = "does not take it, and says nothing"
    HANGS = "takes it, and never answers"
    TAKES_LATE = "takes it long after it broke the connection"


_TAKEN = frozenset({Reply.TAKES, Reply.TAKES_SLOWLY, Reply.TAKES_UNHEARD, Reply.HANGS})
_SLOW = frozenset({Reply.TAKES_SLOWLY, Reply.THROTTLES_SLOWLY})
_OUTCOMES = {
    Reply.TAKES: Outcome(ACCEPTED, "p-1", "200"),
    Reply.TAKES_SLOWLY: Outcome(ACCEPTED, "p-1", "200"),
    Reply.THROTTLES: Outcome(THROTTLED, code="429", detail="too many", retry_after_s=PAUSE_S),
    Reply.THROTTLES_SLOWLY: Outcome(THROTTLED, code="429", detail="too many", retry_after_s=PAUSE_S),
    Reply.FAILS: Outcome(TRANSIENT, code="503", detail="overloaded"),
    Reply.FAULTY: Outcome(PROVIDER_FAULT, code="401", detail="our key is refused"),
    Reply.REFUSES: Outcome(PERMANENT, code="400", detail="no such number"),
    Reply.TAKES_UNHEARD: Outcome(AMBIGUOUS, code="reset", detail="the connection broke"),
    Reply.LOSES: Outcome(AMBIGUOUS, code="reset", detail="the connection broke"),
    Reply.TAKES_LATE: Outcome(AMBIGUOUS, code="reset", detail="the connection broke"),
    Reply.HANGS: Outcome(AMBIGUOUS, code="timeout", detail="no answer in time"),
}


@attrs.define
class FakeProvider:
    """A provider, which outlives our processes. `script` holds the replies to a message by its text; then it takes all.

    `took` counts how often each message was taken, by its id; `calls` holds the texts of all calls in their order.
    """

    script: Mapping[str, Sequence[Reply]] = attrs.Factory(dict)
    took: dict[str, int] = attrs.Factory(lambda: defaultdict(int))
    calls: list[str] = attrs.Factory(list)
    under_way: int = 0
    """Messages that it will take although it broke their connection."""

    def receive(self, submission: Submission) -> Reply:
        """Return the reply that the script has for this call."""
        replies = self.script.get(submission.body, ())
        number = self.calls.count(submission.body)
        self.calls.append(submission.body)
        reply = replies[number] if number < len(replies) else Reply.TAKES
        if reply is Reply.TAKES_LATE:
            self.under_way += 1
            asyncio.get_running_loop().call_later(LATE_S, self._take_late, submission.message_id)
        if reply in _TAKEN:
            self._take(submission.message_id)
        return reply

    def _take(self, message_id: str) -> None:
        self.took[message_id] += 1

    def _take_late(self, message_id: str) -> None:
        self.under_way -= 1
        self._take(message_id)


class FakeProviderClient:
    """One process's client of the provider. With `can_look_up` a look-up finds what the provider took."""

    def __init__(
        self,
        provider: FakeProvider,
        process: Process,
        timeout_s: float,
        *,
        can_look_up: bool = False,
        missing_after_s: float = 0.0,
    ) -> None:
        self.can_look_up = can_look_up
        self.missing_after_s = missing_after_s
        self._provider = provider
        self._process = process
        self._timeout_s = timeout_s

    async def send(self, submission: Submission, gate: WriteGate) -> Outcome:
        await self._process.step("before call")
        await gate.enter()
        gate.wrote()
        reply = self._provider.receive(submission)
        await self._process.step("after write")
        await asyncio.sleep(self._timeout_s if reply is Reply.HANGS else SLOW_S if reply in _SLOW else 0.01)
        await self._process.step("after call")
        return _OUTCOMES[reply]

    async def look_up(self, message_id: str, _traceparent: str, gate: WriteGate) -> Outcome | None:
        await gate.enter()
        gate.wrote()
        await self._process.step("before look-up")
        if self._provider.took.get(message_id):
            return Outcome(ACCEPTED, "p-1", "200")
        return Outcome(TRANSIENT, code="404", detail="not found")

    async def aclose(self) -> None:
        pass
