"""Which faults are met by trying again, and which never."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.faulty import Fault, FaultyStore
from tests.support.memory import MemoryStore
from tests.unit.stores.helpers import TestClock
from wherry.errors import StoreUnavailable
from wherryd.stores.base import (
    Body,
    ObjectMissing,
    ObjectStore,
    StepsFailed,
    WriteConflict,
)
from wherryd.stores.retry import Policy, Retried, RetryingStore

Verb = Callable[[ObjectStore], Awaitable[object]]
REPEATED: dict[str, Verb] = {
    "get": lambda store: store.get("there"),
    "head": lambda store: store.head("there"),
    "put": lambda store: store.put("there", b"new"),
    "delete": lambda store: store.delete("there"),
    "sync": lambda store: store.sync(["there"], "there"),
    "get_all": lambda store: store.get_all(["there"]),
}
CONDITIONAL: dict[str, Verb] = {
    "put_if_absent": lambda store: store.put_if_absent("new", b"x"),
    "put_if_match": lambda store: store.put_if_match("there", b"x", "etag"),
}


async def _stores(
    clock: TestClock | None = None, told: list[Retried] | None = None
) -> tuple[RetryingStore, FaultyStore]:
    clock = clock or TestClock()
    faulty = FaultyStore(MemoryStore(clock))
    await faulty.put("there", b"x" * 10)
    faulty.calls.clear()
    heard = told if told is not None else []
    return RetryingStore(faulty, clock, told=heard.append), faulty


@pytest.mark.parametrize("verb", REPEATED)
async def test_a_short_fault_gets_through(verb: str) -> None:
    """Reads, plain puts, deletes and syncs go through three faults in a row."""
    store, faulty = await _stores()
    faulty.plan(verb, Fault.UNAVAILABLE, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER)
    await REPEATED[verb](store)
    assert faulty.calls[verb] == 4


@pytest.mark.parametrize("verb", REPEATED)
async def test_a_long_fault_is_met_for_ever(verb: str) -> None:
    """After the fourth fault the last error comes through."""
    store, faulty = await _stores()
    faulty.plan(verb, *[Fault.UNAVAILABLE] * 3, Fault.LOSE_REQUEST, Fault.UNAVAILABLE)
    with pytest.raises(StoreUnavailable, match="lost"):
        await REPEATED[verb](store)
    assert faulty.calls[verb] == 4


@pytest.mark.parametrize("verb", CONDITIONAL)
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOSE_REQUEST, Fault.CONFLICT])
async def test_a_conditional_put_is_repeated(verb: str, fault: Fault) -> None:
    """A conditional put is sent once, whatever comes of it."""
    store, faulty = await _stores()
    faulty.plan(verb, fault)
    with pytest.raises((StoreUnavailable, WriteConflict)):
        await CONDITIONAL[verb](store)
    assert faulty.calls[verb] == 1


async def test_an_answer_is_taken_for_a_fault() -> None:
    """What the store says is no fault and is not asked again."""
    store, faulty = await _stores()
    with pytest.raises(ObjectMissing):
        await store.get("nowhere")
    assert faulty.calls["get"] == 1


class _Patient(MemoryStore):
    """Repeats the steps of a put by itself."""

    puts = 0

    async def put(self, key: str, body: Body) -> None:
        self.puts += 1
        raise StepsFailed(key)


async def test_what_was_repeated_below_is_repeated_again() -> None:
    """A put whose steps were repeated in vain is not begun anew at once."""
    inner = _Patient(TestClock())
    with pytest.raises(StepsFailed):
        await RetryingStore(inner, TestClock()).put("there", b"x")
    assert inner.puts == 1


async def test_pauses_do_not_grow_or_have_no_jitter() -> None:
    """Each pause is random below a bound that doubles, up to a longest one; all are told."""
    clock, told = TestClock(chance=0.25), []
    store, faulty = await _stores(clock, told)
    faulty.plan("get", *[Fault.UNAVAILABLE] * 3)
    await store.get("there")
    assert clock.slept == pytest.approx([0.05, 0.1, 0.2])
    assert [(one.what, one.failed, one.pause_s) for one in told] == [
        ("get there", 1, pytest.approx(0.05)),
        ("get there", 2, pytest.approx(0.1)),
        ("get there", 3, pytest.approx(0.2)),
    ]
    assert Policy().bound_s(30) == Policy().longest_s


async def test_a_stream_begins_again() -> None:
    """A stream that breaks off goes on where it was; each piece resets the count of faults."""
    store, faulty = await _stores()
    content = bytes(range(200)) * 10
    await faulty.put("long", content)
    faulty.plan("stream", *[Fault.UNAVAILABLE] * 7)
    assert b"".join([chunk async for chunk in store.stream("long")]) == content
    assert faulty.calls["stream"] == 8
    faulty.plan("stream", *[Fault.UNAVAILABLE] * 2)
    assert b"".join([c async for c in store.stream("long", 100, 1000)]) == content[100:1100]
    for offset, size in ((0, None), (100, 1000)):
        faulty.plan("stream", *[Fault.UNAVAILABLE] * 7)
        found = bytearray()
        await store.stream_to("long", offset, size, found.extend)
        assert found == content[offset : None if size is None else offset + size]


@pytest.mark.parametrize("faults", [0, 1, 3])
async def test_a_listing_leaves_out_or_repeats(faults: int) -> None:
    """A listing that breaks off goes on after its last object."""
    store, faulty = await _stores()
    keys = ["p/a-b", "p/a/1", "p/a/2", "p/b", "p/c/1"]
    for key in keys:
        await faulty.put(key, b"x")
    faulty.plan("list", *[Fault.UNAVAILABLE] * faults)
    assert [stat.key async for stat in store.list("p/")] == keys
    faulty.plan("scan", *[Fault.UNAVAILABLE] * faults)
    assert [stat.key async for stat in store.scan("p/")] == keys
    faulty.plan("list_folders", *[Fault.UNAVAILABLE] * min(faults, 2))
    assert [name async for name in store.list_folders("p/")] == ["a", "c"]
