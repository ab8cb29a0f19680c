from __future__ import annotations

import itertools
import sqlite3

import pytest

from tests.unit.queue.helpers import memory, new_entry, new_request, put
from wherry.errors import NotFoundError, PathTaken
from wherryd.model import Base, Entry, FileStat, Reference, RunInfo, Source, State
from wherryd.queue import changes, looks, staging
from wherryd.queue.base import Packed, WrongState


@pytest.fixture
def db() -> sqlite3.Connection:
    """A queue's database in memory."""
    return memory()


def paths(db: sqlite3.Connection, row: int) -> list[str]:
    """The paths that a row has."""
    return [entry.path for entry in looks.entries(db, row, None, 100)]


def test_an_entry_that_loses_a_field(db: sqlite3.Connection) -> None:
    """Entries are read back as they were staged: captured, linked, referenced, without bytes."""
    given = [
        Entry("captured", 3, None, Source("/spool/pack", 17)),
        Entry("empty", 0, "sha256:e"),
        Entry("linked", 3, None, Source("/spool/x", 0, FileStat(2**40, 2**63 - 1, 3, -1))),
        Entry(
            "ref", 9, "etag:1", None, Reference("s3://b/k", False, 5, "v1", "2026-01-01T00:00:00Z")
        ),
        Entry("ref, plain", 0, None, None, Reference("s3://b/k")),
        Entry("ref, sums", 0, "etag:1", None, Reference("s3://b/k", sums=("crc32:A", "md5:b c"))),
    ]
    staging.stage(db, 1, given)
    assert looks.entries(db, 1, None, 100) == given


def test_entries_in_another_order_than_the_manifest(db: sqlite3.Connection) -> None:
    """Entries come in the order of their paths' UTF-8 bytes, page by page, each once."""
    names = ["b", "a/b", "a", "Z", "é", "e\u0301", "\U0001f600", "\uffff", "a b", "ab"]
    staging.stage(db, 1, [new_entry(name) for name in names])
    staging.stage(db, 2, [new_entry("of another stream")])
    found: list[str] = []
    while page := looks.entries(db, 1, found[-1] if found else None, 3):
        found += [entry.path for entry in page]
    assert found == sorted(names, key=lambda name: name.encode())


def test_a_path_that_comes_twice(db: sqlite3.Connection) -> None:
    """A path that comes twice is named, within a batch and across batches."""
    with pytest.raises(PathTaken, match="'b'"):
        staging.stage(db, 1, [new_entry(path) for path in ("a", "b", "b", "c")])
    staging.stage(db, 2, [new_entry("a")])
    with pytest.raises(PathTaken, match="'a'"):
        staging.stage(db, 2, [new_entry("0"), new_entry("a")])


def test_entries_that_come_after_the_end(db: sqlite3.Connection) -> None:
    """Nothing can be added to a request that was accepted."""
    put(db, 1, State.ACCEPTED)
    with pytest.raises(WrongState):
        staging.stage(db, 1, [new_entry("late")])


def test_digests_of_a_request_that_was_cancelled(db: sqlite3.Connection) -> None:
    """Digests are taken while the request is accepted, for entries that it has."""
    staging.stage(db, 1, [new_entry("a"), new_entry("b")])
    put(db, 1, State.ACCEPTED)
    staging.save_digests(db, 1, [("b", "sha256:b", 5)])
    found = looks.entries(db, 1, None, 10)
    assert [(e.path, e.digest, e.size) for e in found] == [("a", None, 3), ("b", "sha256:b", 5)]
    with pytest.raises(NotFoundError):
        staging.save_digests(db, 1, [("nowhere", "sha256:b", 5)])
    changes.cancel(db, 1, 1.0)
    with pytest.raises(WrongState):
        staging.save_digests(db, 1, [("a", "sha256:a", 5)])


def test_a_place_that_is_half_written(db: sqlite3.Connection) -> None:
    """Which packs entries lie in is written together with the pack, for a request that is accepted; all of it
    goes when the request's entries do.
    """
    staging.stage(db, 1, [new_entry(path) for path in "abc"])
    put(db, 1, State.ACCEPTED)
    places = [Packed("a", "p1", 0), Packed("c", "p1", 3)]
    with pytest.raises(NotFoundError):
        staging.save_places(db, 1, [*places, Packed("d", "p1", 6)], ("p0", 9))
    assert staging.packs(db, 1) == {}
    for _ in range(2):
        staging.save_places(db, 1, places, ("p1", 6))
    staging.save_places(db, 1, [Packed("b", "other", 7)], None)
    assert staging.packs(db, 1) == {"p1": 6}
    found = [(entry.pack, entry.pack_offset) for entry in looks.entries(db, 1, None, 100)]
    assert found == [("p1", 0), ("other", 7), ("p1", 3)]
    changes.cancel(db, 1, 5.0)
    with pytest.raises(WrongState):
        staging.save_places(db, 1, places, None)
    assert not staging.drop_entries(db, 1, 10).value
    assert staging.packs(db, 1) == {}


def test_a_cut_stream_that_takes_an_accepted_request_with_it(db: sqlite3.Connection) -> None:
    """Abandoning deletes in bounded steps what has no request, and nothing that has one."""
    for row in (1, 2):
        staging.stage(db, row, [new_entry(path) for path in "abcde"])
    put(db, 2, State.ACCEPTED)
    assert staging.abandon(db, 1, 3).value
    assert len(paths(db, 1)) == 2
    assert not staging.abandon(db, 1, 3).value
    assert paths(db, 1) == []
    assert not staging.abandon(db, 2, 3).value
    assert len(paths(db, 2)) == 5


@pytest.mark.parametrize("state", list(State))
def test_entries_dropped_that_are_still_needed(db: sqlite3.Connection, state: State) -> None:
    """Only a request that is done or cancelled loses its entries: a failed one may be retried."""
    staging.stage(db, 1, [new_entry(path) for path in "abc"])
    put(db, 1, state)
    if state in (State.DONE, State.CANCELLED):
        assert staging.drop_entries(db, 1, 2).value
        assert not staging.drop_entries(db, 1, 2).value
        assert paths(db, 1) == []
        return
    with pytest.raises(WrongState):
        staging.drop_entries(db, 1, 2)
    assert len(paths(db, 1)) == 3


def test_a_stream_of_this_start_that_is_swept(db: sqlite3.Connection) -> None:
    """Orphans are the entries without a request of earlier starts only."""
    first = staging.begin(db)
    for row in range(first, first + 6):
        staging.stage(db, row, [new_entry("a"), new_entry("b")])
    put(db, first + 1, State.ACCEPTED)
    put(db, first + 4, State.DONE)
    second = staging.begin(db)
    staging.stage(db, second, [new_entry("a")])
    staging.stage_removed(db, first + 6, ["only removed"])
    assert staging.orphans(db, second) == [*(first + n for n in (0, 2, 3, 5, 6))]
    assert staging.orphans(db, first) == []


def test_a_row_number_given_twice(db: sqlite3.Connection) -> None:
    """Each start of the queue has row numbers of its own, whatever is left of the ones before."""
    starts = [staging.begin(db) for _ in range(3)]
    assert starts == sorted(set(starts))
    assert min(b - a for a, b in itertools.pairwise(starts)) >= staging.ROWS_PER_START


def test_a_request_forgotten_too_early(db: sqlite3.Connection) -> None:
    """Forgotten are requests that ended before: done, cancelled, and failures that were acknowledged."""
    for row, state in enumerate((*State, State.FAILED), start=1):
        staging.stage(db, row, [new_entry("a")])
        put(db, row, state)
    acknowledged = len(State) + 1
    changes.acknowledge(db, [acknowledged])
    changes.link(db, f"r{acknowledged}", RunInfo("run-2"), ["x"])
    assert staging.forget_ended(db, 20.0).value == (0, [])
    gone = [row for row, state in enumerate(State, start=1) if state in ("done", "cancelled")]
    forgotten, with_entries = staging.forget_ended(db, 20.1).value
    assert forgotten == 3
    assert sorted(with_entries) == sorted([*gone, acknowledged])
    assert sum(looks.counts(db).values()) == len(State) - 2
    assert looks.links(db, f"r{acknowledged}") == []


def test_an_id_that_is_known_after_it_was_forgotten(db: sqlite3.Connection) -> None:
    """A forgotten id may come again, with whatever body, and takes a new place."""
    put(db, 1, State.DONE)
    staging.forget_ended(db, 100.0)
    again = changes.accept(db, 2, new_request("r1", body=b"other"), 1.0).value
    assert (again.again, again.place) == (False, 2)


def test_spool_freed_or_synced_twice_over(db: sqlite3.Connection) -> None:
    """Upkeep shows what is not freed among what ended for good, and what is not synced among the rest."""
    for row, state in enumerate(State, start=1):
        put(db, row, state, new_request(f"r{row}", synced=state is State.SENDING))
    unfreed = [r.state for r in looks.some(db, "unfreed", 100)]
    assert unfreed == [State.DONE, State.CANCELLED]
    unsynced = looks.some(db, "unsynced", 100)
    assert {r.state for r in unsynced} == set(State) - {State.DONE, State.CANCELLED, State.SENDING}
    staging.free(db, looks.some(db, "unfreed", 1)[0].row)
    assert [r.state for r in looks.some(db, "unfreed", 100)] == [State.CANCELLED]
    staging.note_synced(db, [r.row for r in unsynced[1:]])
    assert looks.some(db, "unsynced", 100) == unsynced[:1]
    with pytest.raises(WrongState):
        staging.free(db, unsynced[0].row)


def test_a_shared_file_is_trusted_again(db: sqlite3.Connection) -> None:
    """What is distrusted is found changed; not entries that have a digest, or bytes of their own."""
    stat = FileStat(1, 2, 3, 4)
    spool = [
        Entry("a", 3, source=Source("/home/spool/a", 0, stat)),
        Entry("b", 3, None, Source("/x")),
    ]
    in_place = [Entry(p, 3, d, Source("/x", 0, stat)) for p, d in (("c", None), ("d", "sha256:d"))]
    put(db, 1, State.ACCEPTED)
    staging.stage(db, 2, [*spool, *in_place])
    assert looks.entries_in_place(db, 2, "/home/spool/", None, 9) == in_place
    assert looks.entries_in_place(db, 2, "/home/spool/", "c", 9) == in_place[1:]
    staging.stage(db, 3, spool)
    assert looks.rows_in_place(db, [2, 3, 4], "/home/spool/") == {2}
    staging.distrust(db, 2, ["b", "c", "d"])
    entries = {entry.path: entry for entry in looks.entries(db, 2, None, 9)}
    changed = entries.pop("c")
    assert changed.source and changed.source.stat != stat and changed.source.stat
    assert entries == {each.path: each for each in (*spool, in_place[1])}


def test_paths_taken_out_that_are_forgotten(db: sqlite3.Connection) -> None:
    """Paths that a request takes out of its base are there until its entries go, and no others."""
    staging.stage_removed(db, 1, ["a", "dir", "a"])
    put(db, 1, State.ACCEPTED, new_request(base=Base()))
    assert looks.removed(db, 1, None, 9) == ["a", "dir"]
    assert looks.removed(db, 1, None, 1) == ["a"] and looks.removed(db, 1, "a", 1) == ["dir"]
    assert looks.removed(db, 2, None, 9) == []
    with pytest.raises(WrongState):
        staging.stage_removed(db, 1, ["b"])
    changes.cancel(db, 1, 20.0)
    assert staging.drop_entries(db, 1, 1).value
    while staging.drop_entries(db, 1, 1).value:
        pass
    assert looks.removed(db, 1, None, 9) == []
