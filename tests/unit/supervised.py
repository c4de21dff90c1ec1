"""A small fleet whose processes may crash at any step and are started again, and the checks that it must pass."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Literal

import attrs
from sms.dispatch.v1 import dispatch_pb2 as wire
from sms.gateway.v1 import message_pb2 as pb

from messaging import codec
from messaging.errors import StreamDown
from messaging.lifecycle import may_follow
from messaging.model import SETTLED_STATES, Address, lane_of
from messaging.status import deadline_of, first_state
from messaging.stream import topology as topo
from tests.memory_stream import Crash
from tests.unit.processes import Plan, Process
from tests.unit.small_fleet import SmallFleet

Kind = Literal["crash", "lost", "cut"]
CUT_S = 10.0
LATE_S = 25.0
"""How long after its deadline a message may become final: redelivery, waiting for a lost attempt, lost answers."""


@attrs.frozen
class Fault:
    """What happens at the `count`-th time of a step: a crash, a lost answer, or a connection cut for a while."""

    step: str
    count: int
    kind: Kind = "crash"


class Supervised:
    """Restarts pods and duties when faults end them; `steps` counts the steps of all of them."""

    def __init__(self, fleet: SmallFleet, faults: Collection[Fault]) -> None:
        self.fleet = fleet
        self.steps: Counter[str] = Counter()
        self.met: list[Fault] = []
        self._faults = {(fault.step, fault.count): fault for fault in faults}
        self._supervisors: list[asyncio.Task[None]] = []

    def start(self, pods: Sequence[str] = ("p1", "p1", "p2")) -> None:
        """Start pods of these providers, and the duties."""
        for name in pods:
            self._keep(partial(self._pod, name))
        self._keep(self._duties)

    def _keep(self, start: Callable[[Plan], Awaitable[Process]]) -> None:
        async def keep() -> None:
            while True:
                await self._run(start)

        self._supervisors.append(asyncio.create_task(keep()))

    async def _run(self, start: Callable[[Plan], Awaitable[Process]]) -> None:
        """Run one process to its end."""
        process = await start(lambda step: self._inject(process, step))
        await process.crashed.wait()
        await process.kill()

    async def _pod(self, name: str, plan: Plan) -> Process:
        return (await self.fleet.pod(name, plan)).process

    async def _duties(self, plan: Plan) -> Process:
        return self.fleet.duties(plan)

    def _inject(self, process: Process, step: str) -> None:
        self.steps[step] += 1
        fault = self._faults.get((step, self.steps[step]))
        if fault is None:
            return
        self.met.append(fault)
        if fault.kind == "crash":
            raise Crash(step)
        if fault.kind == "cut":
            process.connection.cut()
            asyncio.get_running_loop().call_later(CUT_S, process.connection.mend)
        if not step.endswith(("call", "write", "look-up")):
            raise StreamDown(step)

    async def close(self) -> None:
        """Stop everything."""
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await self.fleet.close()


def check(fleet: SmallFleet, accepted: Sequence[Address], *, resends: bool) -> None:
    """Check the guarantees for every accepted message against the stream and the providers."""
    commands = fleet.commands()
    for address in accepted:
        command, events = commands[address], fleet.events(address)
        story = fleet.story(address)
        assert events, "accepted, but it has no event"
        assert events[-1].state in SETTLED_STATES, f"not settled: {story}"
        last = events[-1]
        assert last.state == pb.MESSAGE_STATE_SENT or last.reason, f"ended without a reason: {story}"
        late_s = codec.unix(last.time) - deadline_of(command, last)
        assert late_s <= LATE_S, f"settled {late_s:.1f} s after its deadline: {story}"
        state: int = first_state(command)
        attempts = 0
        for event in events:
            assert may_follow(state, event.state), f"forbidden transition: {story}"
            assert attempts <= event.attempt_count <= attempts + 1
            state, attempts = event.state, event.attempt_count
        unclear = sum(one.outcome == pb.ATTEMPT_OUTCOME_AMBIGUOUS for one in last.attempts)
        took = fleet.took(address)
        assert took <= 1 + (unclear if resends else 0), f"a provider took it {took} times: {story}"
        if last.state == pb.MESSAGE_STATE_SENT:
            assert took, f"no provider took it: {story}"
        if took and last.state != pb.MESSAGE_STATE_SENT:
            assert last.state == pb.MESSAGE_STATE_UNKNOWN, f"a provider took it, but: {story}"
        if last.next:
            assert fleet.letters(address), f"ended without its dead letter: {story}"


async def replay(fleet: SmallFleet, accepted: Sequence[Address]) -> None:
    """Put every queue entry that was ever made into its queue again; this must change nothing."""

    def snapshot() -> dict[Address, object]:
        return {one: (fleet.story(one), fleet.took(one), fleet.letters(one)) for one in accepted}

    before, commands = snapshot(), fleet.commands()
    for address in accepted:
        command = commands[address]
        lane = lane_of(command.priority)
        first = wire.QueueEntry(command=command)
        await fleet.publisher.enqueue(first, address, command.provider, lane)
        await asyncio.sleep(0.3)
        written = fleet.stream.log(topo.EVENT).matching(topo.event_subject(address))
        for stored, event in zip(list(written), fleet.events(address), strict=True):
            if event.next in {wire.NEXT_STEP_MOVE, wire.NEXT_STEP_LATER}:
                entry = wire.QueueEntry(command=command, last=event, last_sequence=stored.sequence)
                await fleet.publisher.enqueue(entry, address, event.provider, lane)
                await asyncio.sleep(0.3)
    await fleet.until_idle(60.0)
    after = snapshot()
    assert after == before
