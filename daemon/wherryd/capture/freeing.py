"""Freeing the spool of requests that are done or cancelled.

Owns: a request's entries in the queue, its folder below ``spool/``, its manifest's file. Does not own:
folders that were never logged (``sessions``). Failed requests keep theirs: a retry needs the bytes.

The rows go first, then the files, then the note that all is free; whatever a kill leaves, ``unfreed``
names the request again, and every step may be done twice. Files that can't be deleted now are not
noted as free; they are tried again every minute, and at the next start.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread

from wherry.errors import QueueError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.model import State
from wherryd.news import News, Watch
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.together import all_of

#: Requests that end within this time are freed together.
_GATHER_S = 0.2
_PAUSE_S = 5.0
#: Until files that could not be deleted are tried again.
_AGAIN_S = 60.0
_PAGE = 100
_MANIFESTS = 1000
_SHARING = 10

_BEFORE_ROWS = failpoint("capture.free.before-rows")
_BEFORE_FILES = failpoint("capture.free.before-files")
_BEFORE_NOTE = failpoint("capture.free.before-note")

_BEFORE_STRAY = failpoint("capture.manifests.before-remove")

_log = get_logger("capture")


class Freer:
    """Frees what ended requests hold, at once and after a restart.

    Args:
        spool: the spool's folder.
        manifests: folder of the manifests' files.
        is_kept: whether what no request of this queue needs has to stay; blocks for a moment.
    """

    def __init__(
        self,
        spool: str,
        manifests: str,
        queue: Queue,
        news: News,
        clock: Clock,
        is_kept: Callable[[], bool] = lambda: False,
    ) -> None:
        self._spool = spool
        self._manifests = manifests
        self._queue = queue
        self._news = news
        self._clock = clock
        self._is_kept = is_kept
        self._stuck: dict[int, float] = {}  # when to try these rows again, by the monotonic clock

    async def run(self) -> None:
        """Work until cancelled."""
        with self._news.watch(State.DONE, State.CANCELLED) as watch:
            while True:
                await self._wait_work(watch)
                await self._clock.sleep(_GATHER_S)
                try:
                    while ended := await self._unfreed():
                        await self._free_all(ended)
                except QueueError as error:
                    _log.warning("freeing is put off", error=str(error))
                    await self._clock.sleep(_PAUSE_S)
                    watch.wake()

    async def _wait_work(self, watch: Watch) -> None:
        """Return at news, or when stuck files are to be tried again."""
        async with anyio.create_task_group() as group:
            if self._stuck:
                group.start_soon(self._wake_at, watch, min(self._stuck.values()))
            await watch.wait_news()
            group.cancel_scope.cancel()

    async def _wake_at(self, watch: Watch, when: float) -> None:
        await self._clock.sleep(max(0.0, when - self._clock.monotonic()))
        watch.wake()

    async def has_work(self) -> bool:
        """Whether an ended request holds what may be deleted now."""
        return bool(await self._unfreed())

    async def _unfreed(self) -> list[Request]:
        now = self._clock.monotonic()
        self._stuck = {row: again for row, again in self._stuck.items() if now < again}
        found = await self._queue.unfreed(_PAGE + len(self._stuck))
        return [request for request in found if request.row not in self._stuck]

    async def sweep_manifests(self) -> None:
        """Delete manifests' files that no request needs; only while nothing is prepared.

        What can't be deleted, or looked up, is left to the next start.
        """
        if await anyio.to_thread.run_sync(self._is_kept):
            return
        rows = await anyio.to_thread.run_sync(self._list_manifests)
        try:
            for start in range(0, len(rows), _MANIFESTS):
                page = rows[start : start + _MANIFESTS]
                stray = [*{*page} - await self._queue.going_on(page)]
                await anyio.to_thread.run_sync(self._remove_manifests, stray)
        except (QueueError, OSError) as error:
            _log.warning("stray manifests are left", error=str(error))

    async def _free_all(self, ended: list[Request]) -> None:
        """A few at once share the queue's syncs, and a thread."""
        for start in range(0, len(ended), _SHARING):
            await self._free(ended[start : start + _SHARING])

    async def _free(self, requests: Sequence[Request]) -> None:
        _BEFORE_ROWS()
        dropped = await all_of(*(partial(self._drop, request) for request in requests))
        left = [request for request in dropped if request is not None]
        _BEFORE_FILES()
        removed = await anyio.to_thread.run_sync(self._remove_all, left)
        stuck_until = self._clock.monotonic() + _AGAIN_S
        self._stuck |= {request.row: stuck_until for request in left if request not in removed}
        _BEFORE_NOTE()
        await all_of(*(partial(self._note, request) for request in removed))

    async def _drop(self, request: Request) -> Request | None:
        """Delete its entries; None where a further run gave it an alias meanwhile: it ends once more."""
        try:
            await self._queue.drop_entries(request.row)
        except WrongState:
            return None
        return request

    async def _note(self, request: Request) -> None:
        with suppress(WrongState):
            await self._queue.note_freed(request.row)

    def _remove_all(self, requests: Sequence[Request]) -> list[Request]:
        removed = []
        for request in requests:
            try:
                self._remove_files(request)
            except OSError as error:
                _log.warning("files can't be deleted", request=request.id, error=str(error))
            else:
                removed.append(request)
        return removed

    def _remove_files(self, request: Request) -> None:
        self._remove_manifest(request.row)
        if request.folder:
            with suppress(FileNotFoundError):
                shutil.rmtree(os.path.join(self._spool, request.folder))

    def _remove_manifest(self, row: int) -> None:
        for name in (f"{row}.zst", f"{row}.zst.tmp", f"{row}.draft.zst", f"{row}.draft.zst.tmp"):
            try:
                os.unlink(os.path.join(self._manifests, name))
            except FileNotFoundError:
                pass

    def _remove_manifests(self, rows: list[int]) -> None:
        for row in rows:
            _BEFORE_STRAY()
            self._remove_manifest(row)

    def _list_manifests(self) -> list[int]:
        try:
            names = os.listdir(self._manifests)
        except FileNotFoundError:
            return []
        stems = {name.partition(".")[0] for name in names}
        return [int(stem) for stem in stems if stem.isdecimal()]
