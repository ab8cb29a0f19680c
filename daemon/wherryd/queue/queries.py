"""The named queries of ``queries.sql``.

Owns: finding a query by its name and running it. Does not own: what a query is for (``changes``,
``knowledge``, ``looks``), transactions (``writer``), or what its errors mean (``database``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

_NAME = "-- name: "

Value = str | bytes | int | float | None


@cache
def queries() -> dict[str, str]:
    """Every query by its name."""
    found: dict[str, str] = {}
    for part in ("\n" + _text()).split("\n" + _NAME)[1:]:
        name, _, sql = part.partition("\n")
        if name in found:
            raise ValueError(f"queries.sql has two queries named {name}")
        found[name] = sql
    return found


def _text() -> str:
    return Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")


def all_rows(db: sqlite3.Connection, name: str, /, **values: Value) -> list[sqlite3.Row]:
    """Run a query to its end and return its rows."""
    return db.execute(queries()[name], values).fetchall()


def one_row(db: sqlite3.Connection, name: str, /, **values: Value) -> sqlite3.Row | None:
    """Run a query to its end and return its first row."""
    rows = all_rows(db, name, **values)
    return rows[0] if rows else None


def change(db: sqlite3.Connection, name: str, /, **values: Value) -> int:
    """Run a statement and return how many rows it changed."""
    return db.execute(queries()[name], values).rowcount


def change_many(db: sqlite3.Connection, name: str, rows: Iterable[Sequence[Value]]) -> int:
    """Run a statement for each of ``rows`` and return how many rows it changed in all."""
    return db.executemany(queries()[name], rows).rowcount
