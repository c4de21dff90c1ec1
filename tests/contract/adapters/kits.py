"""Every adapter of the catalogue with what it needs to be tried: one kit for each."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from dispatcher.providers.base import (
    Adapter,
    GateClosed,
    Outcome,
    Submission,
)
from dispatcher.providers.catalogue import open_adapter

from messaging.providers_file import Provider
from messaging.secret import Secret
from tests.contract.provider_server import Seen

NUMBER, TEXT, KEY = "+233201234567", "Your code is 4711, é € 👋", "hunter2-secret-key"


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


SUBMISSION = Submission("0190-message", NUMBER, TEXT, "", 2, True, 3, 599.7, TRACEPARENT)


TIMEOUT_S = 0.3
"""Of a provider that lets one wait."""
PATIENCE_S = 20.0
"""Of every other: how busy the machine is has no part in what is shown."""


@attrs.frozen
class Kit:
    """One adapter in one shape: its settings, the request it must make, what a yes and a no look like."""

    adapter: str
    method: str
    path: str
    carried: Callable[[Seen], Mapping[str, Any]]
    expected: Mapping[str, Any]
    yes: Mapping[str, Any]
    settings: Mapping[str, Any] = attrs.Factory(dict)
    headers: Mapping[str, str] = attrs.Factory(dict)
    url_path: str = ""
    statuses: Mapping[int, str] = attrs.Factory(dict)
    codes: Mapping[str, str] = attrs.Factory(dict)
    look_up_path: str = ""
    secrets: Mapping[str, str] = attrs.Factory(lambda: {"api_key": KEY})

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


_HTTP: dict[str, Any] = {
    "headers": {"api-key": "{secret.api_key}", "x-kind": "sms"},
    "id_path": "data.0.id",
    "success_path": "ok",
    "success_values": [True, "success"],
    "code_path": "error.code",
    "statuses": {"transient": [500], "permanent": [460]},
    "codes": {"permanent": ["21211"], "provider_fault": [1001], "accepted": ["duplicate"], "throttled": ["slow"]},
}


_FIELDS = {
    "to": "{digits}",
    "sender": "{sender}",
    "text": "{body}",
    "ref": "{message_id}",
    "parts": "{segments}",
    "unicode": "{unicode}",
    "expiry": "{validity_s}",
    "try": "{attempt}",
}


_FLAT = {
    "to": NUMBER[1:],
    "sender": "ACME",
    "text": TEXT,
    "ref": "0190-message",
    "parts": "2",
    "unicode": "true",
    "expiry": "599",
    "try": "3",
}


_CODES = {"21211": "permanent", "1001": "provider_fault", "duplicate": "accepted", "slow": "throttled"}


_YES = {"ok": True, "data": [{"id": "p-9"}]}


_COMMON: dict[str, Any] = {
    "adapter": "http-json",
    "path": "/v2/send",
    "url_path": "/v2/send",
    "yes": _YES,
    "headers": {"api-key": KEY, "x-kind": "sms"},
    "statuses": {500: "transient", 460: "permanent"},
    "codes": _CODES,
}


KITS = {
    "http-json, json": Kit(
        method="POST",
        carried=lambda seen: seen.json,
        expected={
            "message": {"to": [NUMBER], "from": "ACME", "content": {"text": TEXT, "parts": 2}},
            "ref": "0190-message",
            "expiry": 599,
            "unicode": "true",
        },
        settings={
            **_HTTP,
            "fields": {
                "message.to[]": "{recipient}",
                "message.from": "{sender}",
                "message.content.text": "{body}",
                "message.content.parts": "{segments}",
                "ref": "{message_id}",
                "expiry": "{validity_s}",
                "unicode": "{unicode}",
            },
            "look_up": {"url": "/v2/status/{message_id}", "id_path": "data.0.id", "missing": [404, 410]},
        },
        look_up_path="/v2/status/0190-message",
        **_COMMON,
    ),
    "http-json, form": Kit(
        method="POST",
        carried=lambda seen: seen.form,
        expected=_FLAT,
        settings={**_HTTP, "encoding": "form", "fields": _FIELDS},
        **_COMMON,
    ),
    "http-json, put": Kit(
        method="PUT",
        carried=lambda seen: seen.form,
        expected=_FLAT,
        settings={**_HTTP, "method": "PUT", "encoding": "form", "fields": _FIELDS},
        **_COMMON,
    ),
    "http-json, query": Kit(
        method="GET",
        carried=lambda seen: seen.query,
        expected=_FLAT,
        settings={**_HTTP, "method": "GET", "encoding": "query", "fields": _FIELDS},
        **_COMMON,
    ),
    "simulated": Kit(
        adapter="simulated",
        method="POST",
        path="/v1/messages",
        carried=lambda seen: seen.json,
        expected={"reference": "0190-message", "to": NUMBER, "from": "ACME", "text": TEXT, "segments": 2},
        yes={"id": "p-9", "status": "accepted", "reference": "0190-message"},
        settings={"look_up": True, "server_errors": "transient"},
        headers={"authorization": f"Bearer {KEY}"},
        statuses={500: "transient"},
        codes={"invalid_recipient": "permanent", "no_balance": "provider_fault", "unauthorized": "provider_fault"},
        look_up_path="/v1/messages/0190-message",
    ),
    "simulated, without a key": Kit(
        adapter="simulated",
        method="POST",
        path="/v1/messages",
        carried=lambda seen: seen.json,
        expected={"reference": "0190-message", "to": NUMBER, "from": "ACME", "text": TEXT, "segments": 2},
        yes={"id": "p-9", "status": "accepted"},
        secrets={},
    ),
}


EVERY = pytest.mark.parametrize("kit", KITS.values(), ids=KITS)


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


@attrs.define
class Open:
    """Opens adapters, and closes them when the test ends."""

    adapters: list[Adapter] = attrs.Factory(list)

    def __call__(self, provider: Provider) -> Adapter:
        self.adapters.append(open_adapter(provider))
        return self.adapters[-1]


async def send(adapter: Adapter, gate: FakeGate | None = None) -> Outcome:
    return await adapter.send(SUBMISSION, gate or FakeGate())


def no(code: str = "") -> dict[str, Any]:
    return {"error": {"code": code}} if code else {}
