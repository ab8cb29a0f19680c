"""Files that a user writes straight into the spool. Owns: ``new_file``'s file object and its end.

Does not own: the path that it gets in the artifact.

A small file is written to memory, and is a file on the disk from the moment on when it is larger, or its
descriptor or its name is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from wherry import copying, forks, room
from wherry.errors import ArtifactStateError, CaptureError, SpoolFull, UsageError
from wherry.spool import FULL, MEMORY_BYTES, SMALL_BYTES, Spool
from wherry.wire.failpoints import failpoint
from wherry.wire.room import Room

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_OPENED = failpoint("spool.new-file.opened")
_MOVED = failpoint("spool.new-file.moved")
_PACKED = failpoint("spool.new-file.packed")


class SpoolFile:
    """One file while it is written, and until it has its place in the spool."""

    def __init__(self, raw: _Raw, file: IO[str] | IO[bytes], claim: room.Claim) -> None:
        self.file = file
        self.size = 0  # bytes, once it is closed
        self._raw = raw
        self._claim = claim
        self._generation = forks.generation()

    def close(self) -> None:
        """Close and measure it.

        Raises:
            ArtifactStateError: in a child that was forked meanwhile; it is the parent's.
        """
        self.check_ours()
        if not self.file.closed:
            self.file.flush()
            self.size = self._raw.size()
            self.file.close()
        else:
            # Where the daemon has freed it, settling says more.
            with contextlib.suppress(FileNotFoundError):
                self.size = self._raw.size()
        if self._raw.path:
            self._claim.used = Room(self.size, 1)

    def check_ours(self) -> None:
        """Raise ``ArtifactStateError`` in a forked child."""
        if not self.is_ours:
            raise _forked()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not the one that it was forked from."""
        return self._generation == forks.generation()

    def drop(self) -> None:
        """Give it up: it is closed, and removed if it has no place in the spool yet."""
        # What is still in the buffer may not be writable; the exception says more. Where closing was
        # interrupted, the buffer is closed, and what is below it not.
        try:
            with contextlib.suppress(OSError, ValueError, CaptureError, ArtifactStateError):
                self.file.close()
        finally:
            if self.is_ours:
                self._raw.drop()

    def settle(self, spool: Spool) -> tuple[int, int]:
        """Put it where spool files are, in a step; return the number and the offset there."""
        path, data = self._raw.end()
        if not path:
            spool.reserve(len(data))
            room.give_back(self._claim)
            return spool.append(data)
        try:
            is_large = self.size >= SMALL_BYTES
            if is_large or not spool.is_packing:
                take = spool.enroll if is_large else spool.begin_pack
                number = take(path, self.size)
                spool.take_over(self._claim)
                return number, 0
            with open(path, "rb", buffering=0) as opened:
                data = opened.readall()
            place = spool.append(data)
            _PACKED()
            os.unlink(path)
            spool.claim.home = self._claim.home
            self._claim.empty()
            return place
        except OSError as error:
            raise spool.refused(error) from error


@contextlib.contextmanager
def open_spool_file(
    spool: Spool, lock: forks.ForkLock, mode: str, encoding: str | None
) -> Iterator[SpoolFile]:
    """Open a file in the spool; without an exception it is closed and measured at the end.

    Args:
        lock: guards ``spool``.
        mode: as ``open`` has it, for writing: "x" or "w", with "b", "t" and "+".
        encoding: for text; None as ``open`` has it.

    Raises:
        UsageError: another mode.
        SpoolFull, CaptureError: writing failed, also from the user's own ``write``.
        ArtifactStateError: in a child that was forked in the block: the file is the parent's.
    """
    check_mode(mode)
    claim = room.Claim(room.AHEAD_OF_FILE)
    raw = _Raw(mode, spool, lock, claim)
    written = SpoolFile(raw, _open(raw, mode, encoding), claim)
    _OPENED()
    try:
        yield written
        written.close()
    except BaseException:
        written.drop()
        raise


class _Raw(io.RawIOBase):
    """A file that waits for room, and whose disk may be full, in our words.

    Args:
        mode: the user's.
        lock: guards ``spool``; it is taken within the file's own.
    """

    def __init__(self, mode: str, spool: Spool, lock: forks.ForkLock, claim: room.Claim) -> None:
        self.path = ""  # while it is in memory
        self.mode = "xb+" if "+" in mode else "xb"
        self._spool = spool
        self._lock = lock
        self._own = forks.ForkLock()  # threads may ask for the name while another writes
        self._claim = claim
        self._full: SpoolFull | None = None
        self._is_over = False
        self._generation = forks.generation()
        self._memory = io.BytesIO()
        self._file: io.FileIO | None = None

    @property
    def name(self) -> str:
        """The file's path: whoever asks for it wants a file. Over, or in a forked child, memory has none."""
        with self._own.held():
            if self._file is None and (self._is_over or not self._is_ours):
                raise AttributeError("name")
            self._on_disk()
            return self.path

    def end(self) -> tuple[str, bytes]:
        """Change nothing more; return the path, or what is in memory."""
        with self._own.held():
            self._is_over = True
            return self.path, self._memory.getvalue()

    def drop(self) -> None:
        """Remove it, and give back what it holds of the spool."""
        with self._own.held():
            self._is_over = True
            if self._file is not None:
                self._file.close()
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
            room.give_back(self._claim)

    def size(self) -> int:
        """How many bytes are in it; raises ``FileNotFoundError`` where it is gone."""
        with self._own.held():
            if self._file is None:
                return self._memory.getbuffer().nbytes
            return os.stat(self.path if self._file.closed else self._file.fileno()).st_size

    def readable(self) -> bool:
        self._check_open()
        return "+" in self.mode

    def writable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._is_ours:  # what the parent had in its buffer, too
            raise _forked()
        with self._own.held():
            end = self.tell() + memoryview(data).nbytes
            if self._file is None and end <= MEMORY_BYTES:
                return self._memory.write(data)
            try:
                file = self._on_disk()
                self._reserve(end)
                return file.write(data)
            except OSError as error:
                if error.errno in FULL:
                    raise self._spool.refused(error) from error
                raise

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        with self._own.held():
            return (self._file or self._memory).readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        with self._own.held():
            if self._file is not None or whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
                return self._on_disk().seek(offset, whence)
            starts = {os.SEEK_CUR: self._memory.tell(), os.SEEK_END: self.size()}
            return self._memory.seek(_not_before_start(starts.get(whence, 0) + offset))

    def tell(self) -> int:
        self._check_open()
        with self._own.held():
            return (self._file or self._memory).tell()

    def truncate(self, size: int | None = None, /) -> int:
        self._check_open()
        with self._own.held():
            end = self.tell() if size is None else _not_before_start(size)
            if self._file is None and end <= self.size():
                return self._memory.truncate(end)
            return self._on_disk().truncate(end)

    def fileno(self) -> int:
        self._check_open()
        with self._own.held():
            return self._on_disk().fileno()

    def close(self) -> None:
        try:
            super().close()
        finally:
            with self._own.held():
                if self._file is not None:
                    self._file.close()

    @property
    def _is_ours(self) -> bool:
        return self._generation == forks.generation()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def _on_disk(self) -> io.FileIO:
        """Move it from memory to a file in the artifact's folder; once. Its own lock is held."""
        if self._file is not None:
            return self._file
        if not self._is_ours:
            raise _forked()
        try:
            with self._or_full():
                with self._lock.held():
                    path = self._spool.new_path(self._claim)
                self._reserve(self.size())
            with self._spool.refusing():
                file = self._copy_to(path)
        except BaseException:
            room.give_back(self._claim)
            raise
        _MOVED()
        self.path, self._file, self._memory = path, file, io.BytesIO()
        if self.closed:
            file.close()
        return file

    def _copy_to(self, path: str) -> io.FileIO:
        file = io.FileIO(path, self.mode, opener=_open_private)
        try:
            copying.write_all(file.fileno(), self._memory.getvalue(), 0)
            file.seek(self._memory.tell())
        except BaseException:
            file.close()
            os.unlink(path)
            raise
        return file

    def _reserve(self, end: int) -> None:
        """Make sure that the file may grow to ``end`` bytes."""
        more = end - self._claim.used.bytes
        if more > 0:
            with self._or_full():
                self._spool.reserve_for(self._claim, Room(more))

    @contextlib.contextmanager
    def _or_full(self) -> Iterator[None]:
        """Ask for room, but not again where there was none: whoever closes the file writes what is left."""
        if self._full is not None:
            raise self._full
        try:
            yield
        except SpoolFull as error:
            self._full = error
            raise


def _not_before_start(position: int) -> int:
    """What lseek(2) and ftruncate(2) say of a negative one."""
    if position < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return position


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _forked() -> ArtifactStateError:
    return ArtifactStateError(
        "This file was opened by the parent process, which goes on writing it.",
        hint="Leave the child by os._exit(), or fork before new_file().",
    )


def check_mode(mode: str) -> None:
    """Raise ``UsageError`` for a mode that does not write."""
    kinds, rest = set(mode) & set("xw"), set(mode) - set("xwbt+")
    if len(kinds) != 1 or rest or len(set(mode)) != len(mode) or {"b", "t"} <= set(mode):
        raise UsageError(
            f"new_file can't open a file in mode {mode!r}.",
            hint="Use 'x' or 'w', with 'b' for bytes.",
        )


def _open(raw: _Raw, mode: str, encoding: str | None) -> IO[str] | IO[bytes]:
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" not in mode:
        return io.TextIOWrapper(buffered, encoding=encoding)
    if encoding is not None:
        buffered.close()
        raise ValueError("binary mode takes no encoding")
    return buffered
