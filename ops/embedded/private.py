"""Folders and files of the embedded servers: only the user of this process may enter or read them.

Texts and numbers lie in the servers' data, and passwords in their configuration. Other users of the machine share the
file system with them, so everything is made with mode 0700 or 0600, whatever the umask.
"""

import os
import pathlib
import stat
from collections.abc import Iterable
from typing import IO

from messaging.errors import SetupError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class NotPrivate(SetupError):
    """A folder cannot be kept from other users of this machine."""

    reason = "NOT_PRIVATE"

    def __init__(self, folder: pathlib.Path, why: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} {why}: choose a folder of its own")


def private_folder(folder: pathlib.Path) -> None:
    """Make a folder with mode 0700, or take an existing one over; raises NotPrivate."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_mode & stat.S_ISVTX:
            raise NotPrivate(folder, "is shared with all users of this machine")
        if status.st_uid != os.geteuid():
            os.chown(folder, os.geteuid(), os.getegid())
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    except FileExistsError as exc:
        raise NotPrivate(folder, "is no folder") from exc
    except PermissionError as exc:
        raise NotPrivate(folder, f"cannot be kept from other users ({exc.strerror}; it is not yours)") from exc


def write_private(path: pathlib.Path, text: str) -> None:
    """Replace a file by one with mode 0600 at once: readers see the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    with open(draft, "x", encoding="utf-8", opener=_for_the_owner) as file:
        file.write(text)
    draft.replace(path)


def append_private(path: pathlib.Path) -> IO[bytes]:
    """Open a file for appending; a new one has mode 0600."""
    return open(path, "ab", opener=_for_the_owner)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def tighten(paths: Iterable[pathlib.Path]) -> None:
    """Take files and whole trees that an earlier version made from other users; does nothing to what is not there."""
    for path in paths:
        _take_from_others(path)
        if path.is_symlink() or not path.is_dir():
            continue
        for parent, folders, files, descriptor in os.fwalk(path, follow_symlinks=False):
            for name in (*folders, *files):
                _take_from_others(pathlib.Path(parent, name), name, descriptor)


def _take_from_others(path: pathlib.Path, name: str = "", parent: int | None = None) -> None:
    where: pathlib.Path | str = name if parent is not None else path
    try:
        status = os.stat(where, dir_fd=parent, follow_symlinks=False)
        if status.st_mode & _OTHERS and not stat.S_ISLNK(status.st_mode):
            os.chmod(where, stat.S_IMODE(status.st_mode) & ~_OTHERS, dir_fd=parent)
    except FileNotFoundError:
        return
    except PermissionError as exc:
        raise NotPrivate(path, f"cannot be kept from other users ({exc.strerror}; it is not yours)") from exc
