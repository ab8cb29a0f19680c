"""Which stores the probe finds unfit."""

from __future__ import annotations

import pytest

from tests.support.faulty import Fault, FaultyStore
from tests.support.memory import MemoryStore
from tests.unit.stores.helpers import TestClock
from wherry.errors import AccessRefused, StoreUnavailable, StoreUnfit
from wherryd.defects import note_defect
from wherryd.stores.base import (
    EtagMismatch,
    Object,
    ObjectExists,
    ObjectStat,
    OutcomeUnknown,
    WriteConflict,
)
from wherryd.stores.probe import Unconditional, probe


class _Unconditional(MemoryStore):
    """Takes every create, as servers do that don't know the header."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        await self.put(key, body)
        return "etag"


class _LastWins(MemoryStore):
    """Says that the first create won, and keeps the last."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        try:
            return await super().put_if_absent(key, body)
        except ObjectExists:
            await self.put(key, body)
            raise


class _AlwaysThere(MemoryStore):
    """Has an object for every key."""

    async def get(self, key: str) -> Object:
        return Object(stat=ObjectStat(key=key, size=0, etag="e", modified=0.0), body=b"")


class _Conflicts(MemoryStore):
    """Answers 409 to every create."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise WriteConflict(key)


class _Refuses(MemoryStore):
    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise AccessRefused("read only")


class _ReplacesAll(MemoryStore):
    """Knows If-None-Match and not If-Match, as S3 itself did for some months of 2024."""

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        await self.put(key, body)
        return "etag"


class _ReplacesNothing(MemoryStore):
    """Finds no ETag equal, as a server that compares it with its quotes to one without."""

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        raise EtagMismatch(key)


class _NoConditions(MemoryStore):
    """Answers 501 to conditions."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise StoreUnfit("The store can't do this. 501 NotImplemented.")


@pytest.mark.parametrize(
    "kind",
    [_Unconditional, _LastWins, _Conflicts, _ReplacesAll, _ReplacesNothing, _NoConditions],
)
async def test_an_unfit_store_passes(kind: type[MemoryStore]) -> None:
    """A store in which a version could get lost is refused, with what to do; nothing is left in it."""
    store = kind(TestClock())
    with pytest.raises(Unconditional, match="If-None-Match"):
        await probe(store, TestClock())
    assert [stat async for stat in store.list("")] == []


async def test_a_store_that_has_what_it_has_not_is_for_a_single_writer() -> None:
    """Where a missing key reads as one that is there, nobody can write, alone or not."""
    with pytest.raises(StoreUnfit, match="not there") as met:
        await probe(_AlwaysThere(TestClock()), TestClock())
    assert not isinstance(met.value, Unconditional)


@pytest.mark.parametrize(
    ("address", "told", "untold"),
    [
        ("s3://b?endpoint_url=http://h", "commit=single-writer", "gs://bucket"),
        ("s3://b?endpoint_url=https://storage.googleapis.com", "gs://bucket", "newer"),
        ("gs://b", "newer", "single-writer"),
    ],
)
async def test_a_refusal_leaves_the_user_alone(address: str, told: str, untold: str) -> None:
    """The sentence says why, and what else there is at this server."""
    with pytest.raises(Unconditional, match="two writers") as met:
        await probe(_Unconditional(TestClock(), address), TestClock())
    assert told in str(met.value)
    assert untold not in str(met.value)


@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.LOSE_REQUEST, Fault.CONFLICT])
async def test_a_lost_replace_makes_a_store_unfit(fault: Fault) -> None:
    """Where a replace got no answer, nothing is said of the store."""
    store = FaultyStore(MemoryStore(TestClock()))
    store.plan("put_if_match", fault)
    with pytest.raises(StoreUnavailable):
        await probe(store, TestClock())


@pytest.mark.parametrize("lost", [1, 5, 16])
async def test_a_missing_answer_passes_for_a_verdict(lost: int) -> None:
    """Who got no answer asks again; the one that had won without hearing of it is found."""
    store = FaultyStore(MemoryStore(TestClock()))
    for _ in range(lost):
        store.plan("put_if_absent", Fault.LOSE_ANSWER)
    await probe(store, TestClock())
    assert [stat async for stat in store.list("")] == []


class _TakesAll(MemoryStore):
    """Takes every create, and answers only the first."""

    def __init__(self) -> None:
        super().__init__(TestClock())
        self.heard: set[bytes] = set()

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if not self.heard:
            self.heard.add(body)
            return await super().put_if_absent(key, body)
        if body in self.heard:
            raise ObjectExists(key)
        self.heard.add(body)
        await self.put(key, body)
        raise OutcomeUnknown("lost")


async def test_a_second_winner_hides_behind_a_missing_answer() -> None:
    """Two creates that took effect, one of them unheard: unfit."""
    with pytest.raises(StoreUnfit, match="other bytes"):
        await probe(_TakesAll(), TestClock())


class _Silent(MemoryStore):
    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise OutcomeUnknown("nothing")


async def test_a_store_that_says_nothing_is_unfit() -> None:
    """Where no answer comes at all, nothing is said of the store."""
    with pytest.raises(OutcomeUnknown):
        await probe(_Silent(TestClock()), TestClock())


async def test_missing_rights_pass_for_a_verdict() -> None:
    """A store that may not be written is not unfit, but closed."""
    with pytest.raises(AccessRefused):
        await probe(_Refuses(TestClock()), TestClock())


class _Breaks(MemoryStore):
    """Meets what nobody expected, in every create."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise RuntimeError("can't start new thread")


async def test_a_defect_hides_in_a_group() -> None:
    """What nobody expected comes out as itself, and so does what is told of a group of errors."""
    with pytest.raises(RuntimeError, match="new thread"):
        await probe(_Breaks(TestClock()), TestClock())
    inner = ExceptionGroup("two", [RuntimeError("can't start new thread"), OSError()])
    told = note_defect(ExceptionGroup("unhandled errors in a TaskGroup", [inner]), "a test")
    assert "RuntimeError: can't start new thread" in told.message


async def test_what_a_kill_left_stays() -> None:
    """The key of a probe that was killed is removed by the next one; one that may be going on, and whatever
    else lies there, is left alone.
    """
    clock = TestClock()
    store = MemoryStore(clock)
    old, young = (f"wherry-probe-{letter * 32}" for letter in "ab")
    others = {"a/b", "wherry-probe", "wherry-probe-x/blobs/y", f"{old}/blobs/y", "wherry.json"}
    for key in (old, *others):
        await store.put_if_absent(key, b"0")
    clock.time += 3601
    await store.put_if_absent(young, b"0")
    await probe(store, clock)
    assert {stat.key async for stat in store.list("")} == {young, *others}


async def test_a_store_that_can_not_be_swept_is_unfit() -> None:
    """The sweep is a courtesy: its failure says nothing of the store."""
    store = FaultyStore(MemoryStore(TestClock()))
    store.plan("list", Fault.UNAVAILABLE)
    await probe(store, TestClock())


async def test_a_conflict_passes_for_a_win() -> None:
    """Losers may be told 409."""
    store = FaultyStore(MemoryStore(TestClock()))
    store.plan("put_if_absent", *[Fault.CONFLICT] * 15)
    await probe(store, TestClock())
    assert store.calls["put_if_absent"] == 16
