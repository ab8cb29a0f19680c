"""Rows of the database as plain data, and back.

Owns: which column holds which field. Does not own: which rows are read or written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import msgspec

from wherryd.model import (
    Base,
    Entry,
    FileStat,
    Lane,
    Lookup,
    Reference,
    RequestKind,
    RunInfo,
    Source,
    State,
)
from wherryd.queue.base import Known, Link, NewRequest, Request
from wherryd.queue.queries import Value

_STRINGS = msgspec.json.Decoder(list[str])
_RUN = msgspec.json.Decoder(RunInfo)
_STAT = msgspec.json.Decoder(FileStat)
_BASE = msgspec.json.Decoder(Base)
_SUMS = msgspec.json.Decoder(tuple[str, ...])
#: The columns of a ``Request``, in the order of its fields.
_REQUEST = (
    *("row", "id", "place", "state", "address", "project", "name"),
    *("type", "description", "metadata", "aliases", "tags", "inputs", "run", "client", "folder"),
    *("accepted", "floor", "floor_store", "entries", "size", "manifest", "digest", "content"),
    *("number", "record", "version", "error", "reason", "next_try", "acknowledged", "ended"),
    *("logged", "lookups", "sent_since", "kind", "draft", "newest", "sealed", "base"),
)


class Head(msgspec.Struct, frozen=True):
    """What a change must know of a request before it may start."""

    row: int
    id: str
    state: State
    lane: Lane
    kind: RequestKind
    base: Base | None


def json(value: object) -> str:
    """Write ``value`` as the JSON columns have it."""
    return msgspec.json.encode(value).decode()


def strings(column: str) -> list[str]:
    """Read a column that holds a JSON array of strings."""
    return _STRINGS.decode(column)


def lane_of(row: sqlite3.Row) -> Lane:
    """The lane that a row names."""
    return Lane(row["address"], row["project"], row["name"])


def lane_values(lane: Lane) -> dict[str, str]:
    """A lane as values for a query."""
    return {"address": lane.store, "project": lane.project, "name": lane.name}


def head_of(row: sqlite3.Row) -> Head:
    """Read the first columns of a request."""
    kind = RequestKind(row["kind"])
    base = base_of(row["base"])
    return Head(row["row"], row["id"], State(row["state"]), lane_of(row), kind, base)


def base_of(column: str | None) -> Base | None:
    """Read what a request changes."""
    return None if column is None else _BASE.decode(column)


def request_of(row: sqlite3.Row) -> Request:
    """Read a whole row of ``requests``."""
    (request,) = requests_of([row])
    return request


def requests_of(rows: Sequence[sqlite3.Row]) -> list[Request]:
    """Read whole rows of ``requests``."""
    if not rows:
        return []
    # By position: for each name a row goes through its columns.
    pick = _picker(tuple(rows[0].keys()))
    return [_request(pick(row)) for row in rows]


def _request(values: Sequence[Any]) -> Request:
    """Make a request out of the columns in ``_REQUEST``."""
    fields: Sequence[Any] = (
        *values[:3],
        State(values[3]),
        Lane(*values[4:7]),
        *values[7:10],
        *(strings(column) for column in values[10:13]),
        _RUN.decode(values[13]),
        *values[14:30],
        bool(values[30]),
        *values[31:35],
        RequestKind(values[35]),
        values[36],
        bool(values[37]),
        values[38],
        base_of(values[39]),
    )
    return Request(*fields)


@cache
def _picker(names: tuple[str, ...]) -> Callable[[sqlite3.Row], Sequence[Any]]:
    return itemgetter(*(names.index(name) for name in _REQUEST))


def request_values(request: NewRequest) -> dict[str, Value]:
    """A new request as values for a query, but for what the queue gives it."""
    return {
        "id": request.id,
        "body": request.body,
        **lane_values(request.lane),
        "type": request.type,
        "description": request.description,
        "metadata": request.metadata,
        "aliases": json(request.aliases),
        "tags": json(request.tags),
        "inputs": json(request.inputs),
        "run": json(request.run),
        "run_id": request.run.id,
        "client": request.client,
        "folder": request.folder,
        "synced": request.synced,
        "entries": request.entries,
        "lookups": request.lookups,
        "size": request.size,
        "spooled_bytes": request.spooled.bytes,
        "spooled_files": request.spooled.files,
        "kind": request.kind,
        "draft": request.draft,
        "newest": request.newest,
        "base": None if request.base is None else json(request.base),
    }


def entry_of(row: sqlite3.Row) -> Entry:
    """Read a row of the query ``entries``."""
    # By position: a million of these are read for one artifact.
    path, size, digest, file, offset, stat, uri, checksum, most, version, resolved, sums = row[:12]
    source = reference = None
    if file is not None:
        source = Source(file, offset, None if stat is None else _STAT.decode(stat), row[14])
    if uri is not None:
        found = () if sums is None else _SUMS.decode(sums)
        reference = Reference(uri, bool(checksum), most, version, resolved, found)
    return Entry(path, size, digest, source, reference, row[12], row[13] or 0)


def entry_values(row: int, entry: Entry, lookup: int | None = None) -> tuple[Value, ...]:
    """An entry as values for ``insert_entry``.

    Args:
        lookup: the number of the one that led to it.
    """
    return (row, entry.path, entry.size, entry.digest, *_source(entry), *_reference(entry), lookup)


def _source(entry: Entry) -> tuple[Value, ...]:
    source = entry.source
    if source is None:
        return None, 0, None, None
    stat = None if source.stat is None else json(source.stat)
    return source.file, source.offset, stat, source.data


def _reference(entry: Entry) -> tuple[Value, ...]:
    given = entry.reference
    if given is None:
        return None, None, None, None, None, None
    sums = json(given.sums) if given.sums else None
    return given.uri, given.checksum, given.max_objects, given.version, given.resolved, sums


def lookup_of(row: sqlite3.Row) -> Lookup:
    """Read a row of the query ``lookups``."""
    number, uri, server, name, max_objects, is_prefix, after, found = row
    return Lookup(number, uri, server, name, max_objects, bool(is_prefix), after, found)


def lookup_values(row: int, lookup: Lookup) -> tuple[Value, ...]:
    """A new lookup as values for ``insert_lookup``."""
    return row, lookup.number, lookup.uri, lookup.server, lookup.name, lookup.max_objects


def known_of(row: sqlite3.Row) -> Known:
    """Read what is known of an artifact."""
    return Known(row["store_id"], row["type"], row["highest"], row["highest_request"])


def link_of(row: sqlite3.Row) -> Link:
    """Read a row of ``links``."""
    return Link(_RUN.decode(row["run"]), strings(row["aliases"]))
