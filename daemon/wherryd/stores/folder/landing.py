"""The system calls by which a file gets its final name and survives a power loss.

Owns: naming without replacing, reflinks, syncing. Does not own: which file, and what an error means.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable
from functools import cache

from wherryd.stores.folder.problems import UNSUPPORTED

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCL = 4  # macOS


def name_new(temporary: str, final: str, fd: int) -> None:
    """Give a file its final name unless that is taken, at once and whole (link(2)).

    Args:
        temporary: its name until now; it may or may not go.
        final: its name to be.
        fd: the file, opened; tells its own success from another's.

    Raises:
        FileExistsError: another file has the name.
        OSError: anything else.
    """
    try:
        os.link(temporary, final, follow_symlinks=False)
    except FileExistsError:
        # NFS repeats a call whose answer it lost: the file that is there may be this one
        if not _is_same(final, fd):
            raise
    except OSError as exc:
        if exc.errno not in UNSUPPORTED | {errno.EMLINK}:
            raise
        _rename_new(temporary, final, fd)


def clone(source: int, target: int) -> bool:
    """Share a file's blocks with another, empty one (ioctl_ficlone(2)); whether that was possible."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def sync_file(fd: int) -> None:
    """Bring a file's bytes to the disk, through the disk's own cache too."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, full)


def sync_folder(path: str, root: int | None = None) -> None:
    """Bring a folder's names to the disk; nothing where the file system has no such call.

    Args:
        path: the folder.
        root: an opened folder that ``path`` is relative to.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        os.fsync(fd)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(fd)


def _rename_new(temporary: str, final: str, fd: int) -> None:
    """Rename without replacing (renameat2(2); renamex_np(2) on macOS)."""
    problem = _rename()(os.fsencode(temporary), os.fsencode(final))
    if problem in UNSUPPORTED:
        raise OSError(errno.ENOTSUP, "it can neither link nor rename without replacing")
    if problem and not _is_same(final, fd):
        raise OSError(problem, os.strerror(problem), final)


@cache
def _rename() -> Callable[[bytes, bytes], int]:
    """The system's call: from a name to a name; 0 or an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here, linux = _AT_FDCWD, libc.renameat2
        return lambda old, new: _errno(linux(here, old, here, new, _RENAME_NOREPLACE))
    if hasattr(libc, "renamex_np"):
        macos = libc.renamex_np
        return lambda old, new: _errno(macos(old, new, _RENAME_EXCL))
    return lambda *_: errno.ENOSYS


def _errno(result: int) -> int:
    return ctypes.get_errno() if result else 0


def _is_same(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False
