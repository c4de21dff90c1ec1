"""Sending a file over BatchSend to a scripted gateway that refuses, breaks the stream or stops answering."""

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import code_pb2
from grpc_status import rpc_status
from memory_gateway import connected, serving
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from gateway_grpc.errors import grpc_status_of
from messaging.errors import BacklogFull, Draining, GatewayError, InvalidRequest, StreamDown
from messaging.runtime.backoff import Backoff
from messaging.runtime.config import GatewaySettings
from ops.bulk.identity import Identities
from ops.bulk.row import Row
from ops.bulk.rows import open_rows
from ops.commands import transmission
from ops.commands.failure import Failure
from ops.commands.gateway_client import Refusal
from ops.commands.transmission import Callbacks, Transmission

ADDRESS = "127.0.0.1:50051"
Judge = Callable[[api.SendSmsRequest], GatewayError | None]


class Scripted(rpc.SmsGatewayServiceServicer):
    """Accepts a request_id once, as the gateway does; `breaks` end the stream at the n-th chunk."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self.calls = 0
        self.chunks: list[int] = []
        self.judge: Judge = lambda _: None
        self.breaks: dict[int, str] = {}

    async def BatchSend(  # noqa: N802
        self, request_iterator: AsyncIterator[api.BatchSendRequest], context: Any
    ) -> AsyncIterator[api.BatchSendResponse]:
        self.calls += 1
        async for chunk in request_iterator:
            self.chunks.append(len(chunk.messages))
            fate = self.breaks.pop(len(self.chunks), "")
            if fate == "before":
                await context.abort_with_status(rpc_status.to_status(grpc_status_of(Draining())))
            if fate == "end":
                return
            results = [self._result(message) for message in chunk.messages]
            if fate == "after":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            if fate == "busy":
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")
            if fate == "reset":
                await context.abort(grpc.StatusCode.INTERNAL, "RST_STREAM")
            if fate == "bug":
                await context.abort_with_status(rpc_status.to_status(grpc_status_of(GatewayError("test"))))
            if fate == "wrong":
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "another service")
            yield api.BatchSendResponse(sequence=chunk.sequence, results=results)

    def _result(self, message: api.SendSmsRequest) -> api.BatchSendResult:
        if (error := self.judge(message)) is not None:
            return api.BatchSendResult(error=grpc_status_of(error))
        key = message.request_id or f"none-{len(self.accepted)}"
        replayed = key in self.accepted
        self.accepted.setdefault(key, message.recipient)
        return api.BatchSendResult(accepted=api.SendSmsResponse(message_id=key, replayed=replayed))


class Heard:
    """What the transmission reported."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.repeated: list[int] = []
        self.refused: list[tuple[int, str]] = []
        self.bad: list[int] = []
        self.broken: list[str] = []

    def callbacks(self) -> Callbacks:
        return Callbacks(self._accepted, self._refused, lambda row: self.bad.append(row.line), self._broken)

    def _accepted(self, row: Row, answer: api.SendSmsResponse) -> None:
        (self.repeated if answer.replayed else self.accepted).append(row.line)

    def _refused(self, row: Row, refusal: Refusal) -> None:
        self.refused.append((row.line, refusal.reason))

    def _broken(self, why: str, pause_s: float) -> None:
        self.broken.append(why)


@contextlib.asynccontextmanager
async def scripted(*options: tuple[str, int]) -> AsyncIterator[tuple[Scripted, rpc.SmsGatewayServiceStub]]:
    servicer, server = Scripted(), grpc.aio.server(options=options)  # type: ignore[abstract]
    rpc.add_SmsGatewayServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, rpc.SmsGatewayServiceStub(channel)
    await server.stop(None)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[tuple[Scripted, rpc.SmsGatewayServiceStub]]:
    async with scripted() as made:
        yield made


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transmission, "_BROKEN", Backoff(first_s=0.01, longest_s=0.05))


def file_of(count: int, *, bad: int = -1) -> bytes:
    rows = (f"+2332{n:08d},Text {n}" if n != bad else "broken" for n in range(count))
    return ("recipient,body\n" + "\n".join(rows) + "\n").encode()


async def transmit(
    stub: rpc.SmsGatewayServiceStub,
    data: bytes,
    *,
    chunk: int = 10,
    with_ids: bool = True,
    patience_s: float = 20,
) -> Heard:
    heard = Heard()
    rows = open_rows(io.BytesIO(data), None, Identities(with_ids=with_ids)).rows
    async with asyncio.timeout(30):
        await Transmission(stub, rows, heard.callbacks(), ADDRESS, chunk=chunk, patience_s=patience_s).run()
    return heard


async def test_every_row_gets_its_answer(gateway):
    servicer, stub = gateway
    heard = await transmit(stub, file_of(95, bad=17))
    assert sorted(heard.accepted) == [line for line in range(2, 97) if line != 19]
    assert heard.bad == [19]
    assert (servicer.calls, len(servicer.accepted), heard.broken) == (1, 94, [])
    assert max(servicer.chunks) <= 10


async def test_refused_row_does_not_fail_the_others(gateway):
    servicer, stub = gateway
    servicer.judge = lambda message: InvalidRequest([("body", "no")]) if message.body == "Text 3" else None
    heard = await transmit(stub, file_of(20))
    assert heard.refused == [(5, "INVALID_FIELDS")]
    assert len(heard.accepted) == 19


@pytest.mark.parametrize("fate", ["before", "after", "end", "reset"])
async def test_broken_stream_is_resumed_with_the_unanswered_chunks(gateway, fate: str):
    servicer, stub = gateway
    servicer.breaks = {3: fate, 7: fate}
    heard = await transmit(stub, file_of(100))
    assert len(heard.broken) >= 2
    assert sorted([*heard.accepted, *heard.repeated]) == list(range(2, 102))
    assert len(servicer.accepted) == 100


async def test_temporarily_refused_row_is_sent_again_until_it_is_accepted(gateway):
    servicer, stub = gateway
    times: dict[str, int] = {}

    def judge(message: api.SendSmsRequest) -> GatewayError | None:
        times[message.body] = times.get(message.body, 0) + 1
        return BacklogFull("all providers", 10, 0.05) if times[message.body] < 3 and message.body > "Text 5" else None

    servicer.judge = judge
    heard = await transmit(stub, file_of(10))
    assert sorted(heard.accepted) == list(range(2, 12))
    assert heard.refused == []
    assert max(times.values()) == 3


async def test_retry_info_is_waited_for(gateway):
    servicer, stub = gateway
    seen: list[float] = []

    def judge(_: api.SendSmsRequest) -> GatewayError | None:
        seen.append(time.monotonic())
        return BacklogFull("all providers", 10, 0.7) if len(seen) == 1 else None

    servicer.judge = judge
    await transmit(stub, file_of(1))
    assert seen[1] - seen[0] >= 0.7


async def test_row_without_request_id_is_not_sent_again_when_its_outcome_is_unclear(gateway):
    servicer, stub = gateway
    servicer.judge = lambda message: StreamDown("test") if message.body == "Text 3" else None
    servicer.breaks = {2: "after"}
    heard = await transmit(stub, file_of(20), with_ids=False)
    assert sorted(line for line, reason in heard.refused if reason == "UNCLEAR") == [5, *range(12, 22)]
    assert len(heard.accepted) == 9
    assert len(servicer.accepted) == 19


async def test_row_without_request_id_that_was_certainly_not_accepted_is_sent_again(gateway):
    servicer, stub = gateway
    seen: list[str] = []

    def judge(message: api.SendSmsRequest) -> GatewayError | None:
        seen.append(message.body)
        return BacklogFull("all providers", 10, 0.01) if len(seen) == 1 else None

    servicer.judge = judge
    heard = await transmit(stub, file_of(3), with_ids=False)
    assert (len(heard.accepted), heard.refused) == (3, [])


async def test_file_is_read_only_as_far_as_rows_are_in_flight(gateway):
    servicer, stub = gateway
    servicer.judge = lambda _: BacklogFull("all providers", 10, 0.05)
    read = 0

    def counted():
        nonlocal read
        for row in open_rows(io.BytesIO(file_of(5000)), None, Identities()).rows:
            read += 1
            yield row

    with pytest.raises(Failure, match="accepts nothing any more"):
        await Transmission(stub, counted(), Heard().callbacks(), ADDRESS, chunk=10, patience_s=1).run()
    assert read <= 10 * (transmission._IN_FLIGHT + 2)


async def test_patience_ends_with_an_error_that_names_the_remedy(gateway):
    servicer, stub = gateway
    servicer.judge = lambda _: StreamDown("test")
    with pytest.raises(Failure, match="run the same command again") as caught:
        await transmit(stub, file_of(10), patience_s=1)
    assert caught.value.exit_code == 69


async def test_gateway_that_never_answers_ends_the_transmission_early(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transmission, "_FIRST_CONNECT_S", 0.3)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(Failure, match=f"no gateway answers at {ADDRESS}: start it with `smsctl up`"):
            await transmit(rpc.SmsGatewayServiceStub(channel), file_of(10))


@pytest.mark.parametrize(("fate", "code"), [("wrong", code_pb2.UNIMPLEMENTED), ("bug", code_pb2.INTERNAL)])
async def test_error_that_a_retry_cannot_fix_is_not_retried(gateway, fate: str, code: int):
    servicer, stub = gateway
    servicer.breaks = {1: fate}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await transmit(stub, file_of(10))
    assert caught.value.code().value[0] == code
    assert servicer.calls == 1


async def test_slow_input_does_not_use_up_the_patience(gateway):
    _, stub = gateway

    def slow():
        for row in open_rows(io.BytesIO(file_of(3)), None, Identities()).rows:
            time.sleep(0.5)
            yield row

    heard = Heard()
    await Transmission(stub, slow(), heard.callbacks(), ADDRESS, chunk=1, patience_s=0.3).run()
    assert len(heard.accepted) == 3


async def test_rows_that_were_being_read_when_the_stream_broke_are_not_lost(gateway):
    servicer, stub = gateway
    servicer.breaks = {1: "after"}

    def slow():
        for row in open_rows(io.BytesIO(file_of(4)), None, Identities()).rows:
            yield row
            time.sleep(0.2)

    heard = Heard()
    await Transmission(stub, slow(), heard.callbacks(), ADDRESS, chunk=1, patience_s=20).run()
    assert sorted([*heard.accepted, *heard.repeated]) == [2, 3, 4, 5]


def with_labels(count: int, label_bytes: int, *, huge: int = -1) -> bytes:
    rows = (f"+2332{n:08d},Text {n},{'x' * (label_bytes if n != huge else 120_000)}" for n in range(count))
    return ("recipient,body,label.a\n" + "\n".join(rows) + "\n").encode()


async def test_chunk_of_more_bytes_than_any_server_takes_is_divided_before_it_is_sent(gateway):
    servicer, stub = gateway
    heard = await transmit(stub, with_labels(1000, 20_000), chunk=1000)
    assert sorted(heard.accepted) == list(range(2, 1002))
    assert (servicer.calls, heard.broken) == (1, [])
    assert len(servicer.chunks) == 7


@pytest.mark.parametrize("with_ids", [True, False])
async def test_too_large_is_not_busy(with_ids: bool):  # noqa: FBT001
    async with scripted(("grpc.max_receive_message_length", 100_000)) as (servicer, stub):
        heard = await transmit(stub, with_labels(500, 2000), chunk=500, with_ids=with_ids, patience_s=5)
    unclear = {line for line, reason in heard.refused if reason == "UNCLEAR"}
    assert set(heard.accepted) | set(heard.repeated) | unclear == set(range(2, 502))
    assert not unclear or not with_ids
    assert len(heard.accepted) == len(servicer.accepted)
    assert 0 < len(heard.broken) < 10
    assert any("too large" in why for why in heard.broken)


@pytest.mark.parametrize("count", [700, 800, 900, 1000])
async def test_chunk_that_the_gateway_itself_refuses_for_its_size_is_divided(count: int):
    smallest = GatewaySettings(chunk_max_bytes=262_144)
    async with serving(smallest) as own, connected(own) as channel:
        heard = await transmit(rpc.SmsGatewayServiceStub(channel), with_labels(count, 250), chunk=1000)
    assert sorted({*heard.accepted, *heard.repeated}) == list(range(2, count + 2))
    assert heard.refused == []


async def test_row_that_is_too_large_alone_is_refused_and_the_others_are_sent():
    async with scripted(("grpc.max_receive_message_length", 100_000)) as (servicer, stub):
        heard = await transmit(stub, with_labels(100, 1000, huge=50), chunk=40, patience_s=5)
    assert heard.refused == [(52, "TOO_LARGE")]
    assert sorted({*heard.accepted, *heard.repeated}) == [line for line in range(2, 102) if line != 52]
    assert len(servicer.accepted) == 99


async def test_gateway_that_is_busy_without_saying_more_is_tried_again(gateway):
    servicer, stub = gateway
    servicer.breaks = {2: "busy"}
    heard = await transmit(stub, file_of(30))
    assert len(heard.accepted) + len(heard.repeated) == 30
    assert len(heard.broken) == 1
    assert heard.broken[0] in {"RESOURCE_EXHAUSTED", "INTERNAL"}, "grpc says INTERNAL to a write after the end"
