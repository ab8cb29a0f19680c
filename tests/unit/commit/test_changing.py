"""The rules of a request that changes another version, as pure functions."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.commit.test_lane import ACCEPTED, NOW, STORE, memory_with, request_of, stored
from wherryd.commit.changing import LOOKED_S, Applied, Apply, ApplyAgain, ChangeStep, decide_change
from wherryd.commit.lane import Attempt, Confirm, Fail, LookAgain, Memory, Put, Read, Settle
from wherryd.model import Base, State
from wherryd.queue.base import Request

#: Changes to the version before.
OPEN = Base()
#: Changes to v0, for ever.
FIXED = Base(0, "m")


def step(
    memory: Memory, request: Request, applied: Applied | None = None, now: float = NOW
) -> ChangeStep:
    """The next step."""
    return decide_change(memory, applied or Applied(), request, STORE, now, ACCEPTED)


def applied_to(request: Request, base: int, manifest: str = "m", now: float = NOW) -> Applied:
    """What is known after the changes were applied."""
    made = Applied()
    made.note(request, Apply(base, manifest), now)
    return made


def reread(memory: Memory, number: int, *, deleted: bool = False, content: str = "x") -> None:
    """Read a number again, after the request was noticed."""
    memory.read(number, stored(number, f"r{number}", content, deleted), memory.ask())


def test_changes_are_applied_to_what_was_read_before() -> None:
    """The base is asked for after the request was accepted."""
    request = request_of(base=OPEN)
    memory = memory_with("x", "y", request=request)
    assert step(memory, request) == Read((1,))
    reread(memory, 1)
    assert step(memory, request) == Apply(1, "m")


def test_a_deleted_version_is_a_base() -> None:
    """What is deleted is passed over, down to none at all."""
    request = request_of(base=OPEN)
    memory = memory_with("x", "y", request=request)
    reread(memory, 1, deleted=True)
    assert step(memory, request) == Read((0,))
    reread(memory, 0)
    assert step(memory, request) == Apply(0, "m")
    reread(memory, 0, deleted=True)
    assert step(memory, request) == Apply(-1, "")


def test_a_version_that_was_not_read_is_passed_over() -> None:
    """Where nobody has read the version below a deleted one, it is read first, with some below."""
    request = request_of(base=OPEN, floor=5)
    memory = memory_with(*"abcdef", request=request)
    memory.seen = {5: memory.seen[5]}
    reread(memory, 5, deleted=True)
    assert step(memory, request) == Read((4, 3, 2, 1, 0))


def test_nothing_is_there_and_changes_wait() -> None:
    """Where there is no version, the changes are all that the first one has."""
    request = request_of(base=OPEN)
    memory = memory_with(request=request)
    assert step(memory, request) == Apply(-1, "")
    assert step(memory, request, applied_to(request, -1, "")) == Attempt(0)


def test_a_draft_is_applied_to_another_version() -> None:
    """A draft of a version changes that one, whatever came after it."""
    request = request_of(base=FIXED)
    memory = memory_with("x", "y", request=request)
    reread(memory, 0)
    assert step(memory, request) == Apply(0, "m")
    assert step(memory, request, applied_to(request, 0)) == Attempt(2)


def test_a_draft_of_a_version_that_was_not_looked_at() -> None:
    """A version that is named is asked for after the request was accepted, and is what it was then."""
    request = request_of(base=FIXED)
    memory = memory_with("x", request=request)
    assert step(memory, request) == Read((0,))
    reread(memory, 0, deleted=True)
    deleted = step(memory, request)
    assert isinstance(deleted, Fail) and deleted.error == "NotFoundError"
    assert "v0 of 'a', which this changes, was deleted" in deleted.reason
    other = request_of(base=Base(0, "of before"))
    memory = memory_with("x", request=other)
    reread(memory, 0)
    another = step(memory, other)
    assert isinstance(another, Fail) and another.error == "StoreDamaged"


def test_a_draft_of_nothing_waits_for_ever() -> None:
    """A version above the highest is asked for, once, and is nothing."""
    request = request_of(base=Base(7, "m"))
    memory = memory_with("x", request=request)
    assert step(memory, request) == Read((7,))
    memory.read(7, None, memory.ask())
    nothing = step(memory, request)
    assert (
        isinstance(nothing, Fail)
        and "v7 of 'a', which this changes, is not there" in nothing.reason
    )


def test_what_was_looked_at_before_is_asked_for_again() -> None:
    """What a request was made into counts for the next time, as long as the first look; no other's does."""
    request = request_of(base=OPEN)
    made = applied_to(request, 0)
    assert made.before(request, NOW) == "sha256:m"
    assert made.before(msgspec.structs.replace(request, row=2), NOW) == ""
    again = msgspec.structs.replace(request, manifest="sha256:again")
    made.note(again, Apply(1, "m"), NOW + 500.0, "sha256:m")
    assert made.before(again, NOW + 500.0) == "sha256:again"
    assert made.before(again, NOW + LOOKED_S) == ""
    assert not made.is_done(again, Apply(1, "m"), NOW + LOOKED_S)


def test_two_looks_that_outlast_each_other() -> None:
    """The time that applying takes does not count for what the request names itself; nor does a minute."""
    request = request_of(base=OPEN, sent_since=None)
    memory = memory_with("x", request=request)
    reread(memory, 0, content="other")
    memory.whole(request, NOW)
    memory.applied(request, 5 * LOOKED_S)
    later = NOW + 5 * LOOKED_S + 61.0
    memory._confirmed_at = later
    made = applied_to(request, 0, now=later)
    assert step(memory, request, made, later) == Attempt(1)
    memory.broken()
    memory._confirmed_at = later
    assert step(memory, request, made, later) == LookAgain()


def test_what_was_applied_to_another_base_is_tried() -> None:
    """What the changes came to counts for one base, one manifest, and for a while."""
    request = request_of(base=OPEN)
    memory = memory_with("x", request=request)
    reread(memory, 0, content="other")
    assert step(memory, request, applied_to(request, 0)) == Attempt(1)
    assert step(memory, request, applied_to(request, -1, "")) == Apply(0, "m")
    made = applied_to(msgspec.structs.replace(request, manifest="sha256:of before"), 0)
    assert step(memory, request, made) == Apply(0, "m")
    assert step(memory, request, applied_to(request, 0, now=NOW - LOOKED_S)) == Apply(0, "m")


def test_changes_are_applied_before_their_own_bytes_are_there() -> None:
    """What the request names itself is looked at first, as for any other."""
    request = request_of(base=OPEN, sent_since=None)
    memory = memory_with(request=request)
    assert step(memory, request) == LookAgain()
    memory.whole(request, NOW)
    assert step(memory, request) == Apply(-1, "")


def test_changes_that_change_nothing_get_a_number() -> None:
    """Same content is asked for once the changes were applied, and by the rules of any request."""
    request = request_of(base=OPEN)
    memory = memory_with("x", request=request)
    reread(memory, 0)
    assert step(memory, request, applied_to(request, 0)) == Read((1,))
    memory.read(1, None, memory.ask())
    assert step(memory, request, applied_to(request, 0)) == Settle(0)


def test_a_refused_number_is_followed_by_the_next() -> None:
    """Another's record at the number that was sent: the changes are applied again, in a row."""
    request = request_of(state=State.SENDING, number=1, record=b"r", base=OPEN)
    memory = memory_with("x", request=request)
    made = applied_to(request, 0)
    assert step(memory, request, made) == Put(1)
    memory.refused(1)
    assert step(memory, request, made) == Read((1,))
    memory.read(1, stored(1, "theirs", "y"), memory.ask())
    assert step(memory, request, made) == ApplyAgain()
    again = msgspec.structs.replace(request, state=State.UPLOADED, number=None, record=None)
    assert step(memory, again, made) == Apply(1, "m")


def test_a_draft_that_was_refused_goes_back() -> None:
    """A draft of a version is the same at every number."""
    request = request_of(state=State.SENDING, number=1, record=b"r", base=FIXED)
    memory = memory_with("a", request=request)
    memory.refused(1)
    memory.read(1, stored(1, "theirs", "y"), memory.ask())
    assert step(memory, request) == Attempt(2)


@pytest.mark.parametrize("state", [State.UPLOADED, State.SENDING])
def test_a_record_of_our_own_is_made_again(state: State) -> None:
    """A version that bears the request's id is it, before anything is applied."""
    request = request_of("mine", state=state, number=1, record=b"r", base=OPEN)
    memory = memory_with("x", request=request)
    memory.read(1, stored(1, "mine", "y"), memory.ask())
    assert step(memory, request) == Settle(1)


def test_the_store_is_not_asked_who_it_is() -> None:
    """Nothing is decided before the store was found to be the one that is known."""
    memory, request = Memory(), request_of(base=OPEN)
    memory.notice([request])
    assert step(memory, request) == Confirm()
