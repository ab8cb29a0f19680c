"""A large file, copied while the daemon still fetches it.

Owns: how far that is, and that nothing comes of it unless the file that was copied from is the one which the
daemon gives in the end. Does not own: files that are here (``taking``), where exactly they may be written
(``safe_root``).

Where both lie on one disk that knows reflinks, nothing is copied ahead: sharing the blocks at the end costs
next to nothing.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from typing import Self

from wherry import messages as pb
from wherry.copying import EndedEarly, WriteFailed, can_share, copy_range
from wherry.safe_root import SafeRoot, refused


class Ahead:
    """Copies what is told of a coming file. A context manager, at whose end nothing unfinished is left."""

    def __init__(self, target: SafeRoot) -> None:
        self._target = target
        self._copy: _Copy | None = None
        self._passed_over = ""
        """The path of one that can't, or need not, be copied ahead."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def follow(self, coming: pb.ComingFile) -> None:
        """Copy what is there of a file. Raises ``BadPath``, ``DownloadError``: it can't be written."""
        if coming.path == self._passed_over:
            return
        if self._copy is None or not self._copy.is_called(coming.path, coming.file):
            self._drop()
            self._copy = _begin(coming.path, coming.file, self._target)
        if self._copy is None or not self._copy.go_on(coming.bytes):
            self._drop()
            self._passed_over = coming.path

    def finish(self, path: str, file: str, size: int) -> bool:
        """Copy the rest, and give the copy its name; False where there is none, or it does not count.

        Args:
            file: where the daemon has all of it, compared with its digest.
            size: of it, in bytes.

        Raises as ``follow``.
        """
        copy = self._copy
        if copy and copy.is_of(path, file) and copy.has(size) and copy.go_on(size):
            self._copy = None
            copy.keep()
            return True
        self._drop()
        return False

    def _drop(self) -> None:
        copy, self._copy = self._copy, None
        if copy:
            copy.drop()


class _Copy:
    """A file that is being copied.

    Args:
        source: open for reading.
        created: gives the target, and its name where it ends well.
    """

    def __init__(
        self, path: str, file: str, source: int, created: AbstractContextManager[int]
    ) -> None:
        self._path = path
        self._file = file
        self._source = source
        self._created = created
        self._target = created.__enter__()
        self._done = 0

    def is_called(self, path: str, file: str) -> bool:
        """Whether it is the copy of what had this name: by now it may have come whole, and have another."""
        return (path, file) == (self._path, self._file)

    def is_of(self, path: str, file: str) -> bool:
        """Whether it is the copy of this very file, and of none that was begun before it."""
        with suppress(OSError):
            return path == self._path and os.path.samestat(os.stat(file), os.fstat(self._source))
        return False

    def has(self, size: int) -> bool:
        """Whether the source has so many bytes by now, and no others."""
        return os.fstat(self._source).st_size == size

    def shares(self) -> bool:
        """Whether the blocks can be shared instead."""
        return can_share(self._source, self._target)

    def go_on(self, end: int) -> bool:
        """Copy up to there; False where the source can't be read. Raises ``DownloadError``."""
        try:
            copy_range(self._source, self._target, self._done, end)
        except WriteFailed as error:
            raise refused(self._path, error.cause) from error
        except (EndedEarly, OSError):  # whichever of the two files it was: the usual way tells
            return False
        self._done = max(self._done, end)
        return True

    def keep(self) -> None:
        """Give it its name."""
        os.close(self._source)
        self._created.__exit__(None, None, None)

    def drop(self) -> None:
        """Remove it."""
        os.close(self._source)
        dropped = _Dropped()
        self._created.__exit__(_Dropped, dropped, None)


class _Dropped(Exception):
    """Nothing comes of it."""


def _begin(path: str, file: str, target: SafeRoot) -> _Copy | None:
    """None: it can't be opened, or the blocks can be shared. Raises what ``SafeRoot.create`` does."""
    try:
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        copy = _Copy(path, file, source, target.create(path))
    except BaseException:
        os.close(source)
        raise
    if not copy.shares():
        return copy
    copy.drop()
    return None
