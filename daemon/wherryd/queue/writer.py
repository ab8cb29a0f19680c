"""Group commit: one writer, and one sync of the disk for all who wait.

Owns: who is in which transaction, telling callers and then ``News`` once it is durable, waiting while
another program holds the database. Does not own: the transaction (``group``), the thread
(``database``), what a change does.

Callers hand in functions. While one group is being committed the next one gathers. A caller that is
cancelled just stops waiting: its function runs all the same, and nobody else in its group notices.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar, cast

import anyio

from wherry.errors import QueueDamaged, QueueError, QueueLocked
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.news import News
from wherryd.queue.base import QueueFull
from wherryd.queue.database import Database
from wherryd.queue.group import Change, Changed, Kind, Outcome, commit_group
from wherryd.queue.troubles import translate

T = TypeVar("T")

#: Rows of bulk changes (entries, mostly) in one group: some 20 ms, which everybody else waits.
BULK_ROWS = 5_000
LOCKED_PAUSE_S = 1.0
#: So long a client's call waits for another program that holds the database, before it hears of it.
LOCKED_PATIENCE_S = 20.0

_log = get_logger("queue")


class _Job:
    """A change that waits for its group, and how it ended."""

    def __init__(self, kind: Kind, change: Change[object], rows: int, begun_s: float) -> None:
        self.kind = kind
        self.change = change
        self.rows = rows
        self.begun_s = begun_s
        self.outcome: Outcome | None = None
        self._ended = anyio.Event()

    def end(self, outcome: Outcome) -> None:
        """Tell the caller, if it still waits; the first end counts."""
        if self.outcome is None:
            self.outcome = outcome
            self._ended.set()

    async def wait_ended(self) -> object:
        await self._ended.wait()
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome.value


class Writer:
    """Commits changes in groups.

    Small changes go into the next group; bulk changes, in their order, into it or a later one, so
    that a stream of a million entries holds nobody up. A small change never comes after a bulk change
    that was handed in later.
    """

    def __init__(self, database: Database, news: News, clock: Clock) -> None:
        self._database = database
        self._news = news
        self._clock = clock
        self._small: deque[_Job] = deque()
        self._bulk: deque[_Job] = deque()
        self._closing = False
        self.locked = ""
        """Why nothing can be written at the moment: who holds the database, and what to do."""
        self._task: asyncio.Task[None] | None = None

    async def change(self, kind: Kind, change: Change[T], rows: int = 0) -> T:
        """Run ``change`` and return its result when it is durable.

        Args:
            rows: how many rows a bulk change writes, ``BULK_ROWS`` at most; 0 for a small change.

        Raises what ``change`` raises, and ``QueueError`` if the commit failed: then nothing was
        changed (but after an I/O error and the daemon's end it may turn out that it was). A kind that
        is a client's call raises ``QueueLocked`` after ``LOCKED_PATIENCE_S``, and is not made any more.
        """
        if self._closing:
            raise QueueError("the queue is closed")
        job = _Job(kind, change, rows, self._clock.monotonic())
        (self._bulk if rows else self._small).append(job)
        if self._task is None or self._task.done():
            # Not in the caller's task group: the group outlives a caller that is cancelled.
            self._task = asyncio.get_running_loop().create_task(self._commit_all())
        return cast(T, await job.wait_ended())

    async def aclose(self) -> None:
        """Commit what was handed in, and refuse more."""
        self._closing = True
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _commit_all(self) -> None:
        while group := self._next_group():
            try:
                await self._commit(group)
            except BaseException:
                self._give_up(group)
                raise

    def _next_group(self) -> list[_Job]:
        group = list(self._small)
        self._small.clear()
        rows = 0
        while self._bulk and (not rows or rows + self._bulk[0].rows <= BULK_ROWS):
            rows += self._bulk[0].rows
            group.append(self._bulk.popleft())
        return group

    async def _commit(self, group: Sequence[_Job]) -> None:
        try:
            group, outcomes = await self._run_with_room(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, the group's callers must hear of it
            _log.warning("changes not committed", changes=len(group), error=str(error))
            for job in group:
                job.end(_copy(error))
            return
        topics: dict[Hashable, None] = {}
        for job, outcome in zip(group, outcomes, strict=True):
            job.end(ours := _ours(outcome))
            if isinstance(ours, QueueDamaged):
                self._database.note_damage()
            if isinstance(outcome, Changed):
                topics.update(dict.fromkeys(outcome.topics))
        self._news.tell(*topics)

    async def _run_with_room(
        self, group: Sequence[_Job]
    ) -> tuple[Sequence[_Job], Sequence[Outcome]]:
        """Commit the group; on a full disk, refuse what is new, and commit the rest in kept room."""
        try:
            return await self._run(group)
        except QueueFull as error:
            going_on = [job for job in group if not job.kind.is_new_work]
            if not going_on:
                raise
            for job in group:
                if job.kind.is_new_work:
                    job.end(_copy(error))
        _log.warning("the disk is full; what is new is refused, what was begun goes on")
        await self._database.make_room()
        try:
            return await self._run(going_on)
        except Exception as error:  # noqa: BLE001 - whatever it is, the group's callers must hear of it
            return going_on, [_copy(error) for _ in going_on]

    async def _run(self, group: Sequence[_Job]) -> tuple[Sequence[_Job], Sequence[Outcome]]:
        """Commit those of the group that are still waited for, as soon as the database is free."""
        while True:
            waiting = [job for job in group if job.outcome is None]
            members = [(job.kind, job.change) for job in waiting]
            try:
                outcomes = await self._database.run(partial(commit_group, members=members))
            except QueueLocked as error:
                if self._closing:
                    raise
                self._note_locked(error, waiting)
                await self._clock.sleep(LOCKED_PAUSE_S)
            else:
                self.locked = ""
                return waiting, outcomes

    def _note_locked(self, error: QueueLocked, group: Sequence[_Job]) -> None:
        """Nothing was done. The calls that have waited too long hear of it, and are not made any more."""
        self.locked = str(error)
        _log_locked(error)
        last_s = self._clock.monotonic() - LOCKED_PATIENCE_S
        for job in (*group, *self._small, *self._bulk):
            if job.kind.is_call and job.begun_s <= last_s:
                job.end(_in_vain(error))

    def _give_up(self, group: Sequence[_Job]) -> None:
        """The loop ends: nobody may wait for ever."""
        for job in (*group, *self._small, *self._bulk):
            job.end(QueueError("the queue's writer has ended"))
        self._small.clear()
        self._bulk.clear()


async def until_free(
    call: Callable[[], Awaitable[T]], clock: Clock, is_leaving: Callable[[], bool]
) -> T:
    """Repeat ``call`` as long as another program holds the database; raise it once leaving."""
    while True:
        try:
            return await call()
        except QueueLocked as error:
            if is_leaving():
                raise
            _log_locked(error)
        await clock.sleep(LOCKED_PAUSE_S)


def _log_locked(error: QueueLocked) -> None:
    _log.warning("queue held by another program; waiting", error=error.message)


def _in_vain(error: QueueLocked) -> QueueLocked:
    text = f"{error.message}; this call waited {LOCKED_PATIENCE_S:.0f} s for it and changed nothing"
    told = QueueLocked(text, hint=error.hint)
    told.__cause__ = error
    return told


def _ours(outcome: Outcome) -> Outcome:
    return translate(outcome, "the queue") if isinstance(outcome, sqlite3.Error) else outcome


def _copy(error: Exception) -> Exception:
    """An error of its own for each caller: each adds its traceback."""
    if not isinstance(error, QueueError):
        return QueueError(f"the queue can't be written: {error!r}")
    own = type(error)(error.message, hint=error.hint)
    own.__cause__ = error.__cause__
    return own
