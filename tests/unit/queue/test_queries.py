from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherryd.queue
from tests.unit.queue.helpers import memory
from wherryd.queue.queries import queries

#: Asked at each change, each look of a stage, or each start: no scan, however much is done.
HOT = [
    "accepted_before",
    "other_type_waiting",
    "next_place",
    "head",
    "head_by_id",
    "set_done",
    "request",
    "find_in_line",
    "find_without_place",
    "find_by_id",
    "find_by_run",
    "counts",
    "entries",
    "in_line_before",
    "held_before",
    "folders",
    "next_lane",
    "line",
    "has_line",
    "unaliased",
    "set_digest",
    "delete_entries",
    "has_entries",
    "orphans",
    "removed",
    "known",
    "learn",
    "store",
    "sent_already",
    "places",
    "done_records",
    "forget_lost",
    "note_sent",
    "forget_links",
    "forgettable",
    "forget_request",
    "unfreed",
    "unsynced",
    "going_on",
    "links",
    "upsert_link",
]

#: Tables with rows for all that was ever done; others are as small as what is going on.
_BIG = "requests|linked|other|entries|removed|blobs|links|artifacts"
_SCAN = re.compile(rf"SCAN ({_BIG})\b(?! USING (COVERING )?INDEX requests_(unfreed|unsynced))")


def plan(db: sqlite3.Connection, name: str) -> list[str]:
    """How SQLite would run the query."""
    sql = queries()[name]
    values = dict.fromkeys(re.findall(r":(\w+)", sql), 0)
    given = values or (0,) * sql.count("?")
    return [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", given)]


@pytest.mark.parametrize("name", queries())
def test_a_query_that_does_not_compile(name: str) -> None:
    """Every query fits the schema."""
    assert isinstance(plan(memory(), name), list)


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_that_scans(name: str) -> None:
    """What is asked often finds its rows by an index."""
    for step in plan(memory(), name):
        assert not _SCAN.search(step), f"{name}: {step}"


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("forgettable", "requests_by_end"),
        ("unfreed", "requests_unfreed"),
        ("unsynced", "requests_unsynced"),
        ("line", "requests_by_lane"),
        ("other_type_waiting", "requests_by_type"),
    ],
)
def test_a_query_that_looks_through_all_that_is_done(name: str, index: str) -> None:
    """What concerns few of the requests finds them by an index that holds only those."""
    uses = [step for step in plan(memory(), name) if "requests USING" in step]
    assert uses and all(f"INDEX {index}" in step for step in uses)


@pytest.mark.parametrize(
    "name",
    [
        "unfreed",
        "unsynced",
        "find_in_line",
        "find_without_place",
        "line",
        "entries",
        "entries_in_place",
        "unaliased",
        "next_lane",
    ],
)
def test_a_listing_that_sorts(name: str) -> None:
    """Listings with a limit come sorted out of an index, so that no more is read than is shown."""
    assert not [step for step in plan(memory(), name) if "TEMP B-TREE" in step]


def test_a_scan_that_the_test_above_would_miss() -> None:
    """The rule sees a scan where there is one."""
    db = memory()
    (step,) = db.execute("EXPLAIN QUERY PLAN SELECT * FROM requests WHERE client = ''").fetchall()
    assert _SCAN.search(step["detail"])


def test_a_query_that_nobody_uses() -> None:
    """Each query is named in the code, and each name in the code is a query."""
    used = set(_names_in_code())
    assert used == set(queries())


def _names_in_code() -> Iterator[str]:
    call = re.compile(r"\b(?:one_row|all_rows|change|change_many)\(\s*db,\s*\"(\w+)\"", re.DOTALL)
    for module in Path(wherryd.queue.__path__[0]).glob("*.py"):
        text = module.read_text()
        yield from call.findall(text)
        yield from re.findall(r"looks\.some, query=\"(\w+)\"", text)
