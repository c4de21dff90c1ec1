"""Ties a server to its folder and to its parent, then becomes that server. Run as a script, with no site-packages.

Arguments: signal at the parent's death, parent's pid, user and group id (-1: stay who you are), lock file, command.

- The lock is inherited by the server and by all that it forks, so that it ends with the last of them: a folder never
  has two servers, and a new one waits until the old one's processes are gone.
- The death signal is set after the user was changed, because changing it clears the signal.
"""

import ctypes
import fcntl
import os
import sys
import time

LOCK_WAIT_S = 10.0
PR_SET_PDEATHSIG = 1


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


def main(death_signal: int, parent: int, user: int, group: int, lock: str, *command: str) -> None:
    """Take the lock, drop to the user, ask for the death signal, and replace this process by `command`."""
    _lock(lock)
    if user >= 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit("this system cannot end a server together with its parent")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:5]), *sys.argv[5:])  # type: ignore[arg-type]
