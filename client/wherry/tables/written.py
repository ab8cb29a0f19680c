"""Tables in W&B's JSON, as they are written.

Owns: the form of the file, a piece at a time. Does not own: where it goes, reading it (``scanned``).

    {"_type":"table","column_types":…,"columns":["a","b"],"ncols":2,"nrows":1000000,"data":[[1,null],…]}

Rows come last, so that who reads a stream knows what they are. Numbers that JSON lacks are written as
Python's json module and W&B's readers have them: NaN, Infinity, -Infinity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from wherry.errors import BadTable, BadValue
from wherry.tables.columns import Column, Name
from wherry.tables.kinds import DictOf, Kind, notation
from wherry.tables.values import plain
from wherry.wire.canonical import Json

#: Rows that are turned into text at once.
_BATCH = 500
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=plain).encode


class Head(NamedTuple):
    """What a table is, without its rows."""

    columns: list[Name]
    kinds: list[Kind]
    nrows: int | None = None  # None where the file does not say so before the rows


def head_of(columns: Sequence[Column], nrows: int) -> Head:
    """Say what a table is whose rows are known."""
    return Head([each.name for each in columns], [each.written_kind for each in columns], nrows)


def column_types(head: Head) -> Json:
    """Give the columns' types in W&B's notation."""
    fields = {str(name): kind for name, kind in zip(head.columns, head.kinds, strict=True)}
    return notation(DictOf(tuple(fields.items())))


def written(head: Head, rows: Iterable[list[object]]) -> Iterator[bytes]:
    """Write a table.

    Raises:
        BadTable, BadValue: rows were changed, other than by ``add_data``, to what can't be written.
    """
    start: dict[str, Json] = {
        "_type": "table",
        "column_types": column_types(head),
        "columns": list(head.columns),
        "ncols": len(head.columns),
        "nrows": head.nrows,
    }
    yield f'{_encode(start)[:-1]},"data":['.encode()
    separator = ""
    for batch in _batches(rows):
        for row in batch:
            if len(row) != len(head.columns):
                raise BadTable(
                    f"A row has {len(row)} values, and the table {len(head.columns)} columns: {row!r:.200}"
                )
        yield f"{separator}{_rows(batch)[1:-1]}".encode()
        separator = ","
    yield b"]}"


def _batches(rows: Iterable[list[object]]) -> Iterator[list[list[object]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(batch: list[list[object]]) -> str:
    try:
        return _encode(batch)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, BadValue):
            raise
        raise BadValue(f"A row can't be written: {error}", hint="Add rows by add_data.") from error
