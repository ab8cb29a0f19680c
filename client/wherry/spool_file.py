"""Files that a user writes straight into the spool. Owns: ``new_file``'s file object and its end.

Does not own: the path that it gets in the artifact.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from wherry import forks, room
from wherry.errors import ArtifactStateError, CaptureError, SpoolFull, UsageError
from wherry.spool import FULL, SMALL_BYTES, Spool
from wherry.wire.failpoints import failpoint
from wherry.wire.room import Room

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_OPENED = failpoint("spool.new-file.opened")
_PACKED = failpoint("spool.new-file.packed")


class SpoolFile:
    """One file while it is written, and until it has its place in the spool."""

    def __init__(self, path: str, file: IO[str] | IO[bytes], claim: room.Claim) -> None:
        self.path = path
        self.file = file
        self.claim = claim
        self.size = 0  # bytes, once it is closed
        self._generation = forks.generation()

    def close(self) -> None:
        """Close and measure it.

        Raises:
            ArtifactStateError: in a child that was forked meanwhile; it is the parent's.
        """
        self.check_ours()
        if not self.file.closed:
            self.file.flush()
            self.size = os.fstat(self.file.fileno()).st_size
            self.file.close()
        else:
            # Where the daemon has freed it, settling says more.
            with contextlib.suppress(FileNotFoundError):
                self.size = os.stat(self.path).st_size
        self.claim.used = Room(self.size, 1)

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
        # What is still in the buffer may not be writable; the exception says more.
        with contextlib.suppress(OSError, CaptureError, ArtifactStateError):
            self.file.close()
        if self.is_ours:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            room.give_back(self.claim)

    def settle(self, spool: Spool) -> tuple[int, int]:
        """Put it where spool files are, in a step; return the number and the offset there."""
        try:
            is_large = self.size >= SMALL_BYTES
            if is_large or not spool.is_packing:
                take = spool.enroll if is_large else spool.begin_pack
                number = take(self.path, self.size)
                spool.take_over(self.claim)
                return number, 0
            with open(self.path, "rb", buffering=0) as opened:
                data = opened.readall()
            place = spool.append(data)
            _PACKED()
            os.unlink(self.path)
            spool.claim.home = self.claim.home
            self.claim.empty()
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
    with lock.held():
        path = spool.new_path(claim)
    try:
        written = SpoolFile(path, _open(path, mode, encoding, spool, claim), claim)
    except BaseException:
        room.give_back(claim)
        raise
    _OPENED()
    try:
        yield written
        written.close()
    except BaseException:
        written.drop()
        raise


class _Raw(io.FileIO):
    """A file that waits for room, and whose disk may be full, in our words."""

    def __init__(self, path: str, mode: str, spool: Spool, claim: room.Claim) -> None:
        self._spool = spool
        self._claim = claim
        self._full: SpoolFull | None = None
        self._generation = forks.generation()
        super().__init__(path, mode, opener=_open_private)

    def write(self, data: ReadableBuffer, /) -> int:
        if self._generation != forks.generation():  # what the parent had in its buffer, too
            raise _forked()
        self._reserve(self.tell() + memoryview(data).nbytes)
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in FULL:
                raise self._spool.refused(error) from error
            raise

    def _reserve(self, end: int) -> None:
        """Make sure that the file may grow to ``end`` bytes; where it may not, not to ask again."""
        if self._full is not None:  # whoever closes it writes what is left in the buffer
            raise self._full
        more = end - self._claim.used.bytes
        if more <= 0:
            return
        try:
            self._spool.reserve_for(self._claim, Room(more))
        except SpoolFull as error:
            self._full = error
            raise


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


def _open(
    path: str, mode: str, encoding: str | None, spool: Spool, claim: room.Claim
) -> IO[str] | IO[bytes]:
    try:
        raw = _Raw(path, "x+" if "+" in mode else "x", spool, claim)
    except OSError as error:
        raise spool.refused(error) from error
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" not in mode:
        return io.TextIOWrapper(buffered, encoding=encoding)
    if encoding is not None:
        buffered.close()
        raise ValueError("binary mode takes no encoding")
    return buffered
