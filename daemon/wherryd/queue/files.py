"""The queue's file on the disk: making, checking, setting aside, connecting.

Owns: ``queue.db`` and what lies beside it, settings of a connection. Does not own: who may open it
(the daemon's lock), what stands in it.

``queue.db`` appears whole, by rename, so that one that is there and no queue is damage. A damaged
one is renamed first, its write-ahead log after it; a kill between the two leaves a log without a
database, which the next start sets aside as well.

While a connection is open, this process must not open and close ``queue.db`` by other means: closing
any descriptor of a file drops the process's POSIX locks on it
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wherry.errors import QueueError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.files import sync_folder
from wherryd.log import get_logger
from wherryd.queue.closed import take_mark
from wherryd.queue.migrations import bring_up, form_of, refuse_newer
from wherryd.queue.troubles import is_damage, translated

BUSY_TIMEOUT_S = 5.0
#: STRICT tables; RETURNING.
_OLDEST_SQLITE = (3, 37, 0)
_CACHE_KIB = 8 * 1024
_READER_CACHE_KIB = 4 * 1024
_CHECKPOINT_PAGES = 4_000
_LONGEST_LOG_BYTES = 64 * 1024 * 1024
_BESIDE = ("-wal", "-shm")

_MADE = failpoint("queue.file.before-rename")
_RENAMED = failpoint("queue.file.renamed")
_MOVED_DATABASE = failpoint("queue.damaged.database-moved")
_MOVED_ONE = failpoint("queue.damaged.log-moved")
_MOVED_ALL = failpoint("queue.damaged.all-moved")

_log = get_logger("queue")


def prepare(path: Path, clock: Clock, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Path | None:
    """Leave a sound database of the newest form at ``path``.

    Returns the path to which a damaged one was set aside, or None. Raises ``QueueTooNew``;
    ``QueueLocked`` when another program holds the database for ``busy_timeout_s`` seconds.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise QueueError(
            f"SQLite {sqlite3.sqlite_version} is too old", hint="use a newer Python build"
        )
    with translated(str(path)):
        is_closed = take_mark(path)
        aside = _set_aside_if_damaged(path, clock, busy_timeout_s, is_closed=is_closed)
        if not path.exists():
            _make(path)
        path.chmod(0o600)
        with closing(connect(path, busy_timeout_s)) as db:
            bring_up(db)
    return aside


def set_aside(path: Path) -> list[Path]:
    """What was set aside as damaged and still lies there, oldest first.

    While any does, the captured bytes of its requests have to stay.
    """
    found = path.parent.glob(f"{path.name}.damaged-*")
    return sorted({file.with_name(_without_end(file.name)) for file in found})


def connect(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a connection for the one writer; each commit is synced to the disk."""
    db = _open(path, "rw", busy_timeout_s)
    for setting in (
        "synchronous = FULL",
        "fullfsync = ON",  # macOS: fsync() alone leaves the bytes in the drive's cache
        "checkpoint_fullfsync = ON",
        f"cache_size = -{_CACHE_KIB}",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"journal_size_limit = {_LONGEST_LOG_BYTES}",
        "temp_store = MEMORY",
    ):
        db.execute(f"PRAGMA {setting}")
    return db


def connect_reader(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a connection that can't write."""
    db = _open(path, "rw", busy_timeout_s)
    db.execute("PRAGMA query_only = ON")
    db.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
    return db


def _open(path: Path, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    # Transactions are begun and ended by hand: the module's own would start behind our back.
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    db.row_factory = sqlite3.Row
    return db


# ── making ─────────────────────────────────────────────────────────────────────────────────────
def _make(path: Path) -> None:
    new = path.with_name(path.name + ".new")
    for leftover in (new, *(_beside(new, end) for end in _BESIDE)):
        leftover.unlink(missing_ok=True)
    # SQLite gives the log the mode of its database.
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(connect(new)) as db:
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise QueueError(
                f"{path.parent} can't hold a write-ahead log",
                hint="set WHERRY_HOME to a local disk",
            )
        bring_up(db)
    _MADE()
    new.rename(path)
    _RENAMED()
    sync_folder(path.parent)


# ── checking ───────────────────────────────────────────────────────────────────────────────────
def _set_aside_if_damaged(
    path: Path, clock: Clock, busy_timeout_s: float, *, is_closed: bool
) -> Path | None:
    if not path.exists():
        return _set_aside_logs(path, clock)
    look = _look_at_schema if is_closed else _look_at_all
    damage = _find_damage(path, busy_timeout_s, look)
    if damage is None:
        return None
    aside = _name_aside(path, clock)
    path.rename(aside)
    _MOVED_DATABASE()
    _move_logs(path, aside)
    _log.warning("queue damaged and set aside; a new one is begun", damage=damage, kept=str(aside))
    return aside


def _find_damage(
    path: Path, busy_timeout_s: float, look: Callable[[sqlite3.Connection], str]
) -> str | None:
    """What is wrong with the database; by a connection that can write neither it nor its log."""
    if path.stat().st_size == 0:
        return "it is empty"  # SQLite would take it for a new one, and delete its log
    try:
        with closing(_open(path, "ro", busy_timeout_s)) as db:
            form = form_of(db)
            refuse_newer(form)
            verdict = look(db)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise
    if verdict != "ok":
        return verdict
    return None if form else "it is not a queue of Wherry's"


def _look_at_all(db: sqlite3.Connection) -> str:
    """Takes seconds for a queue with millions of entries."""
    _log.info("the last end was not orderly: every page of the queue is looked at")
    verdict: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    return verdict


def _look_at_schema(db: sqlite3.Connection) -> str:
    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return "ok"


# ── setting aside ──────────────────────────────────────────────────────────────────────────────
def _set_aside_logs(path: Path, clock: Clock) -> Path | None:
    """A log without its database: a start was killed while it set both aside."""
    there = [end for end in _BESIDE if _beside(path, end).exists()]
    if not there:
        return None
    earlier = sorted(path.parent.glob(f"{path.name}.damaged-*Z"))
    alone = bool(earlier) and not any(_beside(earlier[-1], end).exists() for end in there)
    aside = earlier[-1] if alone else _name_aside(path, clock)
    _move_logs(path, aside)
    _log.warning("log of a damaged queue set aside", kept=str(aside))
    return aside


def _move_logs(path: Path, aside: Path) -> None:
    for end in _BESIDE:
        if _beside(path, end).exists():
            _beside(path, end).rename(_beside(aside, end))
            _MOVED_ONE()
    sync_folder(path.parent)
    _MOVED_ALL()


def _name_aside(path: Path, clock: Clock) -> Path:
    """A name that is free: rename would replace what is there."""
    stamp = datetime.fromtimestamp(clock.now(), UTC)
    while True:
        aside = path.with_name(f"{path.name}.damaged-{stamp:%Y%m%dT%H%M%S.%fZ}")
        if not any(file.exists() for file in (aside, *(_beside(aside, end) for end in _BESIDE))):
            return aside
        stamp += timedelta(microseconds=1)


def _without_end(name: str) -> str:
    return next((name.removesuffix(end) for end in _BESIDE if name.endswith(end)), name)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
