"""Stops the message stream of the real system until a caller has been refused because of that."""

import pathlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_REFUSED_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.05


class Server(Protocol):
    """A server that can be killed and started again, such as nats-server."""

    def kill(self) -> None:
        """Kill it, as a crash would."""

    def start(self) -> None:
        """Start it; returns when it answers."""


@contextmanager
def outage(server: Server, gateway_log: pathlib.Path) -> Iterator[None]:
    """Kill the server; start it again once the gateway has logged that it refused a call because of that."""
    server.kill()
    logged_before = gateway_log.stat().st_size
    over = threading.Event()

    def restart() -> None:
        end = time.monotonic() + _REFUSED_WITHIN_S
        while not over.wait(_LOOK_EVERY_S) and time.monotonic() < end:
            with gateway_log.open("rb") as log:
                log.seek(logged_before)
                if b'"UNAVAILABLE"' in log.read():
                    break
        server.start()

    thread = threading.Thread(target=restart, name="outage")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
