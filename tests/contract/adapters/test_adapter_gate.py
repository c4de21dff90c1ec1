"""The gate before the write, and the connections that are kept behind it."""

import asyncio
import socket

import attrs
import pytest

from dispatcher.transport.gate import GateClosed
from providers.base import ACCEPTED, AMBIGUOUS, TRANSIENT
from tests.contract.adapters.kit import TIMEOUT_S, FakeGate, Kit
from tests.contract.adapters.kits import EVERY, Open, send
from tests.contract.provider_server import CLOSE, RESET, ProviderServer, Reply, Seen


# The gate
@EVERY
async def test_refused_gate_lets_nothing_out(kit: Kit, server: ProviderServer, opened: Open) -> None:
    client, gate = opened(kit.provider(server.url)), FakeGate(refuse=True)
    with pytest.raises(GateClosed):
        await send(client, gate)
    assert gate.story == ["enter"]
    server.answer = lambda _: kit.yes
    assert (await send(client)).kind == ACCEPTED, "the client goes on"
    assert len(server.seen) == 1
    assert server.received == len(server.seen[0].body) + server_head_size(server.seen[0])


def server_head_size(seen: Seen) -> int:
    lines = [f"{seen.method} {seen.target} HTTP/1.1", *(f"{name}: {value}" for name, value in seen.headers.items())]
    return len("\r\n".join([*lines, "", ""]).encode("latin-1"))


@EVERY
async def test_time_at_the_gate_is_not_the_providers(kit: Kit, server: ProviderServer, opened: Open) -> None:
    server.answer = lambda _: attrs.evolve(kit.yes, delay_s=TIMEOUT_S)
    provider = kit.provider(server.url, timeout_s=3 * TIMEOUT_S)
    outcome = await send(opened(provider), FakeGate(wait_s=4 * TIMEOUT_S))
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
                # Nothing is awaited from here on: what the client writes, it has to write in this turn.

            def wrote(self) -> None:
                note("wrote")

        gate = Gate()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outcome = await send(opened(kit.provider(url, timeout_s=TIMEOUT_S)), gate)
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
    client = opened(kit.provider(server.url))
    server.answer = lambda _: kit.yes
    await send(client)
    gate = FakeGate(wait_s=0.1)
    call = asyncio.create_task(send(client, gate))
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
    server.answer = lambda _: kit.yes
    client = opened(kit.provider(server.url))
    for _ in range(3):
        assert (await send(client)).kind == ACCEPTED
    assert server.connections == 1


@EVERY
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_request_on_a_kept_connection_that_ends_is_never_sent_again(
    kit: Kit, end: Reply, server: ProviderServer, opened: Open
) -> None:
    """HTTP libraries repeat GET and PUT on a fresh connection: the message would be sent twice."""
    replies = iter([kit.yes, end])
    server.answer = lambda _: next(replies, kit.yes)
    client = opened(kit.provider(server.url))
    assert (await send(client)).kind == ACCEPTED
    gate = FakeGate()
    outcome = await send(client, gate)
    await asyncio.sleep(0.05)
    assert (outcome.kind, outcome.code) == (AMBIGUOUS, "kept-connection-closed")
    assert "keepalive_s" in outcome.detail
    assert len(server.seen) == 2
    assert gate.story == ["enter", "wrote"]


@EVERY
async def test_call_without_a_kept_connection_has_one_of_its_own(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: kit.yes
    client = opened(kit.provider(server.url, keepalive_s=0.0))
    for _ in range(5):
        assert (await send(client)).kind == ACCEPTED
    assert server.connections == 5
    assert {seen.headers["connection"] for seen in server.seen} == {"close"}


@EVERY
async def test_provider_that_ends_connections_after_each_answer_makes_nothing_unclear_without_kept_ones(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    """It says keep-alive and closes: a request on the kept connection would be lost without an answer."""
    server.answer = lambda seen: kit.yes if server.first_on_its_connection(seen) else RESET
    client = opened(kit.provider(server.url, keepalive_s=0.0))
    assert {(await send(client)).kind for _ in range(5)} == {ACCEPTED}


@EVERY
async def test_break_of_a_first_call_is_not_put_down_to_the_kept_connection(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: RESET
    outcome = await send(opened(kit.provider(server.url)))
    assert outcome.kind == AMBIGUOUS
    assert outcome.code != "kept-connection-closed"


@EVERY
async def test_connection_that_the_provider_closed_meanwhile_costs_nothing(
    kit: Kit, server: ProviderServer, opened: Open
) -> None:
    server.answer = lambda _: kit.yes
    client = opened(kit.provider(server.url))
    await send(client)
    server.drop_connections()
    await asyncio.sleep(0.05)
    assert (await send(client)).kind == ACCEPTED
    assert len(server.seen) == 2
