"""How many requests a second the queue makes durable, and how many syncs of the disk that takes.

A request is what a client's stream of one small file costs the queue: one entry staged, then accepted.
Beside it: bare transactions of one row with a sync each, in a loop without a thread, on the same disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import time
from pathlib import Path

from benchmarks.table import times
from wherryd.clock import SystemClock
from wherryd.model import Entry, Lane, RunInfo, Source
from wherryd.news import News
from wherryd.queue import files
from wherryd.queue.base import Filter, NewRequest, Queue
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue

CALLERS = (1, 16, 64)
SECONDS = times(40, 1) / 10
DONE = times(100_000, 100)


class Counter:
    """Counts the transactions that a connection ends; in WAL mode with synchronous=FULL each is a sync."""

    def __init__(self) -> None:
        self.commits = 0

    def __call__(self, statement: str) -> None:
        self.commits += statement == "COMMIT"


def main() -> None:
    """Measure and print."""
    home = Path(os.environ.get("WHERRY_HOME", "queue-bench"))
    home.mkdir(parents=True, exist_ok=True)
    print(f"bare transactions of one row, synced: {_bare(home / 'bare.db'):,.0f}/s\n")
    print("callers   requests/s   syncs per request   median ms   99 % ms")
    for callers in CALLERS:
        asyncio.run(_measure(home / f"{callers}.db", callers))
    print()
    asyncio.run(_looks(home / "done.db"))


async def _measure(path: Path, callers: int) -> None:
    database = await ThreadDatabase.open(path, SystemClock())
    queue: Queue = await SqliteQueue.open(database, News(), SystemClock())
    counter = Counter()
    await database.run(lambda db: db.set_trace_callback(counter))
    times: list[float] = []
    begin = time.perf_counter()
    await asyncio.gather(
        *(_call(queue, number, begin + SECONDS, times) for number in range(callers))
    )
    took = time.perf_counter() - begin
    await queue.aclose()
    slowest = statistics.quantiles(times, n=100)[98]
    print(
        f"{callers:7}{len(times) / took:13,.0f}{counter.commits / len(times):20.2f}"
        f"{statistics.median(times) * 1000:12.2f}{slowest * 1000:10.2f}"
    )


async def _call(queue: Queue, caller: int, end: float, times: list[float]) -> None:
    number = 0
    while (begin := time.perf_counter()) < end:
        row = queue.new_row()
        await queue.stage(row, [Entry("model.pt", 1024, None, Source("/spool/sessions/s/a/pack"))])
        await queue.accept(row, _request(f"{caller}-{number}"))
        times.append(time.perf_counter() - begin)
        number += 1


def _request(id_: str) -> NewRequest:
    return NewRequest(
        id=id_,
        body=id_.encode().ljust(32),
        lane=Lane("file:///store", "bench", f"model-{hash(id_) % 4}"),
        type="model",
        description=None,
        metadata='{"step": 1000, "loss": 0.25}',
        aliases=["best"],
        tags=[],
        inputs=[],
        run=RunInfo("run-1"),
        client="wherry 0.1.0",
        folder=f"sessions/0123456789abcdef/{id_}",
        entries=1,
        size=1024,
    )


def _bare(path: Path) -> float:
    files.prepare(path, SystemClock())
    db = files.connect(path)
    number, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + SECONDS / 2:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO meta VALUES (?, '')", (f"key {number}",))
        db.execute("COMMIT")
        number += 1
    db.close()
    return number / (time.perf_counter() - begin)


# ── with 100,000 requests done ─────────────────────────────────────────────────────────────────
async def _looks(path: Path) -> None:
    files.prepare(path, SystemClock())
    with sqlite3.connect(path) as db:
        _fill(db)
    db.close()
    queue: Queue = await SqliteQueue.open(
        await ThreadDatabase.open(path, SystemClock()), News(), SystemClock()
    )
    last = (await queue.accept(queue.new_row(), _request("last"))).row
    lane = (await queue.get(last)).lane
    waiting = Filter(states=((await queue.get(last)).state,))
    print(f"with {DONE:,} requests done    ms")
    print(f"{'find those accepted':24}{await _time(lambda: queue.find(waiting)):8.2f}")
    print(f"{'find by run':24}{await _time(lambda: queue.find(Filter(run_id='run-1'))):8.2f}")
    print(f"{'counts':24}{await _time(queue.counts):8.2f}")
    print(f"{'lanes':24}{await _time(queue.lanes):8.2f}")
    print(f"{'line':24}{await _time(lambda: queue.line(lane)):8.2f}")
    print(f"{'ahead':24}{await _time(lambda: queue.ahead(last)):8.2f}")
    await queue.aclose()


def _fill(db: sqlite3.Connection) -> None:
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO requests (row, id, body, place, state, address, project, name, type, metadata, "
        "aliases, tags, inputs, run, run_id, client, folder, synced, logged, accepted, entries, size, "
        "version, ended, freed) "
        "SELECT i, 'id ' || i, x'00', -i, 'done', 'file:///store', 'bench', 'model-' || (i % 4), 'model', "
        "'{}', '[]', '[]', '[]', '{\"id\":\"run\"}', 'run-' || (2 + i % 50), 'w', 'f' || i, 1, 1, 1, 1, 1, "
        "i, 2, 1 FROM n",
        (DONE,),
    )


async def _time(look: object, rounds: int = 200) -> float:
    assert callable(look)
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        await look()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
