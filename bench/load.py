"""The load: callers of the gRPC API, the same for every arm. Runs as an agent (bench.agent)."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from bench.agent import Work, serve

BODY = "Your code is 482913. It is valid for ten minutes. Never tell it to anyone, whoever asks."
_CALL_S = 30.0
_OPTIONS = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]


def messages(count: int | None = None) -> Iterator[api.SendSmsRequest]:
    """Yield valid messages, each with its own request_id; endlessly without a count."""
    run, n = uuid.uuid4().hex[:12], 0
    while count is None or n < count:
        yield api.SendSmsRequest(recipient=f"+23320{n % 10_000_000:07d}", body=BODY, request_id=f"{run}-{n:08d}")
        n += 1


class Caller:
    """Makes the load over channels that it keeps; each method is one kind of load and returns the results."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def stub(self, address: str) -> rpc.SmsGatewayServiceStub:
        """Return the stub for an address."""
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_OPTIONS)
        return rpc.SmsGatewayServiceStub(self._channels[address])

    async def work(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run the command that `kind` names."""
        kinds: dict[str, Work] = {
            "unary": self.unary,
            "counted": self.counted,
            "batch": self.batch,
            "paced": self.paced,
            "burst": self.burst,
            "read": self.read,
        }
        try:
            return await kinds[command.pop("kind")](**command)
        except grpc.aio.AioRpcError as error:
            return {"problem": f"{error.code().name}: {error.details()}"}

    async def unary(self, addresses: list[str], in_flight: int, seconds: float) -> dict[str, Any]:
        """Call SendSms for `seconds` with `in_flight` calls in flight, evenly over the addresses."""
        stubs = [self.stub(address) for address in addresses]
        waiting = messages()
        taken: list[int] = []
        end = time.perf_counter() + seconds

        async def one(stub: rpc.SmsGatewayServiceStub) -> None:
            while time.perf_counter() < end:
                began = time.perf_counter_ns()
                await stub.SendSms(next(waiting), timeout=_CALL_S)
                taken.append(time.perf_counter_ns() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one(stubs[n % len(stubs)]) for n in range(in_flight)))
        return {"accepted": len(taken), "seconds": time.perf_counter() - began, "took_ns": taken}

    async def counted(self, addresses: list[str], count: int, in_flight: int) -> dict[str, Any]:
        """Call SendSms `count` times with `in_flight` calls in flight."""
        stub = self.stub(addresses[0])
        waiting = messages(count)

        async def one() -> None:
            for message in waiting:
                await stub.SendSms(message, timeout=_CALL_S)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(in_flight)))
        return {"accepted": count, "seconds": time.perf_counter() - began}

    async def batch(self, addresses: list[str], count: int, chunk: int) -> dict[str, Any]:
        """Send `count` messages over one BatchSend stream for each address; the requests are built before the clock."""
        each = count // len(addresses)
        streams = [_chunks(each, chunk) for _ in addresses]
        began = time.perf_counter()
        accepted = await asyncio.gather(
            *(self._stream(address, chunks) for address, chunks in zip(addresses, streams, strict=True))
        )
        return {"accepted": sum(accepted), "asked": each * len(addresses), "seconds": time.perf_counter() - began}

    async def _stream(self, address: str, chunks: list[api.BatchSendRequest]) -> int:
        async def requests() -> AsyncIterator[api.BatchSendRequest]:
            for one in chunks:
                yield one

        accepted = 0
        async for response in self.stub(address).BatchSend(requests(), timeout=20 * _CALL_S):
            accepted += sum(1 for result in response.results if result.HasField("accepted"))
        return accepted

    async def paced(self, addresses: list[str], count: int, pause_s: float) -> dict[str, Any]:
        """Call SendSms one at a time with pauses; returns when each call began (Unix ns), and how long it took."""
        stub = self.stub(addresses[0])
        began, took = {}, []
        for message in messages(count):
            await asyncio.sleep(pause_s)
            at, clock = time.time_ns(), time.perf_counter_ns()
            answer = await stub.SendSms(message, timeout=_CALL_S)
            took.append(time.perf_counter_ns() - clock)
            began[answer.message_id] = at
        return {"began_ns": began, "took_ns": took}

    async def burst(self, addresses: list[str], count: int, providers: list[str]) -> dict[str, Any]:
        """Call SendSms for `count` one-time codes at once, evenly over the providers; returns when the calls began."""
        stub = self.stub(addresses[0])
        requests = list(messages(count))
        for n, request in enumerate(requests):
            request.priority = pb.PRIORITY_OTP
            request.providers.append(providers[n % len(providers)])
        at = time.time_ns()
        await asyncio.gather(*(stub.SendSms(request, timeout=_CALL_S) for request in requests))
        return {"began_ns": at, "took_ns": time.time_ns() - at}

    async def read(self, addresses: list[str], method: str, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Call GetStatus or ListMessages, one call after the other; `found` counts the messages in all answers."""
        stub = self.stub(addresses[0])
        took, found = [], 0
        for fields in requests:
            began = time.perf_counter_ns()
            if method == "GetStatus":
                found += (await stub.GetStatus(api.GetStatusRequest(**fields), timeout=_CALL_S)).HasField("status")
            else:
                found += len((await stub.ListMessages(api.ListMessagesRequest(**fields), timeout=_CALL_S)).messages)
            took.append(time.perf_counter_ns() - began)
        return {"took_ns": took, "found": found}


def _chunks(count: int, size: int) -> list[api.BatchSendRequest]:
    waiting = list(messages(count))
    return [
        api.BatchSendRequest(sequence=n, messages=waiting[first : first + size])
        for n, first in enumerate(range(0, count, size))
    ]


if __name__ == "__main__":
    asyncio.run(serve(Caller().work))
