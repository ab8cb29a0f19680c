"""The disks of homes: databases in memory.

To make a database, and to prepare each statement anew on it, takes longer than all that a history asks of it.
So a disk is emptied and used again; it then holds what a new one holds, down to numbers that were given.
"""

from __future__ import annotations

import sqlite3
from functools import cache

from wherryd.queue.migrations import bring_up

#: More than the queue has.
_STATEMENTS = 256

_spare: list[sqlite3.Connection] = []


def take() -> sqlite3.Connection:
    """Give a database in which nothing has happened yet."""
    return _spare.pop() if _spare else new()


def new() -> sqlite3.Connection:
    """Make a database."""
    disk = sqlite3.connect(":memory:", isolation_level=None, cached_statements=_STATEMENTS)
    # As the daemon has it. Otherwise each change takes 64 KiB from the heap and gives them back.
    disk.execute("PRAGMA temp_store = MEMORY")
    bring_up(disk)
    return disk


def give_back(disk: sqlite3.Connection) -> None:
    """Let a later history have a database that nobody uses any more."""
    disk.execute("BEGIN")
    for table in _first_rows():
        disk.execute(f"DELETE FROM {table}")
    for table, rows in _first_rows().items():  # now, as triggers count what was deleted
        for row in rows:
            disk.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    disk.execute("COMMIT")
    _spare.append(disk)


@cache
def _first_rows() -> dict[str, list[tuple[object, ...]]]:
    """What a new database holds, by table."""
    disk = new()
    tables = disk.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {table: disk.execute(f"SELECT * FROM {table}").fetchall() for (table,) in tables}
