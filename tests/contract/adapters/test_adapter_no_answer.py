"""What follows when no answer comes: harmless before the bytes have left, unclear afterwards."""

import asyncio
import socket
import time

import attrs
import pytest

from providers.base import AMBIGUOUS, PROVIDER_FAULT, TRANSIENT
from tests.contract.adapters.kit import PATIENCE_S, TIMEOUT_S, FakeGate, Kit
from tests.contract.adapters.kits import EVERY, Open, send
from tests.contract.provider_server import CLOSE, NOTHING, RESET, ProviderServer, Reply

TRICKLE = Reply()
"""The provider's own yes, a byte at a time."""


# No answer
@EVERY
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (NOTHING, "timeout"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="hang"), "timeout"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then="hang"), "timeout"),
        (Reply(delay_s=TIMEOUT_S + 1, then="close"), "timeout"),
        (TRICKLE, "timeout"),
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
    server.answer = lambda _: attrs.evolve(kit.yes, gap_s=0.005) if reply is TRICKLE else reply
    gate, began = FakeGate(), time.monotonic()
    timeout_s = TIMEOUT_S if code == "timeout" else PATIENCE_S
    outcome = await send(opened(kit.provider(server.url, timeout_s=timeout_s)), gate)
    assert outcome.kind == AMBIGUOUS
    assert outcome.code == code or (not code and outcome.code)
    assert time.monotonic() - began < timeout_s + 5
    assert len(server.seen) == 1, "nothing is sent again"
    assert gate.story == ["enter", "wrote"]


BROKEN_OFF = {
    "closed": ("close", PATIENCE_S),
    "reset": ("reset", PATIENCE_S),
    "silence": ("hang", TIMEOUT_S),
}


@EVERY
@pytest.mark.parametrize(("then", "timeout_s"), BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_no_whose_body_breaks_off_is_judged_by_its_status(
    kit: Kit, then: str, timeout_s: float, server: ProviderServer, opened: Open
) -> None:
    head = b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n{"
    server.answer = lambda _: Reply(raw=head, then=then)
    outcome = await send(opened(kit.provider(server.url, timeout_s=timeout_s)))
    assert (outcome.kind, outcome.code) == (PROVIDER_FAULT, "403")
    assert len(server.seen) == 1


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
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        outcome = await send(opened(kit.provider(url, timeout_s=TIMEOUT_S)), gate)
        for one in queue:
            one.close()
    assert (outcome.kind, outcome.code, gate.story) == (TRANSIENT, "connect-timeout", [])
    assert loop.time() - began < TIMEOUT_S + 5


@EVERY
async def test_name_that_does_not_resolve_is_harmless(kit: Kit, opened: Open) -> None:
    gate = FakeGate()
    outcome = await send(opened(kit.provider("http://provider.invalid")), gate)
    assert (outcome.kind, gate.story) == (TRANSIENT, [])
