"""Rows from what other libraries have: pandas, polars, pyarrow, numpy.

Owns: taking them apart into names and rows of Python values. Does not own: checking either (``columns``).

Whose an object is, its class's name tells: nothing is imported that the user has not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import (
    Any,  # these libraries' objects, whose types the client can't import
    NamedTuple,
)

from wherry.errors import BadTable
from wherry.tables.values import is_nan, unwrapped


class Taken(NamedTuple):
    """Names and rows; ``names`` is None where the object has none."""

    names: list[object] | None
    rows: Iterator[Iterable[object]]


def take(data: object) -> Taken | None:
    """Take an object of one of those libraries apart; None where it is none of theirs.

    Raises:
        BadTable: it has no rows and columns.
    """
    for (library, name), taker in _TAKERS.items():
        if _is(data, library, name):
            return taker(data)
    return None


def _is(data: object, library: str, name: str) -> bool:
    return any(
        cls.__name__ == name and cls.__module__.partition(".")[0] == library
        for cls in type(data).__mro__
    )


def _from_pandas(frame: Any) -> Taken:
    """A column at a time: a row of a frame would turn integers beside floats into floats."""
    columns = [_column(frame.iloc[:, at]) for at in range(frame.shape[1])]
    return Taken(list(frame.columns), zip(*columns, strict=True))


def _column(series: Any) -> list[object]:
    values: list[object] = series.tolist()
    kind = series.dtype.kind
    if type(series.dtype).__module__.partition(".")[0] == "numpy":
        return values if kind in "biuf" else [unwrapped(value) for value in values]
    # pandas' own types have NaN for what is missing, where it can be no number.
    found = [unwrapped(value) for value in values]
    return found if kind == "f" else [None if is_nan(value) else value for value in found]


def _from_polars(frame: Any) -> Taken:
    return Taken(list(frame.columns), frame.iter_rows())


def _from_lazy(_: Any) -> Taken:
    raise BadTable("A LazyFrame has no rows yet.", hint="Give frame.collect().")


def _from_arrow(table: Any) -> Taken:
    batches = table.to_batches() if hasattr(table, "to_batches") else [table]
    rows = (
        row
        for batch in batches
        for row in zip(*[column.to_pylist() for column in batch.columns], strict=True)
    )
    return Taken(list(table.column_names), rows)


def _from_numpy(array: Any) -> Taken:
    if array.ndim != 2 and array.dtype.names is None:
        raise BadTable(
            f"An array of {array.ndim} dimensions is no table, which has rows and columns.",
            hint="Give array.reshape(-1, 1) for a single column, or a list of rows.",
        )
    names = None if array.dtype.names is None else list(array.dtype.names)
    listed = array.dtype.kind not in "MV"
    rows = iter(array.tolist()) if listed else ([unwrapped(each) for each in row] for row in array)
    return Taken(names, rows)


_TAKERS = {
    ("pandas", "DataFrame"): _from_pandas,
    ("polars", "DataFrame"): _from_polars,
    ("polars", "LazyFrame"): _from_lazy,
    ("pyarrow", "Table"): _from_arrow,
    ("pyarrow", "RecordBatch"): _from_arrow,
    ("numpy", "ndarray"): _from_numpy,
}
