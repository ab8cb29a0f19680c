"""One artifact's folder in this process's session: the spool files, and what goes wrong with them.

Owns: making the folder, packing small pieces back to back, taking everything back when a step fails,
a folder of its own for a forked child, counting what it holds. Does not own: how a user's file is read
(``capture``), which path a spool file belongs to (``contents``), waiting for room (``room``).

A few KiB stay in memory, and go to the daemon with the request (docs/decisions/0023): many artifacts of a
loop are a small file or two, whose names on the disk cost more than all else. They are written as the first
pack as soon as there are more, or anything else needs the folder.

Nothing here is a promise before the daemon has the request: what a killed process leaves behind lies
in a session that nobody locks, and is swept with it. No file stays open between two steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from wherry import copying, forks, leftovers, room, session
from wherry.errors import ArtifactStateError, CaptureError, SpoolFull
from wherry.wire import places
from wherry.wire.failpoints import failpoint
from wherry.wire.room import Room

_FOLDER_MADE = failpoint("capture.folder.made")
_FILE_MADE = failpoint("capture.file.made")
_BEFORE_WRITE = failpoint("capture.pack.before-write")
_LINKED = failpoint("spool.link.made")
_ENROLLED = failpoint("spool.file.enrolled")
_ADOPTED = failpoint("spool.child.linked")
_MEMORY_WRITTEN = failpoint("spool.memory.written")
_WRITTEN = failpoint("capture.pack.written")
_DISCARDED = failpoint("spool.file.discarded")
_UNDONE = failpoint("spool.step.undone")

#: Files below this many bytes share a spool file.
SMALL_BYTES = 1 << 20
#: Up to so many bytes, in so many pieces, stay in memory.
MEMORY_BYTES = 16 << 10
_MEMORY_PIECES = 64
_PACK_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
}


class _Mark(NamedTuple):
    """How far the spool was when a step began."""

    files: int
    pack: int
    end: int
    in_memory: int | None  # pieces; None: none are
    used: Room
    has_folder: bool


class Spool:
    """Where one artifact's captured bytes are. Its owner's lock is held around every call."""

    def __init__(self) -> None:
        self.generation = forks.generation()
        self.home = ""
        self.session = ""
        self.folder = ""  # its name in the session; "" until something needs it
        self.files: list[str] = []  # names by number …
        self._own_bytes: list[int] = []  # … and what goes with each that is no pack
        self.claim = room.Claim()
        self._path = ""
        self._packs: set[int] = set()  # numbers of those that hold many pieces
        self._pack = -1  # the one that grows
        self._end = 0  # bytes of it that are taken, written or not
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_in_memory = False  # whether all of the pack waits, and there is no file of it
        self._is_sent = False  # whether a request has gone out with what is in memory
        self._left_behind: weakref.finalize[..., Spool] | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Capture something whole or not at all: an error inside takes everything back."""
        in_memory = len(self._waiting) if self._is_in_memory else None
        used, has_folder = self.claim.used, bool(self._path)
        mark = _Mark(len(self.files), self._pack, self._end, in_memory, used, has_folder)
        try:
            yield
            self._flush()
            with self.refusing():
                room.settle(self.claim)
        except BaseException:
            self._undo(mark)
            raise

    def reserve(self, size: int) -> bool:
        """Make sure that a file of so many bytes finds room, before it is read; wait for it if need be.

        Returns whether it was waited for: the file may be another by then. Raises ``SpoolFull``.
        """
        if self._fits_memory(size):
            return False
        self._write_memory()
        files = 0 if size < SMALL_BYTES and self._has_pack_for(size) else 1
        return self._reserve(self.claim, Room(size, files + (not self._path)))

    def reserve_link(self) -> None:
        """The same for a link, which takes no room but for the folder."""
        self._write_memory()
        self._reserve(self.claim, Room(files=not self._path))

    def reserve_for(self, claim: room.Claim, amount: Room) -> None:
        """The same for a file that is written into the folder and counts by itself, and count it."""
        self._reserve(claim, amount)
        claim.use(amount)

    def _reserve(self, claim: room.Claim, amount: Room) -> bool:
        if claim.covers(amount):
            return False
        with self.refusing():
            self.home = self.home or str(places.home())
            return room.reserve(self.home, claim, amount)

    def append(self, data: bytes) -> tuple[int, int]:
        """Put a small piece behind the others; return its spool file's number and its offset.

        It is written at the end of the step, at the latest. Raises ``SpoolFull``, ``CaptureError``.
        """
        if not self._fits_memory(len(data)):
            self._write_memory()
        if not self._has_pack_for(len(data)):
            self._flush()
            self._start_pack(len(data))
        place = self._pack, self._end
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._end += len(data)
        if not self._is_in_memory:
            self.claim.use(Room(len(data)))
        if self._waiting_bytes >= _BUFFER_BYTES:
            self._flush()
        return place

    def create(self, size: int) -> tuple[int, int]:
        """Make an empty spool file; return its number and the file, open for reading and writing.

        Args:
            size: bytes that it will have.
        """
        name = session.random_id()
        try:
            opened = os.open(
                f"{self.path()}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise self.refused(error) from error
        self._add(name, size)
        self.claim.use(Room(size, 1))
        _FILE_MADE()
        return len(self.files) - 1, opened

    def enroll(self, path: str, size: int) -> int:
        """Take a file on the spool's disk over as a spool file; return its number."""
        name = session.random_id()
        os.rename(path, f"{self.path()}/{name}")
        _ENROLLED()
        self._add(name, size)
        return len(self.files) - 1

    @property
    def is_packing(self) -> bool:
        """Whether there is a pack that small pieces are put behind."""
        return self._pack >= 0

    def begin_pack(self, path: str, size: int) -> int:
        """Take over a small file on the spool's disk, to put others behind it; return its number.

        Args:
            size: of it, in bytes.
        """
        number = self.enroll(path, 0)
        self._packs.add(number)
        self._pack, self._end = number, size
        return number

    def link(self, local: str) -> int | None:
        """Hard-link a user's file into the spool; None where no link can be had. It takes no room.

        Args:
            local: no symbolic link itself: link(2) does not follow one.
        """
        name = session.random_id()
        try:
            os.link(local, f"{self.path()}/{name}")
        except OSError as error:
            if error.errno in _NO_LINK:
                return None
            if error.errno in FULL:
                raise self.refused(error) from error
            raise
        _LINKED()
        self._add(name, 0)
        return len(self.files) - 1

    def new_path(self, claim: room.Claim) -> str:
        """Name a file in the folder that counts by itself, until ``take_over``, and find room for it.

        Raises ``SpoolFull``, ``CaptureError``.
        """
        self._write_memory()
        self._reserve(claim, Room(files=1 + (not self._path)))
        claim.use(Room(files=1))
        return f"{self.path()}/{session.random_id()}"

    def take_over(self, claim: room.Claim) -> None:
        """Count as this artifact's what a file that was written held by itself, in a step."""
        self.claim.home = claim.home
        self.claim.use(claim.used)
        claim.empty()

    def file(self, number: int) -> str:
        """Name a spool file by its absolute path."""
        return f"{self._path}/{self.files[number]}"

    def discard(self, number: int) -> None:
        """Give back a spool file that no entry uses any more; a pack stays."""
        if number not in self._packs:
            with contextlib.suppress(OSError):
                os.unlink(self.file(number))
                _DISCARDED()
                size, self._own_bytes[number] = self._own_bytes[number], 0
                if size:
                    room.give_back(self.claim, self.claim.used.minus(Room(size, 1)))

    def path(self) -> str:
        """Name the artifact's folder by its absolute path; the first call makes it."""
        if not self._path:
            with self.refusing():
                self._make_folder()
        self._write_memory()
        return self._path

    @property
    def has_folder(self) -> bool:
        """Whether what is captured is in the folder, or will be; else it is in memory, if anything is."""
        return bool(self._path) and not self._is_sent

    def from_memory(self, number: int, offset: int, size: int) -> bytes | None:
        """Give bytes that are in memory; None where they are in a file."""
        if not self._is_in_memory or number != self._pack:
            return None
        data = b"".join(self._waiting)[offset : offset + size]
        return data if len(data) == size else None

    def adopt(self, used: Iterable[int]) -> None:
        """In a forked child: have a folder of its own, with links to what the parent captured.

        The parent's folder becomes the daemon's when the parent logs its artifact, and the parent
        goes on writing in its own pack.

        Raises:
            ArtifactStateError: the parent has logged the artifact, and its captures went with it.
        """
        old, self._path = self._path, ""
        self.claim, before = room.Claim(), self.claim
        self.claim.home = self.home
        self._own_bytes, own_bytes = [0] * len(self.files), self._own_bytes
        if self._is_in_memory:  # which is the child's own; another thread was perhaps adding to it
            self._end = self._waiting_bytes = sum(map(len, self._waiting))
            self.generation = forks.generation()
            return
        try:
            for number in sorted(used):
                os.link(f"{old}/{self.files[number]}", f"{self.path()}/{self.files[number]}")
                _ADOPTED()
        except BaseException as error:
            self._path, self.claim, self._own_bytes = old, before, own_bytes
            if isinstance(error, FileNotFoundError):
                raise gone() from error
            if isinstance(error, OSError):
                raise self.refused(error) from error
            raise
        self.generation = forks.generation()
        self._pack = -1
        self._waiting.clear()
        self._waiting_bytes = 0

    @contextlib.contextmanager
    def handing_over(self) -> Iterator[None]:
        """Give what is captured to the daemon: the folder is left alone from now on, and counts there then.

        What is in memory takes room from here on: it is about to lie on the disk. It stays in memory, so that
        a request that is sent again is the same. Raises ``SpoolFull``.
        """
        if self._is_in_memory:
            try:
                self._reserve(self.claim, Room(self._end))
                self.claim.use(Room(self._end))
                self._is_sent = True
                yield
            finally:
                room.give_back(self.claim)
            return
        if self._left_behind is not None:
            self._left_behind.detach()
        yield
        room.give_back(self.claim)

    def take_back(self) -> None:
        """The daemon does not want it: the folder goes when the artifact is dropped."""
        self._is_sent = False
        if not self._path:
            self.home = ""
        else:
            self._left_behind = leftovers.watch(
                self, self._path, partial(room.give_back, self.claim)
            )

    def forget_memory(self) -> None:
        """Nobody asks for what is in memory any more."""
        if self._is_in_memory:
            self._waiting.clear()

    def sync(self, used: Iterable[int]) -> None:
        """Make the captured bytes and their names survive a power loss. Raises ``CaptureError``."""
        if not self.has_folder:
            return
        try:
            for number in sorted(used):
                sync_path(self.file(number))
            folder = self._path
            for _ in range(5):  # the artifact's, the session's, sessions/, spool/, the home
                sync_path(folder)
                folder = os.path.dirname(folder)
        except OSError as error:
            raise self.refused(error) from error

    def refused(self, error: OSError) -> CaptureError:
        """Make the error for a write to the spool that failed."""
        spool = f"{self.home}/{places.SPOOL}"
        if error.errno in FULL:
            return SpoolFull(
                f"There is no room in the spool {spool}: {error.strerror}.",
                hint="Free space there, or set WHERRY_HOME to a folder on a larger disk;"
                " `wherry status` shows what waits to be sent.",
            )
        return CaptureError(
            f"The spool {spool} can't be written: {error.strerror}.",
            hint="Set WHERRY_HOME to a folder of yours on a local disk.",
        )

    def _make_folder(self) -> None:
        leftovers.remove()
        self.home = self.home or str(places.home())
        current = session.current(self.home)
        folder = session.random_id()
        self.claim.use(Room(files=1))
        path = f"{current.path}/{folder}"
        os.mkdir(path, 0o700)
        _FOLDER_MADE()
        # The path comes last: an exception in between leaves a folder that nobody uses, and never one
        # in use whose removal give_away() could not call off.
        self._left_behind = leftovers.watch(self, path, partial(room.give_back, self.claim))
        self.session, self.folder = current.id, folder
        self._path = path

    def _fits_memory(self, size: int) -> bool:
        if self._path or self._is_sent or len(self._waiting) >= _MEMORY_PIECES:
            return False
        return self._waiting_bytes + size <= MEMORY_BYTES

    def _has_pack_for(self, size: int) -> bool:
        return self._pack >= 0 and self._end + size <= _PACK_BYTES

    def _start_pack(self, size: int) -> None:
        if self._fits_memory(size):
            leftovers.remove()
            self._add(session.random_id(), 0)
            number, self._is_in_memory = len(self.files) - 1, True
        else:
            number, opened = self.create(0)
            os.close(opened)
        self._packs.add(number)
        self._pack, self._end = number, 0

    def _write_memory(self) -> None:
        """Write what is in memory as the pack that it is. Raises ``SpoolFull``, ``CaptureError``."""
        if not self._is_in_memory or self._is_sent:
            return
        size = Room(self._end, 1)
        self._reserve(self.claim, size.plus(Room(files=not self._path)))
        with self.refusing():
            if not self._path:
                self._make_folder()
            self._write_pack(b"".join(self._waiting), 0, os.O_CREAT | os.O_TRUNC)
        self.claim.use(size)
        _MEMORY_WRITTEN()
        # In one: what interrupts us must not find half of it.
        self._waiting, self._waiting_bytes, self._is_in_memory = [], 0, False

    def _add(self, name: str, size: int) -> None:
        self._own_bytes[len(self.files) :] = [size]
        self.files.append(name)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Say in our words that something in the home can't be written."""
        try:
            yield
        except CaptureError:  # some are an ``OSError``, too
            raise
        except copying.WriteFailed as error:
            raise self.refused(error.cause) from error
        except OSError as error:
            raise self.refused(error) from error

    def _flush(self) -> None:
        if not self._waiting or self._is_in_memory:
            return
        data, offset = b"".join(self._waiting), self._end - self._waiting_bytes
        self._waiting.clear()
        self._waiting_bytes = 0
        _BEFORE_WRITE()
        with self.refusing():
            self._write_pack(data, offset)
        _WRITTEN()

    def _write_pack(self, data: bytes, offset: int, how: int = 0) -> None:
        opened = os.open(self.file(self._pack), os.O_WRONLY | os.O_CLOEXEC | how, 0o600)
        try:
            copying.write_all(opened, data, offset)
        finally:
            os.close(opened)

    def _undo(self, mark: _Mark) -> None:
        kept = mark.in_memory if self._is_in_memory else None
        left = self._waiting[:kept] if kept is not None else []
        # In one: what interrupts us must not find half of it.
        self._waiting, self._waiting_bytes, self._end = left, mark.end if left else 0, mark.end
        self._is_in_memory, self._pack = kept is not None, mark.pack
        # What can't be taken back is overwritten or swept; the error that led here says more.
        for number in range(mark.files, len(self.files)):
            if self._path:
                with contextlib.suppress(OSError):
                    os.unlink(self.file(number))
        _UNDONE()
        del self.files[mark.files :], self._own_bytes[mark.files :]
        self._packs = {number for number in self._packs if number < mark.files}
        with contextlib.suppress(OSError):
            if mark.pack >= 0 and not self._is_in_memory:
                os.truncate(self.file(mark.pack), mark.end)
        # What was made of the folder, and of what was in memory, stays.
        used = mark.used.plus(Room(files=bool(self._path) and not mark.has_folder))
        if mark.in_memory is not None and not self._is_in_memory:
            used = used.plus(Room(mark.end, 1))
        room.give_back(self.claim, used)


def gone() -> ArtifactStateError:
    """Make the error for captured bytes that are not there any more."""
    return ArtifactStateError(
        "What the parent process captured for this artifact is gone: the parent logged it.",
        hint="Build and log an artifact in the same process.",
    )


def sync_path(path: str) -> None:
    """Make a file's bytes, or a folder's names, survive a power loss."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
