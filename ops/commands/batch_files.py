"""The files of `smsctl batch`: the one that is read, and those that are written, never the same one."""

import contextlib
import io
import os
import pathlib
import stat
import sys
from collections.abc import Sequence
from typing import IO

from ops.commands.failure import Failure


def open_source(file: pathlib.Path, stack: contextlib.ExitStack) -> IO[bytes]:
    """Open the file to read; `-` is standard input."""
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(file.open("rb"))
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}") from exc


def open_output(path: pathlib.Path, others: Sequence[IO[bytes]], stack: contextlib.ExitStack) -> IO[bytes]:
    """Open a file to write and empty it, unless it is one of the others, whatever its name; only its owner reads it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        opened = os.fdopen(descriptor, "wb")
        stack.callback(_close, opened)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            if any(_is_same(found, other) for other in others):
                raise Failure(f"{path} is a file that this command uses already: name another one for its output")
            os.ftruncate(descriptor, 0)
    except OSError as exc:
        raise Failure(f"{path} cannot be written: {exc.strerror}") from exc
    return opened


def _close(opened: IO[bytes]) -> None:
    """Close a file; what could not be written was told when it was flushed."""
    with contextlib.suppress(OSError):
        opened.close()


def _is_same(found: os.stat_result, other: IO[bytes]) -> bool:
    try:
        return os.path.samestat(found, os.fstat(other.fileno()))
    except io.UnsupportedOperation:
        return False


def size_of(source: IO[bytes]) -> int | None:
    """Return the size of a regular file; None for anything else."""
    with contextlib.suppress(io.UnsupportedOperation):
        found = os.fstat(source.fileno())
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None
