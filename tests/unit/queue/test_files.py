from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.queue.helpers import StillClock, put
from wherry.errors import QueueError, QueueLocked, QueueTooNew
from wherryd.model import State
from wherryd.queue import files, looks, migrations

CLOCK = StillClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue shall lie."""
    return tmp_path / "queue.db"


@pytest.fixture
def filled(path: Path) -> Path:
    """A queue with requests in the database and in its log, as a kill leaves it."""
    files.prepare(path, CLOCK)
    with closing(files.connect(path)) as db:
        for row in range(1, 200):
            put(db, row, State.ACCEPTED)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        put(db, 200, State.ACCEPTED)
        log = _beside(path, "-wal").read_bytes()
    _beside(path, "-wal").write_bytes(log)
    return path


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in the folder, but for the log's index, which any connection writes."""
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")
    }


def prepare_damaged(path: Path) -> Path:
    """Prepare and return where the damaged database was set aside; a message must say so."""
    with capture_logs() as log:
        aside = files.prepare(path, CLOCK)
    assert aside is not None and aside.exists()
    assert [(e["log_level"], e["kept"]) for e in log if "damaged" in e["event"]] == [
        ("warning", str(aside))
    ]
    return aside


# ── a new one ──────────────────────────────────────────────────────────────────────────────────
def test_a_queue_that_others_can_read(path: Path) -> None:
    """The database, its log and its index belong to the user alone, whatever the umask."""
    before = os.umask(0)
    try:
        assert files.prepare(path, CLOCK) is None
        with closing(files.connect(path)) as db:
            put(db, 1, State.ACCEPTED)
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"queue.db": 0o600, "queue.db-wal": 0o600, "queue.db-shm": 0o600}


def test_a_queue_that_was_opened_to_others(path: Path) -> None:
    """A mode that somebody widened is narrowed again."""
    files.prepare(path, CLOCK)
    path.chmod(0o644)
    files.prepare(path, CLOCK)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_commit_that_is_not_synced(path: Path) -> None:
    """The writer syncs each commit, logs ahead, and bounds its memory; the reader can't write."""
    files.prepare(path, CLOCK)
    with closing(files.connect(path)) as db:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("cache_size", -8192)):
            assert db.execute(f"PRAGMA {pragma}").fetchone()[0] == value
    with closing(files.connect_reader(path)) as db, pytest.raises(sqlite3.OperationalError):
        put(db, 1, State.ACCEPTED)


def test_a_start_that_was_killed_while_it_made_the_queue(path: Path) -> None:
    """What a killed start left half made is made anew."""
    for end in (".new", ".new-wal", ".new-shm", ".new-journal"):
        _beside(path, end).write_bytes(b"half")
    assert files.prepare(path, CLOCK) is None
    with closing(files.connect(path)) as db:
        put(db, 1, State.ACCEPTED)
    assert not _beside(path, ".new").exists()


# ── one that is there ──────────────────────────────────────────────────────────────────────────
def test_a_sound_queue_that_loses_what_is_in_its_log(filled: Path) -> None:
    """A queue that a kill left is taken up with everything that was committed, log included."""
    assert files.prepare(filled, CLOCK) is None
    with closing(files.connect(filled)) as db:
        assert looks.counts(db)[State.ACCEPTED] == 200


def test_a_newer_queue_that_is_touched(filled: Path) -> None:
    """A queue of a newer Wherry is refused, not set aside, and stays byte for byte."""
    with closing(files.connect(filled)) as db:
        db.execute(f"PRAGMA user_version = {migrations.newest() + 1}")
    before = filled.read_bytes()
    with pytest.raises(QueueTooNew):
        files.prepare(filled, CLOCK)
    assert {file.name for file in filled.parent.glob("*.damaged*")} == set()
    assert filled.read_bytes() == before


def test_a_queue_that_another_program_holds(filled: Path) -> None:
    """A queue that another program keeps to itself is ``QueueLocked``, and stays."""
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(QueueLocked, match=r"queue\.db") as locked:
            files.prepare(filled, CLOCK, busy_timeout_s=0.01)
    assert locked.value.hint
    assert files.prepare(filled, CLOCK) is None


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    """An error of the disk is a ``QueueError`` that names the queue."""
    (tmp_path / "queue.db").mkdir()
    with pytest.raises(QueueError, match=r"queue\.db"):
        files.prepare(tmp_path / "queue.db", CLOCK)


# ── damaged ────────────────────────────────────────────────────────────────────────────────────
def _overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(4, path.stat().st_size // 4096 - 1, 2):
            file.seek(page * 4096)
            file.write(os.urandom(4096))


def _overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a database at all" * 10)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _put_another_database_there(path: Path) -> None:
    path.unlink()
    _beside(path, "-wal").unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (a)")


@pytest.mark.parametrize(
    "damage", [_overwrite_pages, _overwrite_header, _cut, _empty, _put_another_database_there]
)
def test_a_damaged_queue_that_is_lost_or_used(filled: Path, damage: object) -> None:
    """A damaged queue is set aside byte for byte with its log, says so, and a new one is begun."""
    assert callable(damage)
    damage(filled)
    before = contents(filled.parent)
    aside = prepare_damaged(filled)
    kept = contents(filled.parent)
    assert kept[aside.name] == before["queue.db"]
    assert kept.get(f"{aside.name}-wal") == before.get("queue.db-wal")
    assert aside.name.startswith("queue.db.damaged-19700101T001640")
    with closing(files.connect(filled)) as db:
        assert sum(looks.counts(db).values()) == 0
        put(db, 1, State.ACCEPTED)
    assert files.prepare(filled, CLOCK) is None


def test_a_log_taken_for_the_new_queues(filled: Path) -> None:
    """A start killed between the two renames: the log joins its database, and no byte is lost."""
    _overwrite_header(filled)
    aside = filled.with_name("queue.db.damaged-19700101T001640.000000Z")
    filled.rename(aside)
    log = _beside(filled, "-wal").read_bytes()
    with capture_logs() as said:
        assert files.prepare(filled, CLOCK) == aside
    assert said
    assert _beside(aside, "-wal").read_bytes() == log
    with closing(files.connect(filled)) as db:
        assert sum(looks.counts(db).values()) == 0


def test_an_index_taken_for_another_damaged_queue(filled: Path) -> None:
    """A start killed between the log and its index: the index joins both, and is no queue of its own."""
    aside = filled.with_name("queue.db.damaged-19700101T001640.000000Z")
    filled.rename(aside)
    _beside(filled, "-wal").rename(_beside(aside, "-wal"))
    _beside(filled, "-shm").write_bytes(b"index")
    assert files.prepare(filled, CLOCK) == aside
    assert files.set_aside(filled) == [aside]
    assert _beside(aside, "-shm").read_bytes() == b"index"


def test_a_log_that_lies_there_without_any_database(filled: Path) -> None:
    """A log whose database somebody removed is set aside as well, under a name of its own."""
    filled.unlink()
    log = _beside(filled, "-wal").read_bytes()
    other = filled.with_name("queue.db.damaged-19700101T000000.000000Z")
    other.write_bytes(b"older")
    _beside(other, "-wal").write_bytes(b"older log")
    aside = files.prepare(filled, CLOCK)
    assert aside is not None and _beside(aside, "-wal").read_bytes() == log
    assert _beside(other, "-wal").read_bytes() == b"older log"


def test_two_damaged_queues_under_one_name(path: Path) -> None:
    """A second damaged queue does not take the first one's name, though the clock stands still."""
    asides = set()
    for content in (b"first", b"second"):
        path.write_bytes(content * 1000)
        asides.add(prepare_damaged(path))
        path.unlink()
    assert {aside.read_bytes()[:5] for aside in asides} == {b"first", b"secon"}
