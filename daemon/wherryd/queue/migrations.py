"""Which form a database has, and the way from an older one to the newest.

Owns: ``schema.sql``, ``migrations/NNNN_*.sql``, ``PRAGMA user_version``. Does not own: the database's
file (``files``). Each migration is one transaction together with its number: a kill in the middle
leaves the form before it.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path

from wherry.errors import QueueTooNew
from wherry.wire.failpoints import failpoint

_HERE = Path(__file__).parent

_BEFORE_COMMIT = failpoint("queue.migrate.before-commit")


@cache
def migrations() -> dict[int, str]:
    """Every migration by the number that a database has after it."""
    files = sorted((_HERE / "migrations").glob("[0-9]*.sql"))
    return {int(file.name.partition("_")[0]): file.read_text(encoding="utf-8") for file in files}


@cache
def schema() -> str:
    """The newest form, whole."""
    return (_HERE / "schema.sql").read_text(encoding="utf-8")


def newest() -> int:
    """The number of the form that this program reads and writes."""
    return max(migrations())


def form_of(db: sqlite3.Connection) -> int:
    """The number of the form that a database has; 0 for an empty one."""
    number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def refuse_newer(number: int) -> None:
    """Raise ``QueueTooNew`` for a form that this program does not know."""
    if number > newest():
        raise QueueTooNew(
            f"the queue has form {number}, written by a newer Wherry; this one knows form {newest()}",
            hint="update Wherry's daemon: uv tool upgrade wherry (or pip install -U 'wherry[daemon]')",
        )


def bring_up(db: sqlite3.Connection) -> None:
    """Give an empty or older database the newest form. Raises ``QueueTooNew``."""
    there = form_of(db)
    refuse_newer(there)
    if there == 0:
        _apply(db, newest(), schema())
        return
    for number, script in migrations().items():
        if number > there:
            _apply(db, number, script)


def _apply(db: sqlite3.Connection, number: int, script: str) -> None:
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};")
        _BEFORE_COMMIT()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
