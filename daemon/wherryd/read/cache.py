"""Objects of stores that this machine has, whole and checked, for programs to copy from.

Owns: the folder ``cache`` of a home: what is in it, how much that may be, what leaves it first; objects that
are on their way into it. Does not own: fetching them (``fetching``), what they are to a version
(``delivery``). All but the constructor blocks.

An object is named by the SHA-256 of its bytes, so that one of two stores, or of two projects, is one. It
has its name only when all its bytes are there and have been compared. What came in during another boot was
perhaps not on the disk when the power went: it is compared again before its first use.

::

    cache/since-BOOT/ab/…  objects that were compared in this boot, by the first two digits of their names
    cache/linked/ab/…      objects that programs have, or had, hard links to: compared before each use
    cache/partial/…        on their way: their bytes, and a byte for each range that tells whether it is there

A kill leaves at most a partial one, which goes on with the ranges that are missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock

#: Objects are fetched in ranges of so many bytes, and counted as there by them.
RANGE_BYTES = 8 << 20
#: Without a setting: so much of what is free, with what the cache has.
FREE_SHARE = 0.25
#: With one, so much stays free for the queue and the spool.
LEFT_BYTES = 1 << 30
#: A sparse file counts for what it takes, in these units.
_BLOCK_BYTES = 512
#: When something has to leave, so much more does: not at each object again.
_SLACK = 0.1
_PIECE_BYTES = 1 << 20
_WRITABLE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_BOOT, _LINKED, _PARTIAL = "since-", "linked", "partial"

_AFTER_RANGE = failpoint("read.cache.after-range")
_BEFORE_KEEP = failpoint("read.cache.before-keep")
_AFTER_KEEP = failpoint("read.cache.after-keep")
_AFTER_LEND = failpoint("read.cache.after-lend")
_BEFORE_REMOVE = failpoint("read.cache.before-remove")


class Held(msgspec.Struct, frozen=True):
    """What the cache holds."""

    bytes: int
    files: int


IsInUse = Callable[[str], bool]


class _Found(NamedTuple):
    """A file of the cache."""

    name: str
    path: str
    bytes: int
    used_ns: int


class CacheFolder:
    """The folder. Threads may share it.

    Args:
        root: where it is; made when it is first needed.
        boot: tells this boot from all others; "" where the system has no such thing.
        clock: tells when something was used.
        is_in_use: whether an object, by its name, has to stay; asked in any thread.
        quota_bytes: that it may hold; None: a part of what is free. May be set at any time.
    """

    def __init__(
        self,
        root: str,
        boot: str,
        clock: Clock,
        is_in_use: IsInUse,
        quota_bytes: int | None = None,
    ) -> None:
        self._root = root
        self._objects = _BOOT + (boot or clock.token())
        self._clock = clock
        self._is_in_use = is_in_use
        self.quota_bytes = quota_bytes
        self._held: int | None = None  # bytes of what is not on its way, once they were counted
        self._kept = 0  # objects that have come
        self._changing = threading.Lock()  # whoever is told of an object finds it, or it is gone

    def find(self, name: str, size: int | None) -> str | None:
        """Where an object is, which counts as used now; None where this boot has none.

        Args:
            name: ``<hex>``, the SHA-256 of its bytes.
            size: of it, in bytes; None where only the store knows.
        """
        path = self._path(self._objects, name)
        with self._changing:
            if not _is_whole(path, size):
                return None
            with contextlib.suppress(OSError):  # removed just now, by hand
                self._note_use(path)
            return path

    def lend(self, name: str) -> str | None:
        """Let a program make hard links to an object, which is trusted no more from now on; where it is then.

        None where it is not there. Whoever was told of it before, and has not opened it, finds it no more.
        """
        path, lent = self._path(self._objects, name), self._path(_LINKED, name)
        with self._changing:
            with contextlib.suppress(FileNotFoundError):
                _move(path, lent)
                _AFTER_LEND()
            return lent if _is_whole(lent, None) else None

    def adopt(self, name: str, size: int | None) -> str | None:
        """Look for what another boot has left: it is compared, and this one's from now on.

        What was lent to programs is compared each time, and stays lent.
        """
        lent = self._path(_LINKED, name)
        if _is_whole(lent, size) and _sha256_of(lent) == name:
            self._note_use(lent)
            return lent
        self._remove(lent)
        for folder in self._folders():
            earlier = self._path(folder, name)
            if folder != self._objects and _is_whole(earlier, size):
                if _sha256_of(earlier) == name:
                    _move(earlier, self._path(self._objects, name))
                    self._tidy(earlier)
                    break
                self._remove(earlier)
        return self.find(name, size)

    def open_partial(self, name: str, size: int | None) -> Partial:
        """Go on with an object that is to come in; the caller closes it."""
        path = os.path.join(self._root, _PARTIAL, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return Partial(path, size)

    def keep(self, name: str, partial: Partial) -> str:
        """Give an object that is whole and compared its name; return where it is."""
        partial.cut()
        path = self._path(self._objects, name)
        with self._changing:
            _BEFORE_KEEP()
            _move(partial.path, path)
            _AFTER_KEEP()
            self._kept += 1
            if self._held is not None:
                self._held += partial.size_now()
        partial.protect()
        self._note_use(path)
        return path

    def drop(self, name: str) -> None:
        """Forget what has come of an object: there is no room for it."""
        self._remove(os.path.join(self._root, _PARTIAL, name))

    def make_room(self, size: int) -> bool:
        """Remove what was not used for the longest time, until there is room for ``size`` more bytes.

        False where there is none, and then nothing is removed: it is more than the quota, or what is in use
        takes too much of it. What is on its way is part of ``size``, and not looked at.
        """
        quota = self.quota()
        if size > quota:
            return False
        if self._held_bytes() + size <= quota:
            return True
        found = self._found()
        stays = sum(each.bytes for each in found if self._is_in_use(each.name))
        if stays + size > quota:
            return False
        self._remove_from(found, max(0, int(quota * (1 - _SLACK)) - size))
        return self._held_bytes() + size <= quota

    def trim(self, most_bytes: int) -> Held:
        """Remove what was not used for the longest time, down to ``most_bytes``; return what was removed.

        What is in use stays, even where there is more of it.
        """
        return self._remove_from(self._found(), most_bytes)

    def count(self) -> Held:
        """Look how much there is."""
        found = self._found()
        return Held(sum(each.bytes for each in found), len(found))

    def _found(self) -> list[_Found]:
        """All that is there, but for what is on its way; what was used last comes last."""
        kept = self._kept
        found = sorted(self._stats(), key=lambda each: each.used_ns)
        with self._changing:
            if self._kept == kept:  # nothing came meanwhile that may or may not be in it
                self._held = sum(each.bytes for each in found)
        return found

    def _remove_from(self, found: list[_Found], most_bytes: int) -> Held:
        held = sum(each.bytes for each in found)
        removed = files = 0
        for each in found:
            if held - removed <= most_bytes:
                break
            with self._changing:
                if self._is_in_use(each.name):
                    continue
                _BEFORE_REMOVE()
                self._remove(each.path)
                if self._held is not None:
                    self._held -= each.bytes
            removed, files = removed + each.bytes, files + 1
        return Held(removed, files)

    def quota(self) -> int:
        """How many bytes the cache may hold now; some of the disk is always left to others."""
        held = self._held_bytes()
        try:
            there = os.path.isdir(self._root)
            free = shutil.disk_usage(self._root if there else os.path.dirname(self._root)).free
        except OSError:
            return 0
        if self.quota_bytes is None:
            return int((free + held) * FREE_SHARE)
        return max(0, min(self.quota_bytes, held + free - LEFT_BYTES))

    def _held_bytes(self) -> int:
        if self._held is None:
            self._found()
        return self._held or 0

    def _path(self, kind: str, name: str) -> str:
        return os.path.join(self._root, kind, name[:2], name)

    def _note_use(self, path: str) -> None:
        # Of access alone: a program may have hard links to it, for which it has not changed.
        changed_ns = os.stat(path).st_mtime_ns
        os.utime(path, ns=(int(self._clock.now() * 1e9), changed_ns))

    def _folders(self) -> list[str]:
        """Of this boot, and of those before."""
        try:
            return [name for name in os.listdir(self._root) if name.startswith(_BOOT)]
        except OSError:
            return []

    def _stats(self) -> Iterator[_Found]:
        for kind in (*self._folders(), _LINKED, _PARTIAL):
            for folder, _, names in os.walk(os.path.join(self._root, kind)):
                for name in names:
                    if kind != _PARTIAL or not self._is_in_use(name):
                        path = os.path.join(folder, name)
                        with contextlib.suppress(OSError):
                            yield _seen(name, path, is_partial=kind == _PARTIAL)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._tidy(path)

    def _tidy(self, path: str) -> None:
        """Another boot's folders go with the last that was in them."""
        below = os.path.dirname(path)
        folder = os.path.dirname(below)
        if os.path.basename(folder).startswith(_BOOT) and not folder.endswith(self._objects):
            with contextlib.suppress(OSError):
                os.rmdir(below)
                os.rmdir(folder)


class Partial:
    """An object on its way into the cache.

    Its file is as long as the object, and a byte for each range longer; a range that is there has a one. Of
    an object whose size is not known nothing is kept for later: it is begun anew.
    """

    def __init__(self, path: str, size: int | None) -> None:
        self.path = path
        self._size = size
        self.ranges = (
            [(at, min(RANGE_BYTES, size - at)) for at in range(0, size, RANGE_BYTES)]
            if size
            else []
        )
        """Offset and size of each range, in order."""
        self._count = len(self.ranges)
        #: Whether bytes of an earlier try count as there.
        self.is_resumed = False
        self._file = os.open(path, _WRITABLE, 0o600)
        try:
            self._marks = self._read_marks()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def has(self, index: int) -> bool:
        """Whether a range is there."""
        return bool(self._marks[index])

    def write(self, piece: memoryview, offset: int) -> None:
        """Write all of a piece."""
        while piece:
            count = os.pwrite(self._file, piece, offset)
            piece, offset = piece[count:], offset + count

    def note(self, index: int) -> None:
        """A range is there."""
        assert self._size is not None
        os.pwrite(self._file, b"\1", self._size + index)
        self._marks[index] = 1
        _AFTER_RANGE()

    def feed(self, update: Callable[[memoryview], object], offset: int, size: int) -> None:
        """Give bytes that were written to a hash."""
        buffer = memoryview(bytearray(min(_PIECE_BYTES, size)))
        while size:
            count = os.preadv(self._file, [buffer[:size]], offset)
            if not count:
                raise OSError(errno.EIO, "a file of the cache was cut off", self.path)
            update(buffer[:count])
            offset, size = offset + count, size - count

    def begin_anew(self) -> None:
        """Nothing of what is there counts."""
        self.is_resumed = False
        self._renew()
        self._marks = self._read_marks()

    def cut(self) -> None:
        """All is there: take off what is not the object's."""
        if self._size is not None:
            os.ftruncate(self._file, self._size)

    def protect(self) -> None:
        """Nobody is to write to it from now on."""
        os.fchmod(self._file, 0o400)

    def size_now(self) -> int:
        """How many bytes the file has."""
        return os.fstat(self._file).st_size

    def _renew(self) -> None:
        """Begin an empty file: programs may be copying from the one that was told them."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        made = os.open(self.path, _WRITABLE | os.O_EXCL, 0o600)
        os.dup2(made, self._file, inheritable=False)
        os.close(made)

    def _read_marks(self) -> bytearray:
        if self._size is None:
            self._renew()
            return bytearray()
        whole, there = self._size + self._count, os.fstat(self._file).st_size
        if there == self._size and there:  # cut, and not renamed
            os.ftruncate(self._file, whole)
            self.is_resumed = True
            os.pwrite(self._file, b"\1" * self._count, self._size)
        elif there != whole:
            self._renew()
            os.ftruncate(self._file, whole)
        marks = bytearray(os.pread(self._file, self._count, self._size))
        self.is_resumed = self.is_resumed or any(marks)
        return marks


def is_lent(path: str) -> bool:
    """Whether programs may have hard links to a file of the cache, and so may change it."""
    return os.path.basename(os.path.dirname(os.path.dirname(path))) == _LINKED


def _is_whole(path: str, size: int | None) -> bool:
    try:
        seen = os.stat(path)
    except OSError:
        return False
    return size is None or seen.st_size == size


def _move(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    os.rename(path, target)


def _seen(name: str, path: str, *, is_partial: bool) -> _Found:
    seen = os.stat(path, follow_symlinks=False)
    taken = min(seen.st_size, seen.st_blocks * _BLOCK_BYTES) if is_partial else seen.st_size
    return _Found(name, path, taken, seen.st_atime_ns)


def _sha256_of(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
