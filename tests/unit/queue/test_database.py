from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio.to_thread
import pytest

from tests.unit.queue.helpers import StillClock, new_entry, new_request
from wherry.errors import BY_NAME, QueueDamaged, QueueError, QueueLocked, SpoolFull
from wherryd.model import State
from wherryd.news import News
from wherryd.public import public_name
from wherryd.queue import files
from wherryd.queue.base import Filter, QueueFull
from wherryd.queue.database import InlineDatabase, ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue
from wherryd.queue.troubles import translate

#: The simulation's adapter runs SQLite on the loop on purpose.
inline = pytest.mark.blocks("an in-memory database without threads")


class Died(Exception):
    pass


@pytest.fixture
def disk() -> sqlite3.Connection:
    """What outlives a crash."""
    return sqlite3.connect(":memory:")


# ── errors ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("code", "ours"),
    [
        (sqlite3.SQLITE_BUSY, QueueLocked),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, QueueLocked),
        (sqlite3.SQLITE_LOCKED, QueueLocked),
        (sqlite3.SQLITE_FULL, QueueFull),
        (sqlite3.SQLITE_CORRUPT, QueueDamaged),
        (sqlite3.SQLITE_NOTADB, QueueDamaged),
        (sqlite3.SQLITE_IOERR_FSYNC, QueueError),
        (sqlite3.SQLITE_READONLY, QueueError),
        (None, QueueError),
    ],
)
def test_an_error_of_sqlite_that_users_meet(code: int | None, ours: type[QueueError]) -> None:
    """Each error of SQLite is one of ours, with a remedy."""
    error = sqlite3.OperationalError("trouble")
    if code is not None:
        error.sqlite_errorcode = code
    translated = translate(error, "/home/queue.db")
    assert type(translated) is ours
    assert "/home/queue.db" in translated.message and translated.hint
    assert public_name(translated) in BY_NAME


def test_a_full_disk_that_clients_can_not_catch() -> None:
    """Users see a full disk as ``SpoolFull``, stages as ``QueueError``."""
    assert public_name(QueueFull("full")) == "SpoolFull"
    assert issubclass(QueueFull, SpoolFull) and issubclass(QueueFull, QueueError)


# ── with threads ───────────────────────────────────────────────────────────────────────────────
async def test_a_function_that_sees_others_statements(database: ThreadDatabase) -> None:
    """A look sees one state of the database throughout, whatever is committed meanwhile."""

    def look(db: sqlite3.Connection) -> tuple[int, int]:
        before = db.execute("SELECT count(*) FROM meta").fetchone()[0]
        with sqlite3.connect(db.execute("PRAGMA database_list").fetchone()["file"]) as other:
            other.execute("INSERT OR IGNORE INTO meta VALUES ('meanwhile', '')")
        other.close()
        return before, db.execute("SELECT count(*) FROM meta").fetchone()[0]

    before, after = await database.read(look)
    assert before == after
    assert (await database.read(look))[0] == before + 1


@pytest.mark.parametrize("verb", ["read", "look"])
async def test_a_look_that_writes(database: ThreadDatabase, verb: str) -> None:
    """A look can't write."""
    with pytest.raises(QueueError, match="readonly"):
        await getattr(database, verb)(lambda db: db.execute("DELETE FROM meta"))


@pytest.mark.parametrize("verb", ["read", "look"])
async def test_a_look_that_raises(database: ThreadDatabase, verb: str) -> None:
    """After a look that raised the next one sees the newest state."""
    look = getattr(database, verb)
    with pytest.raises(LookupError):
        await look(lambda _: {}["missing"])
    await database.run(lambda db: db.execute("INSERT INTO meta VALUES ('new', 'x')"))
    rows = await look(lambda db: db.execute("SELECT * FROM meta").fetchall())
    assert "new" in {row["key"] for row in rows}


async def test_a_log_left_behind_by_an_orderly_end(path: Path, clock: StillClock) -> None:
    """An orderly end leaves the database and its mark in the folder: the log has been taken into it."""
    database = await ThreadDatabase.open(path, clock)
    await database.run(lambda db: db.execute("INSERT INTO meta VALUES ('new', 'x')"))
    await database.aclose()
    assert sorted(file.name for file in path.parent.iterdir()) == ["queue.db", "queue.db.closed"]


async def test_a_damaged_queue_that_nobody_hears_of(path: Path, clock: StillClock) -> None:
    """Who asks is told where a damaged one was set aside, log and all, as long as it lies there."""
    path.write_bytes(b"damaged" * 1000)
    database = await ThreadDatabase.open(path, clock)
    (aside,) = await anyio.to_thread.run_sync(files.set_aside, path)
    assert aside.read_bytes() == b"damaged" * 1000
    aside.rename(f"{aside}-wal")
    assert await anyio.to_thread.run_sync(files.set_aside, path) == [aside]
    await database.aclose()


# ── without threads ────────────────────────────────────────────────────────────────────────────
@inline
async def test_a_crash_that_keeps_what_was_not_committed(disk: sqlite3.Connection) -> None:
    """A crash loses what is not committed; every later call raises; the next start finds the rest."""
    database = InlineDatabase(disk)
    await database.run(lambda db: db.execute("INSERT INTO meta VALUES ('kept', '')"))
    await database.run(lambda db: db.execute("BEGIN"))
    await database.run(lambda db: db.execute("INSERT INTO meta VALUES ('lost', '')"))
    database.crash()
    for call in (database.run, database.read):
        with pytest.raises(QueueError, match="crashed"):
            await call(lambda db: db.execute("SELECT 1"))
    rows = await InlineDatabase(disk).read(lambda db: db.execute("SELECT * FROM meta").fetchall())
    assert {"kept"} <= {row["key"] for row in rows} <= {"kept", "last_place", "starts"}


@inline
@pytest.mark.parametrize("steps", [1, 2])
async def test_a_crash_around_a_commit(disk: sqlite3.Connection, steps: int) -> None:
    """A crash right before a commit leaves nothing of it, one right after it leaves all."""
    left = [1_000]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            database.crash()
            raise Died

    database = InlineDatabase(disk, step)
    queue = await SqliteQueue.open(database, News(), StillClock())
    row = queue.new_row()
    await queue.stage(row, [new_entry("a")])
    await queue._sweeping
    left[0] = steps
    with pytest.raises(QueueError):
        await queue.accept(row, new_request())
    left[0] = 1_000
    again = await SqliteQueue.open(InlineDatabase(disk), News(), StillClock())
    assert [r.state for r in await again.find(Filter())] == [State.ACCEPTED] * (steps - 1)
    await again._sweeping
    assert len(await again.entries(row)) == steps - 1
    await again.aclose()
    await queue.aclose()
