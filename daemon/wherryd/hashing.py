"""The SHA-256 of captured bytes.

Owns: reading spool files (and the user's, where ``immutable`` shares them) and telling when they are
not what was captured. Does not own: which thread does it, or when digests are kept (``prepare``).

Everything here blocks; hashlib lets other threads run while it works on a buffer. Each spool file is
opened once for all entries that lie in it back to back. Parts of a big file are hashed beside the whole,
out of the same buffers: on two cores that takes no longer, and no part can have other bytes than the whole.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from types import TracebackType
from typing import Protocol, Self

from wherry.errors import FileChanged, FileMissing, FileUnreadable
from wherryd.files import NotRegular, open_regular
from wherryd.model import Entry, FileStat, Source
from wherryd.stores.crc32c import Crc32c

#: Larger buffers were measured to be no faster, and leave the processor's cache.
_BUFFER_BYTES = 1 << 19
#: Where two threads hash, so much at a time: they meet after each.
_SHARED_BYTES = 2 << 20

#: (path, digest, size), as ``queue.save_digests`` takes them.
Digest = tuple[str, str, int]


class SourceFile:
    """A file that holds captured bytes, open for reading.

    Raises:
        FileMissing: nothing is there.
        FileUnreadable: it is there and can't be read.
        FileChanged: what is there is no regular file any more.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = open_regular(path)
        except FileNotFoundError as exc:
            raise FileMissing(f"{path} is gone, and its bytes were not sent yet") from exc
        except NotRegular as exc:
            raise FileChanged(f"{path} is no regular file any more") from exc
        except OSError as exc:
            raise FileUnreadable(f"{path} can't be read: {exc.strerror}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def check(self, entry: Entry) -> None:
        """Raise ``FileChanged`` where a file that is shared with the user is not as it was captured."""
        stat = source_of(entry).stat
        if stat is None:
            return
        seen = os.fstat(self._descriptor)
        if stat != FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns):
            raise FileChanged(
                f"The file of the entry {entry.path} changed after it was added as immutable",
                hint='Log it again, with policy="mutable" if it is still being written.',
            )

    def feed(self, offset: int, size: int, *hashes: hashlib._Hash) -> None:
        """Hash ``size`` bytes from ``offset``. Raises ``FileChanged`` if they are not there."""
        for piece in self._pieces(offset, size, _buffer(_BUFFER_BYTES)):
            for each in hashes:
                each.update(piece)

    def feed_both(
        self,
        offset: int,
        size: int,
        hashes: tuple[_Hash, _Hash],
        beside: ThreadPoolExecutor,
    ) -> None:
        """As ``feed``, with the first hash in another thread, out of the same buffer."""
        first, second = hashes
        for piece in self._pieces(offset, size, _buffer(_SHARED_BYTES)):
            other = beside.submit(first.update, piece)
            second.update(piece)
            other.result()

    def _pieces(self, offset: int, size: int, buffer: memoryview) -> Iterator[memoryview]:
        """Read piece after piece, each into the same buffer."""
        while size:
            count = self._read(buffer[:size], offset)
            if not count:
                raise FileChanged(
                    f"{self.path} ends at byte {offset}: it was cut off after capture"
                )
            yield buffer[:count]
            offset, size = offset + count, size - count

    def _read(self, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._descriptor, [buffer], offset)
        except OSError as exc:
            raise FileUnreadable(f"{self.path} can't be read: {exc.strerror}") from exc


class SlowHash:
    """The digest of one large entry, made in steps, so that small ones get their turn between them.

    Args:
        part_bytes: the digests of parts of this size are made as well; 0: none.
        with_crc32c: the CRC32C of the whole comes after them.
    """

    def __init__(self, entry: Entry, part_bytes: int = 0, *, with_crc32c: bool = False) -> None:
        self._entry = entry
        self._source = source_of(entry)
        self._sha256 = hashlib.sha256()
        self._done = 0
        self._parts = _Parts(part_bytes, Crc32c() if with_crc32c else None) if part_bytes else None
        self._file = SourceFile(self._source.file)

    @property
    def sums(self) -> bytes:
        """The digests of the parts, 32 bytes each, back to back, and perhaps 4 of the whole's CRC32C."""
        return self._parts.sums if self._parts else b""

    def step(self, limit_bytes: int) -> int:
        """Hash up to ``limit_bytes`` more and return how many; 0: all is hashed."""
        if not self._done:
            self._file.check(self._entry)
        size = min(limit_bytes, self._entry.size - self._done)
        offset = self._source.offset + self._done
        if self._parts is None:
            self._file.feed(offset, size, self._sha256)
        else:
            self._parts.feed(self._file, offset, size, self._sha256)
        self._done += size
        return size

    def digest(self) -> Digest:
        """Check the file once more and return the result."""
        self._file.check(self._entry)
        return self._entry.path, f"sha256:{self._sha256.hexdigest()}", self._entry.size

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()
        if self._parts is not None:
            self._parts.close()


class _Hash(Protocol):
    def update(self, piece: memoryview, /) -> None: ...


class _Both:
    """Two hashes that are one."""

    def __init__(self, *hashes: _Hash) -> None:
        self._hashes = hashes

    def update(self, piece: memoryview, /) -> None:
        for each in self._hashes:
            each.update(piece)


class _Parts:
    """The digests of a file's parts, made beside that of the whole."""

    def __init__(self, part_bytes: int, crc32c: Crc32c | None) -> None:
        self._each = self._left = part_bytes
        self._crc32c = crc32c
        self._sha256 = hashlib.sha256()
        self._done: list[bytes] = []
        self._beside = ThreadPoolExecutor(1, "hash")

    @property
    def sums(self) -> bytes:
        begun = [self._sha256.digest()] if self._left < self._each else []
        crc32c = self._crc32c.digest() if self._crc32c else b""
        return b"".join([*self._done, *begun, crc32c])

    def feed(self, file: SourceFile, offset: int, size: int, whole: hashlib._Hash) -> None:
        while size:
            count = min(size, self._left)
            part = _Both(self._sha256, self._crc32c) if self._crc32c else self._sha256
            file.feed_both(offset, count, (whole, part), self._beside)
            offset, size, self._left = offset + count, size - count, self._left - count
            if not self._left:
                self._done.append(self._sha256.digest())
                self._sha256, self._left = hashlib.sha256(), self._each

    def close(self) -> None:
        self._beside.shutdown(wait=False)


def digest_batch(entries: Sequence[Entry]) -> list[Digest]:
    """Hash small entries, one after the other.

    Raises:
        FileMissing, FileUnreadable: a file is gone or can't be read.
        FileChanged: it is not as it was captured.
    """
    return [digest for file, group in _by_file(entries) for digest in _digest_file(file, group)]


def digest_pack(entries: Sequence[Entry]) -> str:
    """Hash the bytes of entries back to back; the digest (``<hex>``) is the name of the pack.

    Raises as ``digest_batch``, and ``FileChanged`` where bytes are not those of the entry's digest.
    """
    whole = hashlib.sha256()
    digests = (
        made for file, group in _by_file(entries) for made in _digest_file(file, group, whole)
    )
    for entry, (_, digest, _) in zip(entries, digests, strict=True):
        if digest != entry.digest:
            raise FileChanged(f"The bytes of the entry {entry.path} changed since they were hashed")
    return whole.hexdigest()


def source_of(entry: Entry) -> Source:
    """Where the bytes of an entry that is no reference lie."""
    assert entry.source is not None, entry
    return entry.source


def _by_file(entries: Sequence[Entry]) -> Iterator[tuple[str, Iterator[Entry]]]:
    return groupby(entries, key=lambda entry: source_of(entry).file)


def _digest_file(path: str, entries: Iterator[Entry], *more: hashlib._Hash) -> Iterator[Digest]:
    if not path:
        yield from _digest_data(entries, *more)
        return
    with SourceFile(path) as file:
        for entry in entries:
            source = source_of(entry)
            sha256 = hashlib.sha256()
            file.check(entry)
            file.feed(source.offset, entry.size, sha256, *more)
            file.check(entry)
            yield entry.path, f"sha256:{sha256.hexdigest()}", entry.size


def _digest_data(entries: Iterator[Entry], *more: hashlib._Hash) -> Iterator[Digest]:
    for entry in entries:
        data = source_of(entry).data or b""
        for each in more:
            each.update(data)
        yield entry.path, sha256_of(data), len(data)


def sha256_of(data: bytes) -> str:
    """The digest of bytes in memory: ``sha256:<hex>``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


_of_thread = threading.local()


def _buffer(size_bytes: int) -> memoryview:
    """The thread's own buffer of this size, made once."""
    buffers: dict[int, memoryview] = _of_thread.__dict__.setdefault("buffers", {})
    if size_bytes not in buffers:
        buffers[size_bytes] = memoryview(bytearray(size_bytes))
    return buffers[size_bytes]
