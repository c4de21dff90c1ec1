"""CPU seconds and resident memory of processes and all their descendants, from /proc."""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Mapping

_PROC = pathlib.Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the program's name; the first is the state."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """Return the ids of a process and all its current descendants: PostgreSQL works in child processes."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_s(pid: int) -> float:
    """Sum the user and system seconds of a process and its descendants, ended ones included; 0.0 after its end."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            total += sum(int(ticks) for ticks in _stat(one)[11:15])
    return total / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Sum the resident memory; pages that processes share are counted for each."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            total += int((_PROC / str(one) / "statm").read_text().split()[1]) * _PAGE_BYTES
    return total


class Stopwatch:
    """The CPU seconds that named processes have used since it was created."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = {name: cpu_s(pid) for name, pid in pids.items()}

    def read(self) -> dict[str, float]:
        """Return the CPU seconds since the start, by name."""
        return {name: cpu_s(pid) - self._began[name] for name, pid in self._pids.items()}


def total(seconds: Mapping[str, float], kinds: Iterable[str]) -> float:
    """Sum the seconds of processes whose names begin with one of `kinds`."""
    wanted = tuple(kinds)
    return sum(value for name, value in seconds.items() if name.startswith(wanted))
