"""One suite that every adapter of the catalogue passes, against a real server on 127.0.0.1."""

import asyncio
import email.utils
import gzip
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import attrs
import pytest
import pytest_asyncio
import structlog

from dispatcher.providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Adapter,
    GateClosed,
    Outcome,
    Submission,
)
from dispatcher.providers.catalogue import CATALOGUE, open_adapter
from dispatcher.providers.http_json import OUTCOMES, STATUSES
from messaging.config import Secret
from messaging.providers_file import Provider
from tests.contract.provider_server import CLOSE, NOTHING, RESET, ProviderServer, Reply, Seen

NUMBER, TEXT, KEY = "+233201234567", "Your code is 4711, é € 👋", "hunter2-secret-key"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SUBMISSION = Submission("0190-message", NUMBER, TEXT, "", 2, True, 3, 599.7, TRACEPARENT)
TIMEOUT_S = 0.2


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
            "timeout_s": TIMEOUT_S,
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


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as one:
        yield one


@attrs.define
class Open:
    """Opens adapters, and closes them when the test ends."""

    adapters: list[Adapter] = attrs.Factory(list)

    def __call__(self, provider: Provider) -> Adapter:
        self.adapters.append(open_adapter(provider))
        return self.adapters[-1]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Open]:
    one = Open()
    yield one
    for adapter in one.adapters:
        await adapter.aclose()


async def send(adapter: Adapter, gate: FakeGate | None = None) -> Outcome:
    return await adapter.send(SUBMISSION, gate or FakeGate())


def no(code: str = "") -> dict[str, Any]:
    return {"error": {"code": code}} if code else {}


def test_every_adapter_of_the_catalogue_is_tried_here() -> None:
    assert {kit.adapter for kit in KITS.values()} == set(CATALOGUE)


# The request


@EVERY
async def test_request_is_exactly_this(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(200, kit.yes)
    outcome = await send(opened(kit.provider(server.url)))
    assert outcome == Outcome(ACCEPTED, "p-9", "200")
    (seen,) = server.seen
    assert (seen.method, seen.path) == (kit.method, kit.path)
    assert kit.carried(seen) == kit.expected
    assert seen.headers["traceparent"] == TRACEPARENT
    assert seen.headers["accept-encoding"] == "identity"
    own = {name: value for name, value in seen.headers.items() if name in {"api-key", "x-kind", "authorization"}}
    assert own == kit.headers
    assert "cookie" not in seen.headers


@EVERY
async def test_senders_own_name_beats_the_providers(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(200, kit.yes)
    await opened(kit.provider(server.url)).send(attrs.evolve(SUBMISSION, sender="Other"), FakeGate())
    shown = json.dumps(kit.carried(server.seen[0]))
    assert "Other" in shown
    assert "ACME" not in shown


@EVERY
async def test_environment_and_cookies_change_nothing(
    kit: Kit, server: ProviderServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    adapter = opened(kit.provider(server.url))
    server.answer = lambda _: Reply(200, kit.yes, {"Set-Cookie": "session=1; Path=/"})
    assert [(await send(adapter)).kind for _ in range(2)] == [ACCEPTED, ACCEPTED]
    assert all("cookie" not in seen.headers for seen in server.seen)


# The answers


ROWS = {
    302: "provider_fault",
    307: "provider_fault",
    400: "permanent",
    401: "provider_fault",
    402: "provider_fault",
    403: "provider_fault",
    404: "provider_fault",
    405: "provider_fault",
    408: "ambiguous",
    409: "ambiguous",
    413: "permanent",
    414: "permanent",
    415: "provider_fault",
    418: "permanent",
    422: "permanent",
    429: "throttled",
    499: "permanent",
    500: "ambiguous",
    502: "ambiguous",
    503: "transient",
    504: "ambiguous",
}
"""What an HTTP status means where an adapter's settings say nothing else: those of the table, and some beside."""


def rows_of(kit: Kit) -> dict[int, str]:
    return {**ROWS, **kit.statuses}


def test_every_row_of_the_adapters_table_is_tried() -> None:
    assert set(STATUSES) <= set(ROWS)


@EVERY
async def test_status_means_what_the_table_says(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    for status, name in rows_of(kit).items():
        server.answer = lambda _, status=status: Reply(status, no(), {"Location": "/elsewhere"})  # type: ignore[misc]
        outcome = await send(adapter)
        assert outcome.kind == OUTCOMES[name], status
        assert outcome.code == str(status)
        assert outcome.detail == f"the provider answered {status}, taken as {name}"
    assert len(server.seen) == len(rows_of(kit)), "no redirect was followed"


@EVERY
async def test_providers_code_beats_the_status(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    for code, name in kit.codes.items():
        for status in (400, 409, 500, 503):
            value = int(code) if code.isdigit() else code
            server.answer = lambda _, status=status, value=value: Reply(status, no(value))  # type: ignore[misc]
            outcome = await send(adapter)
            assert (outcome.kind, outcome.code) == (OUTCOMES[name], code), (code, status)


@EVERY
async def test_unknown_code_leaves_the_word_to_the_status(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    server.answer = lambda _: Reply(400, no("never_heard"))
    outcome = await send(adapter)
    assert outcome.kind == PERMANENT
    if kit.codes:
        assert outcome.code == "never_heard"


UNREADABLE = {
    "no body": b"",
    "html": b"<html>gateway</html>",
    "cut off": b'{"status": "accepted", "ok": tr',
    "not utf-8": b'{"status": "\xff"}',
    "too deep": b"[" * 60_000,
    "too large": b'{"ok": true, "status": "accepted", "x": "' + b"x" * 300_000 + b'"}',
    "a word": b'"accepted"',
    "a list": b"[]",
    "null": b"null",
    "neither yes nor no": b'{"status": "maybe", "ok": "maybe"}',
    "an empty object": b"{}",
}


@EVERY
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_yes_that_cannot_be_read_is_unclear(kit: Kit, body: bytes, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(200, body=body)
    outcome = await send(opened(kit.provider(server.url)))
    assert outcome.kind == AMBIGUOUS
    assert len(server.seen) == 1


@EVERY
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_no_that_cannot_be_read_is_judged_by_its_status(
    kit: Kit, body: bytes, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: Reply(401, body=body)
    assert (await send(opened(kit.provider(server.url)))).kind == PROVIDER_FAULT


@EVERY
async def test_answer_that_is_compressed_unasked_is_read(kit: Kit, server: ProviderServer, opened: Open) -> None:
    body = gzip.compress(json.dumps(kit.yes).encode())
    server.answer = lambda _: Reply(200, body=body, headers={"Content-Encoding": "gzip"})
    assert (await send(opened(kit.provider(server.url)))).kind == ACCEPTED


RETRY_AFTER: list[tuple[Callable[[], str], float | None]] = [
    (lambda: "7", 7.0),
    (lambda: "0.5", 0.5),
    (lambda: "0", 0.0),
    (lambda: "-3", 0.0),
    (lambda: "99999999", 86_400.0),
    (lambda: "soon", None),
    (lambda: "nan", None),
    (lambda: "inf", None),
    (lambda: "", None),
    (lambda: email.utils.formatdate(time.time() + 30, usegmt=True), 30.0),
    (lambda: email.utils.formatdate(time.time() - 30, usegmt=True), 0.0),
    (lambda: "Wed, 99 Foo 2026 00:00:00 GMT", None),
]


@EVERY
async def test_retry_after_is_read_as_seconds_and_as_a_date(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    for make, expected in RETRY_AFTER:
        server.answer = lambda _, make=make: Reply(429, no(), {"Retry-After": make()})  # type: ignore[misc]
        outcome = await send(adapter)
        assert outcome.kind == THROTTLED
        assert outcome.retry_after_s == (None if expected is None else pytest.approx(expected, abs=1.5)), make()
    server.answer = lambda _: Reply(503, no(), {"Retry-After": "7"})
    assert await send(adapter) == Outcome(
        TRANSIENT, code="503", detail="the provider answered 503, taken as transient"
    ), "only a throttled lane pauses"


# No answer


@EVERY
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (NOTHING, "timeout"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="hang"), "timeout"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then="hang"), "timeout"),
        (Reply(delay_s=TIMEOUT_S + 1, then="close"), "timeout"),
        (Reply(document={"ok": True, "status": "accepted"}, gap_s=0.005), "timeout"),
        (RESET, ""),
        (CLOSE, ""),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then="close"), ""),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then="reset"), ""),
        (Reply(raw=b"SMTP ready\r\n\r\n", then="close"), ""),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", then="close"), ""),
        (Reply(raw=b"\0\xff\0\xff" * 100, then="close"), ""),
    ],
    ids=[
        "silence",
        "silence in the head",
        "silence in the body",
        "late",
        "trickle",
        "reset",
        "closed",
        "closed in the body",
        "reset in the body",
        "another protocol",
        "no length",
        "noise",
    ],
)
async def test_what_breaks_after_the_bytes_have_left_is_unclear(
    kit: Kit, reply: Reply, code: str, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: reply
    gate, began = FakeGate(), time.monotonic()
    outcome = await send(opened(kit.provider(server.url)), gate)
    assert outcome.kind == AMBIGUOUS
    assert outcome.code == code or (not code and outcome.code)
    assert time.monotonic() - began < TIMEOUT_S + 1
    assert len(server.seen) == 1, "nothing is sent again"
    assert gate.story == ["enter", "wrote"]


@EVERY
async def test_provider_that_nobody_answers_for_is_harmless(kit: Kit, opened: Open) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gate = FakeGate()
        outcome = await send(opened(kit.provider(f"http://127.0.0.1:{taken.getsockname()[1]}")), gate)
    assert (outcome.kind, gate.story) == (TRANSIENT, [])


@EVERY
async def test_connection_that_does_not_come_about_in_time_is_harmless(kit: Kit, opened: Open) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queue = [socket.socket() for _ in range(4)]
        for one in queue:  # more than the backlog takes: later ones are left unanswered by the kernel
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        gate, began = FakeGate(), loop.time()
        outcome = await send(opened(kit.provider(f"http://127.0.0.1:{full.getsockname()[1]}")), gate)
        for one in queue:
            one.close()
    assert (outcome.kind, outcome.code, gate.story) == (TRANSIENT, "connect-timeout", [])
    assert loop.time() - began < TIMEOUT_S + 1


@EVERY
async def test_name_that_does_not_resolve_is_harmless(kit: Kit, opened: Open) -> None:
    gate = FakeGate()
    outcome = await send(opened(kit.provider("http://provider.invalid")), gate)
    assert (outcome.kind, gate.story) == (TRANSIENT, [])


# The gate


@EVERY
async def test_refused_gate_lets_nothing_out(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter, gate = opened(kit.provider(server.url)), FakeGate(refuse=True)
    with pytest.raises(GateClosed):
        await send(adapter, gate)
    assert gate.story == ["enter"]
    server.answer = lambda _: Reply(200, kit.yes)
    assert (await send(adapter)).kind == ACCEPTED, "the adapter goes on"
    assert len(server.seen) == 1
    assert server.received == len(server.seen[0].body) + server_head_size(server.seen[0])


def server_head_size(seen: Seen) -> int:
    lines = [f"{seen.method} {seen.target} HTTP/1.1", *(f"{name}: {value}" for name, value in seen.headers.items())]
    return len("\r\n".join([*lines, "", ""]).encode("latin-1"))


@EVERY
async def test_time_at_the_gate_is_not_the_providers(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(200, kit.yes, delay_s=TIMEOUT_S / 2)
    outcome = await send(opened(kit.provider(server.url)), FakeGate(wait_s=2 * TIMEOUT_S))
    assert outcome.kind == ACCEPTED


@EVERY
async def test_gate_is_passed_once_and_the_write_follows_in_the_same_turn(kit: Kit, opened: Open) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.setblocking(False)
        peers: list[socket.socket] = []

        def arrived() -> bytes:
            if not peers:
                peers.append(listener.accept()[0])
                peers[0].setblocking(False)
            try:
                return peers[0].recv(100_000, socket.MSG_PEEK)
            except BlockingIOError:
                return b""

        def note(what: str) -> None:
            gate.story.append(f"{what}: {'whole' if is_whole(arrived()) else 'nothing' if not arrived() else 'part'}")

        class Gate(FakeGate):
            async def enter(self) -> None:
                await asyncio.sleep(0.02)
                note("enter")
                self.passed = True
                loop.call_soon(note, "next turn")
                loop.call_soon(loop.call_soon, note, "turn after")
                # Nothing is awaited from here on: what the adapter writes, it has to write in this turn.

            def wrote(self) -> None:
                note("wrote")

        gate = Gate()
        outcome = await send(opened(kit.provider(f"http://127.0.0.1:{listener.getsockname()[1]}")), gate)
        for peer in peers:
            peer.close()
    assert outcome.code == "timeout"
    assert gate.story == ["enter: nothing", "next turn: whole", "wrote: whole", "turn after: whole"]


def is_whole(data: bytes) -> bool:
    """Whether these bytes are a request with all of its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and len(body) == int(length or b"0")


@EVERY
async def test_connection_that_breaks_while_the_call_waits_at_the_gate_sends_nothing_or_once(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    adapter = opened(kit.provider(server.url))
    server.answer = lambda _: Reply(200, kit.yes)
    await send(adapter)
    gate = FakeGate(wait_s=0.1)
    call = asyncio.create_task(send(adapter, gate))
    await asyncio.sleep(0.03)
    server.drop_connections()
    outcome = await call
    await asyncio.sleep(0.12)
    assert outcome.kind in {TRANSIENT, AMBIGUOUS, ACCEPTED}
    assert len(server.seen) == (2 if outcome.kind == ACCEPTED else 1), "nothing was written, or once on a fresh one"
    assert gate.story.count("wrote") == gate.passed
    assert outcome.kind != TRANSIENT or not gate.passed


# Kept-alive connections


@EVERY
async def test_connections_are_kept_for_the_next_call(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(200, kit.yes)
    adapter = opened(kit.provider(server.url))
    for _ in range(3):
        assert (await send(adapter)).kind == ACCEPTED
    assert server.connections == 1


@EVERY
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_request_on_a_kept_connection_that_ends_is_never_sent_again(
    kit: Kit, end: Reply, server: ProviderServer, opened: Open
) -> None:
    """HTTP libraries repeat GET and PUT on a fresh connection: the message would be sent twice."""
    replies = iter([Reply(200, kit.yes), end])
    server.answer = lambda _: next(replies, Reply(200, kit.yes))
    adapter = opened(kit.provider(server.url))
    assert (await send(adapter)).kind == ACCEPTED
    gate = FakeGate()
    outcome = await send(adapter, gate)
    await asyncio.sleep(0.05)
    assert outcome.kind == AMBIGUOUS
    assert len(server.seen) == 2
    assert gate.story == ["enter", "wrote"]


@EVERY
async def test_connection_that_the_provider_closed_meanwhile_costs_nothing(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: Reply(200, kit.yes)
    adapter = opened(kit.provider(server.url))
    await send(adapter)
    server.drop_connections()
    await asyncio.sleep(0.05)
    assert (await send(adapter)).kind == ACCEPTED
    assert len(server.seen) == 2


# Looking up

LOOKS_UP = pytest.mark.parametrize(
    "kit",
    [kit for kit in KITS.values() if kit.look_up_path],
    ids=[name for name, kit in KITS.items() if kit.look_up_path],
)


@LOOKS_UP
async def test_message_that_the_provider_has_is_found(kit: Kit, server: ProviderServer, opened: Open) -> None:
    adapter = opened(kit.provider(server.url))
    assert adapter.can_look_up
    server.answer = lambda _: Reply(200, kit.yes)
    found = await adapter.look_up("0190-message", TRACEPARENT)
    assert found == Outcome(ACCEPTED, "p-9", detail="found by look-up")
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("GET", kit.look_up_path, b"")
    assert seen.headers["traceparent"] == TRACEPARENT
    assert kit.headers.items() <= seen.headers.items()


@LOOKS_UP
async def test_message_that_the_provider_does_not_know_was_not_taken(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: Reply(404, no())
    found = await opened(kit.provider(server.url)).look_up("0190-message", TRACEPARENT)
    assert found is not None
    assert (found.kind, found.code) == (TRANSIENT, "404")


@LOOKS_UP
@pytest.mark.parametrize(
    "reply",
    [Reply(500), Reply(401), Reply(429), Reply(302), NOTHING, RESET, CLOSE, Reply(raw=b"x\r\n\r\n", then="close")],
)
async def test_look_up_that_says_nothing_is_taken_for_nothing(
    kit: Kit, reply: Reply, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: reply
    assert await opened(kit.provider(server.url)).look_up("0190-message", TRACEPARENT) is None


@LOOKS_UP
async def test_message_id_cannot_leave_its_place_in_the_path(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: Reply(404, no())
    await opened(kit.provider(server.url)).look_up("../../admin?x=1#y", TRACEPARENT)
    assert server.seen[0].target in {
        kit.look_up_path.replace("0190-message", f"..%2F..%2Fadmin%3Fx{equals}1%23y") for equals in ("=", "%3D")
    }


@EVERY
async def test_adapter_that_cannot_look_up_says_so(kit: Kit, server: ProviderServer, opened: Open) -> None:
    if kit.look_up_path:
        return
    adapter = opened(kit.provider(server.url))
    assert not adapter.can_look_up
    assert await adapter.look_up("0190-message", TRACEPARENT) is None
    assert server.seen == []


# What nobody may see


@EVERY
async def test_no_secret_text_or_number_reaches_outcome_log_or_exception(
    kit: Kit, server: ProviderServer, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(seen: Seen) -> dict[str, Any]:
        """A provider that repeats what it was sent, as the reason of its refusal."""
        everything = f"{seen.target} {seen.headers} {seen.body.decode()} {NUMBER} {TEXT} {KEY}"
        return {"error": {"code": f"bad {NUMBER}", "message": everything}, "message": everything, "status": everything}

    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    adapter = opened(kit.provider(server.url))
    with structlog.testing.capture_logs() as events:
        for status in (200, 302, 400, 401, 429, 500, 503):
            server.answer = lambda seen, status=status: Reply(status, echo(seen))  # type: ignore[misc]
            outcome = await send(adapter)
            told += [repr(outcome), str(outcome), outcome.code, outcome.detail]
        for reply in (NOTHING, RESET, CLOSE, Reply(raw=b"HTTP/1.1 999999 " + TEXT.encode(), then="close")):
            server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
            told.append(repr(await send(adapter)))
        with pytest.raises(GateClosed) as refused:
            await send(adapter, FakeGate(refuse=True))
        error: BaseException | None = refused.value
        while error is not None:
            told += [repr(error), str(error)]
            error = error.__cause__ or error.__context__
    told += [repr(adapter), str(adapter), repr(SUBMISSION), str(SUBMISSION), repr(kit.provider(server.url))]
    told += [str(event) for event in events]
    told += [f"{record.getMessage()} {record.exc_info}" for record in caplog.records]
    for line in told:
        for forbidden in (KEY, TEXT, "4711", NUMBER, NUMBER[1:]):
            assert forbidden not in line


def test_kinds_of_outcomes_are_all_covered_by_the_rows() -> None:
    covered = {name for kit in KITS.values() for name in (*rows_of(kit).values(), *kit.codes.values())}
    assert covered == set(OUTCOMES)
