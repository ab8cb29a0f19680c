"""From prepared to uploaded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import OTHER, STORE, Bench, digest
from wherry.errors import AccessRefused, StoreMissing, StoreUnavailable, WherryError
from wherryd.model import Entry, FileStat, Lane, Manifest, Source, State
from wherryd.prepare.packs import SMALL_BYTES
from wherryd.progress import Progress
from wherryd.queue.base import Request
from wherryd.registry import layout
from wherryd.registry.small_manifest import FEW_ENTRIES
from wherryd.stores.base import Body, FileBody, Found, ObjectMissing, ObjectStat
from wherryd.transfer.items import Item
from wherryd.transfer.slots import LARGE_BYTES, Slots
from wherryd.transfer.stage import Transferrer


class WatchedStore(MemoryStore):
    """Counts puts, fails on demand, and holds puts back until ``gate`` is open."""

    def __init__(self, bench: Bench, address: str = STORE) -> None:
        super().__init__(bench.clock, address)
        self.puts: Counter[str] = Counter()
        self.heads: Counter[str] = Counter()
        self.failure: WherryError | None = None
        self.gate = anyio.Event()
        self.gate.set()
        self.middle = anyio.Event()  # what holds blobs back when half of them has left
        self.middle.set()
        self.waiting = anyio.Event()
        self.synced: list[str] = []
        bench.stores[address] = self
        bench.memory[address] = self

    async def head(self, key: str) -> ObjectStat:
        self._check()
        self.heads[key] += 1
        return await super().head(key)

    async def put(self, key: str, body: Body) -> None:
        self.waiting.set()
        await self.gate.wait()
        if isinstance(body, FileBody) and "/blobs/" in key:
            body.told(body.size // 2)
            await self.middle.wait()
        self._check()
        self.puts[key] += 1
        await super().put(key, body)

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        self.synced += keys
        return await super().sync(keys, witness)

    def blobs(self) -> list[int]:
        """How often each blob was put."""
        return [count for key, count in self.puts.items() if "/blobs/" in key]

    def packs(self) -> list[int]:
        """How often each pack was put."""
        return [count for key, count in self.puts.items() if "/packs/" in key]

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def store(bench: Bench) -> WatchedStore:
    """The bench's store, watched."""
    return WatchedStore(bench)


async def _uploaded(bench: Bench, request: Request) -> Request:
    return await bench.wait_state(request, State.UPLOADED)


async def test_uploaded_request_lacks_bytes(bench: Bench, store: WatchedStore) -> None:
    """All that a version names is in the store, synced and noted, before the request is uploaded."""
    files = {"a": b"first", "b": b"second", "empty": b"", "same": b"first"}
    request = await bench.log(files)
    bench.preparer()
    bench.transferrer()
    done = await _uploaded(bench, request)
    registry = bench.registry()
    assert done.manifest
    entries = [entry async for entry in registry.open_manifest("cats", done.manifest)]
    read = {
        entry.path: b"".join([chunk async for chunk in registry.open_entry("cats", entry)])
        for entry in entries
    }
    assert read == files
    assert (store.blobs(), store.packs()) == ([], [1])
    assert set(store.puts) <= set(store.synced)
    digests = [digest(data) for data in files.values() if data]
    assert (await bench.queue.places(request.lane, digests)).keys() == set(digests)


async def test_known_bytes_are_sent_again(bench: Bench, store: WatchedStore) -> None:
    """Bytes that the store has are not sent twice, whether the queue knows it or the store says so."""
    bench.preparer()
    bench.transferrer()
    await _uploaded(bench, await bench.log({"a": b"one", "b": b"two"}, name="first"))
    large = b"three" * 10_000
    await bench.registry().put_blob("cats", digest(large), _body(bench, large))
    before = store.puts.copy()
    second = await bench.log({"x": b"two", "y": large}, name="second")
    done = await _uploaded(bench, second)
    assert [key for key in store.puts - before if "/blobs/" in key] == []
    assert done.manifest


async def test_a_few_bytes_cost_a_question(bench: Bench, store: WatchedStore) -> None:
    """What costs no more to put than to ask for is put."""
    bench.preparer()
    bench.transferrer()
    before = store.heads.copy()
    await _uploaded(bench, await bench.log({"a": b"a few"}))
    assert [key for key in store.heads - before if "/blobs/" in key] == []


def _body(bench: Bench, data: bytes) -> FileBody:
    file = bench.root / "body"
    file.write_bytes(data)
    return FileBody(str(file), 0, len(data), bytes.fromhex(digest(data)[7:]))


async def test_further_parts_take_what_others_wait_for() -> None:
    """A large body's further pieces take what is free of its share, and nothing that somebody waits for."""
    slots = Slots(4)  # three of them for large bodies
    await slots.take("large", LARGE_BYTES)
    assert [slots.take_further() for _ in range(3)] == [True, True, False]
    await slots.take("small", 1)
    async with anyio.create_task_group() as group:
        group.start_soon(slots.take, "other", 1)
        await anyio.wait_all_tasks_blocked()
        slots.give_further()
        assert not slots.take_further()
        with anyio.fail_after(10):
            await anyio.wait_all_tasks_blocked()
    slots.give_back("other", 1)
    assert slots.take_further()
    assert not slots.take_further()


async def test_two_requests_send_the_same_bytes_at_once(bench: Bench, store: WatchedStore) -> None:
    """The same bytes, needed by two requests at once, go once."""
    store.gate = anyio.Event()
    bench.preparer()
    bench.transferrer()
    small = {"a": b"shared" * 5000, "b": b"own"}
    requests = [
        await bench.log({**small, "c": b"large" * SMALL_BYTES}, name=name) for name in "xyz"
    ]
    with anyio.fail_after(10):
        await store.waiting.wait()
    store.gate.set()
    for request in requests:
        await _uploaded(bench, request)
    assert (store.blobs(), store.packs()) == ([1], [1])


async def test_failed_transfer_of_shared_bytes_is_trusted(
    bench: Bench, store: WatchedStore
) -> None:
    """If the one who sends shared bytes fails, the other sends them."""
    store.gate = anyio.Event()
    bench.preparer()
    bench.transferrer()
    first = await bench.log({"a": b"shared"}, name="first")
    with anyio.fail_after(10):
        await store.waiting.wait()
    second = await bench.log({"a": b"shared"}, name="second")
    await bench.wait_state(second, State.PREPARED)
    await bench.queue.cancel(first.row)
    store.gate.set()
    await _uploaded(bench, second)
    assert (await bench.queue.get(first.row)).state is State.CANCELLED
    assert await bench.registry().has_blob("cats", digest(b"shared"), 6)


@pytest.mark.parametrize("kind", [StoreUnavailable, AccessRefused, StoreMissing])
async def test_store_trouble_fails_the_request(
    bench: Bench, store: WatchedStore, kind: type[WherryError]
) -> None:
    """What concerns the store is waited for, with its class as the reason, and forgotten after."""
    bench.preparer()
    stage = bench.transferrer()
    await _uploaded(bench, await bench.log({"a": b"0"}, name="zero"))
    store.failure = kind("the store says no")
    request = await bench.log({"a": b"1"})
    if kind is StoreUnavailable:  # repeated a few times below the stage
        await _let_pauses_pass(bench, stage)
    waiting = await bench.wait_row(request, lambda now: (now.next_try or 0) > bench.clock.now())
    assert (waiting.state, waiting.error) == (State.PREPARED, kind.__name__)
    assert "the store says no" in waiting.reason
    assert stage.troubles.of(Lane(STORE, "cats", "model"))
    store.failure = None
    bench.clock.advance(1)
    done = await _uploaded(bench, request)
    assert (done.error, done.next_try) == ("", None)


async def _let_pauses_pass(bench: Bench, stage: Transferrer) -> None:
    with anyio.fail_after(10):
        while stage.troubles.of(Lane(STORE, "cats", "model")) is None:
            bench.clock.advance(0.1)
            await bench.queue.counts()


async def test_one_stores_trouble_stops_another(bench: Bench, store: WatchedStore) -> None:
    """While one store is away with more requests than there are places, another goes on."""
    store.failure = AccessRefused("no")
    bench.preparer()
    bench.transferrer()
    stuck = [await bench.log({"a": b"1"}, name=f"stuck{number}") for number in range(100)]
    for request in stuck:
        await bench.wait_state(request, State.PREPARED)
    await _uploaded(bench, await bench.log({"a": b"1"}, name="free", store=OTHER))
    assert (await bench.states())["stuck0"] is State.PREPARED


async def test_new_credentials_wait_for_the_pause(bench: Bench, store: WatchedStore) -> None:
    """A nudge sets going at once what waits for a store."""
    store.failure = AccessRefused("no")
    bench.preparer()
    stage = bench.transferrer()
    request = await bench.log({"a": b"1"})
    await bench.wait_row(request, lambda now: now.error)
    store.failure = None
    stage.nudge(STORE)
    assert (await _uploaded(bench, request)).error == ""


async def test_changed_bytes_are_uploaded(bench: Bench, store: WatchedStore) -> None:
    """Bytes that are not what was hashed fail their request alone, and no blob bears their name."""
    bench.preparer()
    bad, good = await bench.log({"a": b"hashed"}, name="bad"), None
    await bench.wait_state(bad, State.PREPARED)
    bench.file_of(bad).write_bytes(b"change")
    good = await bench.log({"a": b"fine"}, name="good")
    bench.transferrer()
    await _uploaded(bench, good)
    failed = await bench.wait_state(bad, State.FAILED)
    assert failed.error == "FileChanged"
    assert not await bench.registry().has_blob("cats", digest(b"hashed"), 6)


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
async def test_damaged_manifest_is_sent(bench: Bench, store: WatchedStore, damage: str) -> None:
    """A manifest's file that is not what was made fails the request, and is not sent."""
    bench.preparer()
    many = {f"{number:02}": b"" for number in range(FEW_ENTRIES)}
    bad = await bench.log({"a": b"1", **many}, name="bad")
    await bench.wait_state(bad, State.PREPARED)
    file = bench.manifests / f"{bad.row}.zst"
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    else:
        good = await bench.wait_state(
            await bench.log({"b": b"2", **many}, name="good"), State.PREPARED
        )
        file.write_bytes((bench.manifests / f"{good.row}.zst").read_bytes())
    bench.transferrer()
    failed = await bench.wait_state(bad, State.FAILED)
    assert failed.error == ("FileMissing" if damage == "gone" else "FileChanged")
    assert failed.manifest
    with pytest.raises(ObjectMissing):
        await store.head(layout.manifest_key("cats", failed.manifest))


async def test_a_small_manifest_fails_after_an_upgrade(bench: Bench) -> None:
    """Where the entries come to another manifest than was noted, it is made again, and that one is sent."""
    request = await bench.log({"a": b"1"})
    other = Manifest(digest(b"as another Wherry wrote it"), digest(b"entries"), 1, 1)
    await bench.queue.prepared(request.row, other, digest(b"content"), [("a", digest(b"1"), 1)])
    bench.transferrer()
    bench.preparer()
    done = await _uploaded(bench, request)
    assert done.manifest not in (None, other.manifest)
    assert [each.path async for each in bench.registry().open_manifest("cats", done.manifest or "")]


async def test_first_contact_is_made_twice(bench: Bench, store: WatchedStore) -> None:
    """A new store gets one id and one probe, however many requests come at once."""
    bench.preparer()
    bench.transferrer()
    requests = [await bench.log({"a": name.encode()}, name=name) for name in "uvwxyz"]
    for request in requests:
        await _uploaded(bench, request)
    identity = await bench.registry().identify()
    assert identity is not None
    assert await bench.queue.store_id(STORE) == identity.store
    assert await bench.queue.probed(STORE)


async def test_store_that_ignores_conditions_is_used(bench: Bench) -> None:
    """A store that lets several racing creates win is refused, with that as the reason."""

    class Careless(WatchedStore):
        async def put_if_absent(self, key: str, body: bytes) -> str:
            await self.put(key, body)
            return "etag"

    careless = Careless(bench)
    bench.preparer()
    bench.transferrer()
    waiting = await bench.wait_row(await bench.log({"a": b"1"}), lambda now: now.error)
    assert waiting.error == "StoreUnfit"
    assert careless.blobs() == []
    assert not await bench.queue.probed(STORE)


ALONE = "s3://bucket?commit=single-writer"


class Ignorant(MemoryStore):
    """Knows no conditions."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        await self.put(key, body)
        return "etag"


async def test_a_promise_binds_where_it_is_not_needed(bench: Bench) -> None:
    """Where a store honours conditions, the user's promise changes nothing: nobody's name is left there."""
    bench.stores[ALONE] = store = MemoryStore(bench.clock, ALONE)
    bench.preparer()
    bench.transferrer()
    await _uploaded(bench, await bench.log({"a": b"1"}, store=ALONE))
    assert await bench.queue.probed(ALONE)
    with pytest.raises(ObjectMissing):
        await store.head(layout.WRITER)


async def test_a_promise_is_forgotten(bench: Bench) -> None:
    """Where it honours none, this home becomes its writer, each time that nobody is; it is not taken for
    one that passed the probe.
    """
    bench.stores[ALONE] = store = Ignorant(bench.clock, ALONE)
    bench.preparer()
    bench.transferrer()
    await _uploaded(bench, await bench.log({"a": b"1"}, store=ALONE))
    assert not await bench.queue.probed(ALONE)
    await store.delete(layout.WRITER)
    bench.clock.advance(60)
    await _uploaded(bench, await bench.log({"a": b"2"}, store=ALONE))
    assert (await store.get(layout.WRITER)).body


async def test_leaving_stage_cuts_off_a_put(bench: Bench, store: WatchedStore) -> None:
    """A leaving stage lets the bodies in flight arrive, sends no more, and keeps the request."""
    store.gate = anyio.Event()
    bench.preparer()
    stage = bench.transferrer(at_once=1)
    request = await bench.log({f"{number}": os.urandom(8) for number in range(10)})
    with anyio.fail_after(10):
        await store.waiting.wait()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.crew.leave)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    assert (await bench.queue.get(request.row)).state is State.PREPARED
    assert sum(store.puts.values()) == 1


async def test_progress_stays_at_nothing(bench: Bench, store: WatchedStore) -> None:
    """Bytes done grow while a file is on its way, and are forgotten when it is there."""
    bench.preparer()
    large, part = b"x" * 4 * SMALL_BYTES, SMALL_BYTES
    request = await bench.log({"a": large, "b": b"y" * 2 * part, "c": large})
    await bench.wait_state(request, State.PREPARED)
    store.middle = anyio.Event()
    stage = bench.transferrer()
    await _wait_done(bench, request, (4 + 2 + 1) * part)
    store.failure = AccessRefused("no")
    store.middle.set()
    await bench.wait_row(request, lambda now: now.error)
    store.failure, store.middle = None, anyio.Event()
    stage.nudge(STORE)
    await _wait_done(bench, request, (4 + 2 + 1) * part)
    store.middle.set()
    await _uploaded(bench, request)
    await _wait_done(bench, request, None)


async def _wait_done(bench: Bench, request: Request, done_bytes: int | None) -> None:
    with anyio.fail_after(10):
        while bench.progress.done(request.row) != done_bytes:
            await anyio.lowlevel.checkpoint()


def test_bytes_that_never_leave_the_spool_leave_it() -> None:
    """Of files on their way those count that the spool holds, until they have arrived or failed."""
    progress = Progress()
    progress.start(7, is_sending=True)
    with progress.moving(7, is_spooled=True) as captured, progress.moving(7) as in_place:
        captured(30)
        in_place(500)
        assert progress.moving_spooled() == 30
        captured(40)
        assert progress.moving_spooled() == 40
    assert progress.moving_spooled() == 0


def test_a_users_own_file_leaves_the_spool() -> None:
    """The spool is rid of what only it has: neither of a file in place, nor of another name of the user's."""
    digest, stat = "sha256:" + "0" * 64, FileStat(1, 2, 3, 4)
    sources = [Source("s/x", 0), Source("", 0, None, b"abc"), Source("s/x", 0, stat), None]
    entries = [Entry("a", 3, digest, source) for source in sources]
    items = [Item(digest, 3, (entry,), 3) for entry in entries]
    assert [item.is_spooled for item in items] == [True, True, False, False]
    assert not Item("pack:0", 6, (entries[0], entries[2]), 6, "0").is_spooled


def test_progress_of_a_step_is_kept() -> None:
    """A count belongs to the step that runs; late additions to one that ended are dropped."""
    progress = Progress()
    progress.start(7)
    progress.add(7, 100)
    progress.add(7, 20)
    assert progress.done(7) == 120
    progress.end(7)
    progress.add(7, 5)
    assert progress.done(7) is None
