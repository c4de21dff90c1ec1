"""How a simulated provider answers each request, and what it records; uses no sockets and no clock."""

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from ops.simulator.behaviour import FAULTS, Behaviour, BehaviourError, Fault, ResponseMode, fault_for
from ops.simulator.call_log import CallLog, Entry, RateLimit
from ops.simulator.http import Reply, Request

MESSAGES = "/v1/messages"
METHODS = ("GET", "POST", "PUT")

_INDEX = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class PlannedReply:
    """How to answer one request.

    `reply` is None for no answer. `lasts_s` is how long a hang or a trickle lasts after `delay_s`. `entry` is set for
    sends; `Service.finish` completes it.
    """

    reply: Reply | None
    mode: ResponseMode = ResponseMode.WHOLE
    delay_s: float = 0.0
    lasts_s: float = 0.0
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """The part of a send that is recorded; the text is not."""

    reference: str = ""
    to: str = ""
    segments: int = 1
    wrong_field: str | None = None


class Service:
    """One provider without its sockets.

    `on_change` is called after each change of the log. `connections` is set by the owner of the sockets.
    """

    def __init__(self, name: str, behaviour: Behaviour, api_key: str | None, on_change: Callable[[], None]) -> None:
        self.name = name
        self.record = CallLog()
        self.connections = 0
        self.in_flight = 0
        self._api_key = api_key
        self._on_change = on_change
        self._limit = RateLimit()
        self.behaviour = behaviour
        self._controls: Mapping[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/_stats"): self._show_stats,
            ("GET", "/_requests"): self._show_requests,
            ("GET", "/_behaviour"): self._show_behaviour,
            ("PUT", "/_behaviour"): self._put_behaviour,
            ("POST", "/_reset"): self._reset,
        }

    @property
    def behaviour(self) -> Behaviour:
        """The behaviour for the next sends; setting it restarts its random choices."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._random = random.Random(behaviour.seed)  # noqa: S311 - repeatable faults, not secrets

    def answer(self, request: Request) -> PlannedReply:
        """Decide how to answer one request; when this returns, a send is recorded and its message taken or not."""
        if request.method == "POST" and request.path == MESSAGES:
            return self._send(request)
        if request.method not in METHODS:
            return PlannedReply(Reply(405, headers={"Allow": ", ".join(METHODS)}))  # no body: HEAD must not have one
        if request.method == "GET" and request.path.startswith(MESSAGES + "/"):
            return PlannedReply(self._look_up(request))
        control = self._controls.get((request.method, request.path))
        return PlannedReply(_error(404, "not_found") if control is None else control(request))

    def finish(self, plan: PlannedReply, *, answered: bool) -> None:
        """Record how a send ended; call it once for each planned reply."""
        entry = plan.entry
        if entry is None:
            return
        entry.status = plan.reply.status if answered and plan.reply is not None else 0
        entry.finished = True
        self.in_flight -= 1
        self._on_change()

    def stats(self) -> dict[str, Any]:
        """Summarize the log, and count what is open now."""
        now_open = {"in_flight": self.in_flight, "connections": self.connections}
        return {"name": self.name} | self.record.stats() | now_open

    def _send(self, request: Request) -> PlannedReply:
        behaviour = self._behaviour
        fault_draw, latency_draw = self._random.random(), self._random.random()
        message = read_message(request.body)
        refusal = self._refusal(request, message)
        fault = FAULTS[fault_for(behaviour, message.to, fault_draw)] if refusal is None else None
        entry = self.record.append(
            request.at_ns,
            message.reference,
            message.to,
            message.segments,
            taken=fault is not None and fault.taken,
            traceparent=request.headers.get("traceparent", ""),
        )
        self.in_flight += 1
        self._on_change()
        delay_s = behaviour.latency_s + behaviour.latency_jitter_s * latency_draw
        if fault is None:
            return PlannedReply(refusal, delay_s=delay_s, entry=entry)
        lasts_s = {ResponseMode.HANG: behaviour.hang_s, ResponseMode.TRICKLE: behaviour.trickle_s}.get(fault.mode, 0.0)
        return PlannedReply(self._reply_to_send(fault, entry), fault.mode, delay_s, lasts_s, entry)

    def _refusal(self, request: Request, message: Message) -> Reply | None:
        if not self._is_authorized(request):
            return _error(401, "unauthorized")
        if message.wrong_field is not None:
            return _error(400, "invalid_request", field=message.wrong_field)
        if not self._limit.admits(request.at_ns, self._behaviour.limit_per_s):
            return self._throttled("throttled")
        return None

    def _is_authorized(self, request: Request) -> bool:
        return self._api_key is None or request.headers.get("authorization") == f"Bearer {self._api_key}"

    def _throttled(self, code: str) -> Reply:
        wait_s = self._behaviour.retry_after_s
        if wait_s is None:
            return _error(429, code)
        return _error(429, code, headers={"Retry-After": f"{wait_s:.3f}".rstrip("0").rstrip(".")})

    def _reply_to_send(self, fault: Fault, entry: Entry) -> Reply | None:
        match fault:
            case Fault(status=0):
                return None
            case Fault(status=429, code=code):
                return self._throttled(code)
            case Fault(status=status, code=""):
                accepted = _json(status, self._accepted(entry))
                return accepted if fault.mode is not ResponseMode.GARBLE else Reply(status, accepted.body[:-10])
            case _:
                return _error(fault.status, fault.code)

    def _accepted(self, entry: Entry) -> dict[str, str]:
        return {"id": f"{self.name}-{entry.serial}", "status": "accepted", "reference": entry.reference}

    def _look_up(self, request: Request) -> Reply:
        self.record.lookups += 1
        self._on_change()
        if not self._is_authorized(request):
            return _error(401, "unauthorized")
        entry = self.record.taken(unquote(request.path[len(MESSAGES) + 1 :]))
        return _error(404, "not_found") if entry is None else _json(200, self._accepted(entry))

    def reset(self) -> None:
        """Clear the log, the statistics and the memory of the rate limit; keeps the behaviour."""
        self.record.clear()
        self._limit = RateLimit()
        self._on_change()

    def _show_stats(self, _request: Request) -> Reply:
        return _json(200, self.stats())

    def _show_requests(self, request: Request) -> Reply:
        after = parse_qs(request.query).get("after", ["0"])[-1]
        if _INDEX.fullmatch(after) is None:
            return _error(400, "invalid_request", field="after")
        lines = (json.dumps(entry.to_json()) + "\n" for entry in self.record.entries[int(after) :])
        return Reply(200, "".join(lines).encode(), "application/x-ndjson")

    def _show_behaviour(self, _request: Request) -> Reply:
        return _json(200, self._behaviour.to_json())

    def _put_behaviour(self, request: Request) -> Reply:
        try:
            self.behaviour = Behaviour.from_json(_read_json(request.body))
        except BehaviourError as error:
            return _error(400, "invalid_behaviour", problems=error.problems)
        return self._show_behaviour(request)

    def _reset(self, _request: Request) -> Reply:
        self.reset()
        return _json(200, {"status": "reset"})


def read_message(body: bytes) -> Message:
    """Read a send's body; `wrong_field` names the first wrong field, or is `body` when it is not a JSON object."""
    document = _read_json(body)
    if not isinstance(document, dict):
        return Message(wrong_field="body")
    for name in ("reference", "to"):
        if not (isinstance(document.get(name), str) and document[name]):
            return Message(wrong_field=name)
    for name in ("from", "text"):
        if not isinstance(document.get(name, ""), str):
            return Message(wrong_field=name)
    segments = document.get("segments", 1)
    if not isinstance(segments, int) or isinstance(segments, bool) or segments < 1:
        return Message(wrong_field="segments")
    return Message(document["reference"], document["to"], segments)


def _read_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # as invalid as null


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(document).encode(), headers=headers or {})


def _error(status: int, code: str, *, headers: dict[str, str] | None = None, **details: object) -> Reply:
    return _json(status, {"error": {"code": code} | details}, headers)
