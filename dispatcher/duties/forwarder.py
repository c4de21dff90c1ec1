"""Routes anew what waits for a provider that was taken out of the providers file, or disabled, and has no pod.

Each dispatcher runs one; they share the queues as the pods of a provider do. The event log decides here too, so a pod
of the provider that still runs during a roll-out and a forwarder never both take a message on. A message that only that
provider may send waits, and is looked at again with the delays of retries; at its deadline it expires.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import attrs
import structlog
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from dispatcher.work.dispatch_context import DispatchContext
from dispatcher.work.event_log import EventLog
from dispatcher.work.job import Job
from dispatcher.work.job_finisher import JobFinisher
from dispatcher.work.job_reader import JobReader
from dispatcher.work.job_tasks import JobTasks
from dispatcher.work.recovery import Recovery
from dispatcher.work.verdict import Verdict, expire, move
from messaging import routing
from messaging.errors import Unavailable
from messaging.model import Lane
from messaging.runtime.config import Settings
from messaging.runtime.providers_file import Provider
from messaging.runtime.spans import Tracer
from messaging.stream import setup
from messaging.stream import topology as topo
from messaging.stream.ack_extender import extend_acks
from messaging.stream.backlog import names_in_queue
from messaging.stream.board import LimitsBoard
from messaging.stream.fleet import FleetView
from messaging.stream.interface import ApiError, Connection, Consumer, Delivery

_log = structlog.get_logger(__name__)

_EVERY_S = 2.0
_PATIENCE_S = 10.0
"""How long a provider must have been without a pod: a roll-out starts and ends pods in any order."""

_SEARCH_EVERY_S = 30.0
"""How often the queue's subjects may be read: there are as many as messages."""

_BATCH, _FETCH_S = 64, 0.5
_LONGEST_CALL_S = 120.0
"""The longest time-out that a provider can have: a call of its last pod may have been under way."""

REASON = "PROVIDER_REMOVED"


@attrs.define
class Forwarder:
    """Forwards within one dispatcher."""

    connection: Connection
    view: FleetView
    limits: LimitsBoard
    tracer: Tracer
    context: DispatchContext
    settings: Settings
    _since: dict[str, float] = attrs.Factory(dict)
    _searched_at: float = float("-inf")
    _queues: "dict[str, _RemovedQueue]" = attrs.Factory(dict)

    async def run(self) -> None:
        """Forward until cancelled, then give back what is held."""
        extender = asyncio.create_task(extend_acks(self._held, self.settings.fleet.ack_wait_s), name="forwarder-acks")
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                try:
                    await self._serve_unknown()
                    for name in await self.abandoned():
                        await self._forward(name)
                except (Unavailable, ApiError) as exc:
                    _log.debug("not forwarded", error=str(exc))
        finally:
            extender.cancel()
            for queue in self._queues.values():
                await queue.close()

    async def _serve_unknown(self) -> None:
        """Give a queue to names that have messages and no consumer; looks for them only if messages seem uncounted."""
        now = time.monotonic()
        if now < self._searched_at + _SEARCH_EVERY_S:
            return
        if not await self.view.uncounted():
            return
        self._searched_at = now
        for name in await names_in_queue(self.connection):
            if name not in self.view.backlog and topo.is_token(name):
                _log.warning("messages wait for a provider that nobody knows", provider=name)
                await setup.ensure_queue(self.connection, self.settings, name)

    def _held(self) -> list[Delivery]:
        return [delivery for queue in self._queues.values() for delivery in queue.held]

    async def abandoned(self) -> list[str]:
        """Name the providers whose messages nobody sends, and nobody has sent for a while; raises StreamDown."""
        names = [name for name, count in self.view.backlog.items() if count and not self._is_used(name)]
        if names:
            _, table = await self.limits.table()
            served = {grant.provider for grant in table.grants.values() if grant.share} if table else set()
            names = [name for name in names if name not in served]
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in names}
        return [name for name, since in self._since.items() if now >= since + _PATIENCE_S]

    def _is_used(self, name: str) -> bool:
        facts = self.view.facts().get(name)
        return facts is not None and facts.available

    async def _forward(self, name: str) -> None:
        queue = self._queues.get(name)
        if queue is None:
            _log.warning("routing anew what waits for a provider that is no longer used", provider=name)
            queue = self._queues[name] = await self._open(name)
        while await queue.draw():
            pass

    async def _open(self, name: str) -> "_RemovedQueue":
        consumers = {
            lane: await self.connection.consumer(topo.SEND, topo.dispatch_consumer(name, lane)) for lane in Lane
        }
        provider = Provider(name, "simulated", "http://127.0.0.1", timeout_s=_LONGEST_CALL_S)
        context = attrs.evolve(self.context, provider=provider, can_look_up=False)
        event_log = EventLog(self.connection, context.now)
        kept_s = self.settings.servers.event_days * 86_400
        reader = JobReader(name, self.context.pod, event_log, self.tracer, kept_s, context.now)
        return _RemovedQueue(consumers, reader, context, event_log)


class _RemovedQueue:
    """The queue of one provider that is no longer used. It holds jobs as an intake does."""

    stopping = False

    def __init__(
        self,
        consumers: dict[Lane, Consumer],
        reader: JobReader,
        context: DispatchContext,
        event_log: EventLog,
    ) -> None:
        self._consumers = consumers
        self._reader = reader
        self._context = context
        self._event_log = event_log
        recovery = Recovery(context, None, event_log)
        self._finisher = JobFinisher(self, event_log, recovery)
        self._tasks = JobTasks(self._finisher.release, self._finisher.bury)
        self._slots = asyncio.Semaphore(_BATCH)
        self._again: set[asyncio.Task[None]] = set()
        self.held: set[Delivery] = set()

    async def draw(self) -> bool:
        """Draw some messages of every lane and begin with each; False when none waits."""
        found = False
        for lane, consumer in self._consumers.items():
            for delivery in await consumer.fetch(_BATCH, _FETCH_S):
                found = True
                self.held.add(delivery)
                job = await self._reader.read(lane, delivery)
                if job is None:
                    await delivery.ack()
                    self.release(delivery)
                else:
                    await self._spawn(self._route(job) if job.last_is_current else self._finisher.resume(job), job)
        return found

    async def _spawn(self, work: Coroutine[Any, Any, None], job: Job) -> None:
        await self._slots.acquire()
        self._tasks.spawn(work, job, self._slots)

    async def _route(self, job: Job) -> None:
        written = await self._event_log.record(job, self._change(job))
        await (self._finisher.finish(job) if written else self._finisher.resume(job))

    def _change(self, job: Job) -> Verdict:
        """Decide where the message goes: to the best provider that it may use, or later, or nowhere any more."""
        facts, context, name = self._context.verdict_facts(job), self._context, self._context.provider.name
        if facts.now >= job.deadline:
            return attrs.evolve(
                expire(facts), detail=f"the deadline passed while it waited for {name}, which is no longer used"
            )
        others = {key: one for key, one in context.provider_facts().items() if key != name}
        choice = routing.choose(others, job.command.providers, context.turns, job.last.tried)
        choice = choice or routing.choose(others, job.command.providers, context.turns)
        detail = f"{name} is no longer used"
        if choice is not None:
            return attrs.evolve(move(facts, choice.provider), reason=REASON, detail=f"{detail}: {choice.reason}")
        delays = facts.policy.retry_delays_s or (60.0,)
        return Verdict(
            state=pb.MESSAGE_STATE_QUEUED,
            next=wire.NEXT_STEP_LATER,
            provider=name,
            reason=REASON,
            detail=f"{detail}, and the caller allows no other provider",
            due=min(job.deadline, facts.now + delays[min(facts.progress.round, len(delays) - 1)]),
            round=min(facts.progress.round + 1, len(delays)),
            tried=facts.progress.tried,
        )

    def put_back(self, job: Job) -> None:
        """Begin with a job again, because its last event asks for another attempt."""
        again = asyncio.create_task(self._spawn(self._route(job), job), name="forward-again")
        self._again.add(again)
        again.add_done_callback(self._again.discard)

    def release(self, delivery: Delivery) -> None:
        """Stop holding a delivery."""
        self.held.discard(delivery)

    async def close(self) -> None:
        """End what is under way, and give back what is held."""
        self._tasks.cancel()
        for delivery in list(self.held):
            await delivery.give_back()
