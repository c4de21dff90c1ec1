"""Locks a folder, asks to die with the parent, and then becomes the server. Run as a script, with no site-packages.

Arguments: signal at the parent's death, parent's pid, user and group id (-1: do not change), lock file, command.

- The server and all processes that it forks inherit the lock, so it is held until the last of them ends: a folder never
  has two servers, and a new server waits until the processes of the old one are gone.
- The death signal is set after the change of user, because that change clears it.
- A server that root starts as another user keeps one capability, to enter folders (CAP_DAC_READ_SEARCH), so that data
  and programs may be below a folder that only root can enter. Where root does not have it, nothing is kept.
"""

import ctypes
import fcntl
import os
import sys
import time

LOCK_WAIT_S = 10.0
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def _lock(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                sys.exit(f"another server still runs in this folder (it holds {path})")
            time.sleep(0.01)
        else:
            return


def drop_to(user: int, group: int, libc: ctypes.CDLL) -> None:
    """Change to the user, and keep the capability to enter folders if the process has it."""
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_READ_SEARCH
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; the same, upper halves
    if libc.capset(header, data) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)


def main(death_signal: int, parent: int, user: int, group: int, lock: str, *command: str) -> None:
    """Take the lock, change to the user, set the death signal, and replace this process with `command`."""
    _lock(lock)
    libc = ctypes.CDLL(None)
    if user >= 0:
        drop_to(user, group, libc)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit("this system cannot end a server together with its parent")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:5]), *sys.argv[5:])  # type: ignore[arg-type]
