"""What the queue is asked. Plain functions of a connection that only read.

Owns: which requests are shown, in which order. Does not own: what is known of stores (``knowledge``).
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter

from wherry.errors import NotFoundError
from wherry.wire.room import Room
from wherryd.model import Entry, Lane, State
from wherryd.queue.base import Filter, Link, Request
from wherryd.queue.changes import ENDED
from wherryd.queue.queries import Value, all_rows, one_row
from wherryd.queue.rows import (
    entry_of,
    json,
    lane_of,
    lane_values,
    link_of,
    request_of,
    requests_of,
)


# ── requests ───────────────────────────────────────────────────────────────────────────────────
def get(db: sqlite3.Connection, row: int) -> Request:
    """One request."""
    found = one_row(db, "request", row=row)
    if found is None:
        raise NotFoundError(f"there is no request in row {row}")
    return request_of(found)


def find(db: sqlite3.Connection, wanted: Filter) -> list[Request]:
    """Requests by place; those without one last."""
    if wanted.id_part:
        part = wanted.id_part
        return requests_of(all_rows(db, "find_by_part", part=part, limit=wanted.limit))
    if wanted.ids:
        return requests_of(
            all_rows(db, "find_by_id", **_values(wanted), **_more(wanted), ids=json(wanted.ids))
        )
    if wanted.run_id:
        return requests_of(all_rows(db, "find_by_run", **_values(wanted), **_more(wanted)))
    return _find_by_state(db, wanted)


def _find_by_state(db: sqlite3.Connection, wanted: Filter) -> list[Request]:
    """Each state's requests come in order from its index; merging them reads no more than is shown."""
    states = dict.fromkeys(wanted.states or State)
    values = {**_values(wanted), "without_rows": json(wanted.without_rows)}
    placed = [all_rows(db, "find_in_line", **values, state=state) for state in states]
    others = [all_rows(db, "find_without_place", **values, state=state) for state in states]
    in_order = chain(
        heapq.merge(*placed, key=itemgetter("place")), heapq.merge(*others, key=itemgetter("row"))
    )
    return requests_of(list(islice(in_order, wanted.limit)))


def _values(wanted: Filter) -> dict[str, Value]:
    return {
        "project": wanted.project,
        "name": wanted.name,
        "not_acknowledged": wanted.not_acknowledged,
        "without_stores": json(wanted.without_stores),
        "asking": wanted.asking,
        "limit": wanted.limit,
    }


def _more(wanted: Filter) -> dict[str, Value]:
    return {"run_id": wanted.run_id, "states": json(wanted.states)}


def links(db: sqlite3.Connection, request_id: str) -> list[Link]:
    """The further runs that logged a request's artifact."""
    return [link_of(row) for row in all_rows(db, "links", request=request_id)]


def counts(db: sqlite3.Connection) -> dict[State, int]:
    """How many requests are in each state."""
    return {State(row["state"]): row["requests"] for row in all_rows(db, "counts")}


def spooled(db: sqlite3.Connection) -> dict[State, Room]:
    """What the requests in each state hold of the spool."""
    return {
        State(row["state"]): Room(row["spooled_bytes"], row["spooled_files"])
        for row in all_rows(db, "spooled")
    }


def entries(db: sqlite3.Connection, row: int, after: str | None, limit: int) -> list[Entry]:
    """A request's entries by path, above ``after``."""
    found = all_rows(db, "entries", row=row, after=after or "", limit=limit)
    return [entry_of(one) for one in found]


def entries_in_place(
    db: sqlite3.Connection, row: int, spool: str, after: str | None, limit: int
) -> list[Entry]:
    """A request's entries whose bytes lie elsewhere than in the spool, by path, above ``after``."""
    found = all_rows(db, "entries_in_place", row=row, spool=spool, after=after or "", limit=limit)
    return [entry_of(one) for one in found]


def rows_in_place(db: sqlite3.Connection, rows: Sequence[int], spool: str) -> set[int]:
    """Those of the rows whose requests have entries whose bytes lie elsewhere than in the spool."""
    found = all_rows(db, "rows_in_place", rows=json([*rows]), spool=spool)
    return {one["row"] for one in found}


def removed(db: sqlite3.Connection, row: int, after: str | None, limit: int) -> list[str]:
    """Paths that a request takes out of its base, sorted, above ``after``."""
    found = all_rows(db, "removed", row=row, after=after or "", limit=limit)
    return [one["path"] for one in found]


def was_found(db: sqlite3.Connection, row: int, path: str) -> bool:
    """Whether a lookup led to an entry of the request."""
    there = one_row(db, "found_entry", row=row, path=path)
    return there is not None and there["lookup"] is not None


def folders(db: sqlite3.Connection) -> set[str]:
    """Folders below spool/ that requests still need."""
    return {row["folder"] for row in all_rows(db, "folders")}


def going_on(db: sqlite3.Connection, rows: Sequence[int]) -> set[int]:
    """Those of the rows whose requests have not ended."""
    return {found["row"] for found in all_rows(db, "going_on", rows=json([*rows]))}


def some(db: sqlite3.Connection, query: str, limit: int) -> list[Request]:
    """The first requests that a query of upkeep gives."""
    return requests_of(all_rows(db, query, limit=limit))


# ── lanes ──────────────────────────────────────────────────────────────────────────────────────
def ahead(db: sqlite3.Connection, row: int) -> int:
    """How many requests of its lane come before a request and have not ended."""
    request = get(db, row)
    if request.state in ENDED:
        return 0
    lane = lane_values(request.lane)
    if request.place is not None:
        return _count(one_row(db, "in_line_before", **lane, place=request.place))
    # Held ones get their places after all that have one.
    placed = _count(one_row(db, "in_line_before", **lane, place=2**62))
    return placed + _count(one_row(db, "held_before", **lane, row=row))


def _count(row: sqlite3.Row | None) -> int:
    assert row is not None
    count: int = row["ahead"]
    return count


def lanes(
    db: sqlite3.Connection,
    after: Lane | None = None,
    limit: int | None = None,
    *,
    upserts: bool = True,
) -> list[Lane]:
    """Lanes with requests that have a place and are not settled, in the order of their names."""
    with_line = (
        lane
        for lane in _all_lanes(db, after or Lane("", "", ""))
        if one_row(db, "has_line", **lane_values(lane), upserts=upserts)
    )
    return list(islice(with_line, limit))


def _all_lanes(db: sqlite3.Connection, lane: Lane) -> Iterator[Lane]:
    """From one lane to the next in the index, past all the requests of each."""
    while (found := one_row(db, "next_lane", **lane_values(lane))) is not None:
        lane = lane_of(found)
        yield lane


def line(db: sqlite3.Connection, lane: Lane, limit: int, *, upserts: bool = True) -> list[Request]:
    """A lane's requests that have a place and have not settled or ended, by place."""
    values = lane_values(lane)
    return requests_of(all_rows(db, "line", **values, limit=limit, upserts=upserts))


def unaliased(db: sqlite3.Connection) -> list[Request]:
    """Requests that are settled and not done, but for upserts."""
    return requests_of(all_rows(db, "unaliased"))


def meta(db: sqlite3.Connection, key: str) -> str:
    """A value that is kept for the whole home; "" where it is not."""
    found = one_row(db, "meta", key=key)
    return found["value"] if found else ""
