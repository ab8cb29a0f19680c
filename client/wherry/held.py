"""Entries' bytes, held for reading without a place in any folder of the user's.

Owns: temporary files that have no name any more. Does not own: where the bytes come from.

A file is read by positions (pread), so that several readers, threads and forked children don't move each
other on.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from wherry import copying, download
from wherry.errors import DownloadError
from wherry.safe_root import refused
from wherry.stored import StoredVersion

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What is smaller is held in memory, and costs no descriptor.
_MEMORY_BYTES = 1 << 18


class Held:
    """The bytes of one entry; opened as often as one likes.

    Args:
        descriptor: of the file, which is this object's from now on.
    """

    _close = staticmethod(os.close)  # at the interpreter's end ``os`` is gone first

    def __init__(self, descriptor: int) -> None:
        self._descriptor = -1
        self._data = b""
        self.size = os.fstat(descriptor).st_size
        if self.size > _MEMORY_BYTES:
            self._descriptor = descriptor
            return
        try:
            self._data = os.pread(descriptor, _MEMORY_BYTES, 0)
        finally:
            os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self._close(self._descriptor)

    def open(self) -> BinaryIO:
        """Open it for reading, from its beginning."""
        if self._descriptor < 0:
            return io.BytesIO(self._data)
        return io.BufferedReader(_Reader(self, self._descriptor), 1 << 20)


class _Reader(io.RawIOBase):
    """One reader's place in a held file, which is held as long."""

    def __init__(self, held: Held, descriptor: int) -> None:
        self._held = held
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        into = memoryview(buffer)
        data = os.pread(self._descriptor, len(into), self._at)
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        starts = {os.SEEK_CUR: self._at, os.SEEK_END: self._held.size}
        self._at = max(0, starts.get(whence, 0) + offset)
        return self._at


def fetch(stored: StoredVersion, paths: Sequence[str]) -> list[Held]:
    """Bring entries here, in their order. Raises as ``download.download``."""
    with _folder() as folder:
        download.download(stored, folder, paths, allow_missing=False)
        flags = os.O_RDONLY | os.O_CLOEXEC
        return [Held(os.open(os.path.join(folder, path), flags)) for path in paths]


def keep(chunks: Iterable[bytes]) -> Held:
    """Hold bytes that come in pieces. Raises ``DownloadError`` where there is no room."""
    with _folder() as folder:
        path = os.path.join(folder, "held")
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = 0
            for chunk in chunks:
                copying.write_all(opened, chunk, size)
                size += len(chunk)
        except copying.WriteFailed as error:
            os.close(opened)
            raise refused(path, error.cause) from error
        except BaseException:
            os.close(opened)
            raise
        return Held(opened)


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="wherry-")
    except OSError as error:
        raise DownloadError(
            f"There is no room for a temporary file: {error.strerror}.",
            hint="TMPDIR names another folder for them.",
        ) from error
