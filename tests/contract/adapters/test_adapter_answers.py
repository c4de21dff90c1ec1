"""What the provider's answers mean: status, code, pauses, and what cannot be read."""

import gzip
import tracemalloc
import zlib

import attrs
import pytest

from providers.base import AMBIGUOUS, THROTTLED, Outcome
from providers.statuses import OUTCOMES
from providers.statuses import STATUSES as GENERIC_STATUSES
from tests.contract.adapters.kit import STATUSES, Kit
from tests.contract.adapters.kits import EVERY, KITS, Open, send
from tests.contract.provider_server import ProviderServer, Reply


def status_that_is(name: str, kit: Kit) -> int:
    return next(status for status, meaning in kit.statuses.items() if meaning == name)


# The answers
def test_every_row_of_the_generic_table_is_tried() -> None:
    assert set(GENERIC_STATUSES) <= set(STATUSES)


@EVERY
async def test_status_means_what_the_table_says(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    for status, name in kit.statuses.items():
        reply = attrs.evolve(kit.no(status, ""), headers={"Location": "/elsewhere"})
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        outcome = await send(client)
        assert outcome.kind == OUTCOMES[name], status
        assert outcome.code == str(status)
        assert outcome.detail == kit.detail.format(status=status, name=name)
    assert len(server.seen) == len(kit.statuses), "no redirect was followed"


@EVERY
async def test_providers_code_beats_the_status(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    for code, name in kit.codes.items():
        for status in (400, 409, 500, 503):
            reply = kit.no(status, code)
            server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
            outcome = await send(client)
            assert (outcome.kind, outcome.code) == (OUTCOMES[name], code), (code, status)


@EVERY
async def test_unknown_code_leaves_the_word_to_the_status(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    for status, name in kit.statuses.items():
        reply = kit.no(status, "never_heard")
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        outcome = await send(client)
        assert (outcome.kind, outcome.code) == (OUTCOMES[name], "never_heard")


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
    server.answer = lambda _: attrs.evolve(kit.yes, body=body)
    outcome = await send(opened(kit.provider(server.url)))
    assert outcome.kind == AMBIGUOUS
    assert len(server.seen) == 1


@EVERY
async def test_answer_that_only_sounds_like_a_yes_is_unclear(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    for name, reply in kit.unclear.items():
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        assert (await send(client)).kind == AMBIGUOUS, name


@EVERY
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_no_that_cannot_be_read_is_judged_by_its_status(
    kit: Kit, body: bytes, server: ProviderServer, opened: Open
) -> None:
    client = opened(kit.provider(server.url))
    for status, name in kit.statuses.items():
        server.answer = lambda _, status=status: Reply(status, body=body)  # type: ignore[misc]
        assert (await send(client)).kind == OUTCOMES[name], status


@EVERY
async def test_answer_that_is_compressed_unasked_is_read(kit: Kit, server: ProviderServer, opened: Open) -> None:
    packed = attrs.evolve(kit.yes, body=gzip.compress(kit.yes.content), headers={"Content-Encoding": "gzip"})
    server.answer = lambda _: packed
    assert await send(opened(kit.provider(server.url))) == kit.accepted


@EVERY
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "unheard-of"])
async def test_yes_whose_compression_cannot_be_read_is_unclear(
    kit: Kit, encoding: str, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: attrs.evolve(kit.yes, body=b"\xff\xfe" * 40, headers={"Content-Encoding": encoding})
    assert (await send(opened(kit.provider(server.url)))).kind == AMBIGUOUS
    assert len(server.seen) == 1


@EVERY
async def test_answer_that_grows_without_end_when_it_is_unpacked_is_cut(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    packed = zlib.compressobj(1, wbits=31)
    body = b"".join(packed.compress(bytes(1_000_000)) for _ in range(300)) + packed.flush()
    status, meaning = next((one for one in kit.statuses.items() if one[1] == "provider_fault"), (None, "ambiguous"))
    # A provider that judges by its own codes alone cannot read this one.
    answer = Reply(status or kit.yes.status, body=body, headers={"Content-Encoding": "gzip"})
    server.answer = lambda _: answer
    tracemalloc.start()
    try:
        assert (await send(opened(kit.provider(server.url)))).kind == OUTCOMES[meaning]
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@EVERY
async def test_pause_is_read_in_each_form_in_which_the_provider_asks_for_it(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    client = opened(kit.provider(server.url))
    for make, expected in kit.pauses:
        reply = make()
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        outcome = await send(client)
        assert outcome.kind == THROTTLED
        assert outcome.retry_after_s == (None if expected is None else pytest.approx(expected, abs=1.5)), reply


@EVERY
async def test_only_a_throttled_lane_pauses(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client = opened(kit.provider(server.url))
    for status, name in kit.statuses.items():
        if name == "throttled":
            continue
        reply = attrs.evolve(kit.no(status, ""), headers={"Retry-After": "7"})
        server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        detail = kit.detail.format(status=status, name=name)
        assert await send(client) == Outcome(OUTCOMES[name], code=str(status), detail=detail)


def test_kinds_of_outcomes_are_all_covered_by_the_rows() -> None:
    covered = {name for kit in KITS.values() for name in (*kit.statuses.values(), *kit.codes.values())}
    assert covered == set(OUTCOMES)
