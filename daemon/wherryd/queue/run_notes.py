"""What runs have done, until it is in records of their own: the tables ``run_notes`` and ``run_records``.

Owns: that a thing is noted once, that a record's bytes and number are kept before they are sent.
Does not own: what a record says (``commit.run_records``), which requests make notes (``changes``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from wherry.wire.names import is_name
from wherryd.model import Lane, NoteKind, RequestKind, RunInfo, State
from wherryd.queue.base import RUNS, KeptRecord, Note, RunPlace
from wherryd.queue.group import Changed
from wherryd.queue.queries import all_rows, change, one_row
from wherryd.queue.rows import Head, json

_RUN = msgspec.json.Decoder(RunInfo)


def note(
    db: sqlite3.Connection, notes: Sequence[Note], now: float, *, held: bool = False
) -> Changed[bool]:
    """Note what a run does; whether any of it is new."""
    new = sum(_note(db, each, now, held=held) for each in notes)
    return Changed(bool(new), (RUNS,) if new else ())


def note_version(db: sqlite3.Connection, request: Head, now: float, *, is_own: bool) -> bool:
    """Note the runs of a request that became a version; whether any of it is new.

    Args:
        is_own: the version's record is this request's, or of the draft that it has sealed, and names its run.
    """
    linked = all_rows(db, "links", request=request.id)
    if is_own and not linked:
        return False
    found = one_row(db, "run_of_request", row=request.row)
    assert found is not None
    kind, value = _what(request, found)
    runs = [] if is_own else [(found["run_id"], found["run"], "")]
    runs += [(one["run_id"], one["run"], one["project"]) for one in linked]
    return _note_runs(db, request.lane, runs, kind, value, now)


def note_link(
    db: sqlite3.Connection, request: Head, run: RunInfo, project: str, now: float
) -> bool:
    """Note a further run of a request that is a version already; whether that is new."""
    found = one_row(db, "run_of_request", row=request.row)
    is_part = request.kind is RequestKind.UPSERT and request.state is State.DONE
    if found is None or (found["version"] is None and not is_part):
        return False
    return _note_runs(db, request.lane, [(run.id, json(run), project)], *_what(request, found), now)


def _what(request: Head, found: sqlite3.Row) -> tuple[NoteKind, str]:
    """What its runs have logged: a version, or a part in a draft, whose version bears the draft's id."""
    if request.kind is RequestKind.UPSERT:
        return NoteKind.DRAFT, found["draft"]
    return NoteKind.LOGGED, f"{request.lane.project}/{request.lane.name}:v{found['version']}"


def release(db: sqlite3.Connection, run_ids: Sequence[str] | None) -> Changed[None]:
    """Let what offline mode holds of these runs go; None: of all."""
    if run_ids is None:
        change(db, "release_runs")
    for run_id in dict.fromkeys(run_ids or ()):
        change(db, "release_run", run_id=run_id)
    return Changed(None, (RUNS,))


def places(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Addresses, and projects below which there is something to write."""
    return [(row["address"], row["place"]) for row in all_rows(db, "run_places")]


def open_notes(
    db: sqlite3.Connection, address: str, place: str, limit: int
) -> list[tuple[int, Note]]:
    """What is in no record yet, with its number."""
    found = all_rows(db, "open_notes", address=address, place=place, limit=limit)
    return [(row["number"], _note_of(row)) for row in found]


def keep_record(
    db: sqlite3.Connection, place: RunPlace, body: bytes, numbers: Sequence[int]
) -> Changed[int]:
    """Keep a record's bytes, and that these notes are in it; its number."""
    found = one_row(
        db,
        "insert_run_record",
        address=place.store,
        place=place.place,
        run_id=place.run_id,
        body=body,
    )
    assert found is not None
    record: int = found["number"]
    for number in numbers:
        change(db, "put_in_record", record=record, number=number)
    return Changed(record)


def kept_records(db: sqlite3.Connection, address: str, place: str, limit: int) -> list[KeptRecord]:
    """Records that may have been sent, and were not seen in the store."""
    return [
        KeptRecord(row["number"], row["address"], row["place"], row["run_id"], row["body"])
        for row in all_rows(db, "run_records", address=address, place=place, limit=limit)
    ]


def record_put(db: sqlite3.Connection, number: int) -> Changed[None]:
    """A record is in the store."""
    change(db, "delete_run_record", number=number)
    return Changed(None, (RUNS,))


def record_again(db: sqlite3.Connection, number: int) -> Changed[int]:
    """Another record has this number in the store, of a copy of this home: the same bytes, another number."""
    found = one_row(db, "run_record_again", number=number)
    assert found is not None
    change(db, "delete_run_record", number=number)
    again: int = found["number"]
    return Changed(again)


def is_open(db: sqlite3.Connection, address: str, project: str, run_id: str) -> bool:
    """Whether something of a run is not in its own project yet, and is not held."""
    found = one_row(db, "run_is_open", address=address, place=project, run_id=run_id)
    return bool(found and found["is_open"])


def waiting(db: sqlite3.Connection) -> tuple[int, int]:
    """How many runs have something that is not in their store; and how many that is held."""
    found = one_row(db, "runs_waiting")
    assert found is not None
    return found["waiting"], found["held"]


def drop(db: sqlite3.Connection, address: str | None, place: str | None) -> Changed[None]:
    """Forget what nobody can, or is to, write down: of one place, of all below an address, or of all."""
    change(db, "drop_notes", address=address, place=place)
    change(db, "drop_records", address=address, place=place)
    return Changed(None, (RUNS,))


def forget_recorded(db: sqlite3.Connection, address: str) -> None:
    """Another store counts there from now on, which has none of the records."""
    change(db, "forget_recorded", address=address)


def forget(db: sqlite3.Connection, before: float, limit: int) -> Changed[bool]:
    """Forget old notes that are in records; whether some are left."""
    return Changed(change(db, "forget_notes", before=before, limit=limit) == limit)


def _note_runs(
    db: sqlite3.Connection,
    lane: Lane,
    runs: Iterable[tuple[str, str, str]],
    kind: NoteKind,
    value: str,
    now: float,
) -> bool:
    new = False
    for run_id, run, project in runs:
        if is_name(run_id):  # else no key can be made of it
            place = RunPlace(lane.store, lane.project, project or lane.project, run_id)
            new |= _note(db, Note(place, _RUN.decode(run), kind, value), now)
    return new


def _note(db: sqlite3.Connection, note_: Note, now: float, *, held: bool = False) -> bool:
    place = note_.place
    values = {
        "address": place.store,
        "place": place.place,
        "project": place.project,
        "run_id": place.run_id,
        "value": note_.value,
    }
    if note_.kind is NoteKind.FACTS:
        change(db, "forget_facts", **values)
    run = json(note_.run)
    is_end = note_.is_end
    said = change(
        db, "note_run", **values, run=run, kind=note_.kind, is_end=is_end, held=held, now=now
    )
    return said > 0


def _note_of(row: sqlite3.Row) -> Note:
    place = RunPlace(row["address"], row["place"], row["project"], row["run_id"])
    kind, is_end = NoteKind(row["kind"]), bool(row["is_end"])
    return Note(place, _RUN.decode(row["run"]), kind, row["value"], is_end, row["noted"])
