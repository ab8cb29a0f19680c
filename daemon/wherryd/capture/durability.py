"""Captured bytes and the loss of power (docs/promises.md, promise 1).

Owns: syncing what came in, within seconds, ``immutable`` files where the user has them too; after another
boot, telling which captured bytes are whole. Does not own: how a sync is made (``syncing``), the queue's
own durability, or bytes that a client has synced (``power``).

Syncing twice does no harm. The boot is noted after every unsynced request of an earlier one was looked
at, so a kill in between leads to another look.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence

import anyio.to_thread

from wherry.errors import CaptureError, FileChanged, QueueError
from wherry.wire.failpoints import failpoint
from wherry.wire.room import Room
from wherryd.capture.syncing import SyncRefused, sync_filesystem, sync_folder, sync_in_place
from wherryd.clock import Clock
from wherryd.hashing import digest_batch, source_of
from wherryd.log import get_logger
from wherryd.model import Entry, State
from wherryd.news import News
from wherryd.queue.base import Queue, Request, WrongState

#: Requests that came in within this time are synced together; most are in their store by then.
GATHER_S = 3.0
#: From so many on, one sync of the whole filesystem is cheaper than five or more for each request.
MANY = 8
_PAGE = 1000
_ALL = Room(2**62, 2**62)
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: From ``uploaded`` on nothing is read from the spool any more.
_NEEDS_SPOOL = (State.HELD, State.ACCEPTED, State.PREPARED, State.FAILED)

_BEFORE_SYNC = failpoint("capture.sync.before-sync")
_BEFORE_NOTE = failpoint("capture.sync.before-note")
_BEFORE_REMOVE = failpoint("capture.lost.before-remove")
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
        self._below = os.path.join(spool, "")  # what lies in the spool begins so
        self._boot = boot
        self._queue = queue
        self._news = news
        self._clock = clock
        self._refused: dict[int, str] = {}  # rows whose bytes the disk did not take, and why

    async def check_boot(self) -> None:
        """After another boot, fail requests whose bytes were neither synced nor hashed, or differ.

        Their bytes go, after the row: a retry must not take them for what was captured.
        """
        if not self._boot or await self._queue.boot() == self._boot:
            return
        rows: set[int] = set()
        while fresh := await self._fresh(rows):
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
                    is_done = await self.sync_all()
                except QueueError as error:
                    _log.warning("syncing is put off", error=str(error))
                    is_done = False
                if not is_done:
                    watch.wake()

    async def sync_all(self) -> bool:
        """Sync the bytes of all requests that still need theirs; False: some have to be tried again."""
        left: set[int] = set()
        while fresh := await self._fresh(left):
            needed = [request for request in fresh if request.state in _NEEDS_SPOOL]
            left |= await self._sync(needed)
            _BEFORE_NOTE()
            await self._queue.note_synced(
                [request.row for request in fresh if request.row not in left]
            )
        return not left

    async def _fresh(self, rows: set[int]) -> list[Request]:
        """The next unsynced requests but for these rows."""
        found = await self._queue.unsynced(len(rows) + _PAGE)
        return [request for request in found if request.row not in rows]

    async def _sync(self, requests: Sequence[Request]) -> set[int]:
        """Sync requests; the rows of those that have to be tried again."""
        _BEFORE_SYNC()
        is_spool_synced = len(requests) >= MANY and await self._sync_spool()
        in_place = await self._queue.rows_in_place([each.row for each in requests], self._below)
        left = set()
        for request in requests:
            has_more = request.row in in_place
            if not await self._sync_one(request, has_more, is_spool_synced=is_spool_synced):
                left.add(request.row)
        return left

    async def _sync_spool(self) -> bool:
        try:
            await anyio.to_thread.run_sync(sync_filesystem, self._spool)
        except OSError as error:
            _log.warning("the spool's disk has trouble", error=str(error))
            return False
        return True

    async def _sync_one(self, request: Request, has_more: bool, *, is_spool_synced: bool) -> bool:
        """Sync a request's folder, and what it has elsewhere; False: it has to be tried again."""
        try:
            if request.row not in self._refused:
                if request.folder and not is_spool_synced:
                    await anyio.to_thread.run_sync(sync_folder, self._spool, request.folder)
                if has_more:
                    await self._sync_in_place(request)
        except SyncRefused as error:
            # Asked again, the kernel may say that all is well.
            self._refused[request.row] = f"the disk fails: {error}"
        except OSError as error:
            _log.warning("syncing is put off", request=request.id, error=str(error))
            return False
        if why := self._refused.get(request.row):
            await self._give_up(request, why)
            del self._refused[request.row]
        return True

    async def _sync_in_place(self, request: Request) -> None:
        async for entries in self._in_place(request):
            files = [source_of(entry).file for entry in entries]
            await anyio.to_thread.run_sync(sync_in_place, files)

    async def _in_place(self, request: Request) -> AsyncIterator[list[Entry]]:
        """Entries whose bytes lie where the user has them, page by page."""
        after = None
        while page := await self._queue.entries_in_place(request.row, self._below, after, _PAGE):
            yield page
            after = page[-1].path

    # ── the check ──────────────────────────────────────────────────────────────────────────────
    async def _check(self, request: Request) -> None:
        if request.state not in _NEEDS_SPOOL:
            return
        if why := await self._find_damage(request):
            lost = "the machine went down before the captured bytes were on its disk"
            await self._give_up(request, f"{lost}: {why}")

    async def _find_damage(self, request: Request) -> str:
        """What is wrong with a request's bytes; those that the store has may have left the spool."""
        after = None
        while page := await self._queue.entries(request.row, after, _PAGE):
            captured = [entry for entry in page if entry.source]
            damaged = await anyio.to_thread.run_sync(find_damage, captured)
            digests = [entry.digest for entry, _ in damaged if entry.digest]
            sent = await self._queue.places(request.lane, digests) if digests else {}
            for entry, why in damaged:
                if entry.digest not in sent:
                    return why
            after = page[-1].path
        return ""

    async def _give_up(self, request: Request, reason: str) -> None:
        """Fail a request and let its bytes go: nothing else would tell a retry what they are not."""
        if request.state is not State.FAILED and not await self._fail(request, reason):
            return  # all that it needs has left this machine
        async for entries in self._in_place(request):
            await self._queue.distrust(request.row, [entry.path for entry in entries])
        await self._queue.take_off(request.row, _ALL)
        _BEFORE_REMOVE()
        await anyio.to_thread.run_sync(self._remove_folder, request.folder)

    async def _fail(self, request: Request, reason: str) -> bool:
        try:
            await self._queue.fail(request.row, FileChanged.__name__, reason)
        except WrongState:
            return False
        _log.warning("request fails", request=request.id, name=request.lane.name, error=reason)
        return True

    # ── in a worker thread ─────────────────────────────────────────────────────────────────────
    def _remove_folder(self, folder: str) -> None:
        if folder:
            shutil.rmtree(os.path.join(self._spool, folder), ignore_errors=True)


def boot_id() -> str:
    """Read the id of the machine's boot; "" where the system gives none."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def find_damage(entries: Iterable[Entry]) -> list[tuple[Entry, str]]:
    """Hash captured bytes again: the entries that something is wrong with, and what. Blocks."""
    damaged = []
    for entry in entries:
        if entry.digest is None:
            damaged.append((entry, f"{entry.path!r} was not hashed yet"))
            break  # nothing else matters then
        try:
            ((_, digest, _),) = digest_batch([entry])
        except CaptureError as error:
            damaged.append((entry, error.message))
        else:
            if digest != entry.digest:
                damaged.append((entry, f"{entry.path!r} is not what it was"))
    return damaged
