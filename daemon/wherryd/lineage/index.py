"""The index of one store: a database file that may go at any time.

Owns: its form, what is written for a version and for a run's record. Does not own: what is in the store
(``refresh``), what is asked of it (``graph``, ``runs``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import WherryError
from wherryd.lineage.looks import Look
from wherryd.log import get_logger
from wherryd.model import NoteKind, RunRecord, Tombstone, VersionRecord
from wherryd.registry.base import RecordStamp, VersionStamp

#: Raised with ``schema.sql``: an index of another form is made anew.
FORM = 1

_SCHEMA = Path(__file__).with_name("schema.sql")

_log = get_logger("lineage")
_T = TypeVar("_T")


class Damaged(Exception):
    """The index was damaged, and is empty now."""


class Index:
    """One file; its functions run in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.looks: dict[str, Look] = {}
        """The last look at each project, as long as the file that knows what it saw is open."""
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._lock = anyio.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` in one transaction.

        Raises ``Damaged``; ``WherryError`` where its disk does not take it.
        """
        async with self._lock:
            return await anyio.to_thread.run_sync(self._run, work)

    async def begin_anew(self) -> None:
        """Forget all: the store is read from the beginning."""
        async with self._lock:
            await anyio.to_thread.run_sync(self._remove)

    async def aclose(self) -> None:
        """Close the file."""
        async with self._lock:
            await anyio.to_thread.run_sync(self._close)

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return self._in_transaction(work)
        except (sqlite3.OperationalError, OSError) as error:
            self._close()
            raise WherryError(
                f"The index {self._path} can't be used: {error}.",
                hint="Is its disk full? It may be removed at any time.",
            ) from error
        except sqlite3.DatabaseError as error:
            _log.warning("the index is made anew", path=str(self._path), error=str(error))
            self._remove()
            raise Damaged from error

    def _in_transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        db = self._opened()
        with db:
            db.execute("BEGIN")
            return work(db)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = _connect(self._path)
            if self._db.execute("PRAGMA user_version").fetchone()[0] != FORM:
                self._remove()
                self._db = _connect(self._path)
                self._db.executescript(_SCHEMA.read_text(encoding="utf-8"))
                self._db.execute(f"PRAGMA user_version = {FORM}")
        return self._db

    def _remove(self) -> None:
        self._close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _close(self) -> None:
        self.looks = {}
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


# ── versions ───────────────────────────────────────────────────────────────────────────────────
def known_versions(db: sqlite3.Connection, project: str) -> dict[tuple[str, int], str]:
    """The stamps of a project's versions, as they were read."""
    found = db.execute("SELECT name, version, stamp FROM versions WHERE project = ?", (project,))
    return {(name, version): stamp for name, version, stamp in found}


def knows_version(db: sqlite3.Connection, project: str, name: str, version: int) -> bool:
    """Whether a version's record, or the tombstone in its place, was read."""
    sql = "SELECT 1 FROM versions WHERE project = ? AND name = ? AND version = ?"
    return db.execute(sql, (project, name, version)).fetchone() is not None


def forget_versions(db: sqlite3.Connection, project: str, gone: Iterable[tuple[str, int]]) -> None:
    """Forget versions that are in the store no more."""
    values = [(project, name, version) for name, version in gone]
    for table in ("versions", "inputs"):
        sql = f"DELETE FROM {table} WHERE project = ? AND name = ? AND version = ?"  # noqa: S608
        db.executemany(sql, values)


def write_versions(
    db: sqlite3.Connection,
    project: str,
    read: Mapping[VersionStamp, VersionRecord | Tombstone | None],
) -> None:
    """Write what was read of versions, in place of what was there; None: it can't be read."""
    forget_versions(db, project, [(stamp.name, stamp.version) for stamp in read])
    for stamp, record in read.items():
        place = project, stamp.name, stamp.version
        if record is None:
            values = (*place, stamp.stamp, 0, "", "", "", "", "{}")
        elif isinstance(record, Tombstone):
            values = (*place, stamp.stamp, 1, record.request, "", "", "", "{}")
        else:
            run = record.run
            described = record.type, record.created, run.id, msgspec.json.encode(run).decode()
            values = (*place, stamp.stamp, 0, record.request, *described)
            inputs = [(*place, each) for each in dict.fromkeys(record.inputs)]
            db.executemany("INSERT INTO inputs VALUES (?, ?, ?, ?)", inputs)
        db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


# ── runs ───────────────────────────────────────────────────────────────────────────────────────
def known_records(db: sqlite3.Connection, place: str) -> dict[str, str]:
    """The stamps of the runs' records below a project, as they were read."""
    found = db.execute("SELECT key, stamp FROM run_records WHERE place = ?", (place,))
    return dict(found.fetchall())


def knows_runs(db: sqlite3.Connection, project: str, ids: Iterable[str]) -> bool:
    """Whether anything is known of each of these runs."""
    sql = (
        "SELECT 1 FROM run_records WHERE project = :project AND run_id = :id"
        " UNION ALL SELECT 1 FROM versions WHERE project = :project AND run_id = :id LIMIT 1"
    )
    asked = ({"project": project, "id": run_id} for run_id in ids)
    return all(db.execute(sql, each).fetchone() is not None for each in asked)


def stamps_of(db: sqlite3.Connection, keys: Iterable[str]) -> dict[str, str]:
    """The stamps of some records of runs, as far as they were read."""
    sql = "SELECT key, stamp FROM run_records WHERE key = ?"
    return {key: stamp for each in keys for key, stamp in db.execute(sql, (each,))}


def forget_records(db: sqlite3.Connection, gone: Iterable[str]) -> None:
    """Forget records that are in the store no more."""
    keys = [(key,) for key in gone]
    for table in ("run_records", "run_links"):
        db.executemany(f"DELETE FROM {table} WHERE key = ?", keys)  # noqa: S608


def write_records(
    db: sqlite3.Connection, place: str, read: Mapping[RecordStamp, RunRecord | None]
) -> None:
    """Write what was read of runs, in place of what was there; None: it can't be read."""
    forget_records(db, [stamp.key for stamp in read])
    for stamp, record in read.items():
        project, run_id = (record.project, record.run.id) if record else ("", "")
        body = msgspec.json.encode(record) if record else b""
        values = stamp.key, place, stamp.stamp, project, run_id, body
        db.execute("INSERT INTO run_records VALUES (?, ?, ?, ?, ?, ?)", values)
        if record is None:
            continue
        links = [(NoteKind.USED, each) for each in record.used]
        links += [(NoteKind.LOGGED, each) for each in record.logged]
        links += [(NoteKind.DRAFT, each) for each in record.drafts]
        db.executemany(
            "INSERT OR IGNORE INTO run_links VALUES (?, ?, ?, ?, ?)",
            [(str(kind), value, project, run_id, stamp.key) for kind, value in links],
        )
