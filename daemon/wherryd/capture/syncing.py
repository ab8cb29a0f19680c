"""Bytes and names, made to survive a loss of power.

Owns: which system call does it, and telling a disk that refuses bytes from a file that can't be opened.
Does not own: whose bytes, when, or what a refusal means (``durability``). Everything here blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable


class SyncRefused(OSError):
    """The disk did not take the bytes: they may read well from memory now, and be gone later."""


def sync_filesystem(folder: str) -> None:
    """Sync all that is written below ``folder``: syncfs(2), which tells of errors since Linux 5.8."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        raise OSError(errno.ENOSYS, "no syncfs here")
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(file):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(file)


def sync_folder(spool: str, folder: str) -> None:
    """Sync a folder's files, its own names and those of the folders above it up to the spool.

    Raises:
        SyncRefused: the disk did not take something.
        OSError: something can't be opened now.
    """
    path = os.path.join(spool, folder)
    try:
        with os.scandir(path) as found:
            files = [entry.path for entry in found]
        for each in files:
            _sync_if_there(
                each
            )  # some may have been sent meanwhile, and the others need it all the same
        above = os.path.dirname(path)
        for each in (path, above, os.path.dirname(above), spool):
            _sync(each)
    except FileNotFoundError:
        pass  # freed meanwhile


def sync_in_place(files: Iterable[str]) -> None:
    """Sync files of the user's, and their names. What is gone or closed to us is told when it is read.

    Raises:
        SyncRefused: the disk did not take something.
        OSError: something can't be opened now.
    """
    folders: dict[str, None] = {}
    for file in files:
        folders[os.path.dirname(file)] = None
        _sync_if_there(file)
    for folder in folders:
        _sync_if_there(folder)


def _sync_if_there(path: str) -> None:
    try:
        _sync(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass


def _sync(path: str) -> None:
    # Without O_NONBLOCK a FIFO that took the place of a file would keep us for ever.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            os.fsync(file)
    except OSError as error:
        raise SyncRefused(error.errno, error.strerror, path) from error
    finally:
        os.close(file)
