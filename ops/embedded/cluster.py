"""Three nats-servers on one machine as one JetStream cluster: for streams with three replicas, and to kill servers."""

import json
import pathlib
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from ops.embedded.child import HERE, START_S, Place, ServerFailed, free_ports
from ops.embedded.nats import USER, NatsServer
from ops.embedded.private import private_folder, write_private

SIZE = 3
_POLL_S = 0.05
_PROBE_S = 1.0


class NatsCluster:
    """Servers that keep their names and ports; each of `servers` can be stopped and started alone.

    They run on 127.0.0.1, or each at its own of `places`. All methods block, and calling one twice is safe. A server's
    own `start` returns when it answers clients; `wait_until_current` returns when all have a leader and have caught up
    with every stream. Clients need a password, which is part of the URL. So do the servers among each other, and the
    monitoring port answers on a secret path only.
    """

    def __init__(self, folder: pathlib.Path, *, max_file: int | None = None, places: Sequence[Place] = ()) -> None:
        self._places = tuple(places) or (HERE,) * SIZE
        self._folder = folder.resolve()
        self._max_file = max_file
        self._monitors: dict[str, str] = {}
        self._servers: tuple[NatsServer, ...] = ()
        self.room_bytes = 0
        """What all copies together may take: what they held at the first start, and 3/4 of what the disk had left."""

    @property
    def servers(self) -> tuple[NatsServer, ...]:
        """The servers; none before the first start."""
        return self._servers

    @property
    def url(self) -> str:
        """Where clients connect: every server, separated by commas; empty before the first start."""
        return ",".join(server.url for server in self._servers)

    def named(self, name: str) -> NatsServer:
        """Find a server by the name that the JetStream API reports for leaders and replicas; raises KeyError."""
        return {server.name: server for server in self._servers}[name]

    def start(self) -> None:
        """Start the servers that are down; returns when all have caught up. Raises ServerFailed."""
        if not self._servers:
            self._servers = self._made()
        for server in self._servers:
            server.start()
        self.wait_until_current()

    def _made(self) -> tuple[NatsServer, ...]:
        """Choose names and ports. Names are kept in the folder: a server with a new name would join as another peer."""
        private_folder(self._folder)
        held = sum(one.stat().st_blocks * 512 for one in self._folder.rglob("*") if one.is_file())
        self.room_bytes = held + shutil.disk_usage(self._folder).free * 3 // 4
        kept = self._folder / "cluster.name"
        if not kept.exists():
            write_private(kept, f"embedded-{secrets.token_hex(4)}")
        cluster = kept.read_text()
        ports = free_ports(3 * SIZE)
        clients, monitors, routes = ports[:SIZE], ports[SIZE : 2 * SIZE], ports[2 * SIZE :]
        password, between, path = (secrets.token_hex(24) for _ in range(3))
        servers = []
        peers = [f"{place.host}:{route}" for place, route in zip(self._places, routes, strict=True)]
        for index, (port, monitor, place) in enumerate(zip(clients, monitors, self._places, strict=True), 1):
            name = f"{cluster}-{index}"
            self._monitors[name] = f"http://{place.host}:{monitor}/{path}/healthz"
            config = _clustered(cluster, between, peers[index - 1], peers)
            config += f'http: "{place.host}:{monitor}"\nhttp_base_path: "/{path}"\n'
            folder = self._folder / f"server-{index}"
            settings = {"name": name, "password": password, "extra_config": config}
            servers.append(NatsServer(folder, port, max_file=self._max_file, place=place, **settings))
        return tuple(servers)

    def wait_until_current(self, within_s: float = START_S) -> None:
        """Wait until every running server has a leader and has caught up in all streams; raises ServerFailed."""
        end = time.monotonic() + within_s
        for server in self._servers:
            while server.pid and (fault := self._fault(server)):
                if time.monotonic() > end:
                    raise ServerFailed(server.name, f"did not catch up in time: {fault}", "")
                time.sleep(_POLL_S)

    def _fault(self, server: NatsServer) -> str:
        """Return why a server is not healthy; empty when it is."""
        try:
            with urllib.request.urlopen(self._monitors[server.name], timeout=_PROBE_S):  # noqa: S310 - our own
                return ""
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.read().decode(errors="replace")
        except OSError as exc:
            return str(exc)

    def stop(self) -> None:
        """Stop all gracefully, one after another."""
        for server in self._servers:
            server.stop()

    def kill(self) -> None:
        """Kill all processes at once, as a crash would."""
        for server in self._servers:
            server.kill()


def _clustered(name: str, password: str, own: str, peers: Sequence[str]) -> str:
    routes = json.dumps([f"nats-route://{USER}:{password}@{other}" for other in peers])
    access = f'authorization {{ user: {USER}, password: "{password}" }}'
    lines = f'name: "{name}"', f'listen: "{own}"', access, f"routes: {routes}", "no_advertise: true"
    return "cluster {\n  " + "\n  ".join(lines) + "\n}\n"
