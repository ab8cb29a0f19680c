"""What a single writer does where a store honours no conditions, and what it notices of a second one."""

from __future__ import annotations

import pytest

from tests.support.faulty import Fault, FaultyStore
from tests.support.memory import MemoryStore
from tests.unit.stores.helpers import TestClock
from wherry.errors import StoreTaken, StoreUnavailable, StoreUnfit
from wherryd.registry import layout
from wherryd.registry.base import Writer
from wherryd.registry.sole import LATE_S, SoleWriter
from wherryd.stores.base import (
    Body,
    EtagMismatch,
    ObjectExists,
    ObjectMissing,
    OutcomeUnknown,
    WriteConflict,
)

ADDRESS = "s3://b?commit=single-writer"


class Ignorant(MemoryStore):
    """Honours no conditions; after a put something may happen, once."""

    def __init__(self, clock: TestClock) -> None:
        super().__init__(clock, ADDRESS)
        self.then: list[tuple[str, bytes]] = []

    async def put_if_absent(self, key: str, body: bytes) -> str:
        raise StoreUnfit("501")

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        raise StoreUnfit("501")

    async def put(self, key: str, body: Body) -> None:
        await super().put(key, body)
        while self.then:
            await super().put(*self.then.pop(0))


def writer(
    store: MemoryStore | FaultyStore, home: str, clock: TestClock | None = None
) -> SoleWriter:
    return SoleWriter(store, Writer(1, home, ADDRESS, f"{home}.host:/home"), clock or TestClock())


@pytest.fixture
def store() -> Ignorant:
    """A store without conditions."""
    return Ignorant(TestClock())


async def test_a_create_or_a_replace_hits_what_is_there(store: Ignorant) -> None:
    """One writer creates a key once and replaces only what it has read, without any condition."""
    one = writer(store, "one")
    await one.claim()
    etag = await one.put_if_absent("k", b"1")
    assert etag == (await store.head("k")).etag
    with pytest.raises(ObjectExists):
        await one.put_if_absent("k", b"1")
    newer = await one.put_if_match("k", b"2", etag)
    for key, old in (("k", etag), ("nowhere", newer)):
        with pytest.raises(EtagMismatch):
            await one.put_if_match(key, b"3", old)
    assert (await store.get("k")).body == b"2"


async def test_two_homes_write(store: Ignorant) -> None:
    """Who comes second is told who writes, where, and how to take its place; that done, it does."""
    await writer(store, "one").claim()
    two = writer(store, "two")
    for attempt in (two.claim, two.is_claimed, lambda: two.put_if_absent("k", b"1")):
        with pytest.raises(StoreTaken, match=r"one\.host:/home(.|\n)*wherry-writer\.json"):
            await attempt()
    with pytest.raises(ObjectMissing):
        await store.get("k")
    await store.delete(layout.WRITER)
    await two.put_if_absent("k", b"2")
    with pytest.raises(StoreTaken, match=r"two\.host:/home"):
        await writer(store, "one").put_if_absent("other", b"1")


async def test_one_home_writes_under_two_addresses(store: Ignorant) -> None:
    """Two addresses of one place are two queues' lanes: the home itself is refused at the second."""
    await writer(store, "one").claim()
    me = Writer(1, "one", "s3://b?commit=single-writer&region=r", "one.host:/home")
    with pytest.raises(StoreTaken, match="Use that address"):
        await SoleWriter(store, me, TestClock()).put_if_absent("k", b"1")


async def test_two_claims_at_once_are_both_believed(store: Ignorant) -> None:
    """Of two homes that claim at once the last to write its name is the writer; the other is told at once, or
    before its next write.
    """
    theirs = Ignorant(TestClock())
    await writer(theirs, "two").claim()
    named = (layout.WRITER, (await theirs.get(layout.WRITER)).body)
    store.then = [named]
    one = writer(store, "one")
    with pytest.raises(StoreTaken):
        await one.claim()
    await store.delete(layout.WRITER)
    await one.claim()
    await store.put(*named)
    with pytest.raises(StoreTaken):
        await one.put_if_absent("k", b"1")
    with pytest.raises(ObjectMissing):
        await store.get("k")


async def test_a_second_writer_in_between_is_not_noticed(store: Ignorant) -> None:
    """Who is overtaken between its look and its put is told after it."""
    one = writer(store, "one")
    await one.claim()
    theirs = (await store.get(layout.WRITER)).body.replace(b'"one"', b'"two"')
    store.then = [(layout.WRITER, theirs)]
    with pytest.raises(StoreTaken):
        await one.put_if_absent("k", b"1")


async def test_other_bytes_pass_for_ones_own(store: Ignorant) -> None:
    """A write counts when it is read back."""
    one = writer(store, "one")
    await one.claim()
    store.then = [("k", b"another's")]
    with pytest.raises(OutcomeUnknown):
        await one.put_if_absent("k", b"1")


async def test_a_late_put_lands_on_a_later_one(store: Ignorant) -> None:
    """Where a put got no answer, its key takes only the same bytes until it can't arrive any more."""
    clock, faulty = TestClock(), FaultyStore(store)
    one = writer(faulty, "one", clock)
    await one.claim()
    etag = await one.put_if_absent("k", b"1")
    faulty.plan("put", Fault.LOSE_REQUEST)
    with pytest.raises(OutcomeUnknown):
        await one.put_if_match("k", b"late", etag)
    now = (await store.head("k")).etag
    with pytest.raises(StoreUnavailable, match="may still arrive") as met:
        await one.put_if_match("k", b"later", now)
    assert met.value.retry_after_s == LATE_S
    await one.put_if_absent("another key", b"1")
    await one.put_if_match("k", b"late", now)  # what it would bring
    clock.time += LATE_S
    await one.put_if_match("k", b"later", (await store.head("k")).etag)
    assert (await store.get("k")).body == b"later"


async def test_what_has_arrived_is_waited_for(store: Ignorant) -> None:
    """A put without an answer that is there can't arrive once more: the next one needs not wait."""
    faulty = FaultyStore(store)
    one = writer(faulty, "one")
    await one.claim()
    faulty.plan("put", Fault.LOSE_ANSWER)
    with pytest.raises(OutcomeUnknown):
        await one.put_if_absent("k", b"1")
    await one.put_if_match("k", b"2", (await store.head("k")).etag)
    assert (await store.get("k")).body == b"2"


async def test_what_the_store_has_refused_is_waited_for() -> None:
    """A put that the store itself answers with an error (500) does not arrive later."""

    class Failing(Ignorant):
        fails = False

        async def put(self, key: str, body: Body) -> None:
            if self.fails:
                failed = OutcomeUnknown("500 InternalError")
                failed.may_arrive = False
                raise failed
            await super().put(key, body)

    failing = Failing(TestClock())
    one = writer(failing, "one")
    await one.claim()
    failing.fails = True
    with pytest.raises(OutcomeUnknown):
        await one.put_if_absent("k", b"1")
    failing.fails = False
    await one.put_if_absent("k", b"2")


async def test_two_tasks_write_one_key(store: Ignorant) -> None:
    """While a write of a key is under way in this process, another one is put off."""
    faulty = FaultyStore(store)
    one = writer(faulty, "one")
    await one.claim()
    with one._alone_at("k"), pytest.raises(WriteConflict):
        await one.put_if_absent("k", b"1")
    await one.put_if_absent("k", b"1")


async def test_the_option_changes_a_store_with_conditions() -> None:
    """Where nobody is named the store has passed the probe: conditions decide, for any number of homes."""
    store = MemoryStore(TestClock(), ADDRESS)
    etag = await writer(store, "one").put_if_absent("k", b"1")
    with pytest.raises(ObjectExists):
        await writer(store, "two").put_if_absent("k", b"2")
    await writer(store, "two").put_if_match("k", b"2", etag)
    assert [stat.key async for stat in store.list("")] == ["k"]
