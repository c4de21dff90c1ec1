"""Which account PostgreSQL runs as when root starts it, because it refuses to run as root.

It is an account that no other process has: who shares an account with a server may look into its memory and its files.
So a number without a name is taken, from a range that distributions leave free (60578 to 61183).
"""

import os
import pathlib
import pwd

import attrs

_UNUSED = range(60_578, 61_184)
_NAMED = ("postgres", "nobody")


@attrs.frozen
class Account:
    """The user and group that a server runs as."""

    user: int
    group: int


def account_of_the_server() -> Account | None:
    """Return the server's own account; None means the account of this process, which is not root.

    Where none is free, as in a container with few accounts, a named one is used: `postgres` or `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for number in _UNUSED:
        if _is_mapped(number) and not _has_name(number):
            return Account(number, number)
    return named_account()


def named_account() -> Account | None:
    """Return an account that has a name, which initdb asks for; None as above."""
    if os.geteuid() != 0:
        return None
    for name in _NAMED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(65_534, 65_534)


def _has_name(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


def _is_mapped(number: int) -> bool:
    """Whether this user namespace knows the number, as a user and as a group; yes when the kernel does not say."""
    for kind in ("uid_map", "gid_map"):
        try:
            lines = pathlib.Path("/proc/self", kind).read_text().splitlines()
        except OSError:
            continue
        ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in lines)]
        if not any(first <= number < first + count for first, count in ranges):
            return False
    return True


def give(folder: pathlib.Path, account: Account) -> None:
    """Make an account the owner of a folder and of everything in it; links are not followed."""
    if folder.stat().st_uid == account.user:
        return
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, account.user, account.group, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, account.user, account.group)  # last: a crash before it repeats the whole


def can_be_reached(path: pathlib.Path, account: Account) -> bool:
    """Whether the account may enter every folder on the way to a file that everybody may read."""
    return all(
        folder.stat().st_mode & (0o100 if folder.stat().st_uid == account.user else 0o001)
        for folder in (*reversed(path.parents), path)
    )
