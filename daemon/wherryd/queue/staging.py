"""Entries, row numbers, and what is deleted: the bulk of the database.

Owns: entries and lookups from the stream to their end, in bounded batches; forgetting requests. Does not own:
requests' states (``changes``).

A row of either whose request is missing belongs to a stream that is still coming in or was cut: a
kill leaves it, and the next start sweeps it. So a request goes first and its entries after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeVar

from wherry.errors import NotFoundError
from wherry.wire.room import Room
from wherryd.model import Entry, FileStat, Lookup, Manifest, State
from wherryd.queue import changes
from wherryd.queue.base import Accepted, NewRequest, Packed, WrongState
from wherryd.queue.changes import head
from wherryd.queue.group import Changed
from wherryd.queue.queries import all_rows, change, change_many, one_row
from wherryd.queue.rows import entry_values, json, lookup_values
from wherryd.queue.streams import path_taken

T = TypeVar("T")

#: Requests forgotten in one change.
FORGET_AT_ONCE = 200
#: Row numbers that one start of the daemon may give.
ROWS_PER_START = 10**9


# ── row numbers ────────────────────────────────────────────────────────────────────────────────
def begin(db: sqlite3.Connection) -> int:
    """Count a start and return the first of its row numbers, which no other start gives."""
    counted = one_row(db, "next_start")
    assert counted is not None
    start: int = counted["start"]
    return start * ROWS_PER_START


# ── a stream ───────────────────────────────────────────────────────────────────────────────────
def stage(db: sqlite3.Connection, row: int, entries: Sequence[Entry]) -> Changed[None]:
    """Write entries of a stream that is still coming in."""
    if one_row(db, "head", row=row) is not None:
        raise WrongState(f"the request in row {row} has all its entries")
    _insert(db, row, entries)
    return Changed(None)


def stage_lookups(db: sqlite3.Connection, row: int, lookups: Sequence[Lookup]) -> Changed[None]:
    """Write lookups of a stream that is still coming in."""
    if one_row(db, "head", row=row) is not None:
        raise WrongState(f"the request in row {row} has all its lookups")
    _insert_lookups(db, row, lookups)
    return Changed(None)


def stage_removed(db: sqlite3.Connection, row: int, paths: Sequence[str]) -> Changed[None]:
    """Write paths that a stream which is still coming in takes out of its base."""
    if one_row(db, "head", row=row) is not None:
        raise WrongState(f"the request in row {row} has all its paths")
    change_many(db, "insert_removed", ((row, path) for path in paths))
    return Changed(None)


def accept(
    db: sqlite3.Connection,
    row: int,
    entries: Sequence[Entry],
    lookups: Sequence[Lookup],
    request: NewRequest,
    now: float,
) -> Changed[Accepted]:
    """Accept a request, with the last of its entries and lookups."""
    accepted = changes.accept(db, row, request, now)
    if not accepted.value.again:
        _insert(db, row, entries)
        _insert_lookups(db, row, lookups)
    return accepted


def _insert_lookups(db: sqlite3.Connection, row: int, lookups: Sequence[Lookup]) -> None:
    change_many(db, "insert_lookup", (lookup_values(row, lookup) for lookup in lookups))


def _insert(db: sqlite3.Connection, row: int, entries: Sequence[Entry]) -> None:
    before = db.total_changes
    try:
        change_many(db, "insert_entry", (entry_values(row, entry) for entry in entries))
    except sqlite3.IntegrityError as error:
        raise path_taken(entries[db.total_changes - before].path) from error


def save_digests(
    db: sqlite3.Connection, row: int, digests: Sequence[tuple[str, str, int]]
) -> Changed[None]:
    """Write (path, digest, size)."""
    head(db, row, State.ACCEPTED)
    values = ((digest, size, row, path) for path, digest, size in digests)
    if change_many(db, "set_digest", values) != len(digests):
        raise NotFoundError(f"row {row} has no entry for some of {len(digests)} digests")
    return Changed(None)


def prepared(
    db: sqlite3.Connection,
    row: int,
    manifest: Manifest,
    content: str,
    digests: Sequence[tuple[str, str, int]],
) -> Changed[None]:
    """accepted → prepared, with the digests that were not kept before."""
    if digests:
        save_digests(db, row, digests)
    return changes.prepared(db, row, manifest, content)


def save_places(
    db: sqlite3.Connection, row: int, places: Sequence[Packed], pack: tuple[str, int] | None
) -> Changed[None]:
    """Write in which packs entries lie, and the pack that the request makes."""
    head(db, row, State.ACCEPTED)
    values = ((place.pack, place.offset, row, place.path) for place in places)
    if change_many(db, "set_place", values) != len(places):
        raise NotFoundError(f"row {row} has no entry for some of {len(places)} places")
    if pack is not None:
        change(db, "insert_pack", row=row, pack=pack[0], size=pack[1])
    return Changed(None)


def packs(db: sqlite3.Connection, row: int) -> dict[str, int]:
    """The packs that a request makes, with their sizes."""
    return {found["pack"]: found["size"] for found in all_rows(db, "packs", row=row)}


# ── deleting ───────────────────────────────────────────────────────────────────────────────────
def abandon(db: sqlite3.Connection, row: int, limit: int) -> Changed[bool]:
    """Delete entries and lookups that have no request; whether some are left."""
    if one_row(db, "head", row=row) is not None:
        return Changed(False)
    return Changed(_delete_some(db, row, limit))


def drop_entries(db: sqlite3.Connection, row: int, limit: int) -> Changed[bool]:
    """Delete entries and lookups of a request that is done or cancelled; whether some are left."""
    head(db, row, State.DONE, State.CANCELLED)
    return Changed(_delete_some(db, row, limit))


def _delete_some(db: sqlite3.Connection, row: int, limit: int) -> bool:
    left = limit - change(db, "delete_entries", row=row, limit=limit)
    left -= change(db, "delete_lookups", row=row, limit=left) if left else 0
    left -= change(db, "delete_removed", row=row, limit=left) if left else 0
    if left == 0 or change(db, "delete_gathered", row=row, limit=left) == left:
        return True
    change(db, "delete_packs", row=row)
    change(db, "delete_part_sums", row=row)
    return False


def forget_ended(db: sqlite3.Connection, before: float) -> Changed[tuple[int, list[int]]]:
    """Delete some requests that ended; how many, and which of their rows have entries left."""
    ended = all_rows(db, "forgettable", before=before, limit=FORGET_AT_ONCE)
    for request in ended:
        change(db, "forget_links", id=request["id"])
        change(db, "forget_request", row=request["row"])
    rows = [request["row"] for request in ended]
    return Changed((len(rows), [row for row in rows if one_row(db, "has_entries", row=row)]))


def orphans(db: sqlite3.Connection, below: int) -> list[int]:
    """Rows of entries or lookups that have no request, of streams that began before row ``below``."""
    found = [
        *all_rows(db, "orphans", below=below),
        *all_rows(db, "orphan_lookups", below=below),
        *all_rows(db, "orphan_removed", below=below),
    ]
    return sorted({row["row"] for row in found})


def free(db: sqlite3.Connection, row: int) -> Changed[None]:
    """Note that a request's part of the spool is free."""
    head(db, row, State.DONE, State.CANCELLED)
    change(db, "set_freed", row=row)
    return Changed(None)


def take_off(db: sqlite3.Connection, row: int, left: Room) -> Changed[None]:
    """Note that a part of a request's part of the spool is about to go."""
    change(db, "take_off", row=row, bytes=left.bytes, files=left.files)
    return Changed(None)


def take_off_folders(db: sqlite3.Connection, folders: Sequence[str]) -> Changed[None]:
    """Note that folders of failures that were acknowledged are about to go."""
    change(db, "take_off_folders", folders=json([*folders]))
    return Changed(None)


def note_synced(db: sqlite3.Connection, rows: Sequence[int]) -> Changed[None]:
    """Note that the captured bytes of requests survive a power loss."""
    for row in rows:
        change(db, "set_synced", row=row)
    return Changed(None)


#: No file has it.
_OF_NO_FILE = FileStat(device=0, inode=0, size=-1, mtime_ns=0)


def distrust(db: sqlite3.Connection, row: int, paths: Sequence[str]) -> Changed[None]:
    """Let entries without a digest be found changed by whoever reads their files."""
    values = ((json(_OF_NO_FILE), row, path) for path in paths)
    change_many(db, "set_stat", values)
    return Changed(None)
