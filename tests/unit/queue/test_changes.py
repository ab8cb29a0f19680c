from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.unit.queue.helpers import (
    ALL,
    CONTENT,
    ELSEWHERE,
    LANE,
    MANIFEST,
    OTHER_LANE,
    contact,
    memory,
    new_entry,
    new_request,
    put,
)
from wherry.errors import NotFoundError, RequestIdTaken, TypeTaken
from wherryd.model import Base, Manifest, RunInfo, State
from wherryd.queue import changes, knowledge, looks, staging
from wherryd.queue.base import RUNS, Filter, Known, Link, Packed, Sent, WrongState
from wherryd.queue.group import Changed

HELD, ACCEPTED, PREPARED, UPLOADED = State.HELD, State.ACCEPTED, State.PREPARED, State.UPLOADED
SENDING, SETTLED, DONE = State.SENDING, State.SETTLED, State.DONE
FAILED, CANCELLED = State.FAILED, State.CANCELLED
EVERY = tuple(State)

Verb = Callable[[sqlite3.Connection, int], Changed[object]]

#: Each verb, the states that it may start from, and where it leads (None: the state stays).
VERBS: dict[str, tuple[Verb, tuple[State, ...], State | None]] = {
    "prepared": (
        lambda db, row: changes.prepared(db, row, MANIFEST, CONTENT),
        (ACCEPTED,),
        PREPARED,
    ),
    "plan_again": (changes.plan_again, (PREPARED,), ACCEPTED),
    "send_back": (
        lambda db, row: changes.send_back(db, row, "StoreDamaged", "gone", is_planned=True),
        (UPLOADED,),
        PREPARED,
    ),
    "send_back, to be planned": (
        lambda db, row: changes.send_back(db, row, "StoreDamaged", "gone", is_planned=False),
        (UPLOADED,),
        ACCEPTED,
    ),
    "uploaded": (lambda db, row: changes.uploaded(db, row, None), (PREPARED,), UPLOADED),
    "attempt": (lambda db, row: changes.attempt(db, row, 5, b"v5"), (UPLOADED, SENDING), SENDING),
    "settle": (lambda db, row: changes.settle(db, row, 5), (UPLOADED, SENDING), SETTLED),
    "done": (lambda db, row: changes.done(db, row, ALL, 30.0), (SETTLED,), DONE),
    "fail": (
        lambda db, row: changes.fail(db, row, "FileChanged", "why", 30.0),
        (HELD, ACCEPTED, PREPARED, UPLOADED),
        FAILED,
    ),
    "cancel": (
        lambda db, row: changes.cancel(db, row, 30.0),
        (HELD, ACCEPTED, PREPARED, UPLOADED),
        CANCELLED,
    ),
    "retry": (lambda db, row: changes.retry(db, row, 30.0), (FAILED,), ACCEPTED),
    "wait_until": (
        lambda db, row: changes.wait_until(db, row, "StoreUnavailable", "503", 99.0),
        (HELD, ACCEPTED, PREPARED, UPLOADED, SENDING, SETTLED),
        None,
    ),
}


@pytest.fixture
def db() -> sqlite3.Connection:
    """A queue's database in memory."""
    return memory()


# ── arrows ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", EVERY)
def test_an_arrow_that_the_schema_does_not_draw(
    db: sqlite3.Connection, verb: str, state: State
) -> None:
    """A change starts from the states that the schema draws, and from any other changes nothing."""
    do, allowed, to = VERBS[verb]
    request = put(db, 1, state)
    before = looks.get(db, 1)
    if state not in allowed:
        with pytest.raises(WrongState, match=f"is {state}, not"):
            do(db, 1)
        assert looks.get(db, 1) == before
        return
    changed = do(db, 1)
    assert looks.get(db, 1).state == (to or state)
    assert request.id in changed.topics
    assert (to in changed.topics) == (to is not None)
    assert (LANE in changed.topics) == (to in (UPLOADED, FAILED, CANCELLED))


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_of_a_request_that_is_gone(db: sqlite3.Connection, verb: str) -> None:
    """A change that names no request says so by ``WrongState``."""
    with pytest.raises(WrongState, match="no request in row 77"):
        VERBS[verb][0](db, 77)


def test_a_plan_that_outlives_its_store(db: sqlite3.Connection) -> None:
    """A request whose manifest points at what is gone keeps its place in line and its digests, no pack."""
    staging.stage(db, 1, [new_entry(path) for path in "ab"])
    put(db, 1, State.ACCEPTED)
    staging.save_digests(db, 1, [("a", "sha256:a", 1), ("b", "sha256:b", 1)])
    staging.save_places(db, 1, [Packed("a", "p", 0), Packed("b", "q", 0)], ("p", 1))
    changes.prepared(db, 1, MANIFEST, CONTENT)
    before = looks.get(db, 1)
    changes.plan_again(db, 1)
    request = looks.get(db, 1)
    assert (request.place, request.accepted) == (before.place, before.accepted)
    assert (request.manifest, request.digest, request.content) == (None, None, None)
    assert staging.packs(db, 1) == {}
    found = looks.entries(db, 1, None, 9)
    assert [(entry.digest, entry.pack) for entry in found] == [
        ("sha256:a", None),
        ("sha256:b", None),
    ]


def test_a_reason_that_outlives_its_wait(db: sqlite3.Connection) -> None:
    """Whatever a request waited for is forgotten when it goes on."""
    put(db, 1, ACCEPTED)
    for verb in ("prepared", "uploaded", "attempt", "settle", "done"):
        changes.wait_until(db, 1, "StoreUnavailable", "503", 99.0)
        assert looks.get(db, 1).reason == "503"
        VERBS[verb][0](db, 1)
        after = looks.get(db, 1)
        assert (after.error, after.reason, after.next_try) == ("", "", None)


# ── what the arrows write ──────────────────────────────────────────────────────────────────────
def test_what_the_manifest_found_out_is_not_kept(db: sqlite3.Connection) -> None:
    """``prepared`` keeps digests, and the manifest's own count of entries and bytes."""
    put(db, 1, PREPARED)
    request = looks.get(db, 1)
    assert (request.manifest, request.digest, request.content) == ("sha256:m", "sha256:d", CONTENT)
    assert (request.entries, request.size) == (7, 70)


def test_an_attempt_sent_again_with_other_bytes(db: sqlite3.Connection) -> None:
    """Number and bytes of an attempt stand: the same again is fine, other bytes or a lower number not."""
    put(db, 1, SENDING)
    changes.attempt(db, 1, 4, b"record of v4")
    for number, record in ((4, b"other"), (3, b"record of v3")):
        with pytest.raises(WrongState, match="sent as v4"):
            changes.attempt(db, 1, number, record)
    changes.attempt(db, 1, 5, b"record of v5")
    request = looks.get(db, 1)
    assert (request.number, request.record) == (5, b"record of v5")


def test_a_record_kept_after_it_settled(db: sqlite3.Connection) -> None:
    """A settled request has its version, and no attempt any more."""
    put(db, 1, SETTLED)
    request = looks.get(db, 1)
    assert (request.version, request.number, request.record) == (4, None, None)


def test_a_retry_that_keeps_its_place_or_its_failure(db: sqlite3.Connection) -> None:
    """A retried request is accepted anew, behind all others, and its floor does not rise."""
    contact(db)
    knowledge.learn(db, LANE, Known("store-1", "model", 3, "r"))
    put(db, 1, FAILED)
    put(db, 2, ACCEPTED)
    changes.acknowledge(db, [1])
    knowledge.learn(db, LANE, Known("store-1", "model", 8, "r"))
    assert changes.retry(db, 1, 50.0).value == 3
    request = looks.get(db, 1)
    assert (request.place, request.accepted, request.logged) == (3, 50.0, 10.0)
    assert (request.error, request.reason, request.ended) == ("", "", None)
    assert not request.acknowledged
    assert (request.floor, request.floor_store) == (3, "store-1")


def test_a_request_uploaded_to_a_store_that_was_exchanged(db: sqlite3.Connection) -> None:
    """An upload to another store than counts now is none."""
    contact(db)
    put(db, 1, PREPARED)
    with pytest.raises(WrongState, match="another store"):
        changes.uploaded(db, 1, "store-0")
    changes.uploaded(db, 1, "store-1")
    assert looks.get(db, 1).state is UPLOADED


def test_a_store_that_was_exchanged_is_said_to_have_bytes(db: sqlite3.Connection) -> None:
    """What is noted with the upload is noted if, and only if, the request is uploaded."""
    contact(db)
    put(db, 1, PREPARED)
    sent = [Sent("sha256:a", 3, sender=1)]
    with pytest.raises(WrongState, match="another store"):
        changes.uploaded(db, 1, "store-0", 5.0, sent, 20.0)
    assert knowledge.sent_already(db, LANE, ["sha256:a"]) == set()
    changes.uploaded(db, 1, "store-1", 5.0, sent, 20.0)
    assert knowledge.done_records(db, LANE, ["sha256:a"])["sha256:a"].sender == 1
    with pytest.raises(WrongState, match="uploaded, not"):
        changes.uploaded(db, 1, "store-1", 5.0, [Sent("sha256:b", 3)], 20.0)
    assert knowledge.sent_already(db, LANE, ["sha256:b"]) == set()


@pytest.mark.parametrize("is_planned", [True, False])
def test_a_request_sent_back_that_hides_why(db: sqlite3.Connection, is_planned: bool) -> None:
    """A request that is sent back says so until it goes on; its manifest goes only where it has to be made
    anew; and its name's type is known no more.
    """
    contact(db)
    knowledge.learn(db, LANE, Known("store-1", "model", 3, "r"))
    put(db, 1, PREPARED)
    changes.uploaded(db, 1, None, 12.5)
    assert looks.get(db, 1).sent_since == 12.5
    changed = changes.send_back(db, 1, "StoreDamaged", "gone", is_planned=is_planned)
    request = looks.get(db, 1)
    assert {request.state, "r1"} <= set(changed.topics)
    assert (request.error, request.reason, request.next_try) == ("StoreDamaged", "gone", None)
    assert (request.manifest is not None) == is_planned
    assert knowledge.known(db, LANE) == Known("store-1", None, 3, "r")
    if not is_planned:
        changes.prepared(db, 1, MANIFEST, CONTENT)
    changes.uploaded(db, 1, None)
    assert (looks.get(db, 1).error, looks.get(db, 1).sent_since) == ("", None)


# ── coming in ──────────────────────────────────────────────────────────────────────────────────
def test_places_that_do_not_ascend(db: sqlite3.Connection) -> None:
    """Places ascend over all lanes in the order of acceptance, from 1."""
    lanes = (LANE, OTHER_LANE, ELSEWHERE, LANE)
    places = [
        changes.accept(db, row, new_request(f"r{row}", lane=lane), 1.0).value.place
        for row, lane in enumerate(lanes)
    ]
    assert places == [1, 2, 3, 4]


def test_a_field_that_gets_lost(db: sqlite3.Connection) -> None:
    """A request is read back as it was given."""
    given = new_request(description="a model", aliases=["é", "b"], metadata='{"ü":[1]}')
    changes.accept(db, 5, given, 10.0)
    found = looks.get(db, 5)
    for field in ("id", "lane", "type", "description", "metadata", "aliases", "tags", "inputs"):
        assert getattr(found, field) == getattr(given, field)
    for field in ("run", "client", "folder", "entries", "size"):
        assert getattr(found, field) == getattr(given, field)
    assert (found.row, found.state, found.accepted, found.logged) == (5, ACCEPTED, 10.0, 10.0)


@pytest.mark.parametrize("state", EVERY)
def test_the_same_request_again(db: sqlite3.Connection, state: State) -> None:
    """The same id and body gives the first answer, whatever became of the request."""
    request = put(db, 1, state)
    again = changes.accept(db, 2, request, 99.0)
    assert again.value.again
    assert (again.value.row, again.value.place) == (1, None if state is HELD else 1)
    assert again.topics == ()
    assert sum(looks.counts(db).values()) == 1


def test_a_request_id_with_another_body(db: sqlite3.Connection) -> None:
    """An id seen before with another body is an error."""
    put(db, 1, DONE, new_request("r1"))
    with pytest.raises(RequestIdTaken, match="r1"):
        changes.accept(db, 2, new_request("r1", body=b"other"), 1.0)


def test_a_floor_of_another_store(db: sqlite3.Connection) -> None:
    """The floor is the highest number known in the store that counts when the request comes in."""
    changes.accept(db, 1, new_request("r1"), 1.0)
    contact(db)
    knowledge.learn(db, LANE, Known("store-0", "model", 9, "x"))
    changes.accept(db, 2, new_request("r2"), 1.0)
    knowledge.learn(db, LANE, Known("store-1", "model", 4, "y"))
    changes.accept(db, 3, new_request("r3"), 1.0)
    changes.accept(db, 4, new_request("r4", lane=OTHER_LANE), 1.0)
    floors = [(r.floor, r.floor_store) for r in looks.find(db, Filter())]
    assert floors == [(-1, ""), (-1, "store-1"), (4, "store-1"), (-1, "store-1")]


@pytest.mark.parametrize("other", ["dataset", "zebra"])
def test_a_name_of_another_type(db: sqlite3.Connection, other: str) -> None:
    """A name whose type this home knows, from the store or from a request that has not ended, is refused."""
    put(db, 1, HELD)
    with pytest.raises(TypeTaken, match="'model'"):
        changes.accept(db, 2, new_request("r2", type=other), 1.0)
    changes.cancel(db, 1, 1.0)
    changes.accept(db, 2, new_request("r2", type=other), 1.0)
    changes.accept(db, 3, new_request("r3", type="third", lane=OTHER_LANE), 1.0)
    changes.cancel(db, 2, 1.0)
    contact(db)
    knowledge.learn(db, LANE, Known("store-1", "model", 0, "x"))
    with pytest.raises(TypeTaken, match="'model'"):
        changes.accept(db, 4, new_request("r4", type=other), 1.0)


# ── offline ────────────────────────────────────────────────────────────────────────────────────
def test_held_requests_that_change_their_order(db: sqlite3.Connection) -> None:
    """Held requests get their places in the order in which they came in, however they are named."""
    for row in (1, 2, 3, 4):
        put(db, row, HELD)
    put(db, 5, ACCEPTED)
    changed = changes.sync(db, [4, 2, 1, 2, 5, 99], 60.0)
    assert changed.value == 3
    assert changed.topics[0] is ACCEPTED
    assert [r.id for r in looks.find(db, Filter())] == ["r5", "r1", "r2", "r4", "r3"]
    assert looks.get(db, 1).accepted == 60.0
    assert looks.get(db, 1).logged == 10.0
    assert looks.get(db, 3).state is HELD


# ── acknowledging, linking ─────────────────────────────────────────────────────────────────────
def test_acknowledging_what_has_not_failed(db: sqlite3.Connection) -> None:
    """Only failures can be acknowledged, each counts, others are left as they are."""
    for row, state in enumerate((FAILED, FAILED, DONE, ACCEPTED, CANCELLED)):
        put(db, row, state)
    assert changes.acknowledge(db, [0, 1, 2, 3, 4, 0, 9]).value == 2
    assert [r.row for r in looks.find(db, Filter()) if r.acknowledged] == [0, 1]


def test_a_link_to_nothing(db: sqlite3.Connection) -> None:
    """A run can be linked only to a request that this home knows."""
    with pytest.raises(NotFoundError):
        changes.link(db, "nobody", RunInfo("run-2"), [])


def test_a_link_that_replaces_another(db: sqlite3.Connection) -> None:
    """Each run has one link to a request; aliases that it gives later are added."""
    put(db, 1, State.ACCEPTED)
    for run, aliases in (("b", ["x"]), ("a", []), ("b", ["y", "x"])):
        changed = changes.link(db, "r1", RunInfo(run), aliases)
        assert set(changed.topics) == {"r1"}
    assert looks.links(db, "r1") == [Link(RunInfo("a"), []), Link(RunInfo("b"), ["x", "y"])]


def test_counts_that_drift(db: sqlite3.Connection) -> None:
    """The counts are what counting the rows would give."""
    for row, state in enumerate((*EVERY, *EVERY, DONE)):
        put(db, row, state)
    changes.retry(db, EVERY.index(FAILED), 1.0)
    counted = dict(db.execute("SELECT state, count(*) FROM requests GROUP BY state").fetchall())
    assert {state: n for state, n in looks.counts(db).items() if n} == counted


def test_a_links_alias_is_never_given(db: sqlite3.Connection) -> None:
    """Aliases of a further run are the request's; one that is done is settled again to give them."""
    put(db, 1, State.DONE)
    before = looks.get(db, 1)
    assert changes.link(db, before.id, RunInfo("b"), ["best"]).topics == (before.id, RUNS)
    assert looks.get(db, 1).state is State.DONE
    changed = changes.link(db, before.id, RunInfo("b"), ["prod"])
    assert State.SETTLED in changed.topics
    assert (looks.get(db, 1).state, looks.get(db, 1).aliases) == (State.SETTLED, ["best", "prod"])


def test_an_alias_that_came_meanwhile_is_forgotten(db: sqlite3.Connection) -> None:
    """A request with aliases that were not given yet is not done."""
    put(db, 1, State.SETTLED)
    changes.link(db, looks.get(db, 1).id, RunInfo("b"), ["prod", "latest", ""])
    with pytest.raises(WrongState):
        changes.done(db, 1, ["best"], 30.0)
    changes.done(db, 1, ["best", "prod"], 30.0)


@pytest.mark.parametrize("aliases", [[], ["latest", ""], ["best"]])
@pytest.mark.parametrize("linked", [[], ["latest"], ["prod"]])
def test_an_alias_is_lost_at_the_end(
    db: sqlite3.Connection, aliases: list[str], linked: list[str]
) -> None:
    """A request ends with its version only where neither it nor a further run gives an alias."""
    contact(db)
    request = put(db, 1, SENDING, new_request(aliases=aliases))
    changes.link(db, request.id, RunInfo("b"), linked)
    learned = Known("store-1", "model", 4, request.id)
    changed = changes.settle(db, 1, 4, now=30.0, learned=learned, may_end=True)
    is_over = not {*aliases, *linked} - {"latest", ""}
    now = looks.get(db, 1)
    assert (now.state, now.version, now.number) == (DONE if is_over else SETTLED, 4, None)
    assert {now.state, now.id} <= {*changed.topics}
    assert now.ended == (30.0 if is_over else None)
    assert knowledge.known(db, LANE) == learned


def test_the_aliases_of_a_draft_are_lost_at_its_end(db: sqlite3.Connection) -> None:
    """A finish gives the aliases of its draft, whatever its own are."""
    put(db, 1, SENDING, new_request(aliases=[]))
    changes.settle(db, 1, 4, ["best"], may_end=True)
    assert (looks.get(db, 1).state, looks.get(db, 1).aliases) == (SETTLED, ["best"])


# ── changes to a version ───────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("base", [Base(), Base(3, "sha256:base")])
@pytest.mark.parametrize("state", EVERY)
def test_changes_that_came_to_something_in_another_state(
    db: sqlite3.Connection, state: State, base: Base
) -> None:
    """What changes came to is noted of an uploaded request that has a base, and of no other."""
    put(db, 1, state, new_request(base=base))
    made = Manifest(manifest="sha256:both", digest="sha256:all", entries=9, size=90)
    assert looks.get(db, 1).base == base
    if state is not UPLOADED:
        with pytest.raises(WrongState):
            changes.applied(db, 1, made, "sha256:content")
        return
    assert changes.applied(db, 1, made, "sha256:content").topics == ("r1",)
    there = looks.get(db, 1)
    assert (there.state, there.manifest, there.digest) == (UPLOADED, "sha256:both", "sha256:all")
    assert (there.content, there.entries, there.size) == ("sha256:content", 9, 90)


@pytest.mark.parametrize("state", EVERY)
def test_a_number_that_is_anothers_is_kept(db: sqlite3.Connection, state: State) -> None:
    """Only from sending a request goes back, with neither number nor bytes; then it can be cancelled."""
    put(db, 1, state, new_request(base=Base()))
    if state is not SENDING:
        with pytest.raises(WrongState):
            changes.apply_again(db, 1)
        return
    back = changes.apply_again(db, 1)
    assert UPLOADED in back.topics and LANE in back.topics
    there = looks.get(db, 1)
    assert (there.state, there.number, there.record) == (UPLOADED, None, None)
    changes.cancel(db, 1, 30.0)


@pytest.mark.parametrize("base", [None, Base(3, "sha256:base")])
def test_a_request_that_is_the_same_at_every_number_goes_back(
    db: sqlite3.Connection, base: Base | None
) -> None:
    """What has no base, or one for ever, stays sent."""
    put(db, 1, SENDING, new_request(base=base))
    with pytest.raises(WrongState, match="base"):
        changes.apply_again(db, 1)
    assert looks.get(db, 1).state is SENDING
