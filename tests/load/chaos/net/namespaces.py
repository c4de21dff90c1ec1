"""Network namespaces that live as long as this process: no name, no file, nothing to clean up."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET = 0x40000000
_INSIDE = "SMS_GATEWAY_CHAOS_INSIDE"
_LIBC = ctypes.CDLL(None, use_errno=True)
APART = ("--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
_TUN = "/dev/net/tun"

T = TypeVar("T")


def why_not() -> str:
    """Return what this machine lacks for `--net`, in one line; empty when it has everything."""
    if os.geteuid() != 0:
        return "it makes network namespaces, so it needs root"
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"it needs the commands {' and '.join(missing)} (util-linux, iproute2)"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"it needs {_TUN}"
    tried = subprocess.run(["unshare", *APART, "true"], check=False, capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no namespace can be made here: {tried.stderr.strip()}"


def go_inside(module: str) -> None:
    """Replace this process, which runs `module`, by the same one in namespaces of its own, unless it is that one."""
    if os.environ.get(_INSIDE):
        prepare()
        return
    unshare = shutil.which("unshare") or "unshare"
    command = [unshare, *APART, sys.executable, "-m", module, *sys.argv[1:]]
    os.execve(unshare, command, {**os.environ, _INSIDE: "1"})  # noqa: S606 - its own arguments


def prepare() -> None:
    """Make the run's own namespace a router.

    The table of local addresses comes after our rules, so that these can also drop what is meant for this namespace.
    """
    ip("link set lo up")
    for name, value in (("ip_forward", 1), ("ip_early_demux", 0), ("conf/all/rp_filter", 0)):
        pathlib.Path(f"/proc/sys/net/ipv4/{name}").write_text(f"{value}\n")
    ip("rule add pref 1000 lookup local")
    ip("rule del pref 0")


def ip(command: str) -> None:
    """Run `ip` in the namespace of this thread; raises CalledProcessError."""
    subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)


class Namespace:
    """A network namespace: it exists as long as somebody has its descriptor, or a process runs in it."""

    def __init__(self) -> None:
        self.descriptor = in_own_thread(_make)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        self.run(lambda: ip("link set lo up"))

    def enter(self) -> None:
        """Move this thread into the namespace; what it starts then runs there."""
        if _LIBC.setns(self.descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def run(self, work: Callable[[], T]) -> T:
        """Do some work in the namespace, in a thread of its own."""

        def inside() -> T:
            self.enter()
            return work()

        return in_own_thread(inside)


def _make() -> int:
    if _LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def in_own_thread(work: Callable[[], T]) -> T:
    """Do some work in a thread that ends with it, because a thread that changed its namespace serves nothing else."""
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except (OSError, subprocess.CalledProcessError) as exc:
            failures.append(exc)

    thread = threading.Thread(target=body, name="namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
