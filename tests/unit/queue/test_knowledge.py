from __future__ import annotations

import sqlite3

import pytest

from tests.unit.queue.helpers import (
    ADDRESS,
    ELSEWHERE,
    LANE,
    OTHER_LANE,
    contact,
    memory,
    new_request,
    put,
)
from wherry.errors import StoreChanged
from wherryd.model import Place, State
from wherryd.queue import changes, knowledge, looks
from wherryd.queue.base import DoneRecord, Filter, Known, Sent


@pytest.fixture
def db() -> sqlite3.Connection:
    """A queue's database in memory."""
    return memory()


def learn(db: sqlite3.Connection, store_id: str, type_: str | None, highest: int, by: str) -> None:
    """Let the home know this much of the lane."""
    knowledge.learn(db, LANE, Known(store_id, type_, highest, by))


# ── artifacts ──────────────────────────────────────────────────────────────────────────────────
def test_knowledge_before_the_first_contact(db: sqlite3.Connection) -> None:
    """Nothing is known of a store that was not met."""
    assert knowledge.known(db, LANE) == Known("", None, -1, "")
    assert knowledge.store_id(db, ADDRESS) == ""
    assert not knowledge.probed(db, ADDRESS)


def test_a_lower_number_that_replaces_a_higher(db: sqlite3.Connection) -> None:
    """The highest number stays with its request until a higher one comes; a known type stays."""
    contact(db)
    learn(db, "store-1", "model", 3, "c")
    learn(db, "store-1", None, 2, "b")
    assert knowledge.known(db, LANE) == Known("store-1", "model", 3, "c")
    learn(db, "store-1", None, 4, "d")
    assert knowledge.known(db, LANE) == Known("store-1", "model", 4, "d")
    assert knowledge.known(db, OTHER_LANE) == Known("store-1", None, -1, "")


def test_knowledge_of_another_store_that_counts(db: sqlite3.Connection) -> None:
    """Knowledge of another store id at the address is kept and does not count."""
    contact(db)
    learn(db, "store-0", "model", 9, "z")
    assert knowledge.known(db, LANE) == Known("store-1", None, -1, "")


# ── stores ─────────────────────────────────────────────────────────────────────────────────────
def test_another_store_taken_for_the_first_contact(db: sqlite3.Connection) -> None:
    """The first contact may be told twice; another store at the address is an error and changes nothing."""
    knowledge.set_store_id(db, ADDRESS, "store-1", False)
    assert not knowledge.probed(db, ADDRESS)
    knowledge.set_store_id(db, ADDRESS, "store-1", True)
    knowledge.set_store_id(db, ADDRESS, "store-1", False)
    assert knowledge.probed(db, ADDRESS)
    with pytest.raises(StoreChanged, match="store-2, not store-1"):
        knowledge.set_store_id(db, ADDRESS, "store-2", True)
    assert knowledge.store_id(db, ADDRESS) == "store-1"


# ── done-records ───────────────────────────────────────────────────────────────────────────────
def test_a_done_record_trusted_for_another_store_or_project(db: sqlite3.Connection) -> None:
    """Done-records count for their address, store id and project only."""
    knowledge.note_sent(db, LANE, [Sent("sha256:early", 1)], None, 5.0)
    contact(db)
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1), Sent("sha256:b", 2)], None, 5.0)
    knowledge.note_sent(db, LANE, [Sent("sha256:late", 1)], "store-0", 5.0)
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1), Sent("sha256:c", 1)], "store-1", 6.0)
    wanted = ["sha256:early", "sha256:a", "sha256:b", "sha256:c", "sha256:late", "sha256:no"]
    assert knowledge.sent_already(db, LANE, wanted) == {"sha256:a", "sha256:b", "sha256:c"}
    assert knowledge.sent_already(db, OTHER_LANE, wanted) == {"sha256:a", "sha256:b", "sha256:c"}
    other_project = type(LANE)(ADDRESS, "dogs", "model")
    assert knowledge.sent_already(db, other_project, wanted) == set()
    assert knowledge.sent_already(db, ELSEWHERE, wanted) == set()


def test_bytes_are_looked_for_in_another_place(db: sqlite3.Connection) -> None:
    """Where bytes lie is known as it was noted last, in the store that counts."""
    contact(db)
    digests = ["sha256:a", "sha256:b", "sha256:c"]
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1), Sent("pack:p", 1)], None, 5.0)
    knowledge.note_sent(db, LANE, [Sent("sha256:b", 1, Place("p", 0))], None, 5.0)
    assert knowledge.places(db, OTHER_LANE, digests) == {
        "sha256:a": Place(),
        "sha256:b": Place("p", 0),
    }
    knowledge.note_sent(
        db, LANE, [Sent("pack:q", 8), Sent("sha256:a", 1, Place("q", 7))], None, 5.0
    )
    assert knowledge.places(db, LANE, digests)["sha256:a"] == Place("q", 7)
    assert knowledge.sent_already(db, LANE, digests) == set(), "no object of their own"
    knowledge.restart_lane(db, LANE, "store-2", -1, "")
    assert knowledge.places(db, LANE, digests) == {}


def test_what_lay_in_a_lost_pack_is_pointed_at(db: sqlite3.Connection) -> None:
    """What lies in a pack is known as long as the pack is; the others, and other projects, keep theirs."""
    contact(db)
    other_project = type(LANE)(ADDRESS, "dogs", "model")
    sent = [Sent("pack:p", 9), Sent("sha256:a", 4, Place("p", 0)), Sent("sha256:b", 5)]
    for lane in (LANE, other_project):
        knowledge.note_sent(db, lane, sent, None, 5.0)
    digests = ["sha256:a", "sha256:b"]
    knowledge.forget_lost(db, OTHER_LANE, ["pack:p", "sha256:no"], "store-0")
    assert knowledge.places(db, LANE, digests).keys() == {*digests}, "of another store"
    knowledge.forget_lost(db, OTHER_LANE, ["pack:p", "sha256:no"], "store-1")
    assert knowledge.places(db, LANE, digests).keys() == {"sha256:b"}
    assert knowledge.sent_already(db, LANE, ["pack:p", *digests]) == {"sha256:b"}
    assert knowledge.places(db, other_project, digests).keys() == {*digests}
    knowledge.note_sent(db, LANE, [Sent("pack:p", 9)], None, 6.0)
    assert knowledge.places(db, LANE, digests)["sha256:a"] == Place("p", 0), "it is there again"


def test_a_done_record_forgets_its_sender(db: sqlite3.Connection) -> None:
    """Who put an object, and when, is known as it was noted last; what lies in a pack is no object."""
    contact(db)
    names = ["sha256:a", "sha256:b", "pack:p", "sha256:no"]
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1, sender=7), Sent("pack:p", 9)], None, 5.0)
    knowledge.note_sent(db, LANE, [Sent("sha256:b", 1, Place("p", 0))], None, 5.0)
    assert knowledge.done_records(db, OTHER_LANE, names) == {
        "sha256:a": DoneRecord(1, 5.0, 7),
        "pack:p": DoneRecord(9, 5.0, None),
    }
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1), Sent("pack:p", 9, sender=8)], None, 6.0)
    assert knowledge.done_records(db, LANE, names) == {
        "sha256:a": DoneRecord(1, 6.0, None),
        "pack:p": DoneRecord(9, 6.0, 8),
    }


# ── stopped lanes ──────────────────────────────────────────────────────────────────────────────
def test_a_stopped_lane_that_shows_an_old_reason(db: sqlite3.Connection) -> None:
    """Requests that a stop holds up say so, whatever they waited for before; a restart clears it."""
    for row, state in enumerate((State.SENDING, State.UPLOADED, State.PREPARED), 1):
        put(db, row, state)
    changes.wait_until(db, 1, "StoreUnavailable", "mute", 99.0)
    topics = knowledge.stop_lane(db, LANE, "gone").topics
    told = {row: looks.get(db, row) for row in (1, 2, 3)}
    assert [(r.error, r.reason, r.next_try) for r in told.values()] == [
        ("StoreChanged", "gone", None),
        ("StoreChanged", "gone", None),
        ("", "", None),
    ]
    assert {each.id for each in told.values()} <= set(topics)
    knowledge.restart_lane(db, LANE, "store-1", -1, "")
    assert {looks.get(db, row).error for row in (1, 2, 3)} == {""}


def test_a_stopped_lane_that_is_forgotten(db: sqlite3.Connection) -> None:
    """A stopped lane keeps its last reason until it is restarted, and others are not concerned."""
    for lane, reason in ((LANE, "emptied"), (LANE, "exchanged"), (OTHER_LANE, "gone")):
        assert lane in knowledge.stop_lane(db, lane, reason).topics
    assert knowledge.stopped(db) == {LANE: "exchanged", OTHER_LANE: "gone"}
    assert LANE in knowledge.restart_lane(db, LANE, "store-2", 3, "x").topics
    assert knowledge.stopped(db) == {OTHER_LANE: "gone"}


def test_late_stop_undoes_a_restart() -> None:
    """A lane is not stopped for a store that the user has replaced meanwhile."""
    db = memory()
    knowledge.set_store_id(db, LANE.store, "old", passed_probe=True)
    knowledge.restart_lane(db, LANE, "new", -1, "")
    knowledge.stop_lane(db, LANE, "not the old one", "old")
    assert knowledge.stopped(db) == {}
    knowledge.stop_lane(db, LANE, "not the new one", "new")
    assert list(knowledge.stopped(db)) == [LANE]


def test_a_lane_restarted_on_the_same_store(db: sqlite3.Connection) -> None:
    """What the user saw counts, though it is lower, and the lane's bytes are looked for again."""
    _fill(db)
    changed = knowledge.restart_lane(db, LANE, "store-1", 2, "seen")
    assert knowledge.known(db, LANE) == Known("store-1", None, 2, "seen")
    assert knowledge.sent_already(db, LANE, ["sha256:a"]) == set()
    states = {r.id: r.state for r in looks.find(db, Filter())}
    assert [states[f"mine-{s}"] for s in ("uploaded", "sending")] == [State.PREPARED] * 2
    assert [states[f"other-{s}"] for s in ("uploaded", "sending")] == ["uploaded", "sending"]
    assert {State.PREPARED, LANE, "mine-uploaded", "mine-sending"} == set(changed.topics)
    assert _floors(db, "mine") == {-1: {"uploaded", "sending", "failed", "held"}, 7: {"settled"}}
    assert set(_floors(db, "other")) == {7}


def test_a_lane_restarted_on_another_store(db: sqlite3.Connection) -> None:
    """Where another store counts from now on, no lane's bytes at the address can be in it."""
    _fill(db)
    put(db, 50, State.UPLOADED, new_request("else", lane=ELSEWHERE))
    changed = knowledge.restart_lane(db, LANE, "store-2", -1, "")
    assert knowledge.store_id(db, ADDRESS) == "store-2"
    assert not knowledge.probed(db, ADDRESS)
    assert knowledge.known(db, LANE) == Known("store-2", None, -1, "")
    states = {r.id: r.state for r in looks.find(db, Filter())}
    for whose in ("mine", "other"):
        assert states[f"{whose}-uploaded"] == states[f"{whose}-sending"] == State.PREPARED
        assert states[f"{whose}-settled"] == State.SETTLED
    assert states["else"] == State.UPLOADED
    assert {LANE, OTHER_LANE, "other-sending"} <= set(changed.topics)
    assert set(_floors(db, "other")) == {-1, 7}


def test_an_attempt_that_outlives_the_restart(db: sqlite3.Connection) -> None:
    """After a restart a request has no number and no bytes, and any number may be tried."""
    _fill(db)
    row = next(r.row for r in looks.find(db, Filter()) if r.id == "mine-sending")
    knowledge.restart_lane(db, LANE, "store-1", -1, "")
    request = looks.get(db, row)
    assert (request.number, request.record) == (None, None)
    changes.uploaded(db, row, None)
    changes.attempt(db, row, 0, b"record of v0")


def _fill(db: sqlite3.Connection) -> None:
    contact(db)
    for lane in (LANE, OTHER_LANE):
        knowledge.learn(db, lane, Known("store-1", "model", 7, "r7"))
    knowledge.note_sent(db, LANE, [Sent("sha256:a", 1)], None, 5.0)
    row = 0
    for whose, lane in (("mine", LANE), ("other", OTHER_LANE)):
        for state in ("uploaded", "sending", "settled", "failed", "held"):
            row += 1
            put(db, row, State(state), new_request(f"{whose}-{state}", lane=lane))


def _floors(db: sqlite3.Connection, whose: str) -> dict[int, set[str]]:
    floors: dict[int, set[str]] = {}
    for request in looks.find(db, Filter()):
        name, _, state = request.id.partition("-")
        if name == whose:
            floors.setdefault(request.floor, set()).add(state)
    return floors
