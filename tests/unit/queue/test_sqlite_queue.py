from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.unit.queue.helpers import (
    ADDRESS,
    ALL,
    CONTENT,
    LANE,
    MANIFEST,
    StillClock,
    new_entry,
    new_request,
)
from wherry.errors import PathTaken, QueueError, QueueLocked, TypeTaken
from wherryd.model import Entry, RunInfo, State
from wherryd.news import News
from wherryd.queue.base import Filter, Known, Link, Sent
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue
from wherryd.queue.staging import FORGET_AT_ONCE
from wherryd.queue.streams import HELD_PER_STREAM
from wherryd.queue.writer import BULK_ROWS


async def reopen(path: Path, clock: StillClock) -> SqliteQueue:
    """Start again on what an earlier start left."""
    return await SqliteQueue.open(await ThreadDatabase.open(path, clock), News(), clock)


def entries(many: int) -> list[Entry]:
    """The first entries of a long stream."""
    return [new_entry(f"{number:06d}") for number in range(many)]


async def accept(queue: SqliteQueue, id_: str = "r1", paths: str = "a", **fields: Any) -> int:
    """A whole stream: entries, then the request; its row."""
    row = queue.new_row()
    await queue.stage(row, [new_entry(path) for path in paths])
    accepted = await queue.accept(row, new_request(id_, entries=len(paths), **fields))
    return accepted.row


# ── a request's way ────────────────────────────────────────────────────────────────────────────
async def test_a_request_that_does_not_get_through(queue: SqliteQueue, clock: StillClock) -> None:
    """Every verb of a request's way does what it says, and what it says is durable and visible."""
    await queue.set_store_id(ADDRESS, "store-1", probed=True)
    assert (await queue.store_id(ADDRESS), await queue.probed(ADDRESS)) == ("store-1", True)
    row = await accept(queue, paths="abc")
    assert await queue.lanes() == [LANE]
    assert await queue.folders() == {"sessions/s1/r1"}
    await queue.save_digests(row, [(path, f"sha256:{path}", 5) for path in "abc"])
    assert [entry.digest for entry in await queue.entries(row, after="a")] == [
        "sha256:b",
        "sha256:c",
    ]
    await queue.prepared(row, MANIFEST, CONTENT)
    await queue.note_sent(LANE, [Sent("sha256:a", 5)], store_id="store-1")
    assert await queue.sent_already(LANE, ["sha256:a", "sha256:b"]) == {"sha256:a"}
    await queue.wait_until(row, "StoreUnavailable", "503", 9.0)
    assert (await queue.get(row)).next_try == 9.0
    await queue.uploaded(row, store_id="store-1")
    await queue.attempt(row, 0, b"record")
    assert [(r.number, r.record) for r in await queue.line(LANE)] == [(0, b"record")]
    await queue.learn(LANE, Known("store-1", "model", 0, "r1"))
    assert await queue.known(LANE) == Known("store-1", "model", 0, "r1")
    await queue.settle(row, 0)
    assert [r.version for r in await queue.unaliased()] == [0]
    await queue.link("r1", RunInfo("run-2"), ["more"])
    assert await queue.links("r1") == [Link(RunInfo("run-2"), ["more"])]
    clock.time = 5_000.0
    await queue.done(row, ALL)
    assert [r.ended for r in await queue.unfreed()] == [5_000.0]
    await queue.drop_entries(row)
    assert await queue.entries(row) == []
    await queue.note_freed(row)
    assert await queue.unfreed() == []
    assert (await queue.counts())[State.DONE] == 1
    assert await queue.forget_ended(5_000.1) == 1
    assert await queue.find(Filter()) == []


async def test_a_failure_that_does_not_come_back(queue: SqliteQueue) -> None:
    """A request may fail, be acknowledged, retried, cancelled; a held one synced; a lane stopped."""
    row = await accept(queue)
    held = await accept(queue, "r2", offline=True)
    await queue.fail(row, "FileChanged", "it changed")
    assert await queue.acknowledge([row, held]) == 1
    assert await queue.retry(row) == 2
    assert await queue.sync([held]) == 1
    assert [await queue.ahead(r) for r in (row, held)] == [0, 1]
    await queue.cancel(row)
    await queue.stop_lane(LANE, "emptied")
    assert await queue.stopped() == {LANE: "emptied"}
    await queue.restart_lane(LANE, "store-9", 2, "x")
    assert await queue.stopped() == {}
    assert [r.row for r in await queue.unsynced()] == [held]
    await queue.note_synced([held])
    assert await queue.unsynced() == []


async def test_a_watcher_that_misses_what_is_durable(
    database: ThreadDatabase, clock: StillClock
) -> None:
    """Who is woken by news finds in the queue what the news was about."""
    news = News()
    queue = await SqliteQueue.open(database, news, clock)
    with news.watch(State.ACCEPTED) as states, news.watch("r1") as ids, news.watch(LANE) as lanes:
        for watch in (states, ids, lanes):
            await watch.wait_news()  # the first look
        accepting = asyncio.create_task(accept(queue))
        for watch in (states, ids):
            await watch.wait_news()
            assert [r.id for r in await queue.find(Filter(states=(State.ACCEPTED,)))] == ["r1"]
        row = await accepting
        cancelling = asyncio.create_task(queue.cancel(row))
        await lanes.wait_news()
        assert await queue.line(LANE) == []
        await cancelling
    await queue.aclose()


# ── streams ────────────────────────────────────────────────────────────────────────────────────
async def test_a_big_batch_in_one_transaction(queue: SqliteQueue, database: ThreadDatabase) -> None:
    """A batch of any size is staged in bounded transactions, and whole."""
    trace: list[str] = []
    await database.run(lambda db: db.set_trace_callback(trace.append))
    row, many = queue.new_row(), 2 * BULK_ROWS + 1
    await queue.stage(row, entries(many))
    assert trace.count("COMMIT") == 3
    await queue.accept(row, new_request(entries=many))
    assert len(await queue.entries(row, limit=many + 1)) == many


@pytest.mark.parametrize("many", [3, HELD_PER_STREAM + 1])
async def test_a_repeated_request_that_leaves_its_entries(queue: SqliteQueue, many: int) -> None:
    """What was staged for a request that is there already is forgotten, the first one's stays."""
    first = await accept(queue, paths="abc")
    row = queue.new_row()
    await queue.stage(row, entries(many))
    again = await queue.accept(row, new_request("r1"))
    assert (again.row, again.again) == (first, True)
    assert await queue.entries(row) == []
    assert len(await queue.entries(first)) == 3
    assert (await queue.accept(first, new_request("r1"))).again
    assert len(await queue.entries(first)) == 3


async def test_a_path_that_comes_twice_in_a_stream(queue: SqliteQueue) -> None:
    """A path that comes twice reaches the stream's caller as ``PathTaken``."""
    for many in (1, HELD_PER_STREAM + 1):
        row = queue.new_row()
        await queue.stage(row, entries(many))
        with pytest.raises(PathTaken, match="'000000'"):
            await queue.stage(row, entries(1))
        await queue.abandon(row)
        assert await queue.entries(row) == []


async def test_a_batch_that_comes_after_its_stream_was_abandoned(
    queue: SqliteQueue, database: ThreadDatabase
) -> None:
    """Abandoning a stream takes with it a batch whose caller was cancelled while it waited."""
    row = queue.new_row()
    async with held(database.run):
        staging = asyncio.create_task(queue.stage(row, entries(HELD_PER_STREAM + 1)))
        await asyncio.sleep(0)
        staging.cancel()
        await asyncio.wait({staging})
        abandoning = asyncio.create_task(queue.abandon(row))
        await asyncio.sleep(0)
    await abandoning
    assert await queue.entries(row) == []


@pytest.mark.parametrize("many", [1, HELD_PER_STREAM + 1])
async def test_an_accepted_request_that_loses_its_entries(
    queue: SqliteQueue, database: ThreadDatabase, many: int
) -> None:
    """A caller that is cancelled in ``accept`` and then abandons takes nothing from what was accepted."""
    row = queue.new_row()
    await queue.stage(row, entries(many))
    async with held(database.run):
        accepting = asyncio.create_task(queue.accept(row, new_request()))
        await asyncio.sleep(0)
        accepting.cancel()
        await asyncio.wait({accepting})
        abandoning = asyncio.create_task(queue.abandon(row))
        await asyncio.sleep(0)
    await abandoning
    assert [r.id for r in await queue.find(Filter())] == ["r1"]
    assert len(await queue.entries(row)) == many


async def test_a_small_stream_that_costs_two_syncs(
    queue: SqliteQueue, database: ThreadDatabase
) -> None:
    """A small stream's entries go into the database with their request: one commit in all."""
    trace: list[str] = []
    await database.run(lambda db: db.set_trace_callback(trace.append))
    row = await accept(queue, paths="abc")
    assert trace.count("COMMIT") == 1
    assert [entry.path for entry in await queue.entries(row)] == ["a", "b", "c"]


async def test_a_stream_that_grows_while_it_comes_in(queue: SqliteQueue) -> None:
    """A stream has all its entries, however they are cut into batches and whatever is held of them."""
    row = queue.new_row()
    whole = entries(3 * HELD_PER_STREAM)
    for start in range(0, len(whole), 7):
        await queue.stage(row, whole[start : start + 7])
    await queue.accept(row, new_request(entries=len(whole)))
    assert await queue.entries(row) == whole


async def test_an_acceptance_that_is_refused_and_tried_again(queue: SqliteQueue) -> None:
    """What is held of a stream outlives a refusal of its request."""
    await accept(queue)
    row = queue.new_row()
    await queue.stage(row, entries(3))
    with pytest.raises(TypeTaken):
        await queue.accept(row, new_request("r2", type="other"))
    await queue.accept(row, new_request("r2"))
    assert await queue.entries(row) == entries(3)


# ── starts ─────────────────────────────────────────────────────────────────────────────────────
async def test_a_cut_stream_that_nobody_sweeps(path: Path, clock: StillClock) -> None:
    """The next start sweeps what cut streams left, nothing else, and gives none of their rows again."""
    first = await reopen(path, clock)
    kept = await accept(first)
    cut = first.new_row()
    await first.stage(cut, entries(BULK_ROWS + 5))
    unused = first.new_row()
    await first.stage(unused, entries(1))
    await first.aclose()
    second = await reopen(path, clock)
    row = second.new_row()
    assert row > max(kept, cut, unused)
    await second.stage(row, entries(BULK_ROWS))
    await second._sweeping
    left = [len(await second.entries(r, limit=2 * BULK_ROWS)) for r in (kept, cut, row)]
    assert left == [1, 0, BULK_ROWS]
    await second.aclose()


async def test_a_queue_opened_while_another_program_holds_it(path: Path, clock: StillClock) -> None:
    """A start does not wait for another program: ``QueueLocked`` after the busy time-out."""
    database = await ThreadDatabase.open(path, clock, busy_timeout_s=0.01)
    other = await ThreadDatabase.open(path, clock)
    await other.run(lambda db: db.execute("BEGIN IMMEDIATE"))
    with pytest.raises(QueueLocked):
        await SqliteQueue.open(database, News(), clock)
    await database.aclose()
    await other.run(lambda db: db.execute("ROLLBACK"))
    await other.aclose()


async def test_what_a_home_forgets_over_a_restart(path: Path, clock: StillClock) -> None:
    """The home's id is made once; the boot noted last is known to the next start."""
    first = await reopen(path, clock)
    home = await first.home_id()
    assert (len(home), await first.boot()) == (32, "")
    await first.note_boot("boot-1")
    await first.aclose()
    second = await reopen(path, clock)
    assert (await second.home_id(), await second.boot()) == (home, "boot-1")
    await second.aclose()


async def test_forgetting_that_stops_half_way(queue: SqliteQueue) -> None:
    """All requests that ended before are forgotten, however many, with their entries."""
    rows = [await accept(queue, f"r{n}") for n in range(FORGET_AT_ONCE + 3)]
    await asyncio.gather(*map(queue.cancel, rows))
    assert await queue.forget_ended(10_000.0) == len(rows)
    assert sum((await queue.counts()).values()) == 0
    assert [row for row in rows if await queue.entries(row)] == []


# ── readers, the end ───────────────────────────────────────────────────────────────────────────
async def test_a_look_that_waits_behind_the_writer(
    queue: SqliteQueue, database: ThreadDatabase
) -> None:
    """A look waits for no commit, and sees what was committed before it."""
    await accept(queue)
    async with held(database.run):
        async with asyncio.timeout(30):
            assert len(await queue.find(Filter())) == 1


@pytest.mark.parametrize("many", [31, 32, 33, 100])
async def test_a_page_that_is_cut_where_few_rows_become_many(queue: SqliteQueue, many: int) -> None:
    """However many there are, a page has as many as were asked for, in order."""
    row = await accept(queue, paths=[f"{number:03}" for number in range(many)])
    everything = await queue.entries(row)
    assert [entry.path for entry in everything] == [f"{number:03}" for number in range(many)]
    for limit in (1, 31, 32, 33):
        assert await queue.entries(row, None, limit) == everything[:limit]
        assert await queue.entries(row, "010", limit) == everything[11 : 11 + limit]


async def test_a_verb_after_the_end(path: Path, clock: StillClock) -> None:
    """After the end every verb says that the queue is closed; closing twice does no harm."""
    queue = await reopen(path, clock)
    await queue.aclose()
    await queue.aclose()
    with pytest.raises(QueueError, match="closed"):
        await queue.find(Filter())
    with pytest.raises(QueueError, match="closed"):
        await accept(queue)


class held:  # noqa: N801 - reads as what it does
    """A database thread is busy until the block is left."""

    def __init__(
        self, run: Callable[[Callable[[object], None]], Coroutine[Any, Any, None]]
    ) -> None:
        self._gate, self._holds = threading.Event(), anyio.Event()
        loop = asyncio.get_running_loop()

        def hold(_: object) -> None:
            loop.call_soon_threadsafe(self._holds.set)
            self._gate.wait(30)

        self._task = asyncio.create_task(run(hold))

    async def __aenter__(self) -> None:
        await self._holds.wait()

    async def __aexit__(self, *_: object) -> None:
        self._gate.set()
        await self._task
