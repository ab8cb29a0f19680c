"""What runs do is noted once, and kept until it is in a record that was seen in the store."""

from __future__ import annotations

import sqlite3

import pytest

from tests.unit.queue.helpers import LANE, contact, memory, new_request, put
from wherryd.model import NoteKind, RequestKind, RunInfo, State
from wherryd.queue import changes, drafts, knowledge, run_notes
from wherryd.queue.base import RUNS, Note, RunPlace
from wherryd.queue.queries import queries

NOW = 50.0
PLACE = RunPlace("file:///store", "cats", "cats", "r1")
RUN = RunInfo("r1", job_type="train")


@pytest.fixture
def db() -> sqlite3.Connection:
    """A queue's database in memory."""
    return memory()


def _note(kind: NoteKind, value: str, place: RunPlace = PLACE) -> Note:
    return Note(place, RUN, kind, value)


def _open(db: sqlite3.Connection) -> list[tuple[str, NoteKind, str]]:
    found = run_notes.open_notes(db, "file:///store", "cats", 100)
    return [(note.place.run_id, note.kind, note.value) for _, note in found]


def test_a_run_uses_a_version_twice(db: sqlite3.Connection) -> None:
    """What is noted already, also in a record that was sent, is not noted again."""
    used = _note(NoteKind.USED, "cats/pets:v0")
    assert run_notes.note(db, [used], NOW).topics == (RUNS,)
    assert run_notes.note(db, [used], NOW).topics == ()
    ((number, kept),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    assert (kept.place, kept.run, kept.value, kept.noted) == (PLACE, RUN, "cats/pets:v0", NOW)
    record = run_notes.keep_record(db, PLACE, b"{}", [number]).value
    run_notes.record_put(db, record)
    assert run_notes.note(db, [used], NOW).topics == ()
    assert _open(db) == []


def test_old_facts_are_told(db: sqlite3.Connection) -> None:
    """What a run is, told anew, takes the place of what was told before; the same again is nothing."""
    for value in ("old", "new", "new"):
        changed = run_notes.note(db, [_note(NoteKind.FACTS, value)], NOW)
    assert changed.topics == ()
    assert _open(db) == [("r1", NoteKind.FACTS, "new")]


def test_facts_that_came_meanwhile_are_taken_for_recorded(db: sqlite3.Connection) -> None:
    """A record holds the notes that were read for it, and none that came since."""
    run_notes.note(db, [_note(NoteKind.FACTS, "old")], NOW)
    ((number, _),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    run_notes.note(db, [_note(NoteKind.FACTS, "new")], NOW)
    run_notes.keep_record(db, PLACE, b"old", [number])
    assert _open(db) == [("r1", NoteKind.FACTS, "new")]


def test_a_record_is_forgotten_before_it_arrived(db: sqlite3.Connection) -> None:
    """A record is kept, with its number, until it is in the store; a copied home's gets another number."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW)
    ((number, _),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    first = run_notes.keep_record(db, PLACE, b"{}", [number]).value
    assert run_notes.is_open(db, "file:///store", "cats", "r1") and not run_notes.is_open(
        db, "file:///store", "cats", "r2"
    )
    again = run_notes.record_again(db, first).value
    assert again > first
    (kept,) = run_notes.kept_records(db, "file:///store", "cats", 10)
    assert (kept.number, kept.body, kept.run_id) == (again, b"{}", "r1")
    assert run_notes.record_put(db, again).topics == (RUNS,)
    assert run_notes.kept_records(db, "file:///store", "cats", 10) == []
    assert not run_notes.is_open(db, "file:///store", "cats", "r1")
    third = run_notes.keep_record(db, PLACE, b"{}", []).value
    assert third > again


@pytest.mark.parametrize("wanted", [None, ["r1"]])
def test_offline_mode_sends_what_a_run_did(
    db: sqlite3.Connection, wanted: list[str] | None
) -> None:
    """What offline mode holds is in no record, and nobody waits for it, until it is let go."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW, held=True)
    assert _open(db) == [] and not run_notes.is_open(db, "file:///store", "cats", "r1")
    run_notes.release(db, ["another"])
    assert _open(db) == []
    run_notes.release(db, wanted)
    assert _open(db) == [("r1", NoteKind.USED, "cats/pets:v0")]


def test_a_run_is_noted_for_its_own_record(db: sqlite3.Connection) -> None:
    """A run whose version bears its name has nothing to note; another's is noted as having logged it."""
    put(db, 1, State.SENDING)
    put(db, 2, State.UPLOADED)
    assert RUNS not in changes.settle(db, 1, 7, now=NOW).topics
    assert _open(db) == []
    assert RUNS in changes.settle(db, 2, 7, now=NOW, is_own=False).topics
    ((_, kept),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    request = new_request("r2")
    lane = request.lane
    assert kept.value == f"{lane.project}/{lane.name}:v7"
    assert kept.place == RunPlace(lane.store, lane.project, lane.project, request.run.id)


def test_a_linked_run_goes_unnoted(db: sqlite3.Connection) -> None:
    """A further run is noted when the version is known, whether that was before it or comes after."""
    put(db, 1, State.UPLOADED)
    changes.link(db, "r1", RunInfo("early"), [], "dogs", NOW)
    assert _open(db) == []
    changes.settle(db, 1, 3, now=NOW)
    changes.done(db, 1, ["best"], NOW)
    changes.link(db, "r1", RunInfo("late"), [], now=NOW)
    assert [(run, kind) for run, kind, _ in _open(db)] == [
        ("early", NoteKind.LOGGED),
        ("late", NoteKind.LOGGED),
    ]
    assert run_notes.open_notes(db, "file:///store", "cats", 100)[0][1].place.project == "dogs"


def test_what_is_told_online_stays_held(db: sqlite3.Connection) -> None:
    """What was noted offline, and is said again online, is held no more; and not the other way round."""
    used = _note(NoteKind.USED, "cats/pets:v0")
    run_notes.note(db, [used], NOW, held=True)
    assert run_notes.note(db, [used], NOW).topics == (RUNS,)
    assert _open(db) == [("r1", NoteKind.USED, "cats/pets:v0")]
    run_notes.note(db, [used], NOW, held=True)
    assert len(_open(db)) == 1


def test_a_part_is_linked_too_late(db: sqlite3.Connection) -> None:
    """A further run of an upsert that is done has a part in the draft, too."""
    request = new_request("u", kind=RequestKind.UPSERT, draft="d" * 64, aliases=[])
    put(db, 1, State.UPLOADED, request)
    drafts.keep_part(db, 1, b"part")
    drafts.part_put(db, 1)
    changes.link(db, "u", RunInfo("early"), [], now=NOW)
    changes.done(db, 1, [], NOW)
    changes.link(db, "u", RunInfo("late"), [], now=NOW)
    assert set(_open(db)) == {(run, NoteKind.DRAFT, "d" * 64) for run in ("run-1", "early", "late")}


def test_another_store_has_the_records(db: sqlite3.Connection) -> None:
    """Where another store counts from now on, what was recorded in the one before is noted again."""
    contact(db)
    used = _note(NoteKind.USED, "cats/pets:v0")
    run_notes.note(db, [used], NOW)
    ((number, _),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    run_notes.record_put(db, run_notes.keep_record(db, PLACE, b"{}", [number]).value)
    knowledge.restart_lane(db, LANE, "store-1", -1, "")
    assert run_notes.note(db, [used], NOW).value is False
    knowledge.restart_lane(db, LANE, "store-2", -1, "")
    assert run_notes.note(db, [used], NOW).value is True


@pytest.mark.parametrize(
    ("where", "left"), [((None, None), 0), (("file:///store", None), 1), (("s3://x", "cats"), 2)]
)
def test_what_nobody_wants_stays(
    db: sqlite3.Connection, where: tuple[str | None, str | None], left: int
) -> None:
    """What is to be written can be taken back: of a place, a store, or all; held or not."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW, held=True)
    elsewhere = RunPlace("s3://bucket", "cats", "cats", "r1")
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0", elsewhere)], NOW)
    run_notes.keep_record(db, PLACE, b"{}", [])
    run_notes.drop(db, *where)
    assert db.execute("SELECT count(*) FROM run_notes").fetchone()[0] == left
    kept = run_notes.kept_records(db, "file:///store", "cats", 10)
    assert len(kept) == (where[0] == "s3://x")


def test_asking_reads_what_others_did(db: sqlite3.Connection) -> None:
    """What is asked often is found by an index."""
    for name in ("release_run", "run_is_open", "open_notes"):
        plan = db.execute(
            "EXPLAIN QUERY PLAN " + queries()[name],
            {"run_id": "r", "address": "a", "place": "p", "limit": 1},
        ).fetchall()
        assert not [row[3] for row in plan if row[3].startswith("SCAN run_notes")], name


def test_a_run_without_a_name_stops_the_commit(db: sqlite3.Connection) -> None:
    """A run id of which no key can be made is passed over."""
    put(db, 1, State.SETTLED)
    changes.link(db, "r1", RunInfo("a/b"), [], now=NOW)
    changes.link(db, "r1", RunInfo(""), [], now=NOW)
    assert _open(db) == []


def test_notes_stay_for_ever(db: sqlite3.Connection) -> None:
    """Old notes go when they are in a record; what is in none stays."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW)
    ((number, _),) = run_notes.open_notes(db, "file:///store", "cats", 100)
    run_notes.keep_record(db, PLACE, b"{}", [number])
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v1")], NOW)
    assert run_notes.forget(db, NOW + 1, 100).value is False
    assert db.execute("SELECT value FROM run_notes").fetchall()[0][0] == "cats/pets:v1"
    assert len(run_notes.open_notes(db, "file:///store", "cats", 100)) == 1
