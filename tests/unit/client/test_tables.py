"""``Table``: which values a column takes, and how rows come in and out of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import wherry
from wherry import errors
from wherry.tables import table as table_module
from wherry.tables.kinds import notation
from wherry.tables.partitioned import in_part_order

NAN = float("nan")
NUMBERS = {"wb_type": "number"}
DAY = datetime(2026, 11, 29, 12, 30, 15, 123456, tzinfo=UTC)


def kinds(table: wherry.Table) -> list[Any]:
    """The columns' types as a file has them; of an optional one only what it is beside None."""
    return [_needed(notation(kind)) for kind in table.head.kinds]


def _needed(kind: Any) -> Any:
    if kind["wb_type"] != "union":
        return kind
    allowed = [each for each in kind["params"]["allowed_types"] if each != {"wb_type": "none"}]
    return allowed[0] if len(allowed) == 1 else allowed


# ── which values go together ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2.5, None, NAN, math.inf], "number"),
        ([np.int8(1), np.float32(2), np.float64(NAN), np.longdouble(3), Decimal("1.5")], "number"),
        ([NAN, 1], "number"),
        ([NAN], "number"),
        ([True, np.bool_(False), None], "boolean"),
        (["a", np.str_("b"), None], "string"),
        ([NAN, "a", NAN], "string"),
        ([DAY, date(2026, 1, 1), np.datetime64("2026-01-01"), pd.Timestamp(DAY)], "timestamp"),
        ([pd.NaT, np.datetime64("NaT"), pd.NA, DAY], "timestamp"),
        ([[1, 2], (3,), {4}, frozenset([5]), []], "list"),
        ([np.ones(3), np.zeros((2, 2)), [1]], "list"),
        ([{"a": 1}, {"a": None}, {"b": "x"}, {}], "typedDict"),
        ([None], "unknown"),
        ([], "unknown"),
    ],
)
def test_type_is_another(values: list[object], kind: str) -> None:
    """A column is of the type of its values; None and NaN may be among those of any type."""
    table = wherry.Table(["a"], [[value] for value in values])
    assert kinds(table)[0]["wb_type"] == kind


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, "a"),
        ("a", 1),
        (True, 1),
        (1, True),
        (1, [1]),
        ([1], {"a": 1}),
        ("2026-01-01", date(2026, 1, 1)),
        (np.int64(1), np.str_("a")),
    ],
)
def test_values_of_two_types_mix(first: object, second: object) -> None:
    """A value of another type is refused with its row and column, and the table is as it was."""
    table = wherry.Table(["n", "a"], [[0, first]])
    with pytest.raises(errors.BadValue, match="Row 1, column 'a'") as caught:
        table.add_data(1, second)
    assert isinstance(caught.value, TypeError)
    assert "allow_mixed_types" in str(caught.value)
    assert len(table.data) == 1
    table.add_data(1, first)
    mixed = wherry.Table(["a"], [[first], [second], [None]], allow_mixed_types=True)
    assert kinds(mixed) == [{"wb_type": "any"}]


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (b"bytes", "decode"),
        (timedelta(1), "total_seconds"),
        (np.timedelta64(1, "s"), "total_seconds"),
        (1 + 2j, "value.real"),
        (np.complex64(1), "value.real"),
        (object(), r"str\(value\)"),
        ({object(): 1}, "strings as keys"),
        ([b"deep"], "decode"),
        ([DAY], "isoformat"),
        ({"a": [{"b": DAY}]}, "isoformat"),
        (np.array(["2026-01-01"], "datetime64[ns]"), "isoformat"),
        pytest.param(10**5000, r"str\(value\)", id="long"),
        (np.datetime64("99999-01-01"), r"str\(value\)"),
        (dict.fromkeys(map(str, range(2000))), "a list of pairs"),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_what_has_no_form_is_taken(value: object, remedy: str, mixed: bool) -> None:
    """What no file of W&B's could give back is refused at once, with a remedy."""
    table = wherry.Table(["a"], allow_mixed_types=mixed)
    with pytest.raises(errors.BadValue, match=remedy):
        table.add_data(value)
    assert table.data == []


def test_list_that_contains_itself_overflows() -> None:
    """A list that contains itself is refused."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(errors.BadValue, match="contains itself"):
        wherry.Table(["a"], [[endless]])


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (int, 1.5, "a"),
        (np.float32, 1, "a"),
        (np.bool_, True, 1),
        (str, "a", 1),
        (bool, False, 0),
        (datetime, DAY, 1),
        (np.datetime64, DAY, 1),
        (list, ["a"], "a"),
        ([[int]], [1, 2], 1),
        ([[int, str]], "a", True),
        ([[int, None]], None, "a"),
        ({"a": int}, {"a": 1}, 1),
        (dict, {"a": 1}, 1),
    ],
)
def test_dtype_is_passed_over(dtype: object, good: object, bad: object) -> None:
    """What ``dtype`` says holds from the first row on."""
    table = wherry.Table(["a"], [[good], [None]], dtype=dtype)
    assert len(table.data) == 2
    with pytest.raises(errors.BadValue):
        wherry.Table(["a"], [[bad]], dtype=dtype)


def test_none_is_taken_where_it_may_not() -> None:
    """Where a column is not optional, None is refused and NaN, a number, is not."""
    table = wherry.Table(["a", "b"], [[1, None], [NAN, None]], optional=[False, True])
    with pytest.raises(errors.BadValue, match="not optional"):
        table.add_data(None, None)
    with pytest.raises(errors.BadValue, match="column 's'"):
        wherry.Table(["s"], [["a"], [NAN]], optional=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wherry.Table(["a"], [[1, 2]]),
        lambda: wherry.Table(["a", "b"], [[1]]),
        lambda: wherry.Table(["a", "a"]),
        lambda: wherry.Table([1, "1"]),
        lambda: wherry.Table("ab"),  # type: ignore[arg-type]
        lambda: wherry.Table([None]),  # type: ignore[list-item]
        lambda: wherry.Table([("a", "b")]),  # type: ignore[list-item]
        lambda: wherry.Table(["a"], [1]),
        lambda: wherry.Table(["a"], ["x"]),
        lambda: wherry.Table(["a"], 7),
        lambda: wherry.Table(["a", "b"], dtype=[int]),
        lambda: wherry.Table(["a", "b"], optional=[True]),
        lambda: wherry.Table(["a"], dtype=7),
        lambda: wherry.Table(["a"], dtype=object),
        lambda: wherry.Table(["a"], format="csv"),
        lambda: wherry.Table(["a"], np.ones(3)),
        lambda: wherry.Table(["a"], np.ones((2, 2, 2))),
        lambda: wherry.Table(dataframe=pl.LazyFrame({"a": [1]})),
        lambda: wherry.Table(dataframe=pd.DataFrame([[1]], columns=[DAY])),
        lambda: wherry.Table(["a"], [[1]]).add_column("a", [1]),
        lambda: wherry.Table(["a"], [[1]]).add_column("b", [1, 2]),
        lambda: wherry.Table(["a"], [[1]]).get_column("b"),
        lambda: wherry.Table(["a"], [[1]]).get_column("a", "polars"),  # type: ignore[call-overload]
        lambda: wherry.data_types.PartitionedTable(7),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_table_is_made(make: Callable[[], object]) -> None:
    """Names, rows and arguments that make no table raise a ``ValueError`` of ours."""
    with pytest.raises(errors.BadTable) as caught:
        make()
    assert isinstance(caught.value, ValueError)


# ── rows in and out ────────────────────────────────────────────────────────────────────────────
def test_columns_and_rows_disagree() -> None:
    """Rows, columns and numbers of rows come out as they went in."""
    table = wherry.Table(columns=["a", "b"], rows=[(1, "x"), (2, "y")])
    table.add_data(3, None)
    table.add_column("c", np.array([0.5, 1.5, 2.5]))
    assert table.columns == ["a", "b", "c"]
    assert list(table.iterrows()) == [(0, [1, "x", 0.5]), (1, [2, "y", 1.5]), (2, [3, None, 2.5])]
    assert table.get_column("b") == ["x", "y", None]
    assert table.get_column("a", convert_to="numpy").sum() == 6
    assert table.get_dataframe()["c"].tolist() == [0.5, 1.5, 2.5]
    assert wherry.Table().columns == ["Input", "Output", "Expected"]


def test_users_list_is_the_tables() -> None:
    """A list that was given as a row may be used again."""
    row = [1]
    table = wherry.Table(["a"])
    for row[0] in (1, 2):
        table.add_data(*row)
    given = [[1]]
    other = wherry.Table(["a"], given)
    given[0][0] = "x"  # type: ignore[call-overload]
    assert (table.data, other.data) == ([[1], [2]], [[1]])


def test_refused_column_stays() -> None:
    """A column of mixed values, or with None where it may not be, is not added."""
    table = wherry.Table(["a"], [[1], [2]])
    with pytest.raises(errors.BadValue, match="Row 1, column 'b'"):
        table.add_column("b", [1, "x"])
    with pytest.raises(errors.BadValue, match="optional"):
        table.add_column("b", [1, None])
    assert (table.columns, table.data) == (["a"], [[1], [2]])
    table.add_column("b", [1, None], optional=True)
    first = wherry.Table([])
    first.add_column("a", [1, 2])
    assert first.data == [[1], [2]]


def _pandas() -> object:
    columns = {
        "i": [1, 2],
        "f": [0.5, NAN],
        "s": ["x", None],
        "t": pd.to_datetime([DAY.isoformat(), None]),
        "n": pd.array([7, None], dtype="Int64"),
        "l": [[1], [2]],
        "c": pd.Categorical(["u", None]),
    }
    return pd.DataFrame(columns)


def _polars() -> object:
    rows = {"i": [1, 2], "f": [0.5, NAN], "s": ["x", None], "t": [DAY, None], "n": [7, None]}
    return pl.DataFrame(
        {**rows, "l": [[1], [2]], "c": pl.Series(["u", None], dtype=pl.Categorical)}
    )


def _arrow(chunks: int = 1) -> object:
    rows = {"i": [1, 2], "f": [0.5, NAN], "s": ["x", None], "t": [DAY, None], "n": [7, None]}
    made = pa.table({**rows, "l": [[1], [2]], "c": pa.array(["u", None]).dictionary_encode()})
    return pa.concat_tables([made.slice(0, 1), made.slice(1)]) if chunks == 2 else made


def _batch() -> object:
    made = _arrow()
    assert isinstance(made, pa.Table)
    return made.to_batches()[0]


@pytest.mark.parametrize("frame", [_pandas, _polars, _arrow, lambda: _arrow(2), _batch])
@pytest.mark.parametrize("argument", ["data", "dataframe"])
def test_frame_comes_in_otherwise(frame: Callable[[], object], argument: str) -> None:
    """A frame's columns come in with names and values as they are; what is missing is None, NaN is NaN."""
    table = wherry.Table(**{argument: frame()})  # type: ignore[arg-type]
    assert table.columns == ["i", "f", "s", "t", "n", "l", "c"]
    assert table.data[0] == [1, 0.5, "x", DAY, 7, [1], "u"]
    second = table.data[1]
    assert math.isnan(second[1])  # type: ignore[arg-type]
    assert [*second[:1], *second[2:]] == [2, None, None, None, [2], None]
    assert {type(value) for value in table.data[0]} == {int, float, str, datetime, list}


@pytest.mark.parametrize(
    ("array", "rows"),
    [
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array([["a", "b"]]), [["a", "b"]]),
        (np.array([["2026-01-01", "NaT"]], "datetime64[ns]"), [[datetime(2026, 1, 1), None]]),  # noqa: DTZ001
        (np.array([(1, "x")], dtype=[("a", "i4"), ("b", "U1")]), [[1, "x"]]),
    ],
)
def test_array_comes_in_otherwise(array: Any, rows: list[list[object]]) -> None:
    """An array's rows are rows, of Python's values."""
    assert wherry.Table(["a", "b"], array).data == rows


def test_integers_become_floats_beside_floats() -> None:
    """A row of a frame keeps integers and floats apart."""
    table = wherry.Table(data=pd.DataFrame({"i": [2**60 + 1], "f": [0.5]}))
    assert table.data == [[2**60 + 1, 0.5]]


def test_missing_library_is_a_bare_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a library that is not there says which, and how it is installed."""

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(table_module.importlib, "import_module", absent)
    table = wherry.Table(["a"], [[1]], format="parquet")
    artifact = wherry.Artifact("name", "type")
    calls: list[Callable[[], object]] = [
        table.get_dataframe,
        lambda: table.get_column("a", convert_to="numpy"),
        lambda: artifact.add(table, "x"),
    ]
    for call, name in zip(calls, ("pandas", "numpy", "pyarrow"), strict=True):
        with pytest.raises(errors.LibraryMissing, match=f"pip install {name}") as caught:
            call()
        assert isinstance(caught.value, ImportError)
    assert len(artifact.manifest) == 0


# ── the order of parts ─────────────────────────────────────────────────────────────────────────
def test_tenth_part_is_the_second() -> None:
    """Parts come in the order of the numbers in their names, then of their text."""
    wanted = ["a.json", "a/1", "p/table_0", "p/table_2", "p/table_02", "p/table_10", "p/x", "10/1"]
    wanted = [wanted[-1], *wanted[:-1]]
    assert in_part_order(reversed(wanted)) == [
        *("10/1", "a.json", "a/1", "p/table_0", "p/table_02", "p/table_2", "p/table_10", "p/x")
    ]
