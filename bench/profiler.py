"""Runs one of our processes so that it can be profiled: `python -m bench.profiler FILE MODULE …`.

SIGUSR1 starts cProfile in its main thread; SIGUSR2 stops it and writes FILE. So the profile does not include imports.
"""

import cProfile
import pathlib
import runpy
import signal
import sys
import time


def main() -> None:
    """Run the module."""
    target, module, *rest = sys.argv[1:]
    # CPU time: with few cores, wall-clock time would be charged to code that was preempted, mostly socket writes.
    profile = cProfile.Profile(time.thread_time)

    def begin(_number: int, _frame: object) -> None:
        profile.enable()

    def end(_number: int, _frame: object) -> None:
        profile.disable()
        part = f"{target}.part"
        profile.dump_stats(part)
        pathlib.Path(part).rename(target)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
