"""Hostile settings, messages and answers: what was not written is never unclear, and a status that came decides."""

import random
from typing import Any

import attrs
import pytest
from sms.gateway.v1 import message_pb2 as pb

from messaging.errors import ConfigError
from messaging.runtime.providers_file import Provider
from messaging.runtime.secret import Secret
from providers.base import ACCEPTED, AMBIGUOUS, PROVIDER_FAULT, TRANSIENT
from tests.contract.adapters.kit import PATIENCE_S, SUBMISSION, FakeGate
from tests.contract.adapters.kits import Open
from tests.contract.provider_server import ProviderServer, Reply

TEXTS = [
    "",
    "x",
    "é",
    "a\r\nHost: evil",
    "\0",
    "{body}",
    "{sender}",
    "{secret.key}",
    "{secret.lines}",
    "{recipient",
    "\x7f",
    "x" * 9000,
    "💥" * 50,
    "../..",
    "..",
    "%00%0a",
]
SETTINGS: dict[str, list[Any]] = {
    "method": ["POST", "PUT", "GET"],
    "encoding": ["json", "form", "query"],
    "headers": [{"x-a": text} for text in TEXTS] + [{text: "x"} for text in TEXTS],
    "fields": [{"a": text, "b.c[]": [1, {"d": text}]} for text in TEXTS]
    + [{text: 1} for text in TEXTS]
    + [{"a": TEXTS}],
    "answer": ["json", "text", "xml", "status"],
    "id_path": ["id", "$", "9" * 150, "a.0.0.@x", "²"],
    "id_match": ["(x)?y", "(?P<a>.)", "."],
    "success_match": ["OK", "\\S"],
    "code_path": ["code", "$"],
    "error_path": ["message"],
    "charset": ["utf-16", "utf-7", "latin-1", "cp037"],
    "empty_is_success": [True, False],
    "basic_auth": [{"user": text, "password": text} for text in TEXTS],
}
URL_ENDS = ["", "/{body}", "/{sender}?x={digits}", "?a={body}", "/%", "/é?é#é", "/\\", "/{message_id}/../x"]
BODIES = [
    b"",
    b"OK",
    b"\xff\xfe",
    b'{"id": "\\ud800", "code": "\\ud800\\udfff", "message": "\\u0000\\ud83d"}',
    b'{"id": 1e999, "code": -1e999}',
    b'{"id": NaN}',
    b"9" * 5000,
    b"[" * 60_000,
    b"<a>" * 9000,
    b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    b'{"id": ' + b"9" * 4301 + b"}",
    b"\0" * 100,
]
HEADERS: list[dict[str, str]] = [
    {},
    {"Retry-After": "Wed, 01 Jan 99999999999 00:00:00 GMT"},
    {"Retry-After": "9" * 60},
    {"Retry-After": "1e400"},
    {"Retry-After": "-inf"},
    {"Content-Type": "application/json; charset=undefined"},
    {"Content-Type": "text/plain; charset=rot13"},
    {"Content-Type": "text/xml; charset=utf-16-le"},
    {"Content-Type": "charset=" + "x" * 300},
]
STATUSES = [200, 202, 204, 302, 400, 401, 403, 404, 408, 409, 418, 421, 425, 429, 500, 503, 599]

PROVIDER = Provider(
    "alpha", "http-json", "", timeout_s=PATIENCE_S, secrets={"key": Secret("k/+ ey"), "lines": Secret("a\nb")}
)


def some(chance: random.Random) -> tuple[str, dict[str, Any]]:
    names = chance.sample(sorted(SETTINGS), chance.randint(0, 4))
    return chance.choice(URL_ENDS), {name: chance.choice(SETTINGS[name]) for name in names}


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_raises_and_what_was_not_written_is_never_unclear(
    seed: int, server: ProviderServer, opened: Open
) -> None:
    chance = random.Random(seed)
    sent = 0
    messages = [*TEXTS, "\ud800"]
    for _ in range(120):
        end, settings = some(chance)
        try:
            provider = attrs.evolve(PROVIDER, url=server.url + end, settings=settings)
            client = opened(provider)
        except ConfigError:
            continue
        reply = Reply(chance.choice(STATUSES), body=chance.choice(BODIES), headers=chance.choice(HEADERS))
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        gate, before = FakeGate(), len(server.seen)
        message = attrs.evolve(
            SUBMISSION,
            body=chance.choice(messages),
            sender=chance.choice(messages),
            validity_s=chance.choice([0.0, 60.0, 600.0, 1e308, float("inf"), float("nan"), -1.0]),
        )
        outcome = await client.send(message, gate)
        shown = (end, settings, message.body[:20], message.sender[:20], reply.status, outcome)
        written = len(server.seen) - before
        assert written == gate.passed, shown
        sent += written
        if not written:
            assert outcome.kind in {TRANSIENT, PROVIDER_FAULT}, shown
        elif reply.status // 100 in {3, 4} and reply.status not in {408, 409}:
            assert outcome.kind not in {ACCEPTED, AMBIGUOUS}, shown
        attempt = pb.Attempt(provider_message_id=outcome.provider_message_id, code=outcome.code, detail=outcome.detail)
        assert attempt.SerializeToString()
    assert sent >= 10, "some of these have to be sent"
