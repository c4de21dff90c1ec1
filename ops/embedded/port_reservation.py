"""Reserves ports between processes, so that two of them never choose the same one.

Seconds pass between choosing a free port and listening on it, and tests that run in parallel choose theirs meanwhile.
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


def reserve(port: int, path: pathlib.Path | None = None) -> bool:
    """Reserve a port for a minute; False when it is reserved. Always True when the file cannot be read or written."""
    try:
        with _opened(path or _path()) as file:
            now = time.time()
            reserved = {number: at for number, at in _read(file.read()) if abs(now - at) < _KEPT_S}
            if port in reserved:
                return False
            reserved[port] = now
            file.seek(0)
            file.truncate()
            file.writelines(f"{number} {at}\n" for number, at in reserved.items())
    except OSError:
        return True
    return True


def _read(text: str) -> list[tuple[int, float]]:
    """Read the reservations; a file that is not well formed counts as empty."""
    try:
        return [(int(number), float(at)) for number, at in (line.split() for line in text.splitlines())]
    except ValueError:
        return []


def _path() -> pathlib.Path:
    return pathlib.Path(tempfile.gettempdir()) / f"sms-gateway-ports-{os.getuid()}"


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[str]]:
    """Open and lock the file; a symbolic link in its place is not followed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+", encoding="ascii") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
