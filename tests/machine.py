"""Tells whether somebody else used this machine while a test measured it.

A promise, such as a limit that is never exceeded, holds on every machine: assert it. What a fast enough machine
reaches, such as 99 % of a rate, is a measurement: pass it to `Machine.reaches`. Where it falls short while others took
the processors, the test says that this machine is too busy to measure, waits until it is calm, and is repeated.
"""

import os
import pathlib
import time

import attrs

CALM = 0.1
"""Others may use this part of all processors; beyond it, nothing is measured."""

_TICKS = os.sysconf("SC_CLK_TCK")


class TooBusyError(AssertionError):
    """A measurement fell short while others used the machine."""


@attrs.frozen
class Usage:
    """Processor seconds since the machine started: of everybody, and of this process and all that it started."""

    at: float
    everybody: float
    ours: float
    processors: int

    def others_since(self, before: "Usage") -> float:
        """Return which part of all processors others used since then, from 0 to 1."""
        whole = (self.at - before.at) * self.processors
        others = (self.everybody - before.everybody) - (self.ours - before.ours)
        return min(1.0, max(0.0, others / whole)) if whole > 0 else 0.0


def usage() -> Usage:
    """Read what was used until now."""
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, lines[0].split()[1:])
    processors = sum(1 for line in lines if line.startswith("cpu")) - 1
    return Usage(time.monotonic(), (user + nice + system + irq + softirq + steal) / _TICKS, _of_us(), processors)


def _of_us() -> float:
    """Sum up this process and its descendants, with those that have ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = sum(map(int, fields[11:15]))  # user and system, also of children that have ended
    return sum(used for pid, used in ticks.items() if _descends(pid, parents)) / _TICKS


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False


class Machine:
    """What a test measures on; a new one for each test and each repetition."""

    def __init__(self) -> None:
        self._before = usage()

    def reaches(self, value: float, *, at_least: float | None = None, below: float | None = None) -> None:
        """Check a measurement; raises TooBusyError when it falls short while others used the machine."""
        if (at_least is None or value >= at_least) and (below is None or value < below):
            return
        wanted = f"at least {at_least:g}" if at_least is not None else f"below {below:g}"
        others = usage().others_since(self._before)
        if others > CALM:
            raise TooBusyError(
                f"this machine is too busy to measure: {value:.4g} instead of {wanted}, "
                f"while others used {others:.0%} of the processors"
            )
        raise AssertionError(f"{value:.4g} instead of {wanted}; others used {others:.0%} of the processors")


def wait_until_calm(at_most_s: float, step_s: float = 2.0) -> bool:
    """Wait until others leave the processors alone; False when they did not in time."""
    end = time.monotonic() + at_most_s
    while True:
        before = usage()
        time.sleep(step_s)
        if usage().others_since(before) <= CALM:
            return True
        if time.monotonic() > end:
            return False
