"""Tables as entries: the form of the file, its way back, and what both cost."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wherry
from tests.soak import rounds
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_adding import content
from wherry import errors, held
from wherry.data_types import PartitionedTable
from wherry.tables import entries, scanned, written
from wherry.wire import wherry_pb2 as pb

NAN = float("nan")
DAY = datetime(2026, 11, 29, 12, 30, 15, 123456, tzinfo=UTC)
FORMATS = ["json", "parquet"]


def make() -> wherry.Artifact:
    return wherry.Artifact("name", type="type")


def back(table: wherry.Table) -> wherry.Table:
    """A table's way through an artifact's file."""
    artifact, copy = make(), wherry.Table([], format=table.format)
    vars(copy).update(vars(table))
    artifact.add(copy, "t")
    del copy  # with its object gone, the artifact reads the file
    found = artifact.get("t")
    assert isinstance(found, wherry.Table) and found is not table
    return found


def same(one: object, other: object) -> bool:
    """Equal, with the type of a number, where NaN equals NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one)
    return type(one) is type(other) and (math.isnan(other) if nan else one == other)  # type: ignore[arg-type]


# ── the form ───────────────────────────────────────────────────────────────────────────────────
def test_file_is_none_that_wandb_reads() -> None:
    """The JSON is W&B's, with rows last; NaN and the infinities are written as its reader has them.

    The reader of wandb 0.31.0 was seen to take each file of this module.
    """
    artifact = make()
    table = wherry.Table(["n", "s", "t"], [[1, "x", DAY], [NAN, None, date(2026, 1, 1)]])
    entry = artifact.add(table, "parts/table_0")
    assert entry.path == "parts/table_0.table.json"
    text = content(artifact, entry.path).decode()
    assert entry.size == len(text)

    def optional(kind: str) -> dict[str, object]:
        allowed = sorted([{"wb_type": "none"}, {"wb_type": kind}], key=lambda each: each["wb_type"])
        return {"wb_type": "union", "params": {"allowed_types": allowed}}

    types = {"n": optional("number"), "s": optional("string"), "t": optional("timestamp")}
    assert list(json.loads(text).items())[:-1] == [
        ("_type", "table"),
        ("column_types", {"wb_type": "typedDict", "params": {"type_map": types}}),
        ("columns", ["n", "s", "t"]),
        ("ncols", 3),
        ("nrows", 2),
    ]
    assert text.endswith('"data":[[1,"x",1795955415123.456],[NaN,null,1767225600000]]}')
    artifact.add(PartitionedTable("parts/"), "all")
    written_parts = json.loads(content(artifact, "all.partitioned-table.json"))
    assert written_parts == {"_type": "partitioned-table", "parts_path": "parts"}


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        ([[1, None]], {}, {"element_type": ["none", "number"], "length": 2}),
        ([[1], [2, 3]], {}, {"element_type": "number", "length": None}),
        ([[1, "x"]], {}, {"element_type": "any", "length": 2}),
        ([[1.0, NAN]], {}, {"element_type": ["none", "number"], "length": 2}),
        (
            [np.ones((2, 2))],
            {},
            {"element_type": {"element_type": "number", "length": 2}, "length": 2},
        ),
        ([{"a": 1}, {"b": "x"}], {}, {"a": ["none", "number"], "b": ["none", "string"]}),
        ([1, NAN], {"optional": False}, ["none", "number"]),
        ([1, "x", NAN], {"optional": False, "allow_mixed_types": True}, ["any", "none"]),
        ([1], {"optional": False}, "number"),
        (["x"], {"dtype": [[int, str]]}, ["number", "string"]),
    ],
)
def test_type_is_written_otherwise(
    values: list[object], options: dict[str, Any], kind: object
) -> None:
    """A column's type is written so that W&B's reader takes all its values: NaN where None may be."""
    options = {"optional": [False], **options}
    table = wherry.Table(["a"], [[value] for value in values], **options)
    (said,) = json.loads(_written(table))["column_types"]["params"]["type_map"].values()
    assert _short(said) == kind


def _written(table: wherry.Table) -> bytes:
    return b"".join(written.written(table.head, table.data))


def _short(said: dict[str, Any]) -> object:
    params = said.get("params", {})
    if said["wb_type"] == "union":
        return [_short(each) for each in params["allowed_types"]]
    if said["wb_type"] == "list":
        return {**params, "element_type": _short(params["element_type"])}
    if said["wb_type"] == "typedDict":
        return {key: _short(each) for key, each in params["type_map"].items()}
    return said["wb_type"]


# ── the way back ───────────────────────────────────────────────────────────────────────────────
_CELLS: dict[str, tuple[list[object], list[object]]] = {
    "numbers": ([1, 0.5, -0.0, 2**53], [1, 0.5, -0.0, 2**53]),
    "big": ([2**70, -1], [2**70, -1]),
    "nan": ([NAN, None, math.inf, -math.inf], [NAN, None, math.inf, -math.inf]),
    "nan among strings": ([NAN, None, "x"], [NAN, None, "x"]),
    "booleans": ([True, None, np.bool_(False)], [True, None, False]),
    "strings": (["", "é\0\ud800\U0001f600", '"],[\\"'], ["", "é\0\ud800\U0001f600", '"],[\\"']),
    "numpy": ([np.int8(-1), np.float32(0.5), np.float64(NAN)], [-1, 0.5, NAN]),
    "decimals": ([Decimal("1.5"), Decimal("NaN")], [1.5, NAN]),
    "times": (
        [
            DAY,
            DAY.replace(tzinfo=None),
            date(1900, 1, 1),
            np.datetime64("2026-01-01T00:00:00.25"),
            None,
        ],
        [
            DAY,
            DAY,
            datetime(1900, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, 0, 0, 0, 250000, UTC),
            None,
        ],
    ),
    "lists": (
        [[1, 2], (3, None), [NAN], [], np.ones(2)],
        [[1, 2], [3, None], [NAN], [], [1.0, 1.0]],
    ),
    "nested": ([[[1], [2, 3]], [["],["]]], [[[1], [2, 3]], [["],["]]]),
    "sets": ([{3, 1, 2}, frozenset("ba")], [[1, 2, 3], ["a", "b"]]),
    "dicts": ([{"a": np.int64(1)}, {"b": {"c": [None]}}, {}], [{"a": 1}, {"b": {"c": [None]}}, {}]),
    "keys": ([{1: "x"}], [{"1": "x"}]),
}


@pytest.mark.parametrize("name", _CELLS)
def test_value_comes_back_changed(name: str) -> None:
    """Values come back as Python's own; NaN and None apart, times in UTC to the microsecond."""
    values, wanted = _CELLS[name]
    table = wherry.Table(["a", 7], [[value, at] for at, value in enumerate(values)])
    found = back(table)
    assert found.columns == ["a", 7]
    assert same(found.data, [[value, at] for at, value in enumerate(wanted)])
    again = back(found)  # what was read can be written
    assert same(again.data, found.data) and again.head == found.head


def test_mixed_values_lose_their_types() -> None:
    """In a column of mixed types every value comes back as JSON has it."""
    rows: list[list[object]] = [[1], ["x"], [None], [NAN], [[1]], [{"a": 1}], [True]]
    assert same(back(wherry.Table(["a"], rows, allow_mixed_types=True)).data, rows)


_VALUES = st.one_of(
    st.none() | st.booleans() | st.text(max_size=5),
    st.integers(-(2**80), 2**80) | st.floats(),
    st.sampled_from(["],[", '"],[', "\\", "], [", "]]", "\ud800"]),
)
_DEEP = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)


@given(st.lists(st.lists(_DEEP, min_size=2, max_size=2), max_size=20), st.integers(1, 40))
def test_window_cuts_a_value(rows: list[list[object]], window: int) -> None:
    """However the file is cut into pieces, whatever the values hold, rows come back as they are."""
    table = wherry.Table(["a", "b"], rows, allow_mixed_types=True)
    data = _written(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanned, "_WINDOW_BYTES", window)
        head = scanned.read_head(io.BytesIO(data), "x")
        found = list(scanned.read_rows(io.BytesIO(data), "x", head))
    assert same(found, rows)
    assert found == list(scanned.read_rows(io.BytesIO(data), "x", head)) or "nan" in repr(rows)


@pytest.mark.parametrize(
    "text",
    [
        '{"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}',
        '{"data": [[1, "x"], [2, "y"]], "nrows": 2, "columns": ["a", "b"], "_type": "table"}',
        ' {\n"_type" : "table", "data" : [ [1, "x"] , [2,\t"y"] ] , "columns":["a","b"], "more":[[1],[2]]}\n',
        '{"columns":["a","b"],"data":[[1,"x"],[2,"y"]],"more":[[0,0],[0,0]]}',
    ],
)
def test_other_writers_file_is_misread(text: str) -> None:
    """Members may come in any order, with or without blanks, and others among them."""
    artifact = make()
    with artifact.new_file("t.table.json") as file:
        file.write(text)
    found = artifact.get("t")
    assert isinstance(found, wherry.Table)
    assert found.columns == ["a", "b"]
    assert [row for _, row in found.iterrows()] == [[1, "x"], [2, "y"]]
    assert found.head.nrows == 2


def test_wandbs_types_are_lost() -> None:
    """Types that Wherry only carries along are written again as they came."""
    image = {"wb_type": "image-file", "params": {"box_layers": {"a": [1]}}}
    types = {"a": image, "t": {"wb_type": "timestamp"}}
    said = {"columns": ["a", "t"], "data": [[{"_type": "image-file", "path": "x.png"}, 0]]}
    artifact = make()
    with artifact.new_file("t.table.json") as file:
        notation = {"wb_type": "dictionary", "params": {"type_map": types}}
        json.dump({**said, "column_types": notation}, file)
    found = artifact.get("t.table.json")
    assert isinstance(found, wherry.Table)
    assert found.data == [
        [{"_type": "image-file", "path": "x.png"}, datetime(1970, 1, 1, tzinfo=UTC)]
    ]
    assert json.loads(_written(found))["column_types"]["params"]["type_map"] == types


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"_type": "joined-table", "columns": []}',
        '{"columns": ["a"], "data": [[1]',
        '{"columns": ["a"], "data": [[1], [2, 3]]}',
        '{"columns": ["a"], "data": [[1], 2]}',
        '{"columns": ["a"], "data": [[1] [2]]}',
        '{"columns": ["a"], "data": 7}',
        '{"columns": ["a", "a"], "data": []}',
        '{"columns": ["a"], "data": [["\\x"]]}',
        '{"columns": ["a"], "column_types": 7, "data": [[1]]}',
        '{"columns": ["a"], "column_types": {"wb_type": "union"}, "data": [[1]]}',
        '{"columns": ["a"], "data": [["' + "[" * 10 + '"]]',
        b'{"columns": ["\xff"], "data": []}',
        f'{{"columns": ["a"], "data": [{"[" * 100_000}',
    ],
    ids=range(17),
)
def test_broken_file_is_read(text: str | bytes) -> None:
    """A file that is no table, or only the beginning of one, says so."""
    artifact = make()
    with artifact.new_file("t.table.json", "xb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    with pytest.raises(errors.BadTable, match=r"t\.table\.json|two columns|type that is none"):
        list(artifact.get("t").iterrows())  # type: ignore[union-attr]


def test_numpys_file_reads_as_nothing() -> None:
    """Values that W&B has put into a file of numpy's are not taken for None."""
    path = {"path": "media/x.npz", "key": "a"}
    kind = {"wb_type": "ndarray", "params": {"shape": [2, 2], "serialization_path": path}}
    said = {"columns": ["a"], "data": [[None]]}
    artifact = make()
    with artifact.new_file("t.table.json") as file:
        types = {"wb_type": "typedDict", "params": {"type_map": {"a": kind}}}
        json.dump({**said, "column_types": types}, file)
    with pytest.raises(errors.NotYet, match="numpy"):
        artifact.get("t")


# ── names, and what is there already ───────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("t", "t.table.json"),
        ("a/t.table.json", "a/t.table.json"),
        ("mytable.json", "mytable.json.table.json"),
        ("x.partitioned-table.json", "x.partitioned-table.json.table.json"),
    ],
)
def test_name_gives_something_else_back(name: str, path: str) -> None:
    """What was added under a name comes back under it, and under its path."""
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    artifact[name] = table
    assert list(artifact.manifest.entries) == [path]
    assert artifact.get(name) is table and artifact[path] is table
    assert artifact.get("other") is None


def test_bytes_are_not_those_of_the_call() -> None:
    """A table may change after it was added; the entry is as it was."""
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    artifact.add(table, "t")
    table.add_data(2)
    assert json.loads(content(artifact, "t.table.json"))["data"] == [[1]]


def test_same_rows_are_taken_for_others() -> None:
    """Adding the same rows again is fine, other rows need another name or ``overwrite``."""
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    first = artifact.add(table, "t")
    assert artifact.add(table, "t").path == first.path
    assert artifact.add(wherry.Table(["a"], [[1]]), "t").size == first.size
    table.add_data(2)
    with pytest.raises(errors.PathTaken, match="overwrite"):
        artifact.add(table, "t")
    assert json.loads(content(artifact, "t.table.json"))["nrows"] == 1
    artifact.add(table, "t", overwrite=True)
    assert json.loads(content(artifact, "t.table.json"))["nrows"] == 2
    artifact.remove("t.table.json")
    assert artifact.get("t") is None


def test_object_of_another_entry_comes_back() -> None:
    """Once other bytes are under its path, an object is not given back any more."""
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    artifact.add(table, "t")
    with artifact.new_file("t.table.json", "w") as file:
        file.write('{"columns":["b"],"data":[]}')
    found = artifact.get("t")
    assert isinstance(found, wherry.Table) and found.columns == ["b"]


def test_added_table_stays_in_memory() -> None:
    """An artifact does not keep a table that its maker has dropped."""
    artifact = make()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5):
            artifact.add(wherry.Table(["a"], [[at] for at in range(10_000)]), str(number))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("thing", [1, "x.png", [[1]], pd.DataFrame(), wherry.Table])
def test_anything_is_added(thing: object) -> None:
    """What is no table is a ``TypeError`` that names ``add_file``."""
    with pytest.raises(errors.BadValue, match="add_file") as caught:
        make().add(thing, "x")
    assert isinstance(caught.value, TypeError)


def test_changed_row_is_written_half() -> None:
    """Rows that were changed behind ``add_data``'s back to what can't be written add nothing."""
    artifact = make()
    table = wherry.Table(["a"], [[1]] * 3)
    table.data[1].append(2)
    with pytest.raises(errors.BadTable, match="2 values"):
        artifact.add(table, "t")
    table.data[1][:] = [object()]
    with pytest.raises(errors.BadValue):
        artifact.add(table, "t")
    assert len(artifact.manifest) == 0


def test_logged_artifact_takes_a_table(recorder: Recorder) -> None:
    """After ``log_artifact`` no table is added."""
    artifact = make()
    wherry.init(project="p").log_artifact(artifact)
    with pytest.raises(errors.ArtifactFinalizedError):
        artifact.add(wherry.Table(["a"]), "t")


def test_disabled_mode_writes_a_table() -> None:
    """In disabled mode nothing is written, and what was added is given back."""
    run = wherry.init(mode="disabled")
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    artifact.add(table, "t")
    run.log_artifact(artifact)
    assert artifact.get("t") is table
    del table
    with pytest.raises(errors.ArtifactStateError, match="disabled"):
        artifact.get("t")
    assert artifact.get("u") is None


# ── parts ──────────────────────────────────────────────────────────────────────────────────────
def test_part_is_left_out() -> None:
    """The rows of all parts come in part order, of objects and of files, and are numbered through."""
    artifact = make()
    kept = wherry.Table(["a"], [[10], [11]])
    artifact.add(kept, "parts/table_10")
    for number in (9, 2, 0):
        artifact.add(
            wherry.Table(["a"], [[number]], format=FORMATS[number % 2]), f"parts/table_{number}"
        )
    artifact.add(wherry.Table(["a"], [[99]]), "parts_of_another/table_1")
    with artifact.new_file("parts/readme.txt") as file:
        file.write("no part")
    artifact.add(PartitionedTable("parts"), "parts/all")
    found = artifact.get("parts/all")
    assert isinstance(found, PartitionedTable)
    rows = [[0], [2], [9], [10], [11]]
    assert list(found.iterrows()) == list(enumerate(rows))
    assert list(found.iterrows()) == list(enumerate(rows))  # as often as one likes


def test_part_with_other_columns_is_mixed_in() -> None:
    """Parts with other columns than the first are refused, with both names."""
    artifact = make()
    artifact.add(wherry.Table(["a"], [[1]]), "parts/table_0")
    artifact.add(wherry.Table(["b"], [[1]]), "parts/table_1")
    table = PartitionedTable("parts")
    artifact.add(table, "all")
    with pytest.raises(errors.BadTable, match=r"table_1.*'b'.*table_0.*'a'"):
        list(artifact.get("all").iterrows())  # type: ignore[union-attr]
    with pytest.raises(errors.ArtifactStateError, match="in no artifact"):
        table.iterrows()
    artifact.add(PartitionedTable("nowhere"), "none")
    assert list(artifact.get("none").iterrows()) == []  # type: ignore[union-attr]


# ── Parquet ────────────────────────────────────────────────────────────────────────────────────
def test_parquet_changes_a_value() -> None:
    """A Parquet file gives back what a JSON file does, and any reader of Parquet can read it."""
    rows: list[list[object]] = [
        [1, 0.5, "x", DAY, True, [1.0, None], {"a": 1}, None],
        [2, NAN, None, None, None, [], {"a": None}, None],
        [3, None, "é", date(2026, 1, 1), False, np.ones(1), {"a": np.int8(3)}, None],
    ]
    table = wherry.Table(list("ifstbldn"), rows, format="parquet")
    found = back(table)
    as_json = wherry.Table(list("ifstbldn"), rows)
    assert same(found.data, back(as_json).data)
    assert found.head.kinds == back(as_json).head.kinds
    artifact = make()
    entry = artifact.add(table, "t")
    assert entry.path == "t.table.parquet"
    file = io.BytesIO(content(artifact, entry.path))
    assert pl.read_parquet(file)["i"].to_list() == [1, 2, 3]
    assert pq.read_schema(file).field("i").type == pa.int64()
    assert artifact.add(table, "t").path == entry.path
    table.add_data(4, *[None] * 7)
    with pytest.raises(errors.PathTaken):
        artifact.add(table, "t")


@pytest.mark.parametrize("values", [[1, 2.5, None], [2**70, 0.5], [NAN, "x"], [1, "x"]])
def test_parquet_has_no_common_type(values: list[object]) -> None:
    """Integers beside floats become floats; what has no common type is refused, and nothing is added."""
    table = wherry.Table(["a"], [[v] for v in values], allow_mixed_types=True, format="parquet")
    if values[0] == 1 and values[1] == 2.5:
        assert back(table).data == [[1.0], [2.5], [None]]
        return
    artifact = make()
    with pytest.raises(errors.BadTable, match="column 'a'"):
        artifact.add(table, "t")
    assert len(artifact.manifest) == 0


def test_other_parquet_file_is_no_table(tmp_path: Path) -> None:
    """Any Parquet file under such a name is a table; any other file says that it is none."""
    artifact = make()
    pq.write_table(pa.table({"a": [1, None]}), tmp_path / "x.parquet")
    artifact.add_file(tmp_path / "x.parquet", "t.table.parquet")
    found = artifact.get("t")
    assert isinstance(found, wherry.Table)
    assert found.data == [[1], [None]]
    with artifact.new_file("bad.table.parquet") as file:
        file.write("no Parquet")
    with pytest.raises(errors.BadTable, match=r"bad\.table"):
        artifact.get("bad")


# ── what it costs ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_in_memory_twice(form: str) -> None:
    """Writing a table, and reading it back row by row, takes a few megabytes, whatever its rows."""
    count = rounds(60_000, 1_000_000)
    table = wherry.Table(["a", "b", "c"], format=form)
    for number in range(count):
        table.add_data(number, number / 3, "some text")
    artifact = make()
    tracemalloc.start()
    try:
        artifact.add(table, "t")
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
        del table
        found = artifact.get("t")
        assert isinstance(found, wherry.Table)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        total = sum(row[0] for _, row in found.iterrows())  # type: ignore[misc]
        assert total == count * (count - 1) // 2
        assert tracemalloc.get_traced_memory()[1] - before < 10_000_000
    finally:
        tracemalloc.stop()


def test_readers_move_each_other_on() -> None:
    """Several loops over one table that was read back each have their own place."""
    table = back(wherry.Table(["a"], [[number] for number in range(100_000)]))
    first, second = table.iterrows(), table.iterrows()
    for _ in range(60_000):
        next(first)
    assert next(second) == (0, [0])
    assert next(first) == (60_000, [60_000])
    assert table.get_column("a")[-1] == 99_999
    table.add_data(100_000)
    assert len(table.data) == 100_001


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_tables_that_were_read_keep_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table costs no descriptor, a large one until it is dropped; no file is left anywhere."""
    monkeypatch.setattr(held.tempfile, "tempdir", str(tmp_path))
    back(wherry.Table(["a"], [[number] for number in range(100_000)]))  # the spool has its own
    before = _descriptors()
    small = [back(wherry.Table(["a"], [[number]])) for number in range(20)]
    assert _descriptors() == before
    large = back(wherry.Table(["a"], [[number] for number in range(100_000)]))
    assert _descriptors() == before + 1
    assert large.columns == small[0].columns
    del large
    gc.collect()
    assert _descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_a_temporary_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no temporary file can be made, the error names TMPDIR."""
    monkeypatch.setattr(held.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(errors.DownloadError, match="TMPDIR"):
        back(wherry.Table(["a"]))


# ── a version ──────────────────────────────────────────────────────────────────────────────────
def test_version_gives_the_object_of_the_program(recorder: Recorder, tmp_path: Path) -> None:
    """Once it is a version, an artifact's table is the store's, and lies in no folder of the user's."""
    artifact = make()
    table = wherry.Table(["a"], [[1]])
    artifact.add(table, "t")
    data = content(artifact, "t.table.json")
    wherry.init(project="p").log_artifact(artifact)
    table.add_data(2)
    _commit(recorder, {"t.table.json": data})
    found = artifact.get("t")
    assert isinstance(found, wherry.Table) and found is not table
    assert found.data == [[1]]
    assert not (tmp_path / "artifacts").exists()


def test_each_part_costs_a_call(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a version are fetched together, as far as they are a few megabytes."""
    monkeypatch.setattr(entries, "_FETCH_COUNT", 3)
    artifact = make()
    files = {}
    for number in range(7):
        path = artifact.add(wherry.Table(["a"], [[number]]), f"parts/table_{number}").path
        files[path] = content(artifact, path)
    wherry.init(project="p").log_artifact(artifact)
    artifact_parts = json.dumps({"parts_path": "parts"}).encode()
    _commit(recorder, {"all.partitioned-table.json": artifact_parts, **files})
    found = artifact.get("all")
    assert isinstance(found, PartitionedTable)
    assert [row for _, row in found.iterrows()] == [[number] for number in range(7)]
    asked = [len(request.paths) for request in recorder.asked_files]
    assert asked == [1, 3, 3, 1]


def _commit(recorder: Recorder, files: dict[str, bytes]) -> None:
    import hashlib

    recorder.commit(0, 0)
    recorder.manifest = [
        pb.Entry(path=path, digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data))
        for path, data in files.items()
    ]
    recorder.chunks = [
        pb.FileChunk(path=path, data=data, last=True) for path, data in files.items()
    ]


def test_date_that_python_has_not_is_lost() -> None:
    """A time beyond Python's comes back as the number that it is in the file."""
    artifact = make()
    said = {"columns": ["t"], "data": [[10**17], ["x"], [None], [True]]}
    types = {"wb_type": "typedDict", "params": {"type_map": {"t": {"wb_type": "timestamp"}}}}
    with artifact.new_file("t.table.json") as file:
        json.dump({**said, "column_types": types}, file)
    assert artifact.get("t").data == said["data"]  # type: ignore[union-attr]


def _ticks() -> Iterator[datetime]:
    yield datetime.min.replace(tzinfo=UTC)
    yield datetime.max.replace(tzinfo=UTC)
    for microseconds in range(1, 10**6, 99_991):
        yield DAY.replace(microsecond=microseconds) + timedelta(days=microseconds % 7000)


def test_microsecond_is_rounded() -> None:
    """Every time between 1900 and 2100 comes back to the microsecond, those far off to the millisecond."""
    times = list(_ticks())
    found = back(wherry.Table(["t"], [[time] for time in times])).get_column("t")
    assert found[2:] == times[2:]
    assert found[0] == times[0]
