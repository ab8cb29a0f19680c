"""Files that are not objects yet, in ``%wherry/tmp``, and locks, in ``%wherry/locks``.

Owns: their names, that a file is locked as long as its writer lives, and the sweep of what a kill left.
Does not own: how a file becomes an object (``landing``).

A process that ends here leaves a temporary file, which is no object. Whoever writes looks for such files
once a minute and sweeps them. A lock file stays for ever; its lock ends with its holder.
"""

from __future__ import annotations

import fcntl
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wherry.wire.failpoints import failpoint
from wherryd.stores.base import ObjectStat
from wherryd.stores.folder.landing import sync_file

RESERVED = "%wherry"
"""The one name in the root that belongs to no key."""

_LOCKS = 64
#: A writer has locked its file long before; one that was stopped for longer fails and tries again.
_SETTLED_S = 60
_SWEEP_EVERY_S = 60
#: Where files can't be locked, one that was not written for so long is nobody's.
_ABANDONED_S = 86_400

_BEFORE_SWEEP = failpoint("stores.folder.sweep.before-remove")


class Temporary:
    """A file that is being written."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def date_after(self, mtime_ns: int) -> None:
        """Make its time stamp later than another's, so that no ETag of a key comes twice."""
        if os.fstat(self.fd).st_mtime_ns <= mtime_ns:
            os.utime(self.fd, ns=(mtime_ns + 1, mtime_ns + 1))

    def sync(self) -> None:
        """Bring its bytes to the disk."""
        sync_file(self.fd)

    def stat(self, key: str) -> ObjectStat:
        """What it will be as an object."""
        return stat_of(key, os.fstat(self.fd))


class Workshop:
    """``%wherry/`` of one store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._temporaries = os.path.join(root, RESERVED, "tmp")
        self._locks = os.path.join(root, RESERVED, "locks")
        self._swept_at = -math.inf  # the folder's time, which may not be ours

    @contextmanager
    def temporary(self, token: str) -> Iterator[Temporary]:
        """Make a file to write to; its name is gone afterwards, whatever became of it.

        Args:
            token: a name that nobody else takes.

        Raises:
            FileNotFoundError: the store's folder is not there.
        """
        path = f"{self._temporaries}/{token}"
        fd = self._open(path, os.O_CREAT | os.O_EXCL)
        try:
            _lock_nowait(fd)
            self._sweep_now_and_then(os.fstat(fd).st_mtime)
            yield Temporary(path, fd)
        finally:
            with suppress(OSError):
                os.unlink(path)
            os.close(fd)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Keep all others from replacing ``key``, in this process and in any other."""
        fd = self._open(f"{self._locks}/{zlib.crc32(key.encode()) % _LOCKS:02x}", os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._make(os.path.dirname(path))
            return os.open(path, flags, 0o666)

    def _make(self, folder: str) -> None:
        for path in (f"{self._root}/{RESERVED}", folder):
            with suppress(FileExistsError):
                os.mkdir(path)

    def _sweep_now_and_then(self, now: float) -> None:
        """Remove what ended processes left; what is too young is met again the next time."""
        if 0 <= now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        with suppress(OSError), os.scandir(self._temporaries) as found:
            for item in found:
                with suppress(OSError):
                    _sweep(item.path, now)


def stat_of(key: str, stat: os.stat_result) -> ObjectStat:
    """What a file's stat says of the object. Its ETag changes with each write: see ``date_after``."""
    etag = f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
    return ObjectStat(key=key, size=stat.st_size, etag=etag, modified=stat.st_mtime)


def _sweep(path: str, now: float) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        age_s = now - os.fstat(fd).st_mtime
        if age_s > _ABANDONED_S or (age_s > _SETTLED_S and _lock_nowait(fd)):
            _BEFORE_SWEEP()
            os.unlink(path)
    finally:
        os.close(fd)


def _lock_nowait(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
