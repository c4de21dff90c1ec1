"""Standard error of a process that writes log lines: whatever else reaches it becomes a log line, too.

The C core of grpc, the interpreter and other libraries write to file descriptor 2 themselves. A reader of the log that
expects JSON would fail on their lines, and what a caller can get into them could be taken for a line of ours.
"""

import atexit
import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from messaging.printable import printable

_LONGEST_BYTES = 4096
_LAST_LINES_S = 1.0

Say = Callable[..., None]
"""Logs an event with its fields, such as `say("it happened", code=1)`."""


def take_over() -> tuple[TextIO, Callable[[Say], None]]:
    """Redirect descriptor 2 into this process; returns the real standard error, and what starts to log from there."""
    sys.stderr.flush()
    real = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def log_with(say: Say) -> None:
        thread = threading.Thread(target=_log_all, args=(reading, say), name="standard-error", daemon=True)
        thread.start()
        atexit.register(_give_back, real, thread)

    return io.TextIOWrapper(os.fdopen(real, "wb", closefd=False), encoding="utf-8", errors="backslashreplace"), log_with


def _give_back(real: int, thread: threading.Thread) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os.dup2(real, 2)  # the pipe has no other writer, so the thread logs what is left and ends
    thread.join(_LAST_LINES_S)


def _log_all(reading: int, say: Say) -> None:
    with os.fdopen(reading, "rb") as lines:
        while line := lines.readline(_LONGEST_BYTES):
            if text := printable(line.decode(errors="backslashreplace").rstrip()):
                say("standard error", text=text)
