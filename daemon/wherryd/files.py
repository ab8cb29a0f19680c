"""Files and folders by their path: opened, when something else may be there by now; synced.

Owns: that whoever opens is not kept. Does not own: what is read, or how its absence is told. All blocks for
a moment.
"""

from __future__ import annotations

import errno
import os
import stat


class NotRegular(OSError):
    """What is there is no regular file: a FIFO, a device, a folder."""


def open_regular(path: str) -> int:
    """Open a regular file for reading; its descriptor is the caller's.

    Raises:
        NotRegular: something else is there.
        OSError: as ``os.open``.
    """
    # Without O_NONBLOCK the open of a FIFO waits for a writer, for ever where there is none.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise NotRegular(errno.EINVAL, "not a regular file", path)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
