"""The system under test as separate processes, two of each kind, and the injection of faults."""

import asyncio
import json
import pathlib
import signal
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import attrs
import structlog

from messaging.runtime.config import read_settings
from messaging.runtime.process import EXIT_UNAVAILABLE
from messaging.runtime.providers_file import read_providers
from ops.embedded import NatsServer, Postgres
from ops.embedded.cluster import NatsCluster
from ops.fleet import watching
from ops.system import Plan, System
from ops.up import wait_until_serving
from tests.load.chaos.checker import Limits
from tests.load.chaos.links import LOCALHOST, Link
from tests.load.chaos.net.routes import CUTS, Routes
from tests.load.chaos.plan import Beyond, Fault
from tests.load.chaos.plants import planting
from tests.load.chaos.servers import fill_stream, leader_of_queue, signal_tree
from tests.load.chaos.stranger.moods import KEPT
from tests.load.chaos.stranger.strangers import Strangers

_log = structlog.get_logger(__name__)

SETTINGS = {
    "SMSGW_RETRY_DELAYS_S": "1,2,4",
    "SMSGW_BREAKER_COOLDOWN_S": "2",
    "SMSGW_ACK_WAIT_S": "5",
    "SMSGW_LOOKUP_AFTER_S": "1",
    "SMSGW_DRAIN_S": "6",
    "SMSGW_LOG_LEVEL": "info",
}
TIMEOUT_S = 3
PROVIDERS = ("p1", "p2", "p3", "p4", "p5")
_LOOK_UP = dict.fromkeys(("p1", "p2"), ("[provider.settings]", "look_up = true", "missing_after_s = 10"))
"""These providers offer a look-up of unclear outcomes; at the others such messages end as UNKNOWN."""

_HANG_S = 6.0
_DRAIN_S = 12.0
_START_S = 60.0
_FOR_WATCHING = frozenset({"SMSGW_NATS_URL", "SMSGW_PROVIDERS_FILE"})


@attrs.define
class Done:
    """A fault that was injected; times are Unix seconds."""

    fault: Fault
    began: float
    ended: float


class Stage:
    """Starts the system: `pods` processes of each kind, `nats_servers` 1 or 3; `plant` names bugs to put into it.

    The last providers are as many `strangers`. With `net` the servers' routes and the strangers' wire can be cut.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        limits: Limits,
        *,
        nats_servers: Literal[1, 3] = 1,
        plant: str = "",
        pods: int = 2,
        latency_s: float = 0.03,
        net: bool = False,
        strangers: int = 0,
    ) -> None:
        environment = {**SETTINGS, "SMSGW_FLEET_RATE_PER_S": str(limits.fleet)}
        if plant:
            environment |= planting(plant)
        providers = PROVIDERS[: len(PROVIDERS) - strangers]
        names = [f"s{n + 1}" for n in range(strangers)]
        self.strangers = Strangers(folder / "strangers", names, wired=net) if strangers else None
        self.routes = Routes() if net else None
        self.system = System(
            Plan(
                folder,
                environment=environment,
                gateways=pods,
                coordinators=pods,
                projectors=pods,
                dispatchers_each=pods,
                nats_servers=nats_servers,
                nats_places=self.routes.places if self.routes else (),
                other_providers=self.strangers.tables(limits.provider, TIMEOUT_S) if self.strangers else {},
                tables={name: (f"timeout_s = {TIMEOUT_S}", *_LOOK_UP.get(name, ())) for name in providers},
                providers=providers,
                rate_per_s=limits.provider,
                own_settings=self._own_settings,
            )
        )
        self._latency_s = latency_s
        self.links: dict[str, dict[str, list[Link]]] = {}
        self.done: list[Done] = []
        self.broken: list[str] = []
        self._down: set[str] = set()
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Start everything; each process connects through its own links."""
        if self.strangers:
            await asyncio.to_thread(self.strangers.wait)
        await asyncio.to_thread(self.system.start)
        if not await wait_until_serving(self.system):
            raise TimeoutError("the gateway does not answer")
        for name in self.system.simulators:
            await self._behave(name, {})
        await asyncio.wait_for(self._until_every_pod_has_a_share(), _START_S)

    async def _until_every_pod_has_a_share(self) -> None:
        settings = read_settings({key: value for key, value in self.system.environment.items() if key in _FOR_WATCHING})
        providers = read_providers(settings.servers.providers_file)
        async with watching(settings, providers) as watch:
            while any(lane.pods < self.system.plan.dispatchers_each for lane in (await watch.snapshot()).lanes):
                if dead := self.system.dead():
                    raise RuntimeError(f"{dead[0]} ended: {self.system.processes[dead[0]].tail()}")
                await asyncio.sleep(0.2)

    async def stop(self) -> list[str]:
        """Stop everything; return the names of what had to be killed."""
        for links in self.links.values():
            for link in (*links["nats"], *links["postgres"]):
                link.delay_s = 0.0
                link.stall(on=False)
        late = await asyncio.to_thread(self.system.stop)
        if self.strangers:
            self.strangers.stop()
        for links in self.links.values():
            for link in (*links["nats"], *links["postgres"]):
                link.close()
        return late

    @property
    def processes(self) -> list[str]:
        """Our processes, as targets of faults."""
        return [name for name in self.system.processes if name != "simulator"]

    @property
    def servers(self) -> list[str]:
        """The servers, as targets of faults; with a cluster also its leader of the work queue at that time."""
        nats = self.system.nats
        if isinstance(nats, NatsCluster):
            return ["postgres", "nats-leader", *(f"nats-{n + 1}" for n in range(len(nats.servers)))]
        return ["postgres", "nats"]

    def beyond(self, moods: Sequence[str] = KEPT) -> Beyond:
        """What can go wrong with the network and the strangers."""
        routes = [name for name in self.servers if name.startswith("nats-")] if self.routes else []
        strangers = list(self.strangers.ports) if self.strangers else []
        return Beyond(routes, ["wire"] if self.routes and strangers else [], strangers, moods)

    def _own_settings(self, name: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Put links between one process and the servers; called from the thread that starts it."""
        if name == "simulator":
            return {}
        return asyncio.run_coroutine_threadsafe(self._link(name, environment), self._loop).result(10)

    async def _link(self, name: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        urls = {"nats": environment["SMSGW_NATS_URL"], "postgres": environment["SMSGW_DATABASE_URL"]}
        if name not in self.links:
            self.links[name] = {
                server: [
                    await Link(urlsplit(one).hostname or LOCALHOST, urlsplit(one).port or 0).open()
                    for one in url.split(",")
                ]
                for server, url in urls.items()
            }
        own = {
            server: ",".join(_at_port(one, link.port) for one, link in zip(url.split(","), links, strict=True))
            for (server, url), links in zip(urls.items(), self.links[name].values(), strict=True)
        }
        return {"SMSGW_NATS_URL": own["nats"], "SMSGW_DATABASE_URL": own["postgres"]}

    async def revive(self) -> None:
        """Restart the processes that ended by themselves, as Kubernetes would, until cancelled.

        An exit code says that a process could not start while a server was down; any other end counts as a failure.
        """
        while True:
            for name in set(self.system.dead()) - self._down:
                if (code := self.system.processes[name].exit_code) != EXIT_UNAVAILABLE:
                    self.broken.append(f"{name} ended with {code}")
                await asyncio.to_thread(self.system.restart, name)
            await asyncio.sleep(0.5)

    async def inject(self, fault: Fault) -> None:
        """Inject one fault and wait for its end."""
        began = time.time()
        if self.routes and fault.kind in CUTS:
            await self.routes.inject(fault, await self._number(fault.target))
        elif self.strangers and fault.kind in ("mood", "wire"):
            await self.strangers.inject(fault)
        else:
            await getattr(self, f"_{fault.kind}")(fault)
        self.done.append(Done(fault, began, time.time()))

    async def _kill(self, fault: Fault) -> None:
        self._down.add(fault.target)
        self.system.signal(fault.target, signal.SIGKILL)
        await asyncio.to_thread(self.system.processes[fault.target].wait, 5)
        await asyncio.sleep(fault.lasts_s)
        await self._restart(fault.target)

    async def _restart(self, name: str) -> None:
        await asyncio.to_thread(self.system.restart, name)
        self._down.discard(name)

    async def _pause(self, fault: Fault) -> None:
        self.system.signal(fault.target, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        self.system.signal(fault.target, signal.SIGCONT)

    async def _roll(self, fault: Fault) -> None:
        self._down.add(fault.target)
        child = self.system.processes[fault.target]
        child.send(signal.SIGTERM)
        if not await asyncio.to_thread(child.wait, _DRAIN_S):
            self.broken.append(f"{fault.target} did not drain")
            await asyncio.to_thread(child.kill)
        await self._restart(fault.target)

    def _lines(self, fault: Fault) -> list[Link]:
        links = self.links[fault.target]
        return [*links["nats"], *links["postgres"]]

    async def _cut(self, fault: Fault) -> None:
        for link in self._lines(fault):
            link.cut()

    async def _stall(self, fault: Fault) -> None:
        for link in self._lines(fault):
            link.stall(on=True)
        await asyncio.sleep(fault.lasts_s)
        for link in self._lines(fault):
            link.stall(on=False)

    async def _delay(self, fault: Fault) -> None:
        for link in self._lines(fault):
            link.delay_s = float(fault.detail)
        await asyncio.sleep(fault.lasts_s)
        for link in self._lines(fault):
            link.delay_s = 0.0

    async def _server(self, name: str) -> NatsServer | Postgres:
        """Find a server by its name."""
        nats, postgres = self.system.nats, self.system.postgres
        assert nats is not None
        assert postgres is not None
        if name == "postgres":
            return postgres
        if isinstance(nats, NatsServer):
            return nats
        if name == "nats-leader":
            return nats.named(await leader_of_queue(nats.url))
        return nats.servers[int(name.removeprefix("nats-")) - 1]

    async def _number(self, name: str) -> int:
        """Find a server of the cluster by its name, from 0."""
        assert isinstance(self.system.nats, NatsCluster)
        server = await self._server(name)
        return [one is server for one in self.system.nats.servers].index(True)

    async def _crash(self, fault: Fault) -> None:
        server = await self._server(fault.target)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(server.start)

    async def _reboot(self, fault: Fault) -> None:
        server = await self._server(fault.target)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(server.start)

    async def _freeze(self, fault: Fault) -> None:
        pid = (await self._server(fault.target)).pid
        if pid is not None:
            signal_tree(pid, signal.SIGSTOP)
            await asyncio.sleep(fault.lasts_s)
            signal_tree(pid, signal.SIGCONT)

    async def _fill(self, fault: Fault) -> None:
        await fill_stream(self.system.environment["SMSGW_NATS_URL"], fault.lasts_s)

    async def _provider(self, fault: Fault) -> None:
        name, rate = fault.detail.split()
        await self._behave(fault.target, {"rates": {name: float(rate)}})
        await asyncio.sleep(fault.lasts_s)
        await self._behave(fault.target, {})

    async def _behave(self, provider: str, behaviour: Mapping[str, object]) -> None:
        data = json.dumps(
            {"latency_s": self._latency_s, "latency_jitter_s": self._latency_s, "hang_s": _HANG_S, **behaviour}
        ).encode()
        request = urllib.request.Request(self.system.simulators[provider] + "/_behaviour", data, method="PUT")
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=20).close())


def _at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    account = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{account}{LOCALHOST}:{port}"))
