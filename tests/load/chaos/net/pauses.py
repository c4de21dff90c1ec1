"""`python -m tests.load.chaos.net.pauses KIND WHO SECONDS`: how long a partition keeps a client from storing messages.

Three nats-servers in namespaces, one stream with three replicas, and one connection, which publishes ten times a
second. WHO says which server gets the fault: the one the client is connected to, which is the stream's leader or not
(`leader`, `follower`). Prints one line of JSON: the seconds from the fault's start until a publish was stored again.
"""

import asyncio
import contextlib
import json
import pathlib
import sys
import tempfile
import time

from messaging.errors import StreamDown
from messaging.stream.connection import NatsConnection, open_connection
from ops.embedded.cluster import NatsCluster
from tests.load.chaos.net import namespaces
from tests.load.chaos.net.routes import Routes
from tests.load.chaos.plan import Fault

_STREAM = "PAUSES"
_EVERY_S = 0.1


async def measure(kind: str, who: str, lasts_s: float, folder: pathlib.Path) -> dict[str, float]:
    """Start everything, make one fault, and measure the pause."""
    routes = Routes()
    cluster = NatsCluster(folder, places=routes.places)
    await asyncio.to_thread(cluster.start)
    try:
        async with open_connection(cluster.url, "set-up") as connection:
            body = {"name": _STREAM, "subjects": ["pauses"], "num_replicas": 3}
            await connection.api(f"STREAM.CREATE.{_STREAM}", body, timeout_s=10)
            leader = (await connection.api(f"STREAM.INFO.{_STREAM}"))["cluster"]["leader"]
        names = [one.name for one in cluster.servers]
        at = names.index(leader) if who == "leader" else (names.index(leader) + 1) % len(names)
        async with contextlib.AsyncExitStack() as stack:
            connection = await _connected_to(cluster, at, stack)
            await connection.publish("pauses", b"before")
            fault = asyncio.create_task(routes.inject(Fault(0.0, kind, "", lasts_s), at), name=kind)
            pause_s = await _pause(connection, lasts_s)
            await fault
        return {"pause_s": round(pause_s, 1)}
    finally:
        await asyncio.to_thread(cluster.kill)


async def _connected_to(cluster: NatsCluster, at: int, stack: contextlib.AsyncExitStack) -> NatsConnection:
    """Open connections, each to a random server, until one is connected to this server."""
    while True:
        connection = await stack.enter_async_context(open_connection(cluster.url, "pauses"))
        url = connection.client.connected_url
        if url is not None and url.hostname == cluster.servers[at].place.host:
            return connection


async def _pause(connection: NatsConnection, lasts_s: float) -> float:
    """Publish until one that began after the first failure is stored; 0 when none failed while the fault lasted."""
    began = time.monotonic()
    failed = False
    while time.monotonic() - began < lasts_s + 30:
        try:
            await connection.publish("pauses", b"x")
        except StreamDown:
            failed = True
        else:
            if failed:
                return time.monotonic() - began
            if time.monotonic() - began > lasts_s:
                return 0.0
        await asyncio.sleep(_EVERY_S)
    return float("inf")


def main() -> None:
    """Measure one pause, in namespaces of its own."""
    namespaces.go_inside("tests.load.chaos.net.pauses")
    kind, who, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="smsgw-pauses-") as folder:
        found = asyncio.run(measure(kind, who, float(seconds), pathlib.Path(folder)))
    sys.stdout.write(json.dumps({"kind": kind, "who": who, **found}) + "\n")


if __name__ == "__main__":
    main()
