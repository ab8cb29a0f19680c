"""Another store at the address, for good or for a moment, while bytes go there."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import OTHER, STORE, Bench, digest
from wherry.errors import StoreUnavailable
from wherryd.model import State
from wherryd.prepare.packs import SMALL_BYTES
from wherryd.queue.base import Request
from wherryd.stores.base import Body, Found, Object
from wherryd.transfer.contact import FRESH_S


class TwoStores(MemoryStore):
    """An address at which one of two stores lies. Puts wait while ``gate`` is closed."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self._away: dict[str, Object] = {}
        self.gate = anyio.Event()
        self.gate.set()
        self.waiting = anyio.Event()
        self.to_fail = 0
        #: Exchanged once more before the next ``sync``.
        self.comes_back = False
        bench.stores[STORE] = self
        bench.memory[STORE] = self

    def exchange(self) -> None:
        """Put the one in the other's place."""
        self._objects, self._away = self._away, self._objects

    def close(self) -> None:
        """Let puts wait from now on."""
        self.gate, self.waiting = anyio.Event(), anyio.Event()

    async def put(self, key: str, body: Body) -> None:
        if self.to_fail:
            self.to_fail -= 1
            raise StoreUnavailable("503")
        self.waiting.set()
        await self.gate.wait()
        await super().put(key, body)

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        if self.comes_back:
            self.comes_back = False
            self.exchange()
        return await self.see(keys, witness)

    async def see(self, keys: Sequence[str], witness: str) -> Found:
        """What ``sync`` tells."""
        return await super().sync(keys, witness)

    def blobs(self) -> set[str]:
        """The digests of blobs in the store that lies there now."""
        return {f"sha256:{key.rpartition('/')[2]}" for key in self._objects if "/blobs/" in key}


class Bucket(TwoStores):
    """Does not look at keys in ``sync``, as an object store does not."""

    async def see(self, keys: Sequence[str], witness: str) -> Found:
        return await super().see([], witness)


@pytest.fixture
def store(bench: Bench) -> TwoStores:
    """The bench's store, and the other."""
    return TwoStores(bench)


@pytest.fixture
def bucket(bench: Bench) -> Bucket:
    """The same of an object store."""
    return Bucket(bench)


async def _first(bench: Bench) -> None:
    """Make contact."""
    bench.preparer()
    await bench.wait_state(await bench.log({"a": b"first"}, name="first"), State.UPLOADED)


async def _put_held(bench: Bench, store: TwoStores, data: bytes) -> Request:
    """Log something, and return when it is about to be put."""
    store.close()
    request = await bench.log({"a": data})
    with anyio.fail_after(10):
        await store.waiting.wait()
    return request


async def _stopped(bench: Bench, request: Request) -> str:
    """Wait until the request's lane is stopped; why."""
    with anyio.fail_after(10), bench.news.watch(request.lane) as watch:
        while True:
            await watch.wait_news()
            if reason := (await bench.queue.stopped()).get(request.lane):
                # Another request of the lane may have been prepared first, and have stopped it.
                await bench.wait_state(request, State.PREPARED)
                return reason


async def _take_as_it_is(bench: Bench, store: TwoStores, request: Request) -> None:
    """What ``wherry retry`` does."""
    identity = await bench.registry().identify() or await bench.registry().found("new")
    await bench.queue.restart_lane(request.lane, identity.store, -1, "")


@pytest.mark.parametrize("there", ["nothing", "another"])
async def test_another_store_gets_bytes(bench: Bench, store: TwoStores, there: str) -> None:
    """Where another store lies than is known, or none, nothing is put or founded, and the lane stops."""
    bench.preparer()
    await bench.queue.set_store_id(STORE, "the-old-one", probed=True)
    if there == "another":
        await bench.registry().found("the-new-one")
    before = dict(store._objects)
    bench.transferrer()
    requests = [await bench.log({"a": b"%d" % number}) for number in range(3)]
    reason = await _stopped(bench, requests[0])
    assert reason == (
        f"at {STORE} is the store the-new-one, not the-old-one"
        if there == "another"
        else f"at {STORE} is no store, not the-old-one"
    )
    for request in requests:
        await bench.wait_state(request, State.PREPARED)
    await bench.wait_state(await bench.log({"a": b"1"}, store=OTHER), State.UPLOADED)
    assert store._objects == before
    assert await bench.queue.store_id(STORE) == "the-old-one"


async def test_stopped_lane_is_sent_after_a_start(bench: Bench, store: TwoStores) -> None:
    """A stopped lane stays stopped when the stage begins again, though its store is back."""
    bench.preparer()
    await bench.registry().found("one")
    await bench.queue.set_store_id(STORE, "one", probed=True)
    request = await bench.wait_state(await bench.log({"a": b"1"}), State.PREPARED)
    await bench.queue.stop_lane(request.lane, "why")
    stage = bench.transferrer()
    await bench.wait_state(await bench.log({"a": b"2"}, name="other"), State.UPLOADED)
    assert store.blobs() == {digest(b"2")}
    assert (await bench.queue.get(request.row)).state is State.PREPARED
    await _take_as_it_is(bench, store, request)
    stage.nudge(STORE)
    await bench.wait_state(request, State.UPLOADED)
    assert store.blobs() == {digest(b"1"), digest(b"2")}


@pytest.mark.parametrize("kind", ["store", "bucket"])
async def test_bytes_in_another_store_count_as_sent(
    bench: Bench, kind: str, request: pytest.FixtureRequest
) -> None:
    """A store that is exchanged while bytes go there stops the lane; what the other one got counts for
    nothing, and is sent again when the first is back and the user says so.
    """
    store: TwoStores = request.getfixturevalue(kind)
    stage = bench.transferrer()
    await _first(bench)
    logged = await _put_held(bench, store, b"second")
    store.exchange()
    store.gate.set()
    assert "is no store" in await _stopped(bench, logged)
    assert store.blobs() == {digest(b"second")}
    assert await bench.queue.sent_already(logged.lane, [digest(b"second")]) == set()
    store.exchange()
    await _take_as_it_is(bench, store, logged)
    stage.nudge(STORE)
    await bench.wait_state(logged, State.UPLOADED)
    assert store.blobs() == {digest(b"first"), digest(b"second")}
    assert await bench.queue.sent_already(logged.lane, [digest(b"second")]) == {digest(b"second")}


async def test_bytes_in_another_folder_count_as_sent(bench: Bench, store: TwoStores) -> None:
    """A folder that is back before anybody has looked has to hold all that was put."""
    bench.transferrer()
    await _first(bench)
    logged = await _put_held(bench, store, b"second")
    store.exchange()
    store.comes_back = True
    store.gate.set()
    waiting = await bench.wait_row(logged, lambda now: now.next_try)
    assert waiting.error == "StoreDamaged" and "is gone" in waiting.reason
    bench.clock.advance(1)
    await bench.wait_state(logged, State.UPLOADED)
    assert store.blobs() == {digest(b"first"), digest(b"second")}


@pytest.mark.parametrize("sign", ["an error", "time"])
async def test_bytes_in_another_bucket_count_as_sent(
    bench: Bench, bucket: Bucket, sign: str
) -> None:
    """Where an object store may have been another meanwhile, all is looked for before it counts."""
    bench.transferrer()
    await _first(bench)
    logged = await _put_held(bench, bucket, b"second")
    bucket.exchange()
    bucket.comes_back = True
    if sign == "an error":
        bucket.to_fail = 1
    bucket.gate.set()
    if sign == "an error":
        await bench.wait_row(logged, lambda now: now.error)
        bench.clock.advance(0.2)
    else:
        bucket.close()
        with anyio.fail_after(10):
            await bucket.waiting.wait()
        bench.clock.advance(FRESH_S)
        bucket.gate.set()
    await bench.wait_state(logged, State.UPLOADED)
    assert not bucket.comes_back
    assert bucket.blobs() == {digest(b"first"), digest(b"second")}


async def test_another_store_is_filled_to_the_end(bench: Bench, store: TwoStores) -> None:
    """Of a page that takes long, a store that has come meanwhile gets little, not all that is left."""
    stage = bench.transferrer(at_once=1)
    await _first(bench)
    store.close()
    logged = await bench.log({f"{number}": bytes([number]) * SMALL_BYTES for number in range(20)})
    with anyio.fail_after(10):
        await store.waiting.wait()
    store.exchange()
    bench.clock.advance(FRESH_S)
    store.gate.set()
    assert "is no store" in await _stopped(bench, logged)
    assert len(store.blobs()) <= 2
    store.exchange()
    await _take_as_it_is(bench, store, logged)
    stage.nudge(STORE)
    await bench.wait_state(logged, State.UPLOADED)
    assert len(store.blobs()) == 21


async def test_accepted_store_is_left_for_the_one_before(bench: Bench, store: TwoStores) -> None:
    """Bytes on their way to the store before are sent again to the one that the user has accepted."""
    stage = bench.transferrer()
    await _first(bench)
    logged = await _put_held(bench, store, b"second")
    store.exchange()
    await _take_as_it_is(bench, store, logged)
    stage.nudge(STORE)
    store.gate.set()
    await bench.wait_state(logged, State.UPLOADED)
    assert digest(b"second") in store.blobs()
    assert await bench.queue.stopped() == {}
    store.exchange()
    assert store.blobs() == {digest(b"first")}
