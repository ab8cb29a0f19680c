from __future__ import annotations

import re
import sqlite3

import pytest

from tests.unit.queue.helpers import memory, put
from wherry.errors import QueueTooNew
from wherryd.model import Entry, Reference, State
from wherryd.queue import looks, migrations


def empty() -> sqlite3.Connection:
    """A database without anything."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def shape(db: sqlite3.Connection) -> dict[str, str]:
    """What the database is made of, without comments and white space, and its first rows."""
    made = db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    parts = {f"{kind} {name}": _plain(sql) for kind, name, sql in made}
    for table in ("meta", "counts"):
        parts[f"rows of {table}"] = str([tuple(r) for r in db.execute(f"SELECT * FROM {table}")])
    return parts


def _plain(sql: str) -> str:
    return "".join(re.sub(r"--[^\n]*", "", sql).split())


def test_a_schema_that_the_migrations_do_not_lead_to() -> None:
    """All migrations, one after the other, give what the schema gives at once."""
    stepwise = empty()
    for script in migrations.migrations().values():
        stepwise.executescript(script)
    assert shape(stepwise) == shape(memory())


def test_migrations_with_a_gap_or_a_number_twice() -> None:
    """Migrations are numbered from 1 without a gap, and a fresh database has the last number."""
    numbers = list(migrations.migrations())
    assert numbers == list(range(1, len(numbers) + 1))
    assert migrations.form_of(memory()) == migrations.newest() == numbers[-1]


def test_an_older_database_that_is_not_brought_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older database gets exactly the migrations that it lacks, and keeps its rows."""
    db = memory()
    put(db, 1, State.ACCEPTED)
    newest = migrations.newest()
    coming = {
        **migrations.migrations(),
        newest + 1: "ALTER TABLE requests ADD COLUMN note TEXT;",
        newest + 2: "UPDATE requests SET note = 'seen';",
    }
    monkeypatch.setattr(migrations, "migrations", lambda: coming)
    migrations.bring_up(db)
    assert migrations.form_of(db) == newest + 2
    assert looks.get(db, 1).id == "r1"
    assert db.execute("SELECT note FROM requests").fetchone()["note"] == "seen"
    migrations.bring_up(db)


def test_a_queue_of_before_sums_that_is_lost() -> None:
    """References that an older daemon kept are there after the update, without further checksums."""
    db = empty()
    for number, script in migrations.migrations().items():
        if number < 3:
            db.executescript(f"{script}\nPRAGMA user_version = {number};")
    db.execute(
        "INSERT INTO entries (row, path, size, digest, uri, checksum, max_objects) "
        "VALUES (1, 'x', 3, 'etag:e', 's3://b/x', 1, 1)"
    )
    migrations.bring_up(db)
    (entry,) = looks.entries(db, 1, None, 10)
    assert entry == Entry("x", 3, "etag:e", None, Reference("s3://b/x", max_objects=1))


def test_a_migration_that_is_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails in the middle leaves the form before it."""
    db = memory()
    before = shape(db)
    newest = migrations.newest()
    broken = {newest + 1: "CREATE TABLE half (a TEXT); CREATE TABLE meta (a TEXT);"}
    monkeypatch.setattr(migrations, "migrations", lambda: broken)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrations.bring_up(db)
    assert (shape(db), migrations.form_of(db)) == (before, newest)


def test_a_newer_database_that_is_used() -> None:
    """A database written by a newer Wherry is refused and stays as it is."""
    db = memory()
    db.execute(f"PRAGMA user_version = {migrations.newest() + 1}")
    with pytest.raises(QueueTooNew, match="newer") as refused:
        migrations.bring_up(db)
    assert refused.value.hint
    assert migrations.form_of(db) == migrations.newest() + 1
