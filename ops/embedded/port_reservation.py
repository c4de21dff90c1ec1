"""Ports that were lately told to somebody who does not listen there yet: none is told to two.

Between the choice of a port and the start of what listens there lie seconds, in which tests beside it choose theirs.
"""

import contextlib
import fcntl
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import IO

_KEPT_S = 60.0


def claim(port: int, book: pathlib.Path | None = None) -> bool:
    """Claim a port for a minute; False when somebody has. Where the book cannot be kept, every claim holds."""
    try:
        with _opened(book or _book()) as file:
            now = time.time()
            claimed = {number: at for number, at in _read(file.read()) if abs(now - at) < _KEPT_S}
            if port in claimed:
                return False
            claimed[port] = now
            file.seek(0)
            file.truncate()
            file.writelines(f"{number} {at}\n" for number, at in claimed.items())
    except OSError:
        return True
    return True


def _read(text: str) -> list[tuple[int, float]]:
    """Read the claims; what is none begins the book anew."""
    try:
        return [(int(number), float(at)) for number, at in (line.split() for line in text.splitlines())]
    except ValueError:
        return []


def _book() -> pathlib.Path:
    return pathlib.Path(tempfile.gettempdir()) / f"sms-gateway-ports-{os.getuid()}"


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[str]]:
    """Open the book for this process alone; a link that somebody laid in its place is not followed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+", encoding="ascii") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
