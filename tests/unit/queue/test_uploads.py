"""What the queue keeps of uploads in parts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.unit.queue.helpers import ADDRESS, LANE, OTHER_LANE, contact, memory, new_entry, put
from wherryd.model import PartSums, State, Upload
from wherryd.queue import knowledge, staging, uploads
from wherryd.queue.base import GivenUp, Sent

DIGEST = "sha256:big"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database with a request whose bytes are being sent."""
    with closing(memory()) as db:
        contact(db)
        put(db, 1, State.PREPARED)
        yield db


def _begin(db: sqlite3.Connection, row: int = 1, name: str = "up", **more: str) -> Upload:
    given = {"store_id": "store-1", "digest": DIGEST} | more
    return uploads.begin_upload(db, row, LANE, name=name, part_bytes=8, **given).value


def _take(db: sqlite3.Connection, row: int = 1) -> Upload | None:
    return uploads.take_upload(db, row, LANE, DIGEST).value


def test_an_upload_that_is_begun_anew(db: sqlite3.Connection) -> None:
    """What was begun is found again with the parts that were noted, each once."""
    assert _take(db) is None
    begun = _begin(db)
    for number, etag in ((1, "a"), (3, "c"), (3, "d")):
        uploads.note_part(db, begun.number, number, etag)
    assert _take(db) == Upload(begun.number, "up", 8, {1: "a", 3: "d"})


def test_two_uploads_of_a_blob(db: sqlite3.Connection) -> None:
    """The one that was begun last takes the other's place; parts of the other are noted no more."""
    first = _begin(db)
    uploads.note_part(db, first.number, 1, "a")
    second = _begin(db, name="again")
    uploads.note_part(db, first.number, 2, "b")
    assert _take(db) == Upload(second.number, "again", 8, {})
    assert db.execute("SELECT count(*) FROM sent_parts").fetchone()[0] == 0


def test_an_upload_of_another_store(db: sqlite3.Connection) -> None:
    """An upload that began in a store which does not count any more is not gone on with."""
    _begin(db, store_id="store-0")
    assert _take(db) is None
    _begin(db)
    assert _take(db) is not None
    knowledge.restart_lane(db, LANE, "store-2", -1, "")
    assert _take(db) is None
    assert uploads.take_upload(db, 1, OTHER_LANE, "sha256:other").value is None


def test_an_upload_that_outlives_its_blob(db: sqlite3.Connection) -> None:
    """What is noted as sent has no upload any more; others keep theirs."""
    sent, other = _begin(db), _begin(db, digest="sha256:other")
    uploads.note_part(db, sent.number, 1, "a")
    knowledge.note_sent(db, LANE, [Sent(DIGEST, 80)], "store-1", 1.0)
    assert _take(db) is None
    assert db.execute("SELECT number FROM uploads").fetchall()[0]["number"] == other.number
    assert db.execute("SELECT count(*) FROM sent_parts").fetchone()[0] == 0


@pytest.mark.parametrize("state", State)
def test_an_upload_is_given_up_too_early(db: sqlite3.Connection, state: State) -> None:
    """An upload is given up when its request sends nothing any more; a later request takes it over."""
    put(db, 2, state)
    begun = _begin(db, row=2)
    goes_on = state in (State.HELD, State.ACCEPTED, State.PREPARED)
    given = GivenUp(begun.number, ADDRESS, "store-1", LANE.project, DIGEST, "up")
    assert uploads.given_up(db, 10) == ([] if goes_on else [given])
    _take(db, row=1)
    assert uploads.given_up(db, 10) == []


def test_an_upload_whose_request_was_forgotten(db: sqlite3.Connection) -> None:
    """Without its request an upload is given up; forgotten, it leaves nothing."""
    begun = _begin(db, row=77)
    uploads.note_part(db, begun.number, 1, "a")
    (given,) = uploads.given_up(db, 10)
    assert list(uploads.uploads_at(db, ADDRESS)) == ["up"]
    assert list(uploads.uploads_at(db, "s3://elsewhere")) == []
    uploads.forget_upload(db, given.number)
    assert uploads.given_up(db, 10) == [] and list(uploads.uploads_at(db, ADDRESS)) == []
    assert db.execute("SELECT count(*) FROM sent_parts").fetchone()[0] == 0


def test_sums_that_outlive_their_entries(db: sqlite3.Connection) -> None:
    """What the parts have to be is kept, the last word counts, and goes with the entries."""
    assert uploads.part_sums(db, 1, DIGEST) is None
    for sums in (PartSums(8, b"x" * 32), PartSums(8, b"y" * 64)):
        uploads.keep_part_sums(db, 1, DIGEST, sums)
    assert uploads.part_sums(db, 1, DIGEST) == PartSums(8, b"y" * 64)
    staging.stage(db, 9, [new_entry("a")])
    uploads.keep_part_sums(db, 9, DIGEST, PartSums(8, b"z" * 32))
    assert not staging.abandon(db, 9, 10).value
    assert uploads.part_sums(db, 9, DIGEST) is None
    assert uploads.part_sums(db, 1, DIGEST) is not None
