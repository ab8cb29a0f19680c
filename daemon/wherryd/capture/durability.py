"""Captured bytes and the loss of power (docs/promises.md, promise 1).

Owns: syncing what came in, within seconds; after another boot, telling which captured bytes are whole.
Does not own: the queue's own durability, or bytes that a client has synced (``power``).

Syncing twice does no harm. The boot is noted after every unsynced request of an earlier one was looked
at, so a kill in between leads to another look.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterable, Sequence

import anyio.to_thread

from wherry.errors import CaptureError, FileChanged, QueueError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.hashing import digest_batch
from wherryd.log import get_logger
from wherryd.model import Entry, State
from wherryd.news import News
from wherryd.queue.base import Queue, Request, WrongState

#: Requests that came in within this time are synced together; most are in their store by then.
GATHER_S = 3.0
#: From so many on, one sync of the whole filesystem is cheaper than five or more for each request.
MANY = 8
_PAGE = 1000
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: From ``uploaded`` on nothing is read from the spool any more.
_NEEDS_SPOOL = (State.HELD, State.ACCEPTED, State.PREPARED, State.FAILED)

_BEFORE_SYNC = failpoint("capture.sync.before-sync")
_BEFORE_NOTE = failpoint("capture.sync.before-note")
_BEFORE_BOOT = failpoint("capture.boot.before-note")

_log = get_logger("capture")


class Durability:
    """Makes captured bytes survive a power loss, in the background.

    Args:
        spool: the spool's folder.
        boot: the id of the machine's boot; "" where the system gives none.
    """

    def __init__(self, spool: str, boot: str, queue: Queue, news: News, clock: Clock) -> None:
        self._spool = spool
        self._boot = boot
        self._queue = queue
        self._news = news
        self._clock = clock

    async def check_boot(self) -> None:
        """After another boot, fail requests whose bytes were neither synced nor hashed, or differ.

        Their bytes go, after the row: a retry must not take them for what was captured.
        """
        if not self._boot or await self._queue.boot() == self._boot:
            return
        rows: set[int] = set()
        while unsynced := await self._queue.unsynced(len(rows) + _PAGE):
            fresh = [request for request in unsynced if request.row not in rows]
            if not fresh:
                break
            for request in fresh:
                rows.add(request.row)
                await self._check(request)
        _BEFORE_BOOT()
        await self._queue.note_boot(self._boot)

    async def run(self) -> None:
        """Sync what comes in, until cancelled."""
        with self._news.watch(State.ACCEPTED, State.HELD) as watch:
            while True:
                await watch.wait_news()
                await self._clock.sleep(GATHER_S)
                try:
                    await self.sync_all()
                except QueueError as error:
                    _log.warning("syncing is put off", error=str(error))
                    watch.wake()

    async def sync_all(self) -> None:
        """Sync the bytes of all requests that still need theirs."""
        while unsynced := await self._queue.unsynced():
            await self._sync([request for request in unsynced if request.state in _NEEDS_SPOOL])
            _BEFORE_NOTE()
            await self._queue.note_synced([request.row for request in unsynced])

    async def _sync(self, requests: Sequence[Request]) -> None:
        _BEFORE_SYNC()
        if len(requests) >= MANY:
            try:
                await anyio.to_thread.run_sync(_sync_filesystem, self._spool)
            except OSError as error:
                _log.warning("the spool's disk has trouble", error=str(error))
            else:
                return
        for request in requests:
            await self._sync_one(request)

    async def _sync_one(self, request: Request) -> None:
        try:
            await anyio.to_thread.run_sync(self._sync_folder, request.folder)
        except OSError as error:
            # What the disk refused once may read well from memory, and be gone later.
            await self._fail(request, f"the spool's disk fails: {error}")

    # ── the check ──────────────────────────────────────────────────────────────────────────────
    async def _check(self, request: Request) -> None:
        if request.state not in _NEEDS_SPOOL:
            return
        why = await self._find_damage(request)
        if not why:
            return
        if request.state is not State.FAILED:
            lost = "the machine went down before the captured bytes were on its disk"
            await self._fail(request, f"{lost}: {why}")
        # Nothing else would tell a retry that these bytes are not what was captured.
        await anyio.to_thread.run_sync(self._remove_folder, request.folder)

    async def _find_damage(self, request: Request) -> str:
        after = None
        while page := await self._queue.entries(request.row, after, _PAGE):
            captured = [entry for entry in page if entry.source and not entry.source.stat]
            why = await anyio.to_thread.run_sync(find_damage, captured)
            if why:
                return why
            after = page[-1].path
        return ""

    async def _fail(self, request: Request, reason: str) -> None:
        _log.warning("request fails", request=request.id, name=request.lane.name, error=reason)
        try:
            await self._queue.fail(request.row, FileChanged.__name__, reason)
        except WrongState:
            pass

    # ── in a worker thread ─────────────────────────────────────────────────────────────────────
    def _remove_folder(self, folder: str) -> None:
        if folder:
            shutil.rmtree(os.path.join(self._spool, folder), ignore_errors=True)

    def _sync_folder(self, folder: str) -> None:
        """Sync a folder's files, its own names and those of the folders above it up to the spool."""
        if not folder:
            return
        path = os.path.join(self._spool, folder)
        try:
            with os.scandir(path) as found:
                files = [entry.path for entry in found]
            above = os.path.dirname(path)
            for each in (*files, path, above, os.path.dirname(above), self._spool):
                _sync(each)
        except FileNotFoundError:
            pass  # freed meanwhile


def boot_id() -> str:
    """Read the id of the machine's boot; "" where the system gives none."""
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""


def find_damage(entries: Iterable[Entry]) -> str:
    """Hash captured bytes again and say what is wrong with them; "" where all is well. Blocks."""
    for entry in entries:
        if entry.digest is None:
            return f"{entry.path!r} was not hashed yet"
        try:
            ((_, digest, _),) = digest_batch([entry])
        except CaptureError as error:
            return error.message
        if digest != entry.digest:
            return f"{entry.path!r} is not what it was"
    return ""


def _sync_filesystem(folder: str) -> None:
    """Sync all that is written below ``folder``: syncfs(2), which tells of errors since Linux 5.8."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        raise OSError(errno.ENOSYS, "no syncfs here")
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(file):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(file)


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
