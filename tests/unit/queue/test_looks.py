from __future__ import annotations

import sqlite3

import pytest

from tests.unit.queue.helpers import ELSEWHERE, LANE, OTHER_LANE, memory, new_request, put
from wherry.errors import NotFoundError
from wherryd.model import Lane, RunInfo, State
from wherryd.queue import changes, looks
from wherryd.queue.base import Filter


@pytest.fixture
def db() -> sqlite3.Connection:
    """A queue's database in memory."""
    return memory()


def ids(db: sqlite3.Connection, wanted: Filter) -> list[str]:
    """The ids of what is found, in order."""
    return [request.id for request in looks.find(db, wanted)]


def fill(db: sqlite3.Connection) -> None:
    """One request in each state, named after it; rows and places ascend in the states' order."""
    for row, state in enumerate(State, start=1):
        put(db, row, state, new_request(state))


# ── find ───────────────────────────────────────────────────────────────────────────────────────
def test_requests_out_of_line(db: sqlite3.Connection) -> None:
    """Requests come by place over all states, held ones last and in their order."""
    put(db, 7, State.HELD)
    put(db, 6, State.HELD)
    for row, state in ((5, State.DONE), (4, State.ACCEPTED), (3, State.DONE), (2, State.FAILED)):
        put(db, row, state)
    assert ids(db, Filter()) == ["r5", "r4", "r3", "r2", "r6", "r7"]
    assert ids(db, Filter(limit=3)) == ["r5", "r4", "r3"]
    assert ids(db, Filter(states=(State.HELD, State.DONE))) == ["r5", "r3", "r6", "r7"]
    assert ids(db, Filter(states=(State.DONE, State.DONE), limit=1)) == ["r5"]


def test_a_filter_that_lets_others_pass(db: sqlite3.Connection) -> None:
    """Each field of a filter narrows the listing, alone and together with the others."""
    put(db, 1, State.ACCEPTED)
    put(db, 2, State.ACCEPTED, new_request("r2", lane=OTHER_LANE))
    put(db, 3, State.FAILED, new_request("r3", run=RunInfo("run-2")))
    put(db, 4, State.FAILED, new_request("r4", lane=ELSEWHERE))
    put(db, 5, State.ACCEPTED, new_request("r5", lane=Lane(LANE.store, "dogs", "model")))
    changes.acknowledge(db, [4])
    assert ids(db, Filter(name="data")) == ["r2"]
    assert ids(db, Filter(project="dogs")) == ["r5"]
    assert ids(db, Filter(not_acknowledged=True)) == ["r1", "r2", "r3", "r5"]
    assert ids(db, Filter(without_stores=(LANE.store,))) == ["r4"]
    assert ids(db, Filter(states=(State.FAILED,), without_stores=(ELSEWHERE.store,))) == ["r3"]
    assert ids(db, Filter(run_id="run-2")) == ["r3"]
    assert ids(db, Filter(run_id="run-1", states=(State.ACCEPTED,), project="cats")) == ["r1", "r2"]
    assert ids(db, Filter(run_id="run-1", name="data", limit=1)) == ["r2"]
    assert ids(db, Filter(ids=("r4", "r1", "nobody", "r3"))) == ["r1", "r3", "r4"]
    narrow = Filter(ids=("r1", "r3", "r4"), run_id="run-1", not_acknowledged=True)
    assert ids(db, narrow) == ["r1"]
    assert ids(db, Filter(ids=("r1", "r3"), states=(State.FAILED,))) == ["r3"]


def test_a_part_of_an_id_names_others(db: sqlite3.Connection) -> None:
    """The beginning or the end of an id names requests in any state, and no more than asked for."""
    for row, id_ in enumerate(("ab-12", "cd-ab", "x-ab-x", "AB-3", "%"), start=1):
        put(db, row, State.DONE, new_request(id_))
    assert ids(db, Filter(id_part="ab")) == ["ab-12", "cd-ab"]
    assert ids(db, Filter(id_part="ab", limit=1)) == ["ab-12"]
    assert ids(db, Filter(id_part="%")) == ["%"]
    assert ids(db, Filter(id_part="ab-12-longer-than-any")) == []
    plan = db.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM requests WHERE substr(id, -length('a')) = 'a'"
    ).fetchall()
    assert "COVERING INDEX" in plan[0]["detail"]  # no row of a done request is read for it


def test_a_linked_run_that_does_not_see_its_request(db: sqlite3.Connection) -> None:
    """A run's requests are those that it logged and those that it is linked to, each once."""
    put(db, 1, State.DONE)
    put(db, 2, State.ACCEPTED, new_request("r2", run=RunInfo("run-2")))
    for _ in range(2):
        changes.link(db, "r1", RunInfo("run-2"), [])
        changes.link(db, "r2", RunInfo("run-2"), [])
    assert ids(db, Filter(run_id="run-2")) == ["r1", "r2"]
    assert ids(db, Filter(ids=("r1",), run_id="run-2")) == ["r1"]
    assert ids(db, Filter(ids=("r1",), run_id="run-3")) == []


def test_a_row_that_nobody_has(db: sqlite3.Connection) -> None:
    """A row without a request is an error, not nothing."""
    with pytest.raises(NotFoundError):
        looks.get(db, 1)
    with pytest.raises(NotFoundError):
        looks.ahead(db, 1)


# ── lanes ──────────────────────────────────────────────────────────────────────────────────────
def test_a_lane_whose_work_nobody_sees(db: sqlite3.Connection) -> None:
    """A lane has work while one of its requests has a place and is not settled."""
    shown = set()
    for row, state in enumerate(State, start=1):
        lane = Lane("s3://b", "p", state)
        put(db, row, state, new_request(state, lane=lane))
        shown |= {lane} if looks.line(db, lane, 10) else set()
    assert looks.lanes(db) == sorted(shown)
    assert {lane.name for lane in shown} == {"accepted", "prepared", "uploaded", "sending"}


def test_a_line_out_of_order(db: sqlite3.Connection) -> None:
    """A line is its lane's requests that are not settled, by place, of no other lane, up to the limit."""
    fill(db)
    put(db, 90, State.ACCEPTED, new_request("elsewhere", lane=ELSEWHERE))
    put(db, 80, State.PREPARED, new_request("last"))
    line = ["accepted", "prepared", "uploaded", "sending", "last"]
    assert [r.id for r in looks.line(db, LANE, 100)] == line
    assert [r.id for r in looks.line(db, LANE, 2)] == line[:2]
    changes.fail(db, 2, "X", "y", 1.0)
    changes.retry(db, 2, 1.0)
    assert [r.id for r in looks.line(db, LANE, 100)] == [*line[1:], "accepted"]


def test_a_request_that_counts_itself_or_the_ended(db: sqlite3.Connection) -> None:
    """Ahead are the lane's requests that come before and have not ended; held ones come last."""
    fill(db)
    put(db, 90, State.ACCEPTED, new_request("elsewhere", lane=ELSEWHERE))
    put(db, 80, State.ACCEPTED, new_request("last"))
    put(db, 81, State.HELD, new_request("held, too"))
    ahead = {r.id: looks.ahead(db, r.row) for r in looks.find(db, Filter())}
    assert [ahead[s] for s in ("accepted", "prepared", "uploaded", "sending", "settled")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert (ahead["last"], ahead["held"], ahead["held, too"], ahead["elsewhere"]) == (5, 6, 7, 0)
    assert ahead["done"] == ahead["failed"] == ahead["cancelled"] == 0


def test_a_settled_request_without_aliases_that_is_lost(db: sqlite3.Connection) -> None:
    """Requests are unaliased from settled until done, by place."""
    fill(db)
    put(db, 50, State.SETTLED)
    assert [r.id for r in looks.unaliased(db)] == ["settled", "r50"]


# ── the spool ──────────────────────────────────────────────────────────────────────────────────
def test_a_folder_freed_that_is_still_needed(db: sqlite3.Connection) -> None:
    """A request needs its folder until it is done or cancelled, or its failure was acknowledged."""
    fill(db)
    put(db, 50, State.FAILED)
    changes.acknowledge(db, [50])
    needed = set(State) - {State.DONE, State.CANCELLED}
    assert looks.folders(db) == {f"sessions/s1/{state}" for state in needed}


def test_an_ended_request_that_goes_on(db: sqlite3.Connection) -> None:
    """Of the rows that are asked for, those go on whose requests have not ended; others are nothing."""
    for row, state in enumerate(State, start=1):
        put(db, row, state)
    ended = {State.DONE, State.FAILED, State.CANCELLED}
    rows = {row for row, state in enumerate(State, start=1) if state not in ended}
    assert looks.going_on(db, range(1, 100)) == rows
    assert looks.going_on(db, [min(rows)]) == {min(rows)}
    assert looks.going_on(db, []) == set()
