"""What happens to upserts and finishes: their own arrows of ``schema.sql``, and what a finish has gathered.

Owns: which state each change may start from. Does not own: the arrows that they share with other requests
(``changes``), what is done with a draft (``commit``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wherryd.model import Lane, RequestKind, State
from wherryd.queue.base import Gathered, WrongState
from wherryd.queue.changes import entered, head
from wherryd.queue.group import Changed
from wherryd.queue.queries import all_rows, change, change_many, one_row
from wherryd.queue.rows import Head, lane_of


# ── upserts ────────────────────────────────────────────────────────────────────────────────────
def upserts(db: sqlite3.Connection, limit: int) -> list[tuple[int, Lane]]:
    """Upserts that are uploaded and have not ended; first those whose parts are not put, by place."""
    return [(row["row"], lane_of(row)) for row in all_rows(db, "upserts", limit=limit)]


def keep_part(db: sqlite3.Connection, row: int, part: bytes) -> Changed[None]:
    """uploaded → sending: the part's bytes."""
    request = _head(db, row, RequestKind.UPSERT, State.UPLOADED)
    change(db, "set_sending_part", row=row, record=part)
    return entered(State.SENDING, request)


def part_put(db: sqlite3.Connection, row: int) -> Changed[None]:
    """sending → settled: a finish of the draft may have waited for it."""
    request = _head(db, row, RequestKind.UPSERT, State.SENDING)
    change(db, "set_part_put", row=row)
    return Changed(None, (State.SETTLED, request.id, request.lane))


def parts_missing(db: sqlite3.Connection, row: int) -> int:
    """How many upserts that came before a finish have not put their parts."""
    found = one_row(db, "parts_missing", row=row)
    assert found is not None
    missing: int = found["missing"]
    return missing


# ── finishes ───────────────────────────────────────────────────────────────────────────────────
def keep_sealed(db: sqlite3.Connection, row: int, sealed: bytes) -> Changed[None]:
    """uploaded → sending: the bytes of ``sealed.json``."""
    request = _head(db, row, RequestKind.FINISH, State.UPLOADED)
    change(db, "set_sealing", row=row, sealed=sealed)
    return entered(State.SENDING, request)


def fail_late(
    db: sqlite3.Connection, row: int, error: str, reason: str, now: float
) -> Changed[None]:
    """An upsert from settled, a finish from uploaded or sending → failed."""
    request = head(db, row, State.UPLOADED, State.SENDING, State.SETTLED)
    is_put = request.state is State.SETTLED
    if request.kind is RequestKind.LOG or is_put != (request.kind is RequestKind.UPSERT):
        raise WrongState(f"request {request.id}, a {request.kind}, is {request.state}")
    change(db, "set_failed", row=row, error=error, reason=reason, now=now)
    return entered(State.FAILED, request)


def gather(db: sqlite3.Connection, row: int, lines: Sequence[Gathered]) -> Changed[None]:
    """Keep lines of parts."""
    _head(db, row, RequestKind.FINISH, State.UPLOADED)
    change_many(db, "insert_gathered", ((row, one.path, one.part, one.line) for one in lines))
    return Changed(None)


def gathered(
    db: sqlite3.Connection, row: int, after: tuple[str, int], limit: int
) -> list[Gathered]:
    """Lines of parts, by path and part."""
    path, part = after
    found = all_rows(db, "gathered", row=row, path=path, part=part, limit=limit)
    return [Gathered(one["path"], one["part"], one["line"]) for one in found]


def forget_gathered(db: sqlite3.Connection, row: int, limit: int) -> Changed[bool]:
    """Delete lines of parts; whether some are left."""
    return Changed(change(db, "delete_gathered", row=row, limit=limit) == limit)


def _head(db: sqlite3.Connection, row: int, kind: RequestKind, *states: State) -> Head:
    request = head(db, row, *states)
    if request.kind is not kind:
        raise WrongState(f"request {request.id} is a {request.kind}, not a {kind}")
    return request
