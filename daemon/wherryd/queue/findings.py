"""What lookups lead to: entries, and where a listing goes on.

Owns: that a lookup and its entries are written together, and two things never land on one path. Does not
own: what is asked, and when (``prepare``). Every change may be made twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wherry.errors import PathTaken
from wherry.wire.secrets import masked
from wherryd.model import Entry, Lookup, State
from wherryd.queue.base import Finding
from wherryd.queue.changes import head
from wherryd.queue.group import Changed
from wherryd.queue.queries import all_rows, change, change_many, one_row
from wherryd.queue.rows import entry_values, lookup_of


def lookups(db: sqlite3.Connection, row: int, after: int, limit: int) -> list[Lookup]:
    """A request's lookups that are not done, above the number ``after``."""
    return [lookup_of(one) for one in all_rows(db, "lookups", row=row, after=after, limit=limit)]


def last_place(db: sqlite3.Connection) -> int:
    """The highest place in line that was given."""
    found = one_row(db, "meta", key="last_place")
    return int(found["value"]) if found else 0


def save_found(db: sqlite3.Connection, row: int, findings: Sequence[Finding]) -> Changed[None]:
    """Write findings, each with its entries."""
    head(db, row, State.ACCEPTED)
    ended = 0
    for finding in findings:
        _insert(db, row, finding)
        values = (finding.is_prefix, finding.after, finding.found, finding.is_done)
        ended += change_many(db, "set_found", [(*values, row, finding.number)]) * finding.is_done
    change(db, "count_lookups", row=row, done=ended)
    return Changed(None)


def forget_found(db: sqlite3.Connection, row: int, number: int, limit: int) -> Changed[bool]:
    """Delete some entries that a lookup led to; whether some are left."""
    head(db, row, State.ACCEPTED)
    if change(db, "delete_found", row=row, number=number, limit=limit) == limit:
        return Changed(True)
    change_many(db, "set_found", [(False, "", 0, False, row, number)])
    return Changed(False)


def _insert(db: sqlite3.Connection, row: int, finding: Finding) -> None:
    try:
        values = (entry_values(row, entry, finding.number) for entry in finding.entries)
        change_many(db, "insert_entry", values)
    except sqlite3.IntegrityError:
        for entry in finding.entries:
            _insert_one(db, row, finding.number, entry)


def _insert_one(db: sqlite3.Connection, row: int, number: int, entry: Entry) -> None:
    there = one_row(db, "found_entry", row=row, path=entry.path)
    if there is None:
        change_many(db, "insert_entry", [entry_values(row, entry, number)])
        return
    assert entry.reference is not None
    new = (entry.digest, entry.size, entry.reference.uri, entry.reference.version)
    if new != (there["digest"], there["size"], there["uri"], there["ref_version"]):
        other = masked(there["uri"]) if there["uri"] else "a file that was added"
        raise PathTaken(
            f"{masked(entry.reference.uri)} and {other} would both be the entry {entry.path!r}",
            hint="Give one of them another name: add_reference(uri, name=…).",
        )
