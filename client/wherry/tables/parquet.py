"""Tables as Parquet files, where pyarrow is installed.

Owns: the way between rows and row groups, a group in memory at a time. Does not own: where the file lies.

The column types in W&B's notation go into the file's metadata; Parquet's own schema is made from the values,
since W&B's "number" does not tell integers from floats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import (
    IO,
    Any,  # pyarrow's types, which the client can't import
    BinaryIO,
)

from wherry.errors import BadTable
from wherry.tables.columns import Name
from wherry.tables.kinds import (
    TIMESTAMP,
    UNKNOWN,
    DictOf,
    from_notation,
    members_of,
    optional,
)
from wherry.tables.table import Table, library
from wherry.tables.values import from_milliseconds, milliseconds, plain
from wherry.tables.written import Head, column_types
from wherry.wire.canonical import Json

#: Rows in memory at a time, beside those of the table itself.
_GROUP = 50_000
_KEY = b"wherry.table"
_CALL = "format='parquet'"


def save(table: Table, opened: IO[bytes]) -> None:
    """Write a table.

    Raises:
        LibraryMissing: there is no pyarrow.
        BadTable: a column's values have no common type of Parquet's.
    """
    arrow, parquet = library("pyarrow", _CALL), library("pyarrow.parquet", _CALL)
    head = table.head
    schema = _schema(arrow, table, head)
    with parquet.ParquetWriter(opened, schema) as writer:
        for columns in _groups(table, head):
            arrays = [
                _array(arrow, values, field.type, field.name)
                for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def read_head(opened: BinaryIO, label: str) -> Head:
    """Read what a table is. Raises ``LibraryMissing``; ``BadTable`` where it is no Parquet file."""
    found = _file(opened, label)
    names: list[Name] = list(found.schema_arrow.names)
    kinds = [optional(UNKNOWN) for _ in names]
    written = (found.schema_arrow.metadata or {}).get(_KEY)
    if written:
        said = json.loads(written)
        types = from_notation(said["column_types"])
        fields = dict(types.fields) if isinstance(types, DictOf) else {}
        names = said["columns"]
        kinds = [fields[str(name)] for name in names]
    return Head(names, kinds, found.metadata.num_rows)


def read_rows(opened: BinaryIO, label: str, head: Head) -> Iterator[list[object]]:
    """Read a table's rows, a batch at a time."""
    for batch in _file(opened, label).iter_batches(batch_size=_GROUP // 10):
        columns = [column.to_pylist() for column in batch.columns]
        for at, kind in enumerate(head.kinds):
            if TIMESTAMP in members_of(kind):
                columns[at] = [
                    None if value is None else from_milliseconds(milliseconds(value))
                    for value in columns[at]
                ]
        yield from map(list, zip(*columns, strict=True))


def _file(opened: BinaryIO, label: str) -> Any:
    arrow, parquet = library("pyarrow", _CALL), library("pyarrow.parquet", _CALL)
    try:
        return parquet.ParquetFile(opened, pre_buffer=False)  # which would be the whole file
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise BadTable(f"{label} is no table: {error}") from error


def _schema(arrow: Any, table: Table, head: Head) -> Any:
    """Look at all values, a group at a time: the type has to be known before the first is written."""
    types = [arrow.null() for _ in head.columns]
    for columns in _groups(table, head):
        types = [
            _common(arrow, types[at], values, head.columns[at]) for at, values in enumerate(columns)
        ]
    fields = [(str(name), type_) for name, type_ in zip(head.columns, types, strict=True)]
    said: Json = {"columns": list(head.columns), "column_types": column_types(head)}
    return arrow.schema(fields, metadata={_KEY: json.dumps(said)})


def _groups(table: Table, head: Head) -> Iterator[list[list[object]]]:
    """Turn rows into columns, a group at a time."""
    times = [TIMESTAMP in members_of(kind) for kind in head.kinds]
    rows = (row for _, row in table.iterrows())
    while group := list(islice(rows, _GROUP)):
        columns = zip(*group, strict=True)
        yield [
            [_time(value) if is_time else _deep(value) for value in values]
            for values, is_time in zip(columns, times, strict=True)
        ]


def _time(value: object) -> object:
    written = plain(value)
    return written if written is None else from_milliseconds(written)


def _deep(value: object) -> object:
    """Make a value Python's own, all through."""
    if value is None or type(value) in (int, float, str, bool):
        return value
    value = plain(value)
    if isinstance(value, dict):
        return {str(key): _deep(each) for key, each in value.items()}
    return [_deep(each) for each in value] if isinstance(value, list | tuple) else value


def _common(arrow: Any, seen: Any, values: Iterable[object], name: Name) -> Any:
    try:
        found = arrow.array(values).type
        schemas = [arrow.schema([("", each)]) for each in (seen, found)]
        return arrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (arrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise _refused(name, error) from error


def _array(arrow: Any, values: Iterable[object], type_: Any, name: Name) -> Any:
    try:
        return arrow.array(values, type=type_)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise _refused(name, error) from error


def _refused(name: Name, error: Exception) -> BadTable:
    return BadTable(
        f"The column {name!r} has values that Parquet has no common type for: {error}",
        hint="Convert them, or leave out format='parquet'.",
    )
