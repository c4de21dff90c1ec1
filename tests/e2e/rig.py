"""The whole system as separate processes, and the operations that scenarios use."""

import asyncio
import contextlib
import json
import pathlib
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, cast

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc
from sms.gateway.v1 import message_pb2 as pb

from messaging.documents import BreakerState, Mode
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection
from ops.simulator.call_log import highest_window
from ops.system import Plan, System
from ops.up import wait_until_serving

OTP, NORMAL, BULK = pb.PRIORITY_OTP, pb.PRIORITY_NORMAL, pb.PRIORITY_BULK

QUICK = {
    "SMSGW_RETRY_DELAYS_S": "0.6,0.6",
    "SMSGW_BREAKER_COOLDOWN_S": "1.5",
    "SMSGW_ACK_WAIT_S": "4",
    "SMSGW_LOOKUP_AFTER_S": "0.5",
    "SMSGW_DRAIN_S": "6",
}


_RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def state(status: pb.MessageStatus) -> str:
    return pb.MessageState.Name(status.state).removeprefix("MESSAGE_STATE_")


def _read(request: urllib.request.Request | str) -> bytes:
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


async def eventually(claim: Callable[[], Awaitable[bool]], within_s: float = 40.0, what: object = "") -> None:
    """Wait until a claim holds. How long that takes depends on the machine and is not part of the test."""
    end = time.monotonic() + within_s
    while not await claim():
        assert time.monotonic() < end, what or claim.__qualname__
        await asyncio.sleep(0.1)


class Rig:
    """A running system. Every message of a scenario has its own recipient, so scenarios can share one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._next = 0

    def stub(self, gateway: int = 0) -> rpc.SmsGatewayServiceStub:
        address = self.system.gateways[gateway]
        if address not in self._channels:
            options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
            self._channels[address] = grpc.aio.insecure_channel(address, options=options)
        return rpc.SmsGatewayServiceStub(self._channels[address])

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    def number(self, suffix: str = "0000") -> str:
        """Make a number that no other scenario uses; its last four digits choose a fault."""
        self._next += 1
        return f"+23320{self._next % 1000:03d}{suffix}"

    async def send(self, *, gateway: int = 0, **fields: Any) -> api.SendSmsResponse:
        request = {"recipient": self.number(), "body": "Hello", **fields}
        return await self.stub(gateway).SendSms(api.SendSmsRequest(**request), timeout=10)

    async def status(self, message_id: str) -> pb.MessageStatus:
        answer = await self.stub().GetStatus(api.GetStatusRequest(message_id=message_id), timeout=10)
        return answer.status

    async def until(
        self, message_id: str, holds: str | Callable[[pb.MessageStatus], bool], within_s: float = 40.0
    ) -> pb.MessageStatus:
        """Wait for a state by name, or for a condition on the status."""
        end = time.monotonic() + within_s
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                status = await self.status(message_id)
                if state(status) == holds if isinstance(holds, str) else holds(status):
                    return status
                assert time.monotonic() < end, f"still {status}"
            assert time.monotonic() < end, "no answer"
            await asyncio.sleep(0.05)

    async def batch(
        self, messages: Iterable[api.SendSmsRequest], *, chunk: int = 250, gateway: int = 0
    ) -> list[api.BatchSendResult]:
        waiting = list(messages)
        chunks = [
            api.BatchSendRequest(sequence=first, messages=waiting[first : first + chunk])
            for first in range(0, len(waiting), chunk)
        ]
        call = self.stub(gateway).BatchSend(iter(chunks), timeout=60)
        return [result async for response in call for result in response.results]

    def load(self, count: int, **fields: Any) -> list[api.SendSmsRequest]:
        """Make `count` messages, each with a request_id."""
        run = uuid.uuid4().hex[:10]
        return [
            api.SendSmsRequest(
                **{"recipient": self.number(f"{n % 1000:04d}"), "body": "Load", "request_id": f"{run}-{n}", **fields}
            )
            for n in range(count)
        ]

    async def behave(self, *providers: str, **behaviour: Any) -> None:
        """Set the behaviour of providers; without arguments they take every message."""
        data = json.dumps({"latency_s": 0.02, **behaviour}).encode()
        for name in providers or tuple(self.system.simulators):
            request = urllib.request.Request(self.system.simulators[name] + "/_behaviour", data, method="PUT")
            await asyncio.to_thread(_read, request)

    async def close_breakers(self) -> None:
        """Close every breaker, so that the failures of one scenario do not change the routing of the next one."""
        waits = 0.0
        async with open_connection(self.system.environment["SMSGW_NATS_URL"], "rig") as connection:
            board = BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET))
            for name in self.system.simulators:
                revision, state = await board.breaker(name)
                await board.set_breaker(name, BreakerState(generation=state.generation + 1), revision)
                waits = max(waits, 0.0 if state.mode is Mode.CLOSED else 1.0)
        await asyncio.sleep(waits)  # until gateways and pods have read it

    async def until_attempted(self, message_id: str) -> pb.MessageStatus:
        """Wait until the outcome of its first attempt is known."""
        return await self.until(message_id, lambda status: bool(status.attempts and status.attempts[0].outcome))

    async def requests(self, *providers: str) -> list[dict[str, Any]]:
        """Return what the sockets of some or all providers have received, in order of time."""
        found = []
        for name in providers or tuple(self.system.simulators):
            url = self.system.simulators[name] + "/_requests"
            data = await asyncio.to_thread(_read, url)
            found += [{**json.loads(line), "provider": name} for line in data.splitlines()]
        return sorted(found, key=lambda one: one["at_ns"])

    async def received(self, references: Iterable[str]) -> list[dict[str, Any]]:
        wanted = set(references)
        return [one for one in await self.requests() if one["reference"] in wanted]

    async def until_received(self, count: int, references: set[str], within_s: float) -> list[dict[str, Any]]:
        """Wait until `count` of these messages have been taken; return what was received of them."""
        end = time.monotonic() + within_s
        while True:
            mine = [one for one in await self.requests() if one["reference"] in references]
            if len({one["reference"] for one in mine if one["taken"]}) >= count:
                return mine
            assert time.monotonic() < end, f"{len(mine)} of {count} received"
            await asyncio.sleep(0.5)

    def assert_within_limits(self, requests: list[dict[str, Any]], limit: int = 50, fleet: int = 200) -> None:
        for name in self.system.simulators:
            times = [one["at_ns"] for one in requests if one["provider"] == name]
            assert highest_window(times) <= limit, name
        assert highest_window([one["at_ns"] for one in requests]) <= fleet

    async def send_until_accepted(self, messages: list[api.SendSmsRequest], *, at_once: int = 16) -> list[str]:
        """Send messages, repeating each with the same request_id until it is answered."""
        slots = asyncio.Semaphore(at_once)

        async def one(message: api.SendSmsRequest) -> str:
            async with slots:
                await asyncio.sleep(0.02)
                end = time.monotonic() + 60
                while True:
                    try:
                        return str((await self.stub().SendSms(message, timeout=10)).message_id)
                    except grpc.aio.AioRpcError as error:
                        if error.code() not in _RETRYABLE:
                            raise
                    assert time.monotonic() < end
                    await asyncio.sleep(0.2)

        return await asyncio.gather(*map(one, messages))

    async def all_settle(self, ids: set[str], within_s: float) -> None:
        """Check that every message settles, and is taken twice only after an unclear attempt."""
        end = time.monotonic() + within_s
        waiting = set(ids)
        statuses: dict[str, pb.MessageStatus] = {}
        while waiting:
            slots = asyncio.Semaphore(32)

            async def ask(one: str, slots: asyncio.Semaphore = slots) -> None:
                async with slots:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        statuses[one] = await self.status(one)

            await asyncio.gather(*map(ask, waiting))
            waiting = {one for one in waiting if one not in statuses or state(statuses[one]) not in {"SENT", "UNKNOWN"}}
            assert time.monotonic() < end, [str(statuses.get(one)) for one in list(waiting)[:3]]
            await asyncio.sleep(0.5 if waiting else 0)
        seen = await self.received(ids)
        self.assert_within_limits(seen)
        for one in ids:
            times = sum(1 for request in seen if request["reference"] == one and request["taken"])
            unclear = sum(1 for a in statuses[one].attempts if a.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS)
            assert times <= 1 + unclear, statuses[one]
            assert times >= 1 or unclear, statuses[one]


@contextlib.asynccontextmanager
async def running(folder: pathlib.Path, **plan: Any) -> AsyncIterator[Rig]:
    """Start a system in `folder`, wait until it answers, and stop it at the end."""
    environment = {**QUICK, **plan.pop("environment", {})}
    system = System(Plan(folder, environment=environment, durable=False, **plan))
    rig = Rig(system)
    try:
        await asyncio.to_thread(system.start)
        assert await wait_until_serving(system)
        await rig.behave()
        yield rig
    finally:
        await rig.close()
        await asyncio.to_thread(system.stop)


def reasons(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the rich details of an error by their type."""
    from google.rpc import error_details_pb2 as details
    from grpc_status import rpc_status

    status = rpc_status.from_call(cast(grpc.Call, error))
    assert status is not None
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (details.ErrorInfo, details.BadRequest, details.RetryInfo, details.QuotaFailure):
            if packed.Is(kind.DESCRIPTOR):
                one = kind()
                packed.Unpack(one)
                found[kind.DESCRIPTOR.name] = one
    return found
