"""The rules of a draft's finish, as pure functions."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.commit.test_lane import NOW, STORE, request_of
from tests.unit.registry import example
from wherryd.commit.drafts import (
    AwaitParts,
    BeginSealing,
    CompareOwn,
    FailLate,
    Finishing,
    FinishStep,
    Gather,
    KeepSealed,
    LookForManifest,
    LookForSealed,
    PutSealed,
    TellConflict,
    decide_finish,
)
from wherryd.commit.lane import Attempt, Confirm, Fail, LookAgain, Memory, Read, Settle, Stop
from wherryd.model import Manifest, RequestKind, State, VersionRecord
from wherryd.queue.base import Known, Request
from wherryd.registry.base import StoredVersion

MANIFEST = Manifest(example.digest(b"m"), example.digest(b"d"), 4, 837)
SEALED = msgspec.structs.replace(example.sealed(MANIFEST), finisher="mine", start=0)


def finish_of(**fields: object) -> Request:
    """A finish as the queue has it."""
    return request_of(**{"kind": RequestKind.FINISH, "draft": SEALED.draft, **fields})


def memory_of(highest: int = -1) -> Memory:
    """What is known of a lane, just confirmed, whose type is claimed."""
    memory = Memory()
    record = stored(highest, "theirs") if highest >= 0 else None
    memory.notice([finish_of()])
    known = Known(STORE, "model", highest, "theirs" if highest >= 0 else "")
    memory.confirmed(known, record, [], memory.ask(), NOW)
    return memory


def stored(version: int, request: str) -> StoredVersion:
    """A version as it is read."""
    record = msgspec.structs.replace(
        example.record(MANIFEST), version=version, request=request, content="theirs"
    )
    assert isinstance(record, VersionRecord)
    return StoredVersion(record, "etag", NOW)


def decide(memory: Memory, finishing: Finishing, request: Request) -> FinishStep:
    """The next step."""
    return decide_finish(memory, finishing, request, STORE, NOW, request.logged)


def test_the_steps_come_in_another_order() -> None:
    """Somebody's end first; earlier parts, the mark, the list; the bytes in the queue before the send."""
    memory, finishing, request = memory_of(), Finishing(), finish_of()
    assert decide(memory, finishing, request) == LookForSealed()
    finishing.looked(None, memory.tick)
    assert decide(memory, finishing, request) == AwaitParts()
    finishing.has_parts = True
    assert decide(memory, finishing, request) == BeginSealing()
    finishing.is_sealing = True
    assert decide(memory, finishing, request) == Gather()
    finishing.made = b"sealed"
    assert decide(memory, finishing, request) == KeepSealed(b"sealed")
    kept = finish_of(state=State.SENDING, sealed=b"sealed")
    assert decide(memory, finishing, kept) == PutSealed()
    finishing.is_put = True
    assert decide(memory, finishing, kept) == LookForSealed()
    finishing.looked(SEALED, memory.tick)
    assert decide(memory, finishing, kept) == LookForManifest(SEALED.manifest)
    finishing.has_manifest = True
    assert decide(memory, finishing, kept) == Attempt(0)


def test_a_start_sends_nothing_that_is_in_the_queue() -> None:
    """After a start the bytes in the queue count as sent: they are sent again, and nothing else is done."""
    assert (
        decide(memory_of(), Finishing(), finish_of(state=State.SENDING, sealed=b"s")) == PutSealed()
    )
    assert decide(Memory(), Finishing(), finish_of(state=State.SENDING, sealed=b"s")) == Confirm()


def test_what_is_not_whole_is_marked() -> None:
    """What the finish brings itself is looked at again before the mark, which lets writers wait."""
    memory, finishing, request = memory_of(), Finishing(), finish_of(sent_since=None)
    finishing.looked(None, memory.tick)
    finishing.has_parts = True
    assert decide(memory, finishing, request) == LookAgain()
    memory.whole(request, NOW)
    assert decide(memory, finishing, request) == BeginSealing()


def test_a_conflict_is_final_without_a_look() -> None:
    """Before a finish fails for a conflict, it looks whether the draft was finished meanwhile, and tells."""
    memory, finishing, request = memory_of(), Finishing(), finish_of()
    finishing.looked(None, memory.tick)
    finishing.has_parts = finishing.is_sealing = True
    finishing.conflicts(Fail("DraftConflict", "two files differ"))
    assert decide(memory, finishing, request) == LookForSealed()
    finishing.looked(None, memory.tick)
    assert decide(memory, finishing, request) == TellConflict("two files differ")
    finishing.is_told = True
    assert decide(memory, finishing, request) == Fail("DraftConflict", "two files differ")
    finishing.looked(SEALED, memory.tick)
    assert decide(memory, finishing, request) == LookForManifest(SEALED.manifest)


@pytest.mark.parametrize("same", [True, False])
def test_from_is_no_number_of_ours(same: bool) -> None:
    """Everybody follows what ``sealed.json`` says of the version below ``from``, once that was read."""
    memory, finishing, request = memory_of(), Finishing(), finish_of()
    finishing.has_manifest = True
    finishing.looked(msgspec.structs.replace(SEALED, start=3, same=same), memory.tick)
    assert decide(memory, finishing, request) == Read((2,))
    memory.read(2, stored(2, "theirs"), memory.ask())
    assert decide(memory, finishing, request) == (Settle(2) if same else Attempt(3))


def test_a_version_below_is_gone() -> None:
    """A store without the version below ``from`` is not what it was."""
    memory, finishing = memory_of(), Finishing()
    finishing.looked(msgspec.structs.replace(SEALED, start=3), memory.tick)
    memory.read(2, None, memory.ask())
    assert decide(memory, finishing, finish_of()) == Stop("v2 was in the store and is gone")


def test_a_draft_becomes_a_second_version() -> None:
    """All numbers from ``from`` on are read, however old: one that bears the draft's id is the version."""
    memory, finishing, request = memory_of(2), Finishing(), finish_of(floor=2)
    finishing.has_manifest = True
    finishing.looked(SEALED, memory.tick)
    assert decide(memory, finishing, request) == Read((0, 1))
    memory.read(0, stored(0, "another"), memory.ask())
    memory.read(1, stored(1, SEALED.draft), memory.ask())
    assert decide(memory, finishing, request) == Settle(1)


def test_a_second_finish_is_told_nothing() -> None:
    """What a finish brings to a draft that another has sealed is compared, and its type as well."""
    memory, finishing, request = memory_of(), Finishing(), finish_of(id_="second")
    finishing.looked(SEALED, memory.tick)
    memory.read(0, stored(0, SEALED.draft), memory.ask())
    assert decide(memory, finishing, request) == CompareOwn()
    finishing.missing = ""
    assert decide(memory, finishing, request) == Settle(0)
    finishing.missing = "'x' of this finish"
    step = decide(memory, finishing, request)
    assert isinstance(step, FailLate)
    assert step.error == "DraftFinished" and "v0, without 'x'" in step.reason
    other = decide(memory, finishing, msgspec.structs.replace(request, type="dataset"))
    assert isinstance(other, FailLate) and other.error == "TypeTaken"
