"""Files that are whole or not there. Owns: temporary name, sync, rename, sync of the folder.

Does not own: what is written. A process that ends before the rename leaves ``<path>.tmp``, which the
next try writes anew; one that ends after it leaves the whole file, and the next try replaces it by
equal bytes. One writer at a time per path.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from wherry.errors import CaptureError, SpoolFull
from wherry.wire.failpoints import failpoint
from wherryd.stores.folder.landing import sync_file, sync_folder

_BEFORE_SYNC = failpoint("registry.file.before-sync")
_BEFORE_RENAME = failpoint("registry.file.before-rename")
_BEFORE_FOLDER_SYNC = failpoint("registry.file.before-folder-sync")


class AtomicFile:
    """Write a file of the daemon's own (mode 0600) that appears whole, synced, at ``land``.

    Left without ``land``, nothing is there. Blocks; not for the event loop's thread.
    Every method raises ``SpoolFull`` where there is no room, ``CaptureError`` for another failure.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = f"{path}.tmp"
        # Not O_TRUNC: what an earlier try left may be a link, or have another mode.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._errors():
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._file = io.FileIO(os.open(self._temporary, flags, 0o600), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        with self._errors():
            while view:
                view = view[self._file.write(view) :]

    def land(self) -> None:
        """Make the file appear under its name, durably."""
        with self._errors():
            _BEFORE_SYNC()
            sync_file(self._file.fileno())
            _BEFORE_RENAME()
            os.replace(self._temporary, self._path)
            self._file.close()
            _BEFORE_FOLDER_SYNC()
            sync_folder(os.path.dirname(self._path) or ".")

    def discard(self) -> None:
        """Remove what was written, unless it has landed."""
        if not self._file.closed:
            self._file.close()
            with suppress(OSError):
                os.unlink(self._temporary)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = SpoolFull if full else CaptureError
            raise kind(f"{self._path} can't be written: {exc.strerror}") from exc
