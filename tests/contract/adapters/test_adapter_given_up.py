"""Calls that were given up: what was not delivered by then never is, and our own standstill blames no provider."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from dispatcher.transport.gate import OpenGate
from dispatcher.transport.http import HttpCaller, HttpProviderClient
from messaging.runtime.providers_file import Provider
from providers.base import ACCEPTED, AMBIGUOUS, PROVIDER_FAULT, Answer, Outcome, Request
from providers.catalogue import dialect_of
from tests.contract.adapters.kit import SUBMISSION, TIMEOUT_S

_LONG = b"x" * 1_000_000
"""More than the kernel's buffers on both sides hold."""
_YES = b'HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"id": "p-9",   "status":"sent"}'


class Listener:
    """A provider with its own thread, which reads nothing until it is told to."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._socket.settimeout(20)
        self._connection: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def accept(self) -> socket.socket:
        if self._connection is None:
            self._connection, _ = self._socket.accept()
            self._connection.settimeout(20)
        return self._connection

    def read_to_the_end(self) -> int:
        """Count the bytes that still arrive; a reset is an end too."""
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := self.accept().recv(65_536):
                received += len(piece)
        return received

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


@pytest_asyncio.fixture
async def caller() -> AsyncIterator[HttpCaller]:
    one = HttpCaller(timeout_s=TIMEOUT_S, max_connections=1, keepalive_s=4.0)
    yield one
    await one.aclose()


async def test_bytes_that_were_not_delivered_when_a_call_timed_out_never_arrive(
    listener: Listener, caller: HttpCaller
) -> None:
    outcome = await caller.call(Request("POST", listener.url, {}, _LONG), OpenGate())
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.code) == (AMBIGUOUS, "timeout")
    assert await asyncio.to_thread(listener.read_to_the_end) < len(_LONG)


async def test_bytes_that_were_not_delivered_when_a_call_was_cancelled_never_arrive(listener: Listener) -> None:
    caller = HttpCaller(timeout_s=20.0, max_connections=1, keepalive_s=4.0)
    call = asyncio.create_task(caller.call(Request("POST", listener.url, {}, _LONG), OpenGate()))
    await asyncio.to_thread(lambda: listener.accept().recv(1))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(listener.read_to_the_end) < len(_LONG)
    await caller.aclose()


def lingers(caller: HttpCaller) -> list[tuple[int, int]]:
    """Return what closing would do with the bytes under way, for each open connection: (1, 0) discards them."""
    session = caller._session
    assert session is not None
    assert session.connector is not None
    connector = session.connector
    used = [one.transport for one in connector._acquired]
    kept = [protocol.transport for protocols in connector._conns.values() for protocol, _ in protocols]
    sockets = [one.get_extra_info("socket") for one in used + kept if one is not None]
    return [struct.unpack("ii", one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) for one in sockets]


async def test_connection_discards_its_bytes_when_its_process_dies_during_a_call_and_is_closed_in_order_afterwards(
    listener: Listener,
) -> None:
    caller = HttpCaller(timeout_s=20.0, max_connections=1, keepalive_s=60.0)
    call = asyncio.create_task(caller.call(Request("POST", listener.url, {}, b"text"), OpenGate()))
    await asyncio.to_thread(lambda: listener.accept().recv(65_536))
    assert lingers(caller) == [(1, 0)]
    listener.accept().sendall(_YES)
    assert isinstance(await call, Answer)
    assert lingers(caller) == [(0, 0)]
    await caller.aclose()


async def test_kernel_gives_up_undelivered_bytes_after_the_time_out_even_when_nobody_closes(
    listener: Listener, caller: HttpCaller
) -> None:
    call = asyncio.create_task(caller.call(Request("POST", listener.url, {}, b"text"), OpenGate()))
    await asyncio.to_thread(lambda: listener.accept().recv(1))
    assert caller._session is not None
    assert caller._session.connector is not None
    (used,) = [one.transport for one in caller._session.connector._acquired]
    assert used is not None
    option = used.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option == TIMEOUT_S * 1000
    await call


class StandsStill(OpenGate):
    """Blocks the whole process once the bytes have left, until the provider has answered and the time-out is over."""

    def __init__(self) -> None:
        super().__init__()
        self.standing, self.answered = threading.Event(), threading.Event()

    def wrote(self) -> None:
        asyncio.get_running_loop().call_later(0.02, self._stand_still)

    def _stand_still(self) -> None:
        self.standing.set()
        assert self.answered.wait(20)
        end = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < end:
            pass


async def answered_while_standing_still(listener: Listener, caller: HttpCaller, answer: bytes) -> Outcome:
    gate = StandsStill()

    def run() -> None:
        connection = listener.accept()
        connection.recv(65_536)
        assert gate.standing.wait(20)
        connection.sendall(answer)
        gate.answered.set()

    client = HttpProviderClient(dialect_of(Provider("alpha", "http-json", listener.url)), caller)
    outcome, _ = await asyncio.gather(client.send(SUBMISSION, gate), asyncio.to_thread(run))
    return outcome


async def test_answer_that_lay_in_the_socket_of_a_process_that_stood_still_is_read(
    listener: Listener, caller: HttpCaller
) -> None:
    outcome = await answered_while_standing_still(listener, caller, _YES)
    assert (outcome.kind, outcome.stalled) == (ACCEPTED, False)


@pytest.mark.parametrize(
    ("answer", "kind", "stalled"),
    [
        (b"", AMBIGUOUS, True),
        (b"HTTP/1.1 500 Whatever\r\nContent-Length: 0\r\n\r\n", AMBIGUOUS, True),
        (b"HTTP/1.1 401 Whatever\r\nContent-Length: 0\r\n\r\n", PROVIDER_FAULT, False),
    ],
    ids=["silence", "an unclear answer", "a clear answer"],
)
async def test_what_a_process_that_stood_still_missed_says_nothing_about_the_provider(
    answer: bytes, kind: int, *, stalled: bool, listener: Listener, caller: HttpCaller
) -> None:
    outcome = await answered_while_standing_still(listener, caller, answer)
    assert (outcome.kind, outcome.stalled) == (kind, stalled)


async def test_time_out_of_a_process_that_did_not_stand_still_counts_against_the_provider(
    listener: Listener, caller: HttpCaller
) -> None:
    client = HttpProviderClient(dialect_of(Provider("alpha", "http-json", listener.url)), caller)
    outcome = await client.send(SUBMISSION, OpenGate())
    assert (outcome.kind, outcome.stalled) == (AMBIGUOUS, False)
