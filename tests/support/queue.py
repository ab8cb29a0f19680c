"""Looks into a home's queue from outside, by SQL, whatever becomes of its daemon meanwhile.

Versions alone do not show that a request came in twice: its second copy has the same content, and is
settled as the version that is there.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path


def states(home: Path) -> Counter[str]:
    """How many requests the home has taken, by their state."""
    if not (home / "queue.db").exists():  # it appears whole
        return Counter()
    with closing(sqlite3.connect(f"file:{home}/queue.db?mode=ro", uri=True, timeout=30)) as db:
        return Counter(state for (state,) in db.execute("SELECT state FROM requests"))


def taken(home: Path) -> int:
    """How many requests the home has taken, whatever became of them."""
    return states(home).total()


def done(home: Path) -> int:
    """How many requests have become versions."""
    return states(home)["done"]


def unfinished(home: Path) -> int:
    """How many requests the home still has to do."""
    found = states(home)
    return found.total() - found["done"] - found["failed"] - found["cancelled"]
