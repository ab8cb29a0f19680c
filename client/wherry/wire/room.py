"""How full a home's spool is: one small file that the daemon and all clients share (docs/decisions/0016).

Owns: the file's form, whose each part of it is, the quota where nobody sets one. Does not own: what a client
does without room (``wherry.room``), what logged requests hold (the daemon).

The head is the daemon's: the quota, and what logged requests hold. Below it each process has a line for what
it has captured and not logged. Nobody writes what is another's, so nobody waits for anybody: who needs room
writes its line first and then adds all up. Of two that come at once, at least one sees the other.

A line belongs to whoever has the POSIX lock on its bytes. The kernel takes that back when the process ends,
and a forked child does not inherit it. What a process leaves in its line counts until the daemon has swept
its session. The lock would also go when any other file object of the process on this file is closed: there is
one for each home, which stays open.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wherry.wire.failpoints import failpoint

_TAKEN = failpoint("room.line.taken")

_MAGIC = b"wherry1\0"
_HEAD = struct.Struct("<8sqqdqqqqQ")
_LINE = struct.Struct("<24sqqqq8x")
_HEAD_BYTES = 128
_LINE_BYTES = _LINE.size
_READ_BYTES = 1 << 16
_NO_QUOTA = -1


class Room(NamedTuple):
    """An amount of the spool."""

    bytes: int = 0
    files: int = 0  # and folders: whatever takes an inode

    def plus(self, other: Room) -> Room:
        """Both together."""
        return Room(self.bytes + other.bytes, self.files + other.files)

    def minus(self, other: Room) -> Room:
        """What is left, 0 at least."""
        return Room(max(0, self.bytes - other.bytes), max(0, self.files - other.files))


NOTHING = Room()


class Quota(NamedTuple):
    """How much the spool may hold; None: as much as there is."""

    bytes: int | None = None
    files: int | None = None

    def has_room_for(self, room: Room) -> bool:
        """Whether the spool may hold so much."""
        fits_bytes = self.bytes is None or room.bytes <= self.bytes
        return fits_bytes and (self.files is None or room.files <= self.files)


class Head(NamedTuple):
    """What the daemon says."""

    quota: Quota
    timeout_s: float  # how long to wait while nothing leaves
    logged: Room = NOTHING
    resting: Room = NOTHING  # of that: waits for the user, held or failed
    beat: int = 0  # another number whenever something was sent, hashed or freed


class Line(NamedTuple):
    """What one process says."""

    session: str  # "" where the line is nobody's
    held: Room = NOTHING
    wanted: Room = NOTHING  # what it waits for


_NOBODYS = Line("")


class State(NamedTuple):
    """All of the file."""

    head: Head | None  # None before the first daemon
    lines: list[Line]

    @property
    def unlogged(self) -> Room:
        """What processes have captured and not logged."""
        return added_up(line.held for line in self.lines)

    @property
    def held(self) -> Room:
        """All that the spool holds."""
        return self.unlogged.plus(self.head.logged) if self.head else self.unlogged


class RoomFile:
    """The file, open.

    Args:
        path: made where it is missing.
        folder: open; the file is made in this one, whatever its path names by now. None: where the path says.

    Raises ``OSError``, as every method does.
    """

    def __init__(self, path: str, folder: int | None = None) -> None:
        self._path = path
        name = path if folder is None else os.path.basename(path)
        self._file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def is_there(self) -> bool:
        """Whether it still lies where others find it."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give it up, and all lines with it."""
        os.close(self._file)

    def read(self) -> State:
        """Read all of it."""
        data = os.pread(self._file, _READ_BYTES, 0)
        while len(data) % _READ_BYTES == 0 and (
            more := os.pread(self._file, _READ_BYTES, len(data))
        ):
            data += more
        whole = len(data) - (len(data) - _HEAD_BYTES) % _LINE_BYTES
        lines = _LINE.iter_unpack(data[_HEAD_BYTES:whole])
        return State(_head_of(data), [_line_of(*line) for line in lines])

    def write_head(self, head: Head) -> None:
        """Say what the daemon says; the daemon alone does."""
        quota = (_NO_QUOTA if each is None else each for each in head.quota)
        said = (*quota, head.timeout_s, *head.logged, *head.resting, head.beat)
        os.pwrite(self._file, _HEAD.pack(_MAGIC, *said), 0)

    def take_line(self, session: str) -> int:
        """Make a line this process's own; return its number."""
        number = 0
        for line in self.read().lines:
            if not line.session and self._take(number, session):
                return number
            number += 1
        while not self._take(number, session):
            number += 1
        return number

    def write_line(self, number: int, line: Line) -> None:
        """Say what this process says."""
        packed = _LINE.pack(line.session.encode(), *line.held, *line.wanted)
        os.pwrite(self._file, packed, _HEAD_BYTES + number * _LINE_BYTES)

    def clear(self, is_over: Callable[[str], bool]) -> None:
        """Make lines free whose processes have ended.

        Args:
            is_over: whether all that a session's processes left is gone.
        """
        for number, line in enumerate(self.read().lines):
            if line.session and is_over(line.session) and self._lock(number):
                self.write_line(number, _NOBODYS)
                self._unlock(number)

    def _take(self, number: int, session: str) -> bool:
        """Lock a line, and look whether it is still nobody's."""
        if not self._lock(number):
            return False
        lines = self.read().lines
        if number < len(lines) and lines[number].session:
            self._unlock(number)
            return False
        self.write_line(number, Line(session))
        _TAKEN()
        return True

    def _lock(self, number: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_reach(number))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, number: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, *_reach(number))


def added_up(rooms: Iterable[Room]) -> Room:
    """All together."""
    total = Room()
    for room in rooms:
        total = total.plus(room)
    return total


def quota_of(
    folder: str, quota_bytes: int | None, quota_files: int | None, held: Room = NOTHING
) -> Quota:
    """Find the quota that counts now: what is set, else half of what would be free without the spool.

    Args:
        folder: on the spool's disk.
        quota_bytes: as set; None: not set.
        quota_files: likewise.
        held: what the spool holds now.
    """
    disk = os.statvfs(folder)
    if quota_bytes is None:
        quota_bytes = (disk.f_bavail * disk.f_frsize + held.bytes) // 2
    if quota_files is None and disk.f_files:  # else the filesystem makes inodes as they are needed
        quota_files = (disk.f_favail + held.files) // 2
    return Quota(quota_bytes, quota_files)


def _reach(number: int) -> tuple[int, int]:
    return _LINE_BYTES, _HEAD_BYTES + number * _LINE_BYTES


def _head_of(data: bytes) -> Head | None:
    if data[: len(_MAGIC)] != _MAGIC:
        return None
    _, quota_bytes, quota_files, timeout_s, *rooms, beat = _HEAD.unpack_from(data)
    quota = Quota(*(None if each == _NO_QUOTA else each for each in (quota_bytes, quota_files)))
    return Head(quota, timeout_s, Room(*rooms[:2]), Room(*rooms[2:]), beat)


def _line_of(session: bytes, *rooms: int) -> Line:
    if not session[0]:
        return _NOBODYS
    return Line(session.rstrip(b"\0").decode(errors="replace"), Room(*rooms[:2]), Room(*rooms[2:]))
