"""Where the queue's functions run: on a thread of their own, or inline.

Owns: the connections, and turning sqlite3's errors into ours. Does not own: transactions of changes
(``writer``), what the functions do.

sqlite3 gives the interpreter's lock up at each step of a statement, which a thread has to wait for again
while the loop is busy. So a look at a few rows costs far less inline than the way to a thread and back
(decision 0013).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import aiosqlite
import anyio.lowlevel
import anyio.to_thread

from wherry.errors import QueueDamaged, QueueError
from wherryd.clock import Clock
from wherryd.queue import files
from wherryd.queue.base import QueueFull
from wherryd.queue.closed import set_mark
from wherryd.queue.migrations import bring_up
from wherryd.queue.reserve import Reserve
from wherryd.queue.troubles import translated

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Database(Protocol):
    """Runs functions on a connection, one after the other, each as a whole.

    Errors of sqlite3 that a function lets pass are raised as ``QueueError`` and its subclasses. The
    function of a caller that is cancelled runs to its end.
    """

    async def run(self, work: Work[T]) -> T:
        """Run ``work``, which may write, and return its result."""
        ...

    async def read(self, work: Work[T]) -> T:
        """Run ``work``, which only reads and sees one state of the database throughout.

        It may run beside the functions of ``run``, and sees what they committed before the call.
        """
        ...

    async def look(self, work: Work[T], *, is_one: bool = False) -> T:
        """As ``read``, for a few rows: the loop may wait for it, and for nobody else.

        Args:
            is_one: it is one statement, which sees one state by itself; that costs less.
        """
        ...

    async def make_room(self) -> None:
        """On a full disk: give up what was kept for this, so that a step that frees some can be written."""
        ...

    def note_damage(self) -> None:
        """A function of ``run`` met damage, and gave it back as part of its result."""
        ...

    async def aclose(self) -> None:
        """Let the functions that were handed in end, and close."""
        ...


class ThreadDatabase:
    """A database file, with one thread that writes, one that reads, and a connection for looks.

    So a read waits for no sync of the disk.

    Args:
        looker: a connection that only reads, and waits for nobody.
        reserve: given up on a full disk.
    """

    def __init__(
        self,
        path: Path,
        writer: _Thread,
        reader: _Thread,
        looker: sqlite3.Connection,
        reserve: Reserve | None,
    ) -> None:
        self._path = path
        self._is_sound = True  # no damage was met
        self._writer = writer
        self._reader = reader
        self._looker: sqlite3.Connection | None = looker
        self._reserve = reserve

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        busy_timeout_s: float = files.BUSY_TIMEOUT_S,
        reserve: Reserve | None = None,
    ) -> ThreadDatabase:
        """Open the database at ``path``, making it where there is none.

        A damaged one is set aside, with a warning in the log, and a new one begun. Raises
        ``QueueTooNew``, and ``QueueLocked`` when another program holds it for ``busy_timeout_s``.
        """
        try:
            return await cls._open(path, clock, busy_timeout_s, reserve)
        except QueueFull:
            if reserve is None or not await anyio.to_thread.run_sync(reserve.give_up):
                raise
        return await cls._open(path, clock, busy_timeout_s, reserve)

    @classmethod
    async def _open(
        cls, path: Path, clock: Clock, busy_timeout_s: float, reserve: Reserve | None
    ) -> ThreadDatabase:
        await anyio.to_thread.run_sync(files.prepare, path, clock, busy_timeout_s)
        writer = await _Thread.start(path, partial(files.connect, path, busy_timeout_s))
        try:
            reader = await _Thread.start(path, partial(files.connect_reader, path, busy_timeout_s))
        except BaseException:
            await writer.aclose()
            raise
        try:
            looker = await anyio.to_thread.run_sync(_connect_looker, path)
        except BaseException:
            await reader.aclose()
            await writer.aclose()
            raise
        return cls(path, writer, reader, looker, reserve)

    async def run(self, work: Work[T]) -> T:
        with self._watching():
            return await self._writer.hop(work)

    async def read(self, work: Work[T]) -> T:
        with self._watching():
            return await self._reader.hop(partial(_in_snapshot, work))

    async def look(self, work: Work[T], *, is_one: bool = False) -> T:
        if self._looker is None:
            raise QueueError(f"{self._path} is closed")
        with self._watching(), translated(str(self._path)):
            return work(self._looker) if is_one else _in_snapshot(work, self._looker)

    async def make_room(self) -> None:
        if self._reserve is not None:
            await anyio.to_thread.run_sync(self._reserve.give_up)
        await self._writer.hop(_empty_log)

    def note_damage(self) -> None:
        self._is_sound = False  # the next start looks at every page

    async def aclose(self) -> None:
        looker, self._looker = self._looker, None
        if looker is not None:
            await anyio.to_thread.run_sync(looker.close)
        await self._reader.aclose()
        await self._writer.aclose()  # last, so that it empties the log into the database
        if self._is_sound:
            await anyio.to_thread.run_sync(set_mark, self._path)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except QueueDamaged:
            self.note_damage()
            raise


class InlineDatabase:
    """A connection without threads, for a deterministic simulation.

    Args:
        connection: kept open by whoever made it: the "disk" that outlives a crash.
        step: called right before and right after each function; may raise.
        let_others: lets others run, before and after.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        step: Callable[[], None] = lambda: None,
        let_others: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        connection.row_factory = sqlite3.Row
        connection.isolation_level = None
        bring_up(connection)
        self._connection = connection
        self._step = step
        self._let_others = let_others
        self._over = ""

    async def run(self, work: Work[T]) -> T:
        await self._let_others()
        self._step()
        if self._over:
            raise QueueError(f"the queue {self._over}")
        with translated("the queue"):
            result = work(self._connection)
        self._step()
        # A caller that is cancelled here does not learn what was done, as with a thread.
        await self._let_others()
        return result

    async def read(self, work: Work[T]) -> T:
        return await self.run(work)

    async def look(self, work: Work[T], *, is_one: bool = False) -> T:  # noqa: ARG002
        return await self.run(work)

    async def make_room(self) -> None:
        """Do nothing: there is no disk."""

    def note_damage(self) -> None:
        """Do nothing: there is no next start that looks."""

    async def aclose(self) -> None:
        self._over = self._over or "is closed"

    def crash(self) -> None:
        """End as by a kill: what is not committed is lost, and every later call raises."""
        self._over = "has crashed"
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


class _Thread:
    """One aiosqlite connection, used for whole functions."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._name = str(path)
        self._make = connect
        self._raw: sqlite3.Connection | None = None
        self._connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)

    @classmethod
    async def start(cls, path: Path, connect: Callable[[], sqlite3.Connection]) -> _Thread:
        thread = cls(path, connect)
        with translated(str(path)):
            await thread._connection
        return thread

    def _connect(self) -> sqlite3.Connection:
        self._raw = self._make()
        return self._raw

    async def hop(self, work: Work[T]) -> T:
        """Run ``work`` on the thread."""
        if self._raw is None:
            raise QueueError(f"{self._name} is closed")
        with translated(self._name):
            # aiosqlite's public methods hop to the thread and back for each statement: a group of
            # changes would take hundreds of hops, with other callers' statements in between. Its own
            # methods are made of this one call, which runs any function there.
            result: T = await self._connection._execute(work, self._raw)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def aclose(self) -> None:
        self._raw = None
        with translated(self._name):
            await self._connection.close()


def _connect_looker(path: Path) -> sqlite3.Connection:
    with translated(str(path)):
        return files.connect_reader(path, busy_timeout_s=0)


def _empty_log(db: sqlite3.Connection) -> None:
    """Move the log into the database, and give its room back."""
    with suppress(sqlite3.Error):  # not even the database can grow: then the log stays
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _in_snapshot(work: Work[T], db: sqlite3.Connection) -> T:
    db.execute("BEGIN")
    try:
        return work(db)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
