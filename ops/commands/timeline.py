"""The steps of a message's timeline, made from events of the stream or of the history. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.model import outcome_name, state_name
from messaging.status import first_state
from ops.commands.output import moment, span


@attrs.frozen
class Step:
    """One line of the timeline: what happened at a time (Unix seconds), and what is next at `due` (0: at once)."""

    at: float
    state: int
    provider: str = ""
    attempt: str = ""
    code: str = ""
    why: str = ""
    next: int = wire.NEXT_STEP_UNSPECIFIED
    due: float = 0.0
    pod: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "time": moment(self.at),
            "state": state_name(self.state),
            "provider": self.provider,
            "attempt": self.attempt,
            "code": self.code,
            "why": self.why,
            "next": follows(self),
            "pod": self.pod,
        }


_NEXT: Mapping[int, str] = {
    wire.NEXT_STEP_UNSPECIFIED: "",
    wire.NEXT_STEP_AGAIN: "again at {provider}",
    wire.NEXT_STEP_MOVE: "to {provider} now",
    wire.NEXT_STEP_LATER: "to {provider} at {due}",
    wire.NEXT_STEP_BURY: "to the dead letters",
}


def follows(step: Step) -> str:
    """Describe what comes next; empty for nothing."""
    template = _NEXT.get(step.next, f"step {step.next}, which only a newer version knows")
    return template.format(provider=step.provider or "a provider", due=moment(step.due))


def attempt_text(attempt: pb.Attempt) -> str:
    """Describe an attempt: its number, its outcome and how long it took."""
    ended = codec.unix(attempt.end_time)
    took = f" in {span(ended - codec.unix(attempt.start_time))}" if ended else ""
    return f"{attempt.number} {outcome_name(attempt.outcome)}{took}"


def _why(reason: str, *details: str) -> str:
    distinct = list(dict.fromkeys(filter(None, details)))
    return ": ".join(filter(None, (reason, "; ".join(distinct))))


def steps_of_stream(events: Mapping[int, wire.Event]) -> dict[int, Step]:
    """Make a step from each event, by stream sequence; an attempt appears where it began and where it ended."""
    found, before = {}, pb.Attempt()
    for sequence in sorted(events):
        event = events[sequence]
        attempt = event.attempts[-1] if event.attempts else pb.Attempt()
        fresh = attempt != before and attempt.number
        before = attempt
        found[sequence] = Step(
            codec.unix(event.time),
            event.state,
            event.provider,
            attempt_text(attempt) if fresh else "",
            attempt.code if fresh else "",
            _why(event.reason, event.detail, attempt.detail if fresh else ""),
            event.next,
            codec.unix(event.due_time),
            event.pod,
        )
    return found


def steps_of_history(events: Iterable[Any], attempts: Sequence[pb.Attempt]) -> dict[int, Step]:
    """Make a step from each event of the history, which stores attempts apart: an outcome appears where it ended."""
    by_number = {attempt.number: attempt for attempt in attempts}
    found = {}
    under_way = False
    for event in events:
        attempt = by_number.get(event.attempt_number)
        began = event.state == pb.MESSAGE_STATE_SENDING and not under_way
        text, code, detail = "", "", ""
        if began:
            text = f"{event.attempt_number} started"
        elif under_way and attempt is not None:
            text, code, detail = attempt_text(attempt), attempt.code, attempt.detail
        under_way = began
        found[event.sequence] = Step(
            event.time.timestamp() if event.time else 0.0,
            event.state,
            event.provider or "",
            text,
            code,
            _why(event.reason or "", event.detail or "", detail),
            event.next,
            event.due_time.timestamp() if event.due_time else 0.0,
            event.pod or "",
        )
    return found


def step_of_acceptance(command: wire.Command) -> Step:
    """Make the first step: which provider was chosen, and why."""
    state, due = first_state(command), codec.unix(command.schedule_time)
    why = f"route: {command.route_reason}" if command.route_reason else ""
    step = wire.NEXT_STEP_LATER if state == pb.MESSAGE_STATE_SCHEDULED else wire.NEXT_STEP_MOVE
    return Step(codec.unix(command.accept_time), state, command.provider, why=why, next=step, due=due)
