"""Takes the message stream away from the real system, until a caller was told so."""

import pathlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_TOLD_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.05


class Server(Protocol):
    """What can be killed and started again, as a nats-server can."""

    def kill(self) -> None:
        """End it as a crash would."""

    def start(self) -> None:
        """Start it; returns when it answers."""


@contextmanager
def outage(server: Server, gateway_log: pathlib.Path) -> Iterator[None]:
    """Begin with a dead server; it comes back once the gateway has logged that it refused a call for that."""
    server.kill()
    heard_before = gateway_log.stat().st_size
    over = threading.Event()

    def bring_back() -> None:
        end = time.monotonic() + _TOLD_WITHIN_S
        while not over.wait(_LOOK_EVERY_S) and time.monotonic() < end:
            with gateway_log.open("rb") as log:
                log.seek(heard_before)
                if b'"UNAVAILABLE"' in log.read():
                    break
        server.start()

    bringer = threading.Thread(target=bring_back, name="outage")
    bringer.start()
    try:
        yield
    finally:
        over.set()
        bringer.join()
