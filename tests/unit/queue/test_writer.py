from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from structlog.testing import capture_logs

from tests.unit.queue.helpers import StillClock
from wherry.errors import QueueError, QueueLocked, SpoolFull
from wherry.wire.failpoints import DECLARED
from wherryd.news import News
from wherryd.queue.base import QueueFull
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.group import Changed, Kind
from wherryd.queue.queries import change
from wherryd.queue.writer import BULK_ROWS, LOCKED_PATIENCE_S, LOCKED_PAUSE_S, Writer

KIND = Kind.named("of-tests")
# Not a place of the daemon's: other tests go through all that are declared.
for place in KIND.before_commit + KIND.after_commit:
    del DECLARED[place.name]


class Heard(News):
    """News that keeps what was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Hashable, ...]] = []

    def tell(self, *topics: Hashable) -> None:
        self.told.append(topics)


class Bench:
    """A writer whose thread can be held, and a trace of what its connection did."""

    def __init__(self, database: ThreadDatabase, clock: StillClock) -> None:
        self.database = database
        self.news = Heard()
        self.writer = Writer(database, self.news, clock)
        self.trace: list[str] = []

    async def watch(self) -> None:
        await self.database.run(lambda db: db.set_trace_callback(self.trace.append))

    @property
    def commits(self) -> int:
        return self.trace.count("COMMIT")

    async def note(self, key: str, rows: int = 0, kind: Kind = KIND) -> str:
        """A change that leaves ``key`` in the database and tells of it."""
        return await self.writer.change(kind, partial(_note, key=key), rows)

    async def noted(self) -> set[str]:
        rows = await self.database.read(
            lambda db: db.execute("SELECT key FROM meta WHERE value = 'noted'").fetchall()
        )
        return {row["key"] for row in rows}

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The thread is busy until the block is left: whatever is handed in gathers."""
        gate, waiting = threading.Event(), anyio.Event()
        loop = asyncio.get_running_loop()

        def hold(_: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(waiting.set)
            gate.wait(30)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.database.run, hold)
            await waiting.wait()
            try:
                yield
            finally:
                gate.set()


def _note(db: sqlite3.Connection, key: str) -> Changed[str]:
    change(db, "set_meta", key=key, value="noted")
    return Changed(key, (key,))


def _spoil(db: sqlite3.Connection) -> Changed[None]:
    change(db, "set_meta", key="spoiled", value="noted")
    raise LookupError("spoiled")


@pytest.fixture
async def bench(database: ThreadDatabase, clock: StillClock) -> AsyncIterator[Bench]:
    """A writer on a real database."""
    bench = Bench(database, clock)
    await bench.watch()
    yield bench
    await bench.writer.aclose()


async def start(*calls: Callable[[], Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """Start the calls as tasks, and let each of them come to where it waits."""
    tasks = [asyncio.create_task(call()) for call in calls]
    await asyncio.sleep(0)
    return tasks


# ── groups ─────────────────────────────────────────────────────────────────────────────────────
async def test_callers_that_do_not_share_a_commit(bench: Bench) -> None:
    """Callers that wait at the same time share one commit, and get each its own result."""
    keys = [f"k{n}" for n in range(64)]
    assert await asyncio.gather(*map(bench.note, keys)) == keys
    assert bench.commits == 1
    assert await bench.noted() == set(keys)


async def test_callers_that_wait_for_more_than_the_next_commit(bench: Bench) -> None:
    """While one group is being committed the next one gathers, whole."""
    async with bench.held():
        tasks = await start(partial(bench.note, "first"))
        tasks += await start(*(partial(bench.note, f"k{n}") for n in range(20)))
    await asyncio.wait(tasks)
    assert bench.commits == 2


async def test_a_change_that_raises(bench: Bench) -> None:
    """A change that raises is undone and spoils no other of its group."""
    spoiled = bench.writer.change(KIND, _spoil)
    results = await asyncio.gather(
        bench.note("a"), spoiled, bench.note("b"), return_exceptions=True
    )
    assert results[0] == "a" and results[2] == "b"
    assert isinstance(results[1], LookupError)
    assert bench.commits == 1
    assert await bench.noted() == {"a", "b"}
    assert bench.news.told == [("a", "b")]


async def test_a_sqlite_error_that_gets_out(bench: Bench) -> None:
    """What sqlite3 raises inside one change reaches its caller as a ``QueueError``."""

    def misspelt(db: sqlite3.Connection) -> Changed[None]:
        db.execute("SELECT * FROM nowhere")
        return Changed(None)

    with pytest.raises(QueueError, match="no such table"):
        await bench.writer.change(KIND, misspelt)


@pytest.mark.parametrize("natively", [True, False])
async def test_a_cancelled_caller_that_strands_its_group(bench: Bench, natively: bool) -> None:
    """A caller that is cancelled while its group is under way takes nobody with it; its change stays."""
    scope = anyio.CancelScope()

    async def leave() -> None:
        with scope:
            await bench.note("cancelled")

    async with bench.held():
        before, leaving, after = await start(
            partial(bench.note, "before"), leave, partial(bench.note, "after")
        )
        leaving.cancel() if natively else scope.cancel()
        await asyncio.wait({leaving})
    async with asyncio.timeout(30):
        assert await before == "before"
        assert await after == "after"
    assert await bench.noted() == {"before", "cancelled", "after"}
    assert await bench.note("later") == "later"


async def test_news_before_it_is_durable(bench: Bench) -> None:
    """News is told after the commit, and only of what is in it."""
    async with bench.held():
        (task,) = await start(partial(bench.note, "a"))
        assert bench.news.told == []
    await task
    assert bench.news.told == [("a",)]


# ── bulk ───────────────────────────────────────────────────────────────────────────────────────
async def test_a_long_stream_that_holds_others_up(bench: Bench) -> None:
    """Bulk changes go in their order, a bounded number of rows a group; small ones pass them."""
    half = BULK_ROWS // 2
    async with bench.held():
        tasks = await start(partial(bench.note, "opener"))
        tasks += await start(*(partial(bench.note, f"bulk{n}", half) for n in range(5)))
        tasks += await start(partial(bench.note, "small"))
    await asyncio.wait(tasks)
    groups = [set(told) for told in bench.news.told]
    assert groups == [{"opener"}, {"small", "bulk0", "bulk1"}, {"bulk2", "bulk3"}, {"bulk4"}]


# ── commits that fail ──────────────────────────────────────────────────────────────────────────
async def test_a_commit_that_fails(bench: Bench) -> None:
    """If the commit fails all of the group hear of it, nothing was done, and the writer goes on."""
    await bench.database.run(_let_commit_fail)
    results = await asyncio.gather(
        bench.note("a"),
        bench.writer.change(KIND, _dangle),
        bench.note("b"),
        return_exceptions=True,
    )
    assert all(isinstance(result, QueueError) for result in results)
    assert len({id(result) for result in results}) == 3
    assert bench.news.told == []
    assert await bench.note("c") == "c"
    assert await bench.noted() == {"c"}


def _let_commit_fail(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    db.execute(
        "CREATE TABLE children (parent REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
    )


def _dangle(db: sqlite3.Connection) -> Changed[None]:
    db.execute("INSERT INTO children VALUES (7)")
    return Changed(None)


async def test_a_full_disk(bench: Bench) -> None:
    """On a full disk callers get an error that is both ``SpoolFull`` and ``QueueError``; later ones go on."""

    def fill(db: sqlite3.Connection) -> Changed[None]:
        change(db, "set_meta", key="huge", value="x" * 10_000_000)
        return Changed(None)

    limit = "PRAGMA max_page_count = "
    await bench.database.run(lambda db: db.execute(limit + "60"))
    with pytest.raises(SpoolFull) as full:
        await bench.writer.change(KIND, fill)
    assert isinstance(full.value, QueueFull)
    assert full.value.hint
    await bench.database.run(lambda db: db.execute(limit + "1000000"))
    assert await bench.note("after") == "after"


async def test_an_error_of_our_own_that_stops_the_writer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong around a group reaches its callers as a ``QueueError``."""

    async def broken(_: object) -> object:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(bench.database, "run", broken)
        with pytest.raises(QueueError, match="a mistake"):
            await bench.note("a")
    assert await bench.note("b") == "b"


# ── held by another program ────────────────────────────────────────────────────────────────────
class ReleasingClock(StillClock):
    """Ends the other program's transaction in the second pause."""

    def __init__(self, other: sqlite3.Connection) -> None:
        super().__init__()
        self.other = other

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.slept) == 2:
            await anyio.to_thread.run_sync(self.other.rollback)


async def test_a_change_lost_while_another_program_holds_the_database(
    path: Path, database: ThreadDatabase
) -> None:
    """The writer waits, says so, and commits when the other program lets go."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        clock = ReleasingClock(other)
        bench = Bench(database, clock)
        with capture_logs() as log:
            assert await asyncio.gather(bench.note("a"), bench.note("b")) == ["a", "b"]
    assert clock.slept == [LOCKED_PAUSE_S] * 2
    assert [e["log_level"] for e in log if "another program" in e["event"]] == ["warning"] * 2
    assert await bench.noted() == {"a", "b"}


async def test_a_call_that_waits_for_ever(path: Path, database: ThreadDatabase) -> None:
    """A client's call hears of another program that holds the database, and is not made afterwards;
    what no client waits for, and calls that came later, are made when the database is free.
    """
    held: list[str] = []
    later: list[asyncio.Task[str]] = []
    call = msgspec.structs.replace(KIND, is_call=True)

    class WatchedClock(StillClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if len(self.slept) == 10:
                later.extend(await start(partial(bench.note, "later", kind=call)))
            if len(self.slept) == LOCKED_PATIENCE_S + 5:
                held.append(bench.writer.locked)
                await anyio.to_thread.run_sync(other.rollback)

    bench = Bench(database, WatchedClock())
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        early, stage = await start(
            partial(bench.note, "early", kind=call), partial(bench.note, "stage")
        )
        with pytest.raises(QueueLocked, match=r"queue\.db; this call waited 20 s") as told:
            await early
        assert "fuser -v" in (told.value.hint or "")
        assert await stage == "stage"
        assert await later[0] == "later"
    assert "queue.db" in held[0]
    assert bench.writer.locked == ""
    assert await bench.noted() == {"stage", "later"}


async def test_an_end_that_waits_for_another_program(path: Path, database: ThreadDatabase) -> None:
    """The daemon's end does not wait for another program: callers get ``QueueLocked``."""
    asleep = anyio.Event()

    class SleepingClock(StillClock):
        async def sleep(self, seconds: float) -> None:
            asleep.set()
            await anyio.lowlevel.checkpoint()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bench = Bench(database, SleepingClock())
        (waiting,) = await start(partial(bench.note, "a"))
        await asleep.wait()
        await bench.writer.aclose()
        with pytest.raises(QueueLocked):
            await waiting


# ── the end ────────────────────────────────────────────────────────────────────────────────────
async def test_a_change_cut_off_by_the_end(bench: Bench) -> None:
    """Closing commits what was handed in, and refuses what comes after."""
    async with bench.held():
        tasks = await start(*(partial(bench.note, f"k{n}") for n in range(3)))
        closing_ = asyncio.ensure_future(bench.writer.aclose())
        await asyncio.sleep(0)
        with pytest.raises(QueueError, match="closed"):
            await bench.note("late")
    await closing_
    assert [task.result() for task in tasks] == ["k0", "k1", "k2"]


async def test_a_caller_that_waits_for_a_writer_that_is_no_more(bench: Bench) -> None:
    """If the loop ends the writer's task, nobody waits for ever."""
    async with bench.held():
        first = await start(partial(bench.note, "in the group"))
        second = await start(partial(bench.note, "behind it"))
        assert bench.writer._task is not None
        bench.writer._task.cancel()
        await asyncio.wait([*first, *second])
    for task in (*first, *second):
        with pytest.raises(QueueError, match="ended"):
            task.result()
