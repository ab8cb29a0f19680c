"""The rules of the commit, as pure functions."""

from __future__ import annotations

import msgspec
import pytest

from wherryd.commit.lane import (
    FRESH_S,
    OLD_S,
    TRUSTED_S,
    Attempt,
    Confirm,
    Fail,
    LookAgain,
    Memory,
    Put,
    Read,
    ReadType,
    Settle,
    Step,
    Stop,
    decide,
)
from wherryd.model import Lane, RunInfo, State, Tombstone, VersionRecord
from wherryd.queue.base import Known, Request
from wherryd.registry.base import Stamp, StoredVersion

STORE = "store-1"
NOW = 1000.0
ACCEPTED = 1_795_392_000.0


def request_of(
    id_: str = "mine", content: str = "x", state: State = State.UPLOADED, **fields: object
) -> Request:
    """A request as the queue has it."""
    request = Request(
        row=1,
        id=id_,
        place=1,
        state=state,
        lane=Lane("sim://store", "p", "a"),
        type="model",
        description=None,
        metadata="{}",
        aliases=[],
        tags=[],
        inputs=[],
        run=RunInfo("run"),
        client="test",
        folder="",
        accepted=ACCEPTED,
        logged=ACCEPTED,
        floor=-1,
        floor_store=STORE,
        entries=0,
        size=0,
        manifest="sha256:m",
        digest="sha256:d",
        content=content,
        number=None,
        record=None,
        version=None,
        error="",
        reason="",
        next_try=None,
        acknowledged=False,
        ended=None,
        sent_since=ACCEPTED,
    )
    return msgspec.structs.replace(request, **fields)


def stored(number: int, request: str, content: str, deleted: bool = False) -> StoredVersion:
    """A record, or a tombstone, as a read gives it."""
    if deleted:
        stone = Tombstone(1, number, request, "sha256:d", content, "2026-11-24T00:00:00.000Z")
        return StoredVersion(stone, "etag", ACCEPTED)
    record = VersionRecord(
        1, number, request, "model", None, {}, 0, 0, "m", "d", content, RunInfo("r"), [], [], "", ""
    )
    return StoredVersion(record, "etag", ACCEPTED)


def memory_with(*contents: str, request: Request | None = None) -> Memory:
    """A memory that has confirmed and read v0, v1, … of these contents, before ``request`` came."""
    memory = Memory()
    stamps = [Stamp(number, ACCEPTED) for number in range(len(contents))]
    memory.confirmed(Known(STORE, "model", -1, ""), None, stamps, memory.ask(), NOW)
    tick = memory.ask()
    for number, content in enumerate(contents):
        memory.read(number, stored(number, f"r{number}", content), tick)
    memory.notice([request or request_of()])
    return memory


def step(memory: Memory, request: Request, now: float = NOW, today: float = ACCEPTED) -> Step:
    """The next step."""
    return decide(memory, request, STORE, now, today)


def test_a_store_is_trusted_after_a_start() -> None:
    """Nothing is tried before the store was found to be the one that is known."""
    memory = Memory()
    memory.notice([request_of()])
    assert step(memory, request_of()) == Confirm()


def test_a_store_is_trusted_for_ever() -> None:
    """After 60 s, and after a store error, it is asked again."""
    memory = memory_with("a")
    assert step(memory, request_of(), NOW + FRESH_S) == Confirm()
    memory.broken()
    assert step(memory, request_of()) == Confirm()


def test_the_first_version_is_not_v0() -> None:
    """An empty lane begins at v0."""
    assert step(memory_with(), request_of()) == Attempt(0)


def test_the_type_is_not_claimed() -> None:
    """The name's type is read, and claimed, before the first number is tried."""
    memory = memory_with()
    memory.type = None
    assert step(memory, request_of()) == ReadType()


def test_another_type_gets_a_number() -> None:
    """Another type fails alone."""
    assert isinstance(step(memory_with("a"), request_of(type="dataset")), Fail)


def test_records_that_may_be_ours_are_not_read() -> None:
    """Every record above the floor is read before a number is tried."""
    memory = Memory()
    stamps = [Stamp(number, ACCEPTED) for number in range(3)]
    memory.confirmed(Known(STORE, "model", -1, ""), None, stamps, memory.ask(), NOW)
    memory.notice([request_of()])
    assert step(memory, request_of()) == Read((0, 1, 2))
    assert step(memory, request_of(floor=1)) == Read((2,))
    assert step(memory, request_of(floor=1, floor_store="another")) == Read((0, 1, 2))


def test_old_records_are_read() -> None:
    """A record a day older than the request can't be the request's."""
    memory = Memory()
    stamps = [Stamp(0, ACCEPTED - OLD_S), Stamp(1, ACCEPTED - OLD_S + 1)]
    memory.confirmed(Known(STORE, "model", -1, ""), None, stamps, memory.ask(), NOW)
    memory.notice([request_of()])
    assert step(memory, request_of()) == Read((1,))


def test_our_own_record_is_not_recognized() -> None:
    """A record that bears the request's id is its version, whatever came after."""
    memory = memory_with("a", "b", "c")
    assert step(memory, request_of("r1", "z")) == Settle(1)


def test_same_content_is_settled_on_old_knowledge() -> None:
    """The highest version is read again, and the next number looked for after it."""
    request = request_of(content="b")
    memory = memory_with("a", "b", request=request)
    assert step(memory, request) == Read((1,))
    memory.read(1, stored(1, "r1", "b"), memory.ask())
    assert step(memory, request) == Read((2,))
    memory.read(2, None, memory.ask())
    assert step(memory, request) == Settle(1)


def test_same_content_is_settled_though_a_next_one_came() -> None:
    """A version that is not the highest any more settles nothing."""
    request = request_of(content="b")
    memory = memory_with("a", "b", request=request)
    memory.read(1, stored(1, "r1", "b"), memory.ask())
    memory.read(2, stored(2, "r2", "c"), memory.ask())
    assert step(memory, request) == Attempt(3)


def test_a_deleted_version_settles() -> None:
    """A deleted version equals nothing."""
    request = request_of(content="a")
    memory = memory_with("a", request=request)
    memory.read(0, stored(0, "r0", "a", deleted=True), memory.ask())
    assert step(memory, request) == Attempt(1)


@pytest.mark.parametrize("since", [None, ACCEPTED - TRUSTED_S, ACCEPTED + 1])
def test_what_was_there_is_trusted(since: float | None) -> None:
    """What a request has not put itself, or longer than a day ago, or in a time to come, is looked at before
    the first number is tried, and again after 60 s or an error.
    """
    request = request_of(sent_since=since)
    memory = memory_with("a", request=request)
    assert step(memory, request) == LookAgain()
    memory.whole(request, NOW)
    assert step(memory, request) == Attempt(1)
    another = msgspec.structs.replace(request, row=2)
    memory.notice([request, another])
    assert step(memory, another) == LookAgain()
    memory.whole(request, NOW - FRESH_S)
    assert step(memory, request) == LookAgain()
    memory.whole(request, NOW)
    memory.broken()
    memory.confirmed(Known(STORE, "model", 0, "r0"), stored(0, "r0", "a"), [], memory.ask(), NOW)
    assert step(memory, request) == LookAgain()


def test_what_was_put_just_now_is_looked_at() -> None:
    """A request that has put all itself within a day is not looked at."""
    request = request_of(sent_since=ACCEPTED - TRUSTED_S + 1)
    assert step(memory_with("a", request=request), request) == Attempt(1)


def test_same_content_is_settled_on_a_hole() -> None:
    """The version that is there may have lost its bytes: a request is that version once they are there."""
    request = request_of(content="a", sent_since=None)
    memory = memory_with("a", request=request)
    memory.read(0, stored(0, "r0", "a"), memory.ask())
    memory.read(1, None, memory.ask())
    assert step(memory, request) == LookAgain()
    memory.whole(request, NOW)
    assert step(memory, request) == Settle(0)


def test_what_was_sent_is_looked_at_again() -> None:
    """A record that may have been sent is settled, whatever became of its bytes; so is one that is there."""
    request = msgspec.structs.replace(sending(1), sent_since=None)
    memory = memory_with("a", request=request)
    assert step(memory, request) == Put(1)
    memory.refused(1)
    memory.read(1, stored(1, "other", "y"), memory.ask())
    assert step(memory, request) == Attempt(2)
    ours = request_of("r0", "z", sent_since=None)
    assert step(memory_with("a", request=ours), ours) == Settle(0)


def test_the_claim_of_a_store_with_losses_is_trusted() -> None:
    """A store that has lost something may have lost the type's claim: it is read again."""
    memory = memory_with("a")
    memory.lost()
    assert step(memory, request_of()) == Confirm()
    memory.confirmed(Known(STORE, None, 0, "r0"), stored(0, "r0", "a"), [], memory.ask(), NOW)
    assert step(memory, request_of()) == ReadType()


def sending(number: int, content: str = "x") -> Request:
    """A request whose number and bytes are in the queue."""
    return request_of(content=content, state=State.SENDING, number=number, record=b"bytes")


def test_an_attempt_is_not_sent() -> None:
    """Number and bytes that are in the queue are sent."""
    assert step(memory_with("a", request=sending(1)), sending(1)) == Put(1)


def test_a_refused_number_is_given_up_unread() -> None:
    """After 412 the number is read before anything else."""
    memory = memory_with("a", request=sending(1))
    memory.refused(1)
    assert step(memory, sending(1)) == Read((1,))


def test_a_refused_number_is_ours() -> None:
    """A refused number whose record bears our id is our version."""
    memory = memory_with("a", request=sending(1))
    memory.refused(1)
    memory.read(1, stored(1, "mine", "x"), memory.ask())
    assert step(memory, sending(1)) == Settle(1)


def test_a_refused_number_is_anothers() -> None:
    """The next number is tried when another has this one."""
    memory = memory_with("a", request=sending(1))
    memory.refused(1)
    memory.read(1, stored(1, "other", "y"), memory.ask())
    assert step(memory, sending(1)) == Attempt(2)


def test_a_bare_refusal_moves_on() -> None:
    """412 with nothing there: the same number again."""
    memory = memory_with("a", request=sending(1))
    memory.refused(1)
    memory.read(1, None, memory.ask())
    assert step(memory, sending(1)) == Put(1)


def test_a_refused_number_of_same_content_is_counted_on() -> None:
    """What another committed there with the same content settles the request."""
    memory = memory_with("a", request=sending(1))
    memory.refused(1)
    memory.read(1, stored(1, "other", "x"), memory.ask())
    assert step(memory, sending(1)) == Read((2,))
    memory.read(2, None, memory.ask())
    assert step(memory, sending(1)) == Settle(1)


def test_an_attempt_is_cancelled_by_a_type() -> None:
    """What may have been sent can't fail any more."""
    other = msgspec.structs.replace(sending(1), type="dataset")
    assert step(memory_with("a", request=other), other) == Put(1)


def test_a_listed_attempt_is_sent_again() -> None:
    """After a break the listing may show our number: it is read first."""
    memory = memory_with("a", request=sending(1))
    memory.broken()
    memory.confirmed(
        Known(STORE, "model", 0, "r0"),
        stored(0, "r0", "a"),
        [Stamp(1, ACCEPTED)],
        memory.ask(),
        NOW,
    )
    assert step(memory, sending(1)) == Read((1,))


@pytest.mark.parametrize("record", [None, stored(3, "somebody", "a")])
def test_an_exchanged_store_is_written(record: StoredVersion | None) -> None:
    """The highest number kept is gone or bears another id: the lane waits for the user."""
    memory = Memory()
    memory.confirmed(Known(STORE, "model", 3, "r3"), record, [], memory.ask(), NOW)
    memory.notice([request_of()])
    assert isinstance(step(memory, request_of()), Stop)


def test_what_was_seen_outlives_the_store() -> None:
    """Where the listing shows less than was seen before, the lane waits for the user."""
    memory = memory_with("a", "b", "c")
    memory.broken()
    memory.confirmed(
        Known(STORE, "model", 0, "r0"),
        stored(0, "r0", "a"),
        [Stamp(1, ACCEPTED)],
        memory.ask(),
        NOW,
    )
    assert step(memory, request_of()) == Stop("v2 was in the store and is gone")


def test_what_was_read_and_not_kept_outlives_trouble() -> None:
    """Above the number that is kept, another record may lie there by now: it is read again."""
    memory = memory_with("x")
    memory.read(1, None, memory.ask())
    memory.read(0, stored(0, "r0", "x"), memory.ask())
    memory.read(1, None, memory.ask())
    assert step(memory, request_of()) == Settle(0)
    memory.broken()
    memory.confirmed(Known(STORE, "model", -1, ""), None, [Stamp(0, ACCEPTED)], memory.ask(), NOW)
    assert step(memory, request_of()) == Read((0,))
    memory.read(0, stored(0, "another", "y"), memory.ask())
    assert step(memory, request_of()) == Attempt(1)


def test_an_attempt_above_a_restored_backup_is_sent() -> None:
    """A number whose predecessor is gone is not sent: it would leave a hole."""
    memory = memory_with("a", request=sending(5))
    assert isinstance(step(memory, sending(5)), Stop)


def test_what_was_written_elsewhere_counts() -> None:
    """A record that was made counts when it is read; where nothing is there after all, it is sent again."""
    memory = memory_with("a", request=sending(1))
    memory.created(1)
    assert step(memory, sending(1)) == Read((1,))
    memory.read(1, None, memory.ask())
    assert step(memory, sending(1)) == Put(1)
    memory.created(1)
    memory.read(1, stored(1, "mine", "x"), memory.ask())
    assert step(memory, sending(1)) == Settle(1)


def test_what_this_worker_wrote_is_read_twice() -> None:
    """What was read when it was written needs no reading for the next request."""
    memory = memory_with("a", request=request_of("next"))
    memory.created(1)
    memory.read(1, stored(1, "mine", "x"), memory.ask())
    assert step(memory, request_of("next", "z")) == Attempt(2)
