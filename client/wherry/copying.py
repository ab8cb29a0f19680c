"""Copies between open files. Owns: the fastest way that the two filesystems allow, in bounded memory.

Does not own: what is copied or why, names, what an error means.

A reflink shares the blocks and copies nothing (``ioctl_ficlonerange(2)``); ``copy_file_range(2)``
copies in the kernel; where neither is to be had, ``sendfile(2)``, then plain reads and writes. Holes
of a sparse file stay holes (``lseek(2)``, SEEK_DATA).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator

from wherry.wire.failpoints import failpoint

_MIDDLE = failpoint("capture.copy.middle")

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_FICLONERANGE = 0x4020940D  # likewise: _IOW(0x94, 13, struct file_clone_range)
#: A multiple of every filesystem's block.
_SHARED_BYTES = 1 << 20
_STEP_BYTES = 16 << 20
_BUFFER_BYTES = 1 << 20
_BLOCK_BYTES = 512  # the unit of st_blocks

# What says "not between these two files, not on this system", and nothing about the files' health.
_NOT_THIS_WAY = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.ENOTSOCK,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
    errno.EOVERFLOW,
}


class EndedEarly(Exception):
    """The source has fewer bytes than it had when the copy began."""


class WriteFailed(Exception):
    """The target took no bytes."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def copy(source: int, target: int, seen: os.stat_result) -> None:
    """Make ``target``, an empty file, hold the bytes of ``source``.

    Args:
        source: a regular file, open for reading.
        target: open for writing.
        seen: what ``fstat`` said of the source just before.

    Raises:
        EndedEarly: the source shrank meanwhile.
        WriteFailed: a plain write failed.
        OSError: something failed where the system does not tell which of the two files it was.
    """
    if _reflink(source, target):
        return
    for offset, end in _data(source, seen):
        copy_range(source, target, offset, end)
    os.ftruncate(target, seen.st_size)


def can_share(source: int, target: int) -> bool:
    """Whether a reflink is possible; then ``target``, an empty file, has the first bytes of ``source``."""
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, 0, _SHARED_BYTES, 0))
    except OSError:
        return False
    return True


def write_all(target: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises ``WriteFailed``."""
    left = memoryview(data)
    while left:
        try:
            count = os.pwrite(target, left, offset)
        except OSError as error:
            raise WriteFailed(error) from error
        left = left[count:]
        offset += count


def _reflink(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # whatever it is, the copy that follows shows whether it matters
        return False
    return True


def _data(source: int, seen: os.stat_result) -> Iterator[tuple[int, int]]:
    """Find the stretches of a file that are not holes."""
    if seen.st_blocks * _BLOCK_BYTES >= seen.st_size:
        yield 0, seen.st_size
        return
    end = 0
    while end < seen.st_size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        end = min(os.lseek(source, start, os.SEEK_HOLE), seen.st_size)
        yield start, end


def copy_range(source: int, target: int, offset: int, end: int) -> None:
    """Copy the bytes from ``offset`` up to ``end``, to the same place. Raises as ``copy``."""
    for way in _IN_KERNEL:
        offset = _go_on(way, source, target, offset, end)
    # Where the others stop without an error, plain reads tell whether the file ended.
    while offset < end:
        data = os.pread(source, min(end - offset, _BUFFER_BYTES), offset)
        if not data:
            raise EndedEarly
        write_all(target, data, offset)
        offset += len(data)
        _MIDDLE()


Way = Callable[[int, int, int, int], int]


def _go_on(way: Way, source: int, target: int, offset: int, end: int) -> int:
    """Copy one way as far as it goes; return the offset that was reached."""
    while offset < end:
        try:
            count = way(source, target, offset, min(end - offset, _STEP_BYTES))
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                break
            raise
        if not count:
            break
        offset += count
        _MIDDLE()
    return offset


def _by_range(source: int, target: int, offset: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset, offset)


def _by_sendfile(source: int, target: int, offset: int, count: int) -> int:
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)


_IN_KERNEL: tuple[Way, ...] = (
    *((_by_range,) if hasattr(os, "copy_file_range") else ()),
    _by_sendfile,
)
