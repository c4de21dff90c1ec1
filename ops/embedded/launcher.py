"""Locks a folder, asks to die with the parent, and then becomes the server. Run as a script, with no site-packages.

Arguments: signal at the parent's death, parent's pid, user and group id (-1: do not change), rights, working folder,
lock file, command.

- The server and all processes that it forks inherit the lock, so it is held until the last of them ends: a folder never
  has two servers, and a new server waits until the processes of the old one are gone.
- The death signal is set after the change of user, because that change clears it.
- The working folder is entered before the change of user. The server reaches its data as `/proc/self/cwd`, so that the
  folders above may be closed to it, and it needs no capability.
- Rights: `all` keeps the capabilities of this process. `none` drops every one, from all sets, for good. `fence` drops
  all but one harmless capability, CAP_NET_BIND_SERVICE: the kernel lets nobody look into a process that has a
  capability which he has not, also not another process of the same account.
- Nothing that is started here can gain rights by a set-user-id program, and what it creates is closed to others.
"""

import ctypes
import fcntl
import os
import sys
import time

LOCK_WAIT_S = 10.0
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
CAP_NET_BIND_SERVICE = 10
CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64  # the kernel refuses numbers that it does not know


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


def _drop(libc: ctypes.CDLL, user: int, group: int, kept: int) -> None:
    """Change to the user, if there is one, and give up all capabilities but those in the bits of `kept`."""
    for capability in range(_CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused without CAP_SETPCAP; no_new_privs covers that
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if user >= 0:
        libc.prctl(PR_SET_KEEPCAPS, 1 if kept else 0, 0, 0, 0)
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable; the upper halves
    if libc.capset(header, data) == 0 and kept:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0)


def main(
    death_signal: int, parent: int, user: int, group: int, rights: str, folder: str, lock: str, *command: str
) -> None:
    """Take the lock, change to the user, set the death signal, and replace this process with `command`."""
    os.umask(0o077)
    _lock(lock)
    os.chdir(folder)
    libc = ctypes.CDLL(None)
    if rights != "all":
        _drop(libc, user, group, 1 << CAP_NET_BIND_SERVICE if rights == "fence" else 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit("this system cannot end a server together with its parent")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:5]), *sys.argv[5:])  # type: ignore[arg-type]
