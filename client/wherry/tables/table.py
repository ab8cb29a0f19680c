"""``wherry.Table``: rows and columns that go into an artifact and come back.

Owns: what users call. Does not own: checking values (``columns``), taking frames apart (``frames``), files.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, Protocol, overload

from wherry.errors import BadTable, LibraryMissing
from wherry.tables import frames
from wherry.tables.columns import Name, declared
from wherry.tables.values import plain
from wherry.tables.written import Head, head_of

_DEFAULT_COLUMNS = ("Input", "Output", "Expected")  # W&B's
FORMATS = ("json", "parquet")


class Source(Protocol):
    """A file that a table is read from."""

    head: Head

    def rows(self) -> Iterator[list[object]]:
        """Read the rows, from the first one on."""
        ...


class Table:
    """Rows and columns; each column's values are of one type.

    Args:
        columns: their names, strings or integers; a frame brings its own.
        data: rows, each with a value for every column; or a DataFrame of pandas or polars, a Table of
            pyarrow, or a two-dimensional array of numpy.
        rows: as ``data``, for W&B's sake.
        dataframe: as ``data``.
        dtype: what the values have to be, where the first ones shall not tell: ``int``, ``float``, ``str``,
            ``bool``, ``datetime``, ``[type]`` for lists, ``{"key": type}`` for dicts; a list of them has
            one for each column.
        optional: whether None may be among the values; a list says so for each column.
        allow_mixed_types: let any value be beside any other.
        log_mode: accepted for W&B's sake, without effect.
        format: of the file that ``artifact.add`` writes: "json" is W&B's own; "parquet" needs pyarrow.

    Raises:
        BadTable: a name, row or format can't be; it is a ``ValueError``.
        BadValue: a value is of another type than its column's; it is a ``TypeError``.
    """

    def __init__(
        self,
        columns: Sequence[Name] | None = None,
        data: object = None,
        rows: Iterable[Iterable[object]] | None = None,
        dataframe: object = None,
        dtype: object = None,
        optional: bool | list[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: str | None = "IMMUTABLE",
        *,
        format: str = "json",  # noqa: A002 (as pyarrow and pandas call it)
    ) -> None:
        del log_mode
        if format not in FORMATS:
            raise BadTable(f"There is no format {format!r}.", hint="Use 'json' or 'parquet'.")
        self.format = format
        self._source: Source | None = None
        self._rows: list[list[object]] = []
        given = next((each for each in (dataframe, data, rows) if each is not None), ())
        taken = frames.take(given)
        names: Iterable[object] = _DEFAULT_COLUMNS if columns is None else _listed(columns)
        if taken and taken.names is not None:
            names = taken.names
        self._columns = declared(names, dtype, optional, mixed=allow_mixed_types)
        for row in taken.rows if taken else _rows(given):
            self.add_data(*row)

    @classmethod
    def read_from(cls, source: Source, format: str) -> Table:  # noqa: A002 (as above)
        """Make the table of a file, whose rows are read when somebody asks for them."""
        table = cls([], format=format)
        head = source.head
        table._columns = declared(head.columns, list(head.kinds), False, mixed=False)
        table._source = source
        return table

    def __repr__(self) -> str:
        return f"<Table with the columns {self.columns!r}>"

    @property
    def columns(self) -> list[Name]:
        """The columns' names."""
        return [column.name for column in self._columns]

    @property
    def data(self) -> list[list[object]]:
        """The rows. Of a table that was read back this brings all of them into memory."""
        if self._source is not None:
            self._rows = list(self._source.rows())
            self._source = None
        return self._rows

    @property
    def head(self) -> Head:
        """The columns with their types, and how many rows there are."""
        if self._source is not None:
            head = self._source.head
            return head if head.nrows is not None else head._replace(nrows=_count(self._source))
        return head_of(self._columns, len(self._rows))

    def add_data(self, *data: object) -> None:
        """Add a row.

        Raises:
            BadTable: it has not one value for each column.
            BadValue: a value is of another type than its column's. Either way, nothing was added.
        """
        rows, columns = self.data, self._columns
        if len(data) != len(columns):
            raise BadTable(
                f"A row of {len(data)} values was given, and the table has {len(columns)} columns:"
                f" {self.columns!r}"
            )
        number = len(rows)
        changes = [
            (column, column.after(value, number), value)
            for column, value in zip(columns, data, strict=True)
            if type(value) not in column.known or value != value  # NaN
        ]
        for column, state, value in changes:
            column.become(state, value)
        rows.append(list(data))

    def add_column(self, name: str, data: Iterable[object], optional: bool = False) -> None:
        """Add a column.

        Args:
            name: that no other column has.
            data: a value for each row.
            optional: whether None may be among the values.

        Raises:
            BadTable: the name is taken, or there is not one value a row.
            BadValue: values are of several types. Either way, nothing was added.
        """
        rows, values = self.data, list(data)
        (*_, column) = declared([*self.columns, name], None, optional, mixed=False)
        if self._columns and len(values) != len(rows):
            raise BadTable(
                f"{len(values):,} values were given, and the table has {len(rows):,} rows."
            )
        for number, value in enumerate(values):
            column.become(column.after(value, number), value)
        if not self._columns:
            rows.extend([] for _ in values)
        for row, value in zip(rows, values, strict=True):
            row.append(value)
        self._columns.append(column)

    @overload
    def get_column(self, name: Name, convert_to: None = None) -> list[object]: ...

    @overload
    def get_column(
        self, name: Name, convert_to: Literal["numpy"]
    ) -> Any: ...  # an array; numpy's type

    def get_column(self, name: Name, convert_to: str | None = None) -> object:
        """List a column's values.

        Args:
            convert_to: "numpy" gives an array.

        Raises:
            BadTable: there is no such column.
            LibraryMissing: numpy is not installed.
        """
        if name not in self.columns or convert_to not in (None, "numpy"):
            raise BadTable(
                f"There is no column {name!r}{f' as {convert_to!r}' if convert_to else ''}.",
                hint=f"The columns are {self.columns!r}; convert_to may be 'numpy'.",
            )
        at = self.columns.index(name)
        values = [row[at] for _, row in self.iterrows()]
        return (
            library("numpy", "get_column(convert_to='numpy')").array(values)
            if convert_to
            else values
        )

    def get_dataframe(self) -> Any:  # pandas' type
        """Make a pandas DataFrame. Raises ``LibraryMissing`` where pandas is not installed."""
        pandas = library("pandas", "get_dataframe()")
        return pandas.DataFrame.from_records(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[object]]]:
        """Give number and values of each row; of a table that was read back, as a stream."""
        return enumerate(self._rows if self._source is None else self._source.rows())


def library(name: str, call: str) -> ModuleType:
    """Import what the user has to have installed. Raises ``LibraryMissing``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LibraryMissing(
            f"{call} needs {name}, which can't be imported: {error}", hint=f"pip install {name}"
        ) from error


def _count(source: Source) -> int:
    return sum(1 for _ in source.rows())


def _listed(columns: object) -> list[object]:
    found = plain(columns) if hasattr(columns, "tolist") else columns
    if isinstance(found, list | tuple):
        return list(found)
    raise BadTable(f"columns is a {type(columns).__name__}, not a list.", hint="columns=['a', 'b']")


def _rows(data: object) -> Iterator[Iterable[object]]:
    """Take what shall be rows. Raises ``BadTable`` for what is none."""
    rows = data if isinstance(data, Iterable) and not isinstance(data, str | dict) else [data]
    for number, row in enumerate(rows):
        if not isinstance(row, Iterable) or isinstance(row, str | bytes | dict):
            raise BadTable(
                f"Row {number} is a {type(row).__name__}, not a list: {row!r:.100}",
                hint="data=[[1, 2], [3, 4]] has a list for each row.",
            )
        yield row
