"""`python -m tests.load.hostile.attackers KIND ADDRESS AMOUNT SECONDS`: one attacker; prints what it was answered.

It has a process of its own, and a low priority: what is measured is the gateway, not who gets the machine.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from tests.load.hostile import payloads

_SERVICE = "/sms.gateway.v1.SmsGatewayService/"
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
_CONNECTIONS, _AT_ONCE = 4, 32
_PER_CONNECTION = 500
_ARRIVAL_S = 90.0
_CHUNK_BYTES = 4_194_304 - 1024

Counts = collections.Counter[str]


def _channel(address: str) -> grpc.aio.Channel:
    options = [*_OPTIONS, ("grpc.max_receive_message_length", -1)]
    return grpc.aio.insecure_channel(address, options=options)


async def flood(address: str, amount: int, _seconds: float) -> Counts:
    """Send `amount` hostile requests to unary methods."""
    counts: Counts = collections.Counter()
    channels = [_channel(address) for _ in range(_CONNECTIONS)]
    hostile = itertools.islice(payloads.requests(1), amount)

    async def send(channel: grpc.aio.Channel) -> None:
        methods: dict[str, Any] = {}
        for name, raw in hostile:
            method = methods.setdefault(name, channel.unary_unary(_SERVICE + name))
            try:
                await method(raw, timeout=60)
                counts["OK"] += 1
            except grpc.aio.AioRpcError as refused:
                counts[refused.code().name] += 1

    await asyncio.gather(*(send(channels[number % _CONNECTIONS]) for number in range(_AT_ONCE)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return counts


async def large(address: str, amount: int, _seconds: float) -> Counts:
    """Send `amount` requests to unary methods at once, each as large as grpc lets through."""
    counts: Counts = collections.Counter()
    channels = [_channel(address) for _ in range(_CONNECTIONS)]
    raw = b"\x7a\x00" * (_CHUNK_BYTES // 2)

    async def send(number: int) -> None:
        method: Any = channels[number % _CONNECTIONS].unary_unary(_SERVICE + "SendSms")
        try:
            await method(raw, timeout=60)
        except grpc.aio.AioRpcError as refused:
            counts[refused.code().name] += 1

    await asyncio.gather(*(send(number) for number in range(amount)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return counts


async def _streams(address: str, amount: int, seconds: float, chunk: bytes) -> Counts:
    """Keep `amount` BatchSend streams busy with one chunk, each as fast as it is answered."""
    counts: Counts = collections.Counter()
    end = time.monotonic() + seconds

    async def stream() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            while time.monotonic() < end:
                yield chunk
                counts["chunks"] += 1

        async with _channel(address) as channel:
            call: Any = channel.stream_stream(_SERVICE + "BatchSend")
            while time.monotonic() < end:
                try:
                    async for _ in call(chunks(), timeout=seconds + 2):
                        counts["answers"] += 1
                except grpc.aio.AioRpcError as refused:
                    counts[refused.code().name] += 1
                    await asyncio.sleep(0.1)

    await asyncio.gather(*(stream() for _ in range(amount)))
    return counts


async def refused(address: str, amount: int, seconds: float) -> Counts:
    """Keep `amount` streams busy with small chunks of 1,000 refused messages."""
    return await _streams(address, amount, seconds, payloads.refused_chunk())


async def full(address: str, amount: int, seconds: float) -> Counts:
    """Keep `amount` streams busy with the largest chunks."""
    return await _streams(address, amount, seconds, payloads.full_chunk(_CHUNK_BYTES))


async def empty(address: str, amount: int, seconds: float) -> Counts:
    """Keep `amount` streams busy with chunks of two million empty messages."""
    return await _streams(address, amount, seconds, payloads.many_empty_messages(_CHUNK_BYTES))


async def watch(address: str, amount: int, seconds: float) -> Counts:
    """Watch one message with `amount` calls, for some seconds after all of them were answered."""
    counts: Counts = collections.Counter()
    channels = [_channel(address) for _ in range(-(-amount // _PER_CONNECTION))]
    message = api.SendSmsRequest(recipient="+233201234567", body="hello")
    message.schedule_time.FromSeconds(int(time.time()) + 86_400)
    accepted = await rpc.SmsGatewayServiceStub(channels[0]).SendSms(message, timeout=30)
    everyone = asyncio.Event()

    async def one(number: int) -> None:
        stub = rpc.SmsGatewayServiceStub(channels[number % len(channels)])
        try:
            async for _ in stub.WatchStatus(api.WatchStatusRequest(message_id=accepted.message_id)):
                counts["statuses"] += 1
                if counts["statuses"] == amount:
                    everyone.set()
        except grpc.aio.AioRpcError as ended:
            counts[ended.code().name] += 1

    watchers = [asyncio.create_task(one(number)) for number in range(amount)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ARRIVAL_S):
            await everyone.wait()
            _say("ready")
            await asyncio.sleep(seconds)
            _say("ending")
    for watcher in watchers:
        watcher.cancel()
    await asyncio.wait(watchers)
    await asyncio.gather(*(channel.close() for channel in channels))
    return counts


KINDS: dict[str, Callable[[str, int, float], Coroutine[Any, Any, Counts]]] = {
    "flood": flood,
    "large": large,
    "refused": refused,
    "full": full,
    "empty": empty,
    "watch": watch,
}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Attack, and print the counts as JSON."""
    kind, address, amount, seconds = sys.argv[1:]
    os.nice(10)
    _say(json.dumps(asyncio.run(KINDS[kind](address, int(amount), float(seconds)))))


if __name__ == "__main__":
    main()
