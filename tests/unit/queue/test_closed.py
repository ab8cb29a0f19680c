"""After which ends every page of the queue is looked at."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from tests.unit.queue.helpers import StillClock, new_entry
from wherry.errors import QueueDamaged
from wherryd.news import News
from wherryd.queue import files, staging
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.group import Changed, Kind
from wherryd.queue.writer import Writer

pytestmark = pytest.mark.blocks(why="the tests look at files between two starts")

CLOCK = StillClock()


def _fill(entries: int, db: sqlite3.Connection) -> None:
    row = staging.begin(db)
    db.execute("BEGIN")
    staging.stage(db, row, [new_entry(f"{number:08d}") for number in range(entries)])
    db.execute("COMMIT")


async def _live(path: Path, entries: int = 0) -> None:
    """A start with an orderly end."""
    database = await ThreadDatabase.open(path, CLOCK)
    await database.run(partial(_fill, entries))
    await database.aclose()


def _looks_at_all(path: Path) -> bool:
    """Whether a start looks at every page; it is killed before it writes."""
    with capture_logs() as said:
        assert files.prepare(path, CLOCK) is None
    return any("every page" in each["event"] for each in said)


async def test_all_is_looked_at_after_an_orderly_end(path: Path) -> None:
    """An orderly end saves the next start the long look; that start's own kill does not."""
    await _live(path)
    assert not _looks_at_all(path)
    assert _looks_at_all(path)
    await _live(path)
    await _live(path)
    assert not _looks_at_all(path)


def _write(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO meta VALUES ('theirs', '')")


def _leave_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"")


def _replace(path: Path) -> None:
    seen = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other.rename(path)


def _cut_mark(path: Path) -> None:
    path.with_name(f"{path.name}.closed").write_bytes(b"")


@pytest.mark.parametrize("act", [_write, _leave_log, _replace, _cut_mark])
async def test_mark_counts_for_another_state(path: Path, act: Callable[[Path], None]) -> None:
    """A database that anything else wrote, replaced or has open since is looked at whole."""
    await _live(path)
    await anyio.to_thread.run_sync(act, path)
    assert _looks_at_all(path)


def _damage_entries(path: Path) -> None:
    """Overwrite leaf pages in the middle, under the same time."""
    seen = path.stat()
    pages = seen.st_size // 4096
    with path.open("r+b") as file:
        for page in range(pages // 2, pages - 4):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


async def test_damage_that_was_met_is_forgotten_by_an_orderly_end(path: Path) -> None:
    """Who meets damage after a short look hears of it, and the next start looks at all and sets it aside."""
    await _live(path, entries=20_000)
    _damage_entries(path)
    database = await ThreadDatabase.open(path, CLOCK)
    with pytest.raises(QueueDamaged):
        await database.read(lambda db: db.execute("SELECT sum(size) FROM entries").fetchall())
    await database.aclose()
    assert files.prepare(path, CLOCK) is not None


def _meet_damage(_: sqlite3.Connection) -> Changed[None]:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


async def test_damage_that_a_change_met_is_forgotten(path: Path) -> None:
    """The same where one change of a group met it, which the others outlive."""
    database = await ThreadDatabase.open(path, CLOCK)
    writer = Writer(database, News(), CLOCK)
    with pytest.raises(QueueDamaged):
        await writer.change(Kind((), ()), _meet_damage)
    await writer.aclose()
    await database.aclose()
    assert _looks_at_all(path)
