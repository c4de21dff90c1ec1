"""Calls of a library that swallows cancellations end all the same, in time."""

import asyncio

import pytest

from messaging.errors import StreamDown
from messaging.stream.cancellation import within
from messaging.stream.client import StreamClient
from messaging.stream.connection import open_connection
from tests.unit.virtual_time import in_virtual_time


async def _stubborn(swallowed: int) -> None:
    """Swallow so many cancellations, as a loop of nats-py does that catches them or loses them in `wait_for`."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed -= 1
            if swallowed < 0:
                raise


@pytest.mark.parametrize("swallowed", [0, 1, 3])
@in_virtual_time
async def test_call_that_swallows_cancellations_ends_with_a_time_out(swallowed: int) -> None:
    with pytest.raises(TimeoutError):
        await within(_stubborn(swallowed), 0.01)


@pytest.mark.parametrize("swallowed", [0, 2])
@in_virtual_time
async def test_call_that_swallows_cancellations_ends_with_its_caller(swallowed: int) -> None:
    call = asyncio.create_task(_stubborn(swallowed))
    caller = asyncio.create_task(within(_waiting_for(call), 60))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert call.done()


async def _waiting_for(call: "asyncio.Task[None]") -> None:
    await call


async def test_answer_and_error_of_the_call_are_passed_on() -> None:
    async def answer() -> int:
        return 7

    async def error() -> int:
        raise OSError("broken")

    assert await within(answer(), 1) == 7
    with pytest.raises(OSError, match="broken"):
        await within(error(), 1)


async def test_connecting_ends_in_time_although_the_library_swallows_the_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(_self: StreamClient, *_args: object, **_options: object) -> None:
        await _stubborn(1)

    monkeypatch.setattr(StreamClient, "connect", connect)
    with pytest.raises(StreamDown):
        async with open_connection("nats://127.0.0.1:1", "x", connect_timeout_s=0.01):
            pass
