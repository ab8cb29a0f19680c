"""What runs do is noted once, and kept until it is in a record that was seen in the store."""

from __future__ import annotations

import sqlite3

import pytest

from tests.unit.queue.helpers import memory, new_request, put
from wherryd.model import NoteKind, RunInfo, State
from wherryd.queue import changes, run_notes
from wherryd.queue.base import RUNS, Note, RunPlace

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
    found = run_notes.open_notes(db, 100)
    return [(note.place.run_id, note.kind, note.value) for _, note in found]


def test_a_run_uses_a_version_twice(db: sqlite3.Connection) -> None:
    """What is noted already, also in a record that was sent, is not noted again."""
    used = _note(NoteKind.USED, "cats/pets:v0")
    assert run_notes.note(db, [used], NOW).topics == (RUNS,)
    assert run_notes.note(db, [used], NOW).topics == ()
    ((number, kept),) = run_notes.open_notes(db, 100)
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
    ((number, _),) = run_notes.open_notes(db, 100)
    run_notes.note(db, [_note(NoteKind.FACTS, "new")], NOW)
    run_notes.keep_record(db, PLACE, b"old", [number])
    assert _open(db) == [("r1", NoteKind.FACTS, "new")]


def test_a_record_is_forgotten_before_it_arrived(db: sqlite3.Connection) -> None:
    """A record is kept, with its number, until it is in the store; a copied home's gets another number."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW)
    ((number, _),) = run_notes.open_notes(db, 100)
    first = run_notes.keep_record(db, PLACE, b"{}", [number]).value
    assert run_notes.is_open(db, "r1") and not run_notes.is_open(db, "r2")
    again = run_notes.record_again(db, first).value
    assert again > first
    (kept,) = run_notes.kept_records(db)
    assert (kept.number, kept.body, kept.run_id) == (again, b"{}", "r1")
    assert run_notes.record_put(db, again).topics == (RUNS,)
    assert run_notes.kept_records(db) == []
    assert not run_notes.is_open(db, "r1")
    third = run_notes.keep_record(db, PLACE, b"{}", []).value
    assert third > again


@pytest.mark.parametrize("wanted", [None, ["r1"]])
def test_offline_mode_sends_what_a_run_did(
    db: sqlite3.Connection, wanted: list[str] | None
) -> None:
    """What offline mode holds is in no record, and nobody waits for it, until it is let go."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW, held=True)
    assert _open(db) == [] and not run_notes.is_open(db, "r1")
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
    ((_, kept),) = run_notes.open_notes(db, 100)
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
    assert run_notes.open_notes(db, 100)[0][1].place.project == "dogs"


def test_a_run_without_a_name_stops_the_commit(db: sqlite3.Connection) -> None:
    """A run id of which no key can be made is passed over."""
    put(db, 1, State.SETTLED)
    changes.link(db, "r1", RunInfo("a/b"), [], now=NOW)
    changes.link(db, "r1", RunInfo(""), [], now=NOW)
    assert _open(db) == []


def test_notes_stay_for_ever(db: sqlite3.Connection) -> None:
    """Old notes go when they are in a record; what is in none stays."""
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v0")], NOW)
    ((number, _),) = run_notes.open_notes(db, 100)
    run_notes.keep_record(db, PLACE, b"{}", [number])
    run_notes.note(db, [_note(NoteKind.USED, "cats/pets:v1")], NOW)
    assert run_notes.forget(db, NOW + 1, 100).value is False
    assert db.execute("SELECT value FROM run_notes").fetchall()[0][0] == "cats/pets:v1"
    assert len(run_notes.open_notes(db, 100)) == 1
