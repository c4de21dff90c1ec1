"""Acceptance against a model, on a real server: two gateways, lost answers, crashes and repeats in any order.

The model is a table from request_id to the contents and the message_id that were first acknowledged, and beside it the
contents whose outcome is unknown because their gateway died. Everything that is answered, stored and queued must fit.
"""

import asyncio
import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from opentelemetry.trace import INVALID_SPAN
from proxy import FaultProxy
from sms.gateway.v1 import gateway_pb2 as api

from gateway_grpc.acceptance import Acceptance
from gateway_grpc.admission import Admission
from messaging.errors import RequestIdReused, StreamDown
from messaging.model import parse_address
from messaging.runtime import telemetry
from messaging.runtime.config import GatewaySettings, ProcessSettings, Settings
from messaging.runtime.providers_file import Provider
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.connection import open_connection
from messaging.stream.fleet import FleetView
from messaging.stream.interface import Connection, Consumer
from ops.embedded import NatsServer

_T = TypeVar("_T")
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
PROVIDERS = [Provider(name, "simulated", "http://127.0.0.1:1") for name in ("p1", "p2")]
NAMES = [provider.name for provider in PROVIDERS]
GATEWAY = GatewaySettings(accept_budget_s=15.0)
_TIMEOUT_S = 0.3
_ARRIVED_S = 0.03

GATEWAYS, REQUESTS, CONTENTS = st.integers(0, 1), st.integers(0, 3), st.integers(0, 1)

Answer = api.SendSmsResponse | RequestIdReused | StreamDown


class Gateway:
    """The acceptance as `gateway_grpc.app` builds it, behind a proxy that can lose answers."""

    def __init__(self, server: NatsServer) -> None:
        self._proxy = FaultProxy(server.url)
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        await self._stack.enter_async_context(self._proxy)
        connection = self._connection = await self._stack.enter_async_context(
            open_connection(self._proxy.url, "gateway", timeout_s=_TIMEOUT_S)
        )
        tracer = self._stack.enter_context(telemetry.open_tracer(ProcessSettings(), "gateway"))
        view = FleetView(connection, PROVIDERS, Settings().fleet.room_s)
        admission = Admission(view, GATEWAY.max_backlog, GATEWAY.max_backlog_per_provider, GATEWAY.storage_fill)
        self._acceptance = Acceptance(connection, view, admission, GATEWAY, tracer)

    async def crash(self) -> None:
        """Drop every connection at once; data in flight may or may not have arrived."""
        self._proxy.cut()
        await self.stop()
        self._stack = contextlib.AsyncExitStack()

    async def stop(self) -> None:
        """Close, but not during a reconnection: the client would leave a socket open."""
        await asyncio.sleep(_ARRIVED_S)
        while not self._connection.connected:
            await asyncio.sleep(0.01)
        await self._stack.aclose()

    async def accept(self, request: api.SendSmsRequest) -> Answer:
        try:
            return await self._acceptance.accept("default", request, INVALID_SPAN)
        except (RequestIdReused, StreamDown) as refused:
            return refused

    @contextlib.asynccontextmanager
    async def silence(self) -> Any:
        """Lose every answer within this context, and the connection at its end."""
        self._proxy.muted = True
        try:
            yield
        finally:
            self._proxy.cut()
            self._proxy.muted = False

    def key(self, request_id: str) -> str:
        return self._acceptance.key("default", request_id)


class AcceptanceModel(RuleBasedStateMachine):
    """`known`: what was acknowledged as (contents, message_id); `unclear`: contents that may be stored or not."""

    def __init__(self, server: NatsServer) -> None:
        super().__init__()
        self.server = server
        self.runner = asyncio.Runner()
        self.run_name = uuid.uuid4().hex
        self.known: dict[int, tuple[int, str]] = {}
        self.unclear: dict[int, set[int]] = {}
        self.drawn: Counter[str] = Counter()
        self.killed = False
        self.gateways = [Gateway(server), Gateway(server)]
        self.stack = contextlib.AsyncExitStack()
        self.await_(self._open())
        self.keys = {self.gateways[0].key(f"{self.run_name}-{number}") for number in range(4)}

    def await_(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(asyncio.wait_for(work, 60))

    async def _open(self) -> None:
        self.connection: Connection = await self.stack.enter_async_context(open_connection(self.server.url, "model"))
        self.lanes: list[Consumer] = [
            await self.connection.consumer(topo.SEND, topo.dispatch_consumer(name, "normal")) for name in NAMES
        ]
        for gateway in self.gateways:
            await gateway.start()

    def request(self, number: int, contents: int) -> api.SendSmsRequest:
        return api.SendSmsRequest(
            recipient="+233201234567", body=f"contents {contents}", request_id=f"{self.run_name}-{number}"
        )

    # What happens

    @rule(gateway=GATEWAYS, number=REQUESTS, contents=CONTENTS)
    def accept(self, gateway: int, number: int, contents: int) -> None:
        self.learn(number, contents, self.await_(self.gateways[gateway].accept(self.request(number, contents))))

    @rule(gateway=GATEWAYS, number=REQUESTS, contents=CONTENTS)
    def accept_while_the_answer_is_lost(self, gateway: int, number: int, contents: int) -> None:
        async def work() -> Answer:
            one = self.gateways[gateway]
            async with one.silence():
                asking = asyncio.create_task(one.accept(self.request(number, contents)))
                await asyncio.sleep(_ARRIVED_S)
            return await asking

        self.learn(number, contents, self.await_(work()))

    @rule(gateway=GATEWAYS, number=REQUESTS, contents=CONTENTS, after_ms=st.integers(0, 6), silent=st.booleans())
    def crash(self, gateway: int, number: int, contents: int, after_ms: int, *, silent: bool) -> None:
        async def work() -> Answer | None:
            one = self.gateways[gateway]
            async with one.silence() if silent else contextlib.nullcontext():
                asking = asyncio.create_task(one.accept(self.request(number, contents)))
                await asyncio.sleep(after_ms / 1000)
                asking.cancel()
                answers = await asyncio.gather(asking, return_exceptions=True)
            await one.crash()
            await one.start()
            return None if isinstance(answers[0], asyncio.CancelledError) else _answer(answers[0])

        answer = self.await_(work())
        if answer is not None:
            self.learn(number, contents, answer)
        else:
            self.learn(number, contents, StreamDown("crash"))

    @rule(number=REQUESTS, contents=st.tuples(CONTENTS, CONTENTS, CONTENTS))
    def concurrent_repeats(self, number: int, contents: tuple[int, int, int]) -> None:
        async def work() -> list[Answer]:
            return list(
                await asyncio.gather(
                    *(self.gateways[index % 2].accept(self.request(number, one)) for index, one in enumerate(contents))
                )
            )

        answers = list(zip(contents, self.await_(work()), strict=True))
        answers.sort(key=lambda pair: not isinstance(pair[1], StreamDown) and not _is_first(pair[1]))
        for one, answer in answers:
            self.learn(number, one, answer)

    @precondition(lambda self: not self.killed)
    @rule(number=REQUESTS, contents=CONTENTS, after_ms=st.integers(0, 6))
    def kill_the_server(self, number: int, contents: int, after_ms: int) -> None:
        self.killed = True

        async def work() -> Answer:
            asking = asyncio.create_task(self.gateways[0].accept(self.request(number, contents)))
            await asyncio.sleep(after_ms / 1000)
            self.server.kill()
            await asyncio.to_thread(self.server.start)
            while not self.connection.connected:
                await asyncio.sleep(0.01)
            return await asking

        self.learn(number, contents, self.await_(work()))

    @rule()
    def draw(self) -> None:
        self.await_(self._draw())

    # What must hold

    def learn(self, number: int, contents: int, answer: Answer) -> None:
        """Check an answer against what is known, and record it."""
        if isinstance(answer, StreamDown):
            self.unclear.setdefault(number, set()).add(contents)
            return
        first = self.known.get(number)
        unclear = self.unclear.get(number, set())
        if isinstance(answer, RequestIdReused):
            stored = {first[0]} if first else unclear - {contents}
            assert stored - {contents}, "the stream holds contents that were never requested under this request_id"
            [other] = stored
            self.known.setdefault(number, (other, answer.message_id))
        else:
            if answer.replayed:
                assert first or contents in unclear, "replayed without a first acceptance"
            else:
                assert first is None, "accepted a second time"
            assert first is None or first[0] == contents, "other contents were accepted under the same request_id"
            self.known.setdefault(number, (contents, answer.message_id))
        assert answer.message_id == self.known[number][1]

    async def _records(self, number: int) -> list[str]:
        """The message ids that the stream holds under a request_id."""
        key = self.gateways[0].key(f"{self.run_name}-{number}")
        wanted = topo.accept_key_filter("default", key)
        info = await self.connection.api(f"STREAM.INFO.{topo.ACCEPT}", {"subjects_filter": wanted})
        found = Counter(info["state"].get("subjects") or {})
        return [parse_address(subject).message_id for subject in found.elements()]

    @invariant()
    def stream_holds_each_acknowledged_message_once(self) -> None:
        for number in range(4):
            records = self.await_(self._records(number))
            if number in self.known:
                assert records == [self.known[number][1]]
            else:
                assert len(records) <= (number in self.unclear)

    async def _draw(self, wait_s: float = 0.02) -> None:
        for lane in self.lanes:
            for delivery in await lane.fetch(100, wait_s):
                assert await delivery.ack()
                address = parse_address(delivery.subject)
                if address.key in self.keys:  # a killed server may bring back one of an earlier run, a minute later
                    self.drawn[address.message_id] += 1

    async def _settle(self) -> None:
        """Check that every stored message comes out of the work queue once."""
        stored = [one for number in range(4) for one in await self._records(number)]
        end = time.monotonic() + 40
        while not set(stored) <= set(self.drawn):
            assert time.monotonic() < end, "an accepted message never reached its queue"
            await self._draw(0.2)
        await self._draw(0.1)
        assert set(self.drawn) == set(stored)
        assert self.killed or set(self.drawn.values()) <= {1}, "only a killed server may forget what it delivered"

    async def _close(self) -> None:
        for gateway in self.gateways:
            await gateway.stop()
        await self.stack.aclose()
        await asyncio.sleep(0.01)  # aborted transports end in the loop's next iterations

    def teardown(self) -> None:
        try:
            for number in {*self.known, *self.unclear}:
                for _ in range(5):
                    self.accept(0, number, 0)
                    if number in self.known:
                        break
                assert number in self.known, "a repeated request must find out the outcome"
            self.await_(self._settle())
        finally:
            self.await_(self._close())
            self.runner.close()


def _is_first(answer: Answer) -> bool:
    return isinstance(answer, api.SendSmsResponse) and not answer.replayed


def _answer(found: Answer | BaseException) -> Answer:
    if isinstance(found, BaseException) and not isinstance(found, RequestIdReused | StreamDown):
        raise found
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    one = NatsServer(tmp_path_factory.mktemp("model"))
    one.start()

    async def prepare() -> None:
        async with open_connection(one.url, "set-up") as connection:
            await setup.ensure(connection, Settings(), NAMES)

    asyncio.run(prepare())
    yield one
    one.stop()


@pytest.mark.timeout(3600 if DEEP else 120)
def test_acceptance_is_idempotent_under_any_interleaving_of_crash_and_retry(server: NatsServer) -> None:
    run_state_machine_as_test(
        cast("Any", lambda: AcceptanceModel(server)),
        settings=settings(
            max_examples=150 if DEEP else 6,
            stateful_step_count=40 if DEEP else 20,
            derandomize=not DEEP,
            database=None,
            deadline=None,
            # Shrinking would start servers for minutes; the steps are printed as they were.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
