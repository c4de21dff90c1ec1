"""One run from start to report."""

import asyncio
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Literal

import attrs

from ops.system import RATE_PER_S
from tests.load.chaos import checker
from tests.load.chaos.callers import Callers
from tests.load.chaos.plan import Fault, make_plan
from tests.load.chaos.records import History, Sockets, read_history
from tests.load.chaos.report import Report, recovery
from tests.load.chaos.stage import Stage
from tests.load.chaos.stranger.moods import KEPT

_BACKLOG_S = 7.5
_CALM_S = 6.0
"""The last seconds of the load are left without a new fault."""


@attrs.frozen
class Run:
    """What to run; see the options of the command.

    `pods` is the number of processes of each kind. Providers answer after `latency_s`. Scheduled messages are due
    within `ahead_s` (more than 3). The checker waits `patience_s` after the last deadline. `strangers` is how many of
    the providers are not of our making; with `beyond` they also break their word. With `net` the routes between the
    servers and the wire to the strangers fail too. `only` names the kinds of fault, if not all.
    """

    messages: int
    seed: int = 1
    every_s: float = 4.0
    nats_servers: Literal[1, 3] = 1
    ttl_s: float = 60.0
    plant: str = ""
    rate_per_s: int = RATE_PER_S
    pods: int = 2
    latency_s: float = 0.03
    patience_s: float = 30.0
    ahead_s: int = 10
    net: bool = False
    strangers: int = 0
    beyond: bool = False
    only: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command that repeats this run."""
        words = [f"--messages {self.messages}", f"--seed {self.seed}", f"--every {self.every_s:g}"]
        words += [f"--nats-servers {self.nats_servers}", f"--ttl {self.ttl_s:g}", f"--rate {self.rate_per_s}"]
        words += [
            word for word, on in (("--net", self.net), ("--strangers", self.strangers), ("--beyond", self.beyond)) if on
        ]
        words += [f"--only {','.join(self.only)}"] if self.only else []
        return " ".join(["python -m tests.load.chaos", *words, *([f"--plant {self.plant}"] if self.plant else [])])

    @property
    def span_s(self) -> float:
        """How long the load lasts when the whole rate is used."""
        return self.messages / self.limits.fleet

    @property
    def limits(self) -> checker.Limits:
        """The rates: the fleet's limit equals the rates of four of the five providers."""
        return checker.Limits(self.rate_per_s, 4 * self.rate_per_s)


async def run(
    wanted: Run, folder: pathlib.Path, say: Callable[[str], object], plan: list[Fault] | None = None
) -> Report:
    """Run and check; `plan` replaces the faults derived from the seed."""
    stage = Stage(
        folder,
        wanted.limits,
        nats_servers=wanted.nats_servers,
        plant=wanted.plant,
        pods=wanted.pods,
        latency_s=wanted.latency_s,
        net=wanted.net,
        strangers=wanted.strangers,
    )
    try:
        await stage.start()
        if plan is None:
            span = wanted.span_s - _CALM_S
            names = list(stage.system.simulators)
            more = stage.beyond((*KEPT, "beyond") if wanted.beyond else KEPT)
            plan = make_plan(
                wanted.seed, span, wanted.every_s, stage.processes, stage.servers, names, more, wanted.only
            )
        return await _drive(wanted, stage, plan, say)
    finally:
        await stage.stop()


async def _drive(wanted: Run, stage: Stage, plan: list[Fault], say: Callable[[str], object]) -> Report:
    strangers = stage.strangers
    sockets = Sockets(stage.system.simulators, strangers.read if strangers else list)
    callers = Callers(
        wanted.seed,
        wanted.messages,
        wanted.ttl_s,
        stage.system.gateways,
        lambda: len(callers.ledger.ids) - len(sockets.taken) > _BACKLOG_S * wanted.limits.fleet,
        ahead_s=wanted.ahead_s,
    )
    began = time.time()
    follow = asyncio.create_task(sockets.follow(), name="sockets")
    async with asyncio.TaskGroup() as group:
        revive = asyncio.create_task(stage.revive(), name="revive")
        group.create_task(_inject_all(stage, plan, say), name="faults")
        progress = asyncio.create_task(_report_progress(callers, sockets, say), name="progress")
        group.create_task(callers.run(), name="callers")
    loaded = time.time()
    await _until_taken(callers, sockets)
    dry = time.time()
    progress.cancel()
    deadline = max((one.deadline for one in callers.ledger.accepted.values()), default=began)
    history = await _settled(stage, callers, deadline + wanted.patience_s, say)
    follow.cancel()
    revive.cancel()
    await sockets.read()
    await callers.close()
    late = await stage.stop()
    arrivals = sockets.arrivals
    departures = strangers.departures() if strangers else {}
    lasted = (max(one.at_ns for one in arrivals) - min(one.at_ns for one in arrivals)) / 1e9
    return Report(
        wanted.command,
        len(callers.ledger.accepted),
        callers.ledger.repeats,
        lasted,
        len(arrivals) / max(0.1, min(lasted, dry - began)),
        callers.ledger.failures,
        checker.states(callers.ledger, history),
        checker.check(callers.ledger, arrivals, history, wanted.limits, (*stage.broken, *late), departures),
        [str(one.fault) for one in stage.done],
        recovery(stage.done, arrivals, wanted.limits.fleet, loaded),
    )


async def _inject_all(stage: Stage, plan: list[Fault], say: Callable[[str], object]) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for fault in plan:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            say(str(fault))
            group.create_task(stage.inject(fault), name=fault.kind)


async def _report_progress(callers: Callers, sockets: Sockets, say: Callable[[str], object]) -> None:
    while True:
        await asyncio.sleep(10)
        say(f"  {len(callers.ledger.ids):,} accepted, {len(sockets.taken):,} taken")


async def _until_taken(callers: Callers, sockets: Sockets) -> None:
    """Wait until every message was taken by a provider, or none was for 5 s."""
    before, since = -1, time.monotonic()
    while len(sockets.taken) < len(callers.ledger.accepted) and time.monotonic() - since < 5:
        if len(sockets.taken) != before:
            before, since = len(sockets.taken), time.monotonic()
        await asyncio.sleep(0.2)


async def _settled(stage: Stage, callers: Callers, end: float, say: Callable[[str], object]) -> History:
    """Wait until every message is final and the store has caught up, or until `end` (Unix seconds)."""
    environment = stage.system.environment
    while True:
        history = await read_history(environment["SMSGW_DATABASE_URL"], environment["SMSGW_NATS_URL"])
        stored = history.stored
        waiting = [
            one for one in callers.ledger.accepted if one not in stored or stored[one].state not in checker.FINAL
        ]
        behind = [
            one for one, (sequence, _) in history.newest.items() if one in stored and stored[one].version != sequence
        ]
        if not waiting and not behind:
            return history
        if time.time() > end:
            return history
        say(f"  {len(waiting):,} not final, {len(behind):,} behind in the store")
        await asyncio.sleep(max(2.0, min(10.0, len(stored) / 20_000)))
