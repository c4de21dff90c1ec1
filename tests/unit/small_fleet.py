"""A fleet on the in-memory stream, in virtual time: pods with their real parts, and providers that follow a script."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher import app
from dispatcher.breaker.breaker import Breaker
from dispatcher.breaker.silence import Silence
from dispatcher.breaker.sync import BreakerSync
from dispatcher.breaker.watched_client import WatchedClient
from dispatcher.duties.scheduler import Scheduler
from dispatcher.duties.sweeper import Sweeper
from dispatcher.rate.pacer import Pacer
from dispatcher.work.dispatch_context import DispatchContext
from messaging import codec
from messaging.errors import CorruptRecord
from messaging.model import (
    FINAL_STATES,
    KEY_BYTES,
    LATER,
    SETTLED_STATES,
    Address,
    key_from_bytes,
    lane_of,
    new_address,
    parse_address,
)
from messaging.routing import ProviderFacts
from messaging.runtime.config import FleetSettings, Settings
from messaging.runtime.lifetime import Lifetime
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import ChosenIds, Tracer
from messaging.status import deadline_of, first_state
from messaging.store.reader import Overdue
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.publisher import Publisher
from tests.memory_stream import MemoryStream
from tests.unit.fake_provider import FakeProvider, FakeProviderClient, Reply
from tests.unit.processes import Plan, Process

ACK_WAIT_S, TIMEOUT_S, TTL_S = 4.0, 2.0, 60.0
FLEET = FleetSettings(ack_wait_s=ACK_WAIT_S, retry_delays_s=(3.0, 6.0), lookup_after_s=5.0, breaker_cooldown_s=5.0)
NAMES = ("p1", "p2")


def _no_crash(_step: str) -> None:
    """Let every step happen."""


@attrs.define(eq=False)
class Pod:
    """One running pod."""

    process: Process
    stopping: asyncio.Event
    running: "asyncio.Task[None]"
    breaker: BreakerSync
    pacer: Pacer

    async def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self.stopping.set()
        await self.running


class SmallFleet:
    """`script` says what each provider does to a message by its text."""

    def __init__(
        self,
        script: Mapping[str, Mapping[str, Sequence[Reply]]] | None = None,
        fleet: FleetSettings = FLEET,
        *,
        can_look_up: bool = False,
        missing_after_s: float = 0.0,
    ) -> None:
        self._missing_after_s = missing_after_s
        self.settings = Settings(fleet=fleet)
        self.stream = MemoryStream(self.settings, NAMES, time.time)
        self.providers = {name: FakeProvider((script or {}).get(name, {})) for name in NAMES}
        self.facts = {name: ProviderFacts(name) for name in NAMES}
        self.caller = Process(self.stream)
        self.publisher = Publisher(self.caller.connection)
        self.processes: list[Process] = []
        self._can_look_up = can_look_up
        self._acceptances = Acceptances(self.stream)

    async def accept(
        self,
        body: str,
        *,
        provider: str = "p1",
        priority: pb.Priority.ValueType = pb.PRIORITY_OTP,
        ttl_s: float = TTL_S,
        due_in_s: float | None = None,
        providers: Sequence[str] = (),
        recipient: str = "+233201234567",
    ) -> Address:
        """Accept a message, as the gateway does."""
        now = time.time()
        address = new_address("default", int(now * 1000), key_from_bytes(os.urandom(KEY_BYTES)))
        command = wire.Command(
            message_id=address.message_id,
            client="default",
            recipient=recipient,
            body=body,
            priority=priority,
            provider=provider,
            providers=providers,
            segments=1,
            accept_time=codec.timestamp(now),
            deadline=codec.timestamp(now + ttl_s),
        )
        if due_in_s is not None:
            command.schedule_time.CopyFrom(codec.timestamp(now + due_in_s))
        lane = LATER if due_in_s is not None else lane_of(priority)
        await self.publisher.accept(wire.QueueEntry(command=command), address, lane, ttl_s=None, budget_s=5)
        return address

    async def pod(self, name: str = "p1", plan: Plan = _no_crash) -> Pod:
        """Start a pod of a provider."""
        process = Process(self.stream, plan)
        self.processes.append(process)
        fleet = self.settings.fleet
        provider = Provider(name, "simulated", "http://127.0.0.1:9", timeout_s=TIMEOUT_S)
        pacer = Pacer(fleet.window_s, time.monotonic)
        pacer.renewed(float("inf"))
        pacer.set_share(100)
        board = BreakerBoard(Bucket(process.connection, topo.BREAKERS_BUCKET))
        pod = f"{name}-{len(self.processes)}"
        silence = Silence()
        breaker = BreakerSync(board, name, Breaker(pod, app.breaker_limits_of(fleet, provider)), pacer, silence)
        called = FakeProviderClient(
            self.providers[name],
            process,
            TIMEOUT_S,
            can_look_up=self._can_look_up,
            missing_after_s=self._missing_after_s,
        )
        provider_client = WatchedClient(called, silence)
        context = DispatchContext(
            provider=provider,
            pod=pod,
            policy=app.policy_of(fleet),
            provider_facts=lambda: self.facts,
            can_look_up=self._can_look_up,
        )
        stopping, stack = asyncio.Event(), contextlib.AsyncExitStack()
        life = Lifetime(stopping, Tracer(None, ChosenIds(), 0.0), process.connection, stack)

        async def work() -> None:
            worker = await app.assemble_worker(
                self.settings, life, context=context, provider_client=provider_client, breaker=breaker, pacer=pacer
            )
            follow = asyncio.create_task(breaker.run())
            await worker.run(stopping, self.settings.process.drain_s)
            follow.cancel()

        return Pod(process, stopping, process.start(work()), breaker, pacer)

    def duties(self, plan: Plan = _no_crash) -> Process:
        """Start a process with the scheduler and the sweeper."""
        process = Process(self.stream, plan)
        self.processes.append(process)
        process.start(Scheduler(process.connection, ACK_WAIT_S).run())
        process.start(Sweeper(process.connection, StreamDeadlines(self.stream), "sweeper", 86_400.0).run())
        return process

    def commands(self) -> dict[Address, wire.Command]:
        """Return every accepted message."""
        return {address: command for command, address in self._acceptances}

    def events(self, address: Address) -> list[wire.Event]:
        """Return a message's events in order."""
        found = self.stream.log(topo.EVENT).matching(topo.event_subject(address))
        return [codec.decode(wire.Event, one.subject, one.data) for one in found]

    def last(self, address: Address) -> wire.Event:
        """Return a message's last event; an empty one when there is none."""
        return (self.events(address) or [wire.Event()])[-1]

    def story(self, address: Address) -> list[str]:
        """Return a message's events as `STATE` or `STATE REASON`."""
        names = (
            (pb.MessageState.Name(one.state).removeprefix("MESSAGE_STATE_"), one.reason) for one in self.events(address)
        )
        return [f"{state} {reason}".strip() for state, reason in names]

    def letters(self, address: Address) -> list[str]:
        """Return the reasons of a message's dead letters."""
        return [
            one.subject.split(".")[3] for one in self.stream.log(topo.DLQ).matching(topo.dlq_subject("*", "*", address))
        ]

    def took(self, address: Address) -> int:
        """Count how many times providers took a message."""
        return sum(one.took.get(address.message_id, 0) for one in self.providers.values())

    @property
    def idle(self) -> bool:
        """Whether nothing waits anywhere or is still to be taken, and every message is in a settled state."""
        waiting = len(self.stream.log(topo.SEND).messages)
        waiting += sum(1 for _ in self.stream.log(topo.LATER_STREAM).matching("sms.later.>"))
        waiting += sum(provider.under_way for provider in self.providers.values())
        return not waiting and all(self.last(address).state in SETTLED_STATES for address in self.commands())

    async def until_idle(self, within_s: float = 200.0) -> float:
        """Wait until the fleet is idle; return the seconds it took."""
        began = time.monotonic()
        while not self.idle:
            assert time.monotonic() < began + within_s, [self.story(address) for address in self.commands()]
            await asyncio.sleep(0.2)
        return time.monotonic() - began

    async def close(self) -> None:
        """End every process."""
        for process in self.processes:
            await process.kill()


class Acceptances:
    """The accepted messages on the stream, each read once, without those that nobody can read."""

    def __init__(self, stream: MemoryStream) -> None:
        self._log = stream.log(topo.ACCEPT)
        self._read: dict[int, tuple[wire.Command, Address] | None] = {}

    def __iter__(self) -> Iterator[tuple[wire.Command, Address]]:
        for sequence, message in self._log.messages.items():
            if sequence not in self._read:
                self._read[sequence] = None
                with contextlib.suppress(CorruptRecord):
                    address = parse_address(message.subject)
                    command = codec.decode(wire.QueueEntry, message.subject, message.data).command
                    self._read[sequence] = (command, address)
            if found := self._read[sequence]:
                yield found


class StreamDeadlines:
    """Answers the sweeper in place of the history, from the stream, so that it is always up to date."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self._accepted = Acceptances(stream)

    async def overdue(self, before: datetime, limit: int, after: Overdue | None = None) -> list[Overdue]:
        found = []
        earliest = before.timestamp()
        for command, address in self._accepted:
            if deadline_of(command, None) >= earliest:
                continue  # no event brings it forward
            last = wire.Event()
            if stored := self._stream.log(topo.EVENT).last(topo.event_subject(address)):
                with contextlib.suppress(CorruptRecord):  # the history has what came before it
                    last = codec.decode(wire.Event, stored.subject, stored.data)
            deadline = datetime.fromtimestamp(deadline_of(command, last), UTC)
            if deadline < before and last.state not in FINAL_STATES | {pb.MESSAGE_STATE_SENT}:
                found.append(Overdue(command.client, command.message_id, last.state or first_state(command), deadline))
        return found[:limit]

    async def commands(self, wanted: Sequence[Overdue]) -> dict[str, wire.Command]:
        ids = {one.message_id for one in wanted}
        return {command.message_id: command for command, _ in self._accepted if command.message_id in ids}
