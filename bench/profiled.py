"""Runs a process of ours that can be profiled: `python -m bench.profiled FILE MODULE …`.

SIGUSR1 begins a cProfile of its main thread, SIGUSR2 ends it and writes FILE, so that loading modules stays out of it.
"""

import cProfile
import pathlib
import runpy
import signal
import sys
import time


def main() -> None:
    """Become the module."""
    target, module, *rest = sys.argv[1:]
    # CPU time: on few cores the clock on the wall would blame whoever was put aside, mostly a write to a socket.
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
