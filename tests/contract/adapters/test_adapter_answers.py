"""What the provider's answers mean: status, code, Retry-After, and what cannot be read."""

import email.utils
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from dispatcher.providers.base import (
    ACCEPTED,
    AMBIGUOUS,
    PERMANENT,
    PROVIDER_FAULT,
    THROTTLED,
    TRANSIENT,
    Outcome,
)
from dispatcher.providers.http_json import OUTCOMES, STATUSES

from tests.contract.adapters.kits import EVERY, KITS, Kit, Open, no, send
from tests.contract.provider_server import ProviderServer, Reply

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


@EVERY
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "unheard-of"])
async def test_yes_whose_compression_cannot_be_read_is_unclear(
    kit: Kit, encoding: str, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: Reply(200, body=b"\xff\xfe" * 40, headers={"Content-Encoding": encoding})
    assert (await send(opened(kit.provider(server.url)))).kind == AMBIGUOUS
    assert len(server.seen) == 1


@EVERY
async def test_answer_that_grows_without_end_when_it_is_unpacked_is_cut(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    packed = zlib.compressobj(1, wbits=31)
    body = b"".join(packed.compress(bytes(1_000_000)) for _ in range(300)) + packed.flush()
    server.answer = lambda _: Reply(401, body=body, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        assert (await send(opened(kit.provider(server.url)))).kind == PROVIDER_FAULT
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


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


def test_kinds_of_outcomes_are_all_covered_by_the_rows() -> None:
    covered = {name for kit in KITS.values() for name in (*rows_of(kit).values(), *kit.codes.values())}
    assert covered == set(OUTCOMES)
