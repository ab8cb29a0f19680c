"""How full the spool is: what the daemon says of it, and hears of it (docs/decisions/0016-spool-quota.md).

Owns: the head of the home's room file, the quota that counts now, how fast the spool empties. Does not own:
waiting for room (clients), what each request holds (``queue``), freeing (``freeing``, ``transfer``).

What logged requests hold is the queue's sum. It is written anew at a start, and each half second while it is
not nothing. What comes in meanwhile is added before its client hears that it was logged: it always counts
somewhere. A kill leaves the last word, and a start says the next one before anybody is served.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import QueueError
from wherry.wire.failpoints import failpoint
from wherry.wire.room import NOTHING, Head, Quota, Room, RoomFile, added_up, quota_of
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.model import State
from wherryd.progress import Progress
from wherryd.queue.base import Queue

#: How often the word is renewed while the spool holds something.
EVERY_S = 0.5
#: The speed is that of this time.
_WINDOW_S = 60.0
#: In these a request waits for the user.
_RESTING = (State.HELD, State.FAILED)

_BEFORE_HEAD = failpoint("capture.room.before-head")
_BEFORE_CLEAR = failpoint("capture.room.before-clear")

_log = get_logger("capture")


class Wanted(msgspec.Struct, frozen=True):
    """The settings that concern the spool; None: half of what is free."""

    quota_bytes: int | None
    quota_files: int | None
    timeout_s: float


class Fullness(msgspec.Struct, frozen=True):
    """How full the spool is."""

    held: Room
    quota_bytes: int | None
    quota_files: int | None
    unlogged: Room  # of what is held
    resting: Room  # likewise
    sent_bytes: int  # likewise, of files of which the rest is still to be sent
    bytes_per_s: float  # that leave it
    waiting: int  # programs that wait for room


class SpoolRoom:
    """The daemon's share in the room file.

    Args:
        path: of the file.
        spool: the spool's folder.
        wanted: settings that count until ``heed`` is told of others.

    Raises ``OSError`` where the file can't be opened.
    """

    def __init__(
        self,
        path: str,
        spool: str,
        wanted: Wanted,
        queue: Queue,
        progress: Progress,
        clock: Clock,
    ) -> None:
        self._path = path
        self._spool = spool
        self._wanted = wanted
        self._queue = queue
        self._progress = progress
        self._clock = clock
        self._home = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = RoomFile(path, self._home)
        before = self._file.read().head
        self._head = Head(Quota(), wanted.timeout_s, beat=before.beat if before else 0)
        self._came = NOTHING  # since the queue's sum was last asked for
        self._changed = anyio.Event()
        self._speed = _Speed()

    def close(self) -> None:
        """Close the file; what it says stays."""
        self._file.close()
        os.close(self._home)

    async def begin(self) -> None:
        """Say how things stand, before clients come."""
        await self._count()
        await self._measure()
        self._say()

    async def run(self) -> None:
        """Go on saying it, until cancelled."""
        while True:
            changed = self._changed = anyio.Event()
            try:
                await self._count()
                self._say()
            except QueueError as error:
                _log.warning("counting the spool is put off", error=str(error))
            if any(self._head.logged):
                await self._clock.sleep(EVERY_S)
            else:
                await changed.wait()

    def took_in(self, came: Room, is_held: bool) -> None:
        """A request was accepted, or is held by offline mode, and its client does not know yet."""
        head = self._head
        self._came = self._came.plus(came)
        self._speed.came(came.bytes)
        resting = head.resting.plus(came) if is_held else head.resting
        self._head = head._replace(logged=head.logged.plus(came), resting=resting)
        self._say()
        self._changed.set()

    def heed(self, wanted: Wanted) -> None:
        """Other settings count from now on."""
        self._wanted = wanted

    async def look(self) -> None:
        """Look at the disk and at the settings; whoever has ended, with all that it left, has no line."""
        await anyio.to_thread.run_sync(self._tidy)
        await self._measure()
        self._say()

    def is_wanted(self) -> bool:
        """Whether a program waits for room."""
        return any(any(line.wanted) for line in self._file.read().lines)

    def forget(self, sessions: Iterable[str]) -> None:
        """Count no more what the processes of these sessions had; all of it is gone, or logged."""
        over = set(sessions)
        if over:
            _BEFORE_CLEAR()
            self._file.clear(lambda session: session in over)

    def fullness(self) -> Fullness:
        """How full it is."""
        state = self._file.read()
        return Fullness(
            held=state.held,
            quota_bytes=self._head.quota.bytes,
            quota_files=self._head.quota.files,
            unlogged=state.unlogged,
            resting=self._head.resting,
            sent_bytes=self._progress.moving_spooled(),
            bytes_per_s=self._speed.bytes_per_s,
            waiting=sum(any(line.wanted) for line in state.lines),
        )

    async def _count(self) -> None:
        self._came = NOTHING
        spooled = await self._queue.spooled()
        logged = added_up(spooled.values())
        resting = added_up(spooled[state] for state in _RESTING if state in spooled)
        is_moving = self._speed.note(self._clock.monotonic(), logged.bytes, self._progress)
        # What was accepted while the queue was asked may be counted twice, until the next time.
        self._head = self._head._replace(
            logged=logged.plus(self._came), resting=resting, beat=self._head.beat + is_moving
        )

    async def _measure(self) -> None:
        held = self._file.read().unlogged.plus(self._head.logged)
        wanted = self._wanted
        quota = await anyio.to_thread.run_sync(
            quota_of, self._spool, wanted.quota_bytes, wanted.quota_files, held
        )
        self._head = self._head._replace(quota=quota, timeout_s=wanted.timeout_s)

    def _tidy(self) -> None:
        if not self._file.is_there():
            self._file.close()
            self._file = RoomFile(self._path, self._home)
        there = set(os.listdir(os.path.join(self._spool, "sessions")))
        self._file.clear(lambda session: session not in there)

    def _say(self) -> None:
        _BEFORE_HEAD()
        try:
            self._file.write_head(self._head)
        except OSError as error:  # a full disk: clients find the quota themselves
            _log.warning("the spool's room is not told", error=str(error))


class _Speed:
    """How fast the spool empties."""

    def __init__(self) -> None:
        self._came_bytes = 0
        self._begin_bytes: int | None = None
        self._freed_bytes = self._done_bytes = 0
        self._samples: deque[tuple[float, int, int]] = deque()
        self.bytes_per_s = 0.0

    def came(self, size: int) -> None:
        """So many bytes were logged."""
        self._came_bytes += size

    def note(self, now: float, logged_bytes: int, progress: Progress) -> bool:
        """Look at what was freed, sent or hashed; whether there was any of it since the last look."""
        if self._begin_bytes is None:
            self._begin_bytes = logged_bytes
        before = self._freed_bytes, self._done_bytes
        freed_bytes = self._begin_bytes + self._came_bytes - logged_bytes
        self._freed_bytes = max(self._freed_bytes, freed_bytes)  # what came may be told of late
        sent_bytes, self._done_bytes = progress.advanced()
        self._samples.append((now, sent_bytes, self._freed_bytes))
        self._leave_out(now)
        since, first_sent, first_freed = self._samples[0]
        # What the store had already leaves without being sent; what is sent leaves some time after.
        moved = max(sent_bytes - first_sent, self._freed_bytes - first_freed)
        self.bytes_per_s = moved / max(1.0, now - since) if logged_bytes else 0.0
        return (self._freed_bytes, self._done_bytes) != before

    def _leave_out(self, now: float) -> None:
        """Forget what is long over, and the time before anything moved: hashing, a store that was away."""
        samples = self._samples
        while len(samples) > 1 and (
            now - samples[0][0] > _WINDOW_S or samples[0][1:] == samples[1][1:]
        ):
            samples.popleft()
