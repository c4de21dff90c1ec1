"""What a provider's adapter needs to be tried: one kit for each, with the provider's own requests and answers."""

import asyncio
import email.utils
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from dispatcher.transport.gate import GateClosed
from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
from providers.base import ACCEPTED, Dialect, Outcome, Submission
from tests.contract.provider_server import Reply, Seen

NUMBER, TEXT, KEY = "+233201234567", "Your code is 4711, é € 👋", "hunter2-secret-key"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SUBMISSION = Submission(
    message_id="0190-message",
    recipient=NUMBER,
    body=TEXT,
    sender="",
    segments=2,
    unicode=True,
    attempt=3,
    validity_s=599.7,
    traceparent=TRACEPARENT,
)

TIMEOUT_S = 0.3
"""Of a provider that keeps us waiting."""
PATIENCE_S = 20.0
"""Of every other: how busy the machine is must not matter."""

STATUSES = {
    302: "provider_fault",
    307: "provider_fault",
    400: "permanent",
    401: "provider_fault",
    402: "provider_fault",
    403: "provider_fault",
    404: "provider_fault",
    405: "provider_fault",
    406: "provider_fault",
    407: "provider_fault",
    408: "ambiguous",
    409: "ambiguous",
    411: "provider_fault",
    413: "permanent",
    414: "permanent",
    415: "provider_fault",
    417: "provider_fault",
    418: "permanent",
    421: "transient",
    422: "permanent",
    425: "transient",
    426: "provider_fault",
    428: "provider_fault",
    429: "throttled",
    431: "provider_fault",
    499: "permanent",
    500: "ambiguous",
    501: "provider_fault",
    502: "ambiguous",
    503: "transient",
    504: "ambiguous",
    505: "provider_fault",
    511: "provider_fault",
}
"""What a status means to a provider that says nothing else."""


def error_code(status: int, code: str) -> Reply:
    """A no that carries its code in `error.code`."""
    return Reply(status, {"error": {"code": int(code) if code.isdecimal() else code}} if code else {})


def error_that_repeats(status: int, text: str) -> Reply:
    """A no in `error.code` that repeats what it was sent wherever it can."""
    return Reply(
        status, {"error": {"code": f"bad {NUMBER}", "message": text}, "message": text, "status": text, "ok": text}
    )


Pause = tuple[Callable[[], Reply], float | None]


def retry_after(text: str, expected: float | None) -> Pause:
    return lambda: attrs.evolve(error_code(429, ""), headers={"Retry-After": text}), expected


def retry_at(from_now_s: float, expected: float) -> Pause:
    def make() -> Reply:
        date = email.utils.formatdate(time.time() + from_now_s, usegmt=True)
        return attrs.evolve(error_code(429, ""), headers={"Retry-After": date})

    return make, expected


RETRY_AFTER: list[Pause] = [
    retry_after("7", 7.0),
    retry_after("0.5", 0.5),
    retry_after("0", 0.0),
    retry_after("-3", 0.0),
    retry_after("86400", 3600.0),
    retry_after("99999999", 3600.0),
    retry_after("-1764362000", 0.0),
    retry_after(f"{time.time() - 5:.0f}", 0.0),
    retry_after(f"{time.time() + 90_000:.0f}", 3600.0),
    retry_after(f"{(time.time() + 90_000) * 1000:.0f}", 3600.0),
    retry_after("1e300", 3600.0),
    retry_after("soon", None),
    retry_after("nan", None),
    retry_after("inf", None),
    retry_after("", None),
    retry_at(30, 30.0),
    retry_at(-30, 0.0),
    retry_after("Wed, 99 Foo 2026 00:00:00 GMT", None),
    retry_after("Wed, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    retry_after("Wed, 01 Jan 2026 00:00:00 +99999999999999", None),
]
"""A 429 with the header Retry-After, in seconds or as a date."""


@attrs.frozen
class Kit:
    """One adapter with one choice of settings: its exact request, and every answer that its provider gives."""

    adapter: str
    method: str
    path: str
    carried: Callable[[Seen], Any]
    expected: Any
    yes: Reply
    accepted: Outcome = Outcome(ACCEPTED, "p-9", "200")
    content_type: str = "application/json"
    url_path: str = ""
    settings: Mapping[str, Any] = attrs.Factory(dict)
    headers: Mapping[str, str] = attrs.Factory(dict)
    secrets: Mapping[str, str] = attrs.Factory(lambda: {"api_key": KEY})
    no: Callable[[int, str], Reply] = error_code
    """Makes a no by its status and the provider's code; the code is empty for a no without one."""
    repeats: Callable[[int, str], Reply] = error_that_repeats
    statuses: Mapping[int, str] = attrs.Factory(lambda: STATUSES)
    codes: Mapping[str, str] = attrs.Factory(dict)
    detail: str = "the provider answered {status}, which means {name}"
    unclear: Mapping[str, Reply] = attrs.Factory(dict)
    """Answers of its own that sound like a yes and are none, beside what is none for every provider."""
    pauses: Sequence[Pause] = attrs.Factory(lambda: RETRY_AFTER)
    look_up_path: str = ""
    look_up_method: str = "GET"
    look_up_body: bytes = b""
    found: Reply = Reply()
    found_as: Outcome = Outcome(ACCEPTED, "p-9", detail="found by look-up")
    missing: Reply = Reply(404, {})
    missing_code: str = "404"
    dialect: Callable[[Provider], Dialect] | None = None
    """Of a provider that stands in no catalogue."""

    def provider(self, url: str, **changes: Any) -> Provider:
        known = {
            "name": "alpha",
            "adapter": self.adapter,
            "url": url + self.url_path,
            "sender": "ACME",
            "timeout_s": PATIENCE_S,
            "settings": dict(self.settings),
            "secrets": {name: Secret(value) for name, value in self.secrets.items()},
        }
        return Provider(**{**known, **changes})

    def shown(self, seen: Seen) -> str:
        return json.dumps(self.carried(seen), ensure_ascii=False)


class FakeGate:
    """A gate that notes what happens around it; `refuse` closes it, `wait_s` is how long it takes."""

    def __init__(self, *, refuse: bool = False, wait_s: float = 0.0) -> None:
        self.passed = False
        self.story: list[str] = []
        self._refuse = refuse
        self._wait_s = wait_s

    async def enter(self) -> None:
        self.story.append("enter")
        await asyncio.sleep(self._wait_s)
        if self._refuse:
            raise GateClosed
        self.passed = True

    def wrote(self) -> None:
        self.story.append("wrote")
