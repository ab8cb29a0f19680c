"""What another machine has put into an artifact's latest version is pointed at, and not sent again."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
import zstandard

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import OTHER, STORE, Bench, digest, opened_bench
from tests.unit.daemon.test_looking import read, start_commit
from wherry.errors import AccessRefused, StoreUnavailable, WherryError
from wherryd.model import Entry, Lane, RunInfo, State, Tombstone, VersionRecord
from wherryd.queue.base import Request
from wherryd.registry.manifest import ManifestWriter
from wherryd.stores.base import Body, FileBody, ObjectStat
from wherryd.transfer import latest, stage
from wherryd.transfer.contact import FRESH_S, Contact
from wherryd.transfer.latest import ENTRY_BYTES, PAGE, Latest, is_worth_it

#: Too large for a pack.
LARGE = random.Random(0).randbytes((1 << 20) + 1)
FILES = {f"{n:04}": b"file %d" % n * 30 for n in range(50)}


class Shared(MemoryStore):
    """The store of both homes: says what was put, listed and read, and fails on demand."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self.puts: dict[str, int] = {}  # bytes by key
        self.listed = 0
        self.read: list[str] = []
        self.failure: WherryError | None = None

    async def put(self, key: str, body: Body) -> None:
        self.puts[key] = len(body) if isinstance(body, bytes) else body.size
        await super().put(key, body)

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        self.listed += prefix.endswith("/versions/")
        async for stat in super().list(prefix, start_after):
            yield stat

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        self.read.append(key)
        if self.failure is not None:
            raise self.failure
        async for chunk in super().stream(key, offset, size):
            yield chunk

    def sent(self) -> int:
        """Bytes of packs and blobs that were put since the last call."""
        puts, self.puts = self.puts, {}
        return sum(size for key, size in puts.items() if "/manifests/" not in key)

    def lose(self, kind: str) -> None:
        """Lose all packs, say."""
        for key in [key for key in self._objects if f"/{kind}/" in key]:
            del self._objects[key]

    def change(self, kind: str, how: Callable[[bytes], bytes]) -> None:
        """Let all manifests, say, be others than they were."""
        for key in [key for key in self._objects if f"/{kind}/" in key]:
            self._write(key, how(self._objects[key].body))


def _cut(data: bytes) -> bytes:
    return data[:-9]


def _misled(data: bytes) -> bytes:
    """A manifest after which all bytes lie where others do."""
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return zstandard.compress(plain.replace(b'"offset":', b'"offset":1'))


@pytest.fixture
async def store(bench: Bench) -> Shared:
    """The first home's store; all its stages run."""
    store = Shared(bench)
    _run(bench, store)
    return store


@pytest.fixture
async def other(tmp_path: Path, store: Shared) -> AsyncIterator[Bench]:
    """A second home on the same store; all its stages run."""
    async with opened_bench(tmp_path / "other") as bench:
        _run(bench, store)
        yield bench


def _run(bench: Bench, store: Shared) -> None:
    bench.stores[STORE] = bench.memory[STORE] = store
    bench.preparer()
    bench.transferrer()
    start_commit(bench)


async def _log(bench: Bench, files: dict[str, bytes], metadata: str = "{}") -> Request:
    request = await bench.log(files, metadata=metadata)
    return await bench.wait_state(request, State.DONE)


async def _read_latest(bench: Bench, store: Shared) -> dict[str, bytes]:
    found = await store.get("cats/artifacts/model/artifact.json")
    assert found.stat.size
    stamps = await bench.registry().list_versions("cats", "model")
    return await read(bench, stamps[-1].version)


# ── what is sent ───────────────────────────────────────────────────────────────────────────────
async def test_what_another_home_has_put_is_sent_again(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """Of another home's latest version only what differs travels."""
    await _log(bench, FILES | {"large": LARGE})
    assert store.sent() == sum(map(len, FILES.values())) + len(LARGE)
    changed = FILES | {"large": LARGE, "0007": b"changed"}
    await _log(other, changed)
    assert store.sent() == len(b"changed")
    assert await _read_latest(other, store) == changed
    changed |= {"0008": b"and", "0009": b"these"}
    await _log(bench, changed)  # which knows all but one file of the other's
    assert store.sent() == len(b"changed" + b"and" + b"these")
    store.read.clear()
    bench.clock.advance(FRESH_S)
    await _log(bench, changed | {"0010": b"more", "0011": b"yet more"})
    assert store.read == []  # the latest is its own
    assert store.sent() == len(b"more" + b"yet more")


async def test_the_other_home_is_asked_about_once(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """What the other home has put since is known at the next request that packs, after a few seconds."""
    await _log(other, {"a": b"a", "b": b"b"})
    await _log(bench, {"a": b"a", "b": b"b"}, '{"n": 1}')
    for n in range(5):
        await _log(other, {"a": b"a%d" % n, "b": b"b%d" % n})
        bench.clock.advance(FRESH_S)
        store.sent()
        await _log(bench, {"a": b"a%d" % n, "b": b"b%d" % n, "c": b"%d" % n})
        assert store.sent() == 1


async def test_a_loop_reads_the_manifest_each_time(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """A loop of logs reads the other's manifest once, and asks now and then which version is the latest."""
    await _log(bench, FILES)
    store.listed, store.read = 0, []
    for n in range(5):
        await _log(other, FILES | {"x": b"x%d" % n, "y": b"y%d" % n})
    assert (store.listed, len(store.read)) == (1 + 5, 1)  # once by each commit
    other.clock.advance(FRESH_S)
    await _log(other, FILES | {"x": b"x", "y": b"y"})
    assert (store.listed, len(store.read)) == (2 + 6, 1)


async def test_a_kill_behind_the_reading_loses_what_was_read(
    bench: Bench, store: Shared, other: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before a kill is known to the next start, which plans anew with it and reads nothing."""
    await _log(bench, FILES)
    store.sent()
    real = other.queue.plan_again
    killed = anyio.Event()

    async def killed_before(row: int) -> None:
        killed.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(other.queue, "plan_again", killed_before)
    request = await other.log(FILES | {"new": b"new"})
    with anyio.fail_after(20):
        await killed.wait()
    reads = len(store.read)
    monkeypatch.setattr(other.queue, "plan_again", real)
    other.transferrer()
    await other.wait_state(request, State.DONE)
    assert (len(store.read), store.sent()) == (reads, len(b"new"))


async def test_an_earlier_request_is_packed_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was planned before an earlier one was in the store points at what that one has put."""
    monkeypatch.setattr(stage, "SMALL_AT_ONCE", 1)
    bench.stores[STORE] = bench.memory[STORE] = store = Shared(bench)
    bench.preparer()
    earlier = await bench.log(FILES, name="earlier")
    later = await bench.log(FILES | {"x": b"x", "y": b"y"}, name="later")
    for request in (earlier, later):
        await bench.wait_state(request, State.PREPARED)
    bench.transferrer()
    for request in (earlier, later):
        await bench.wait_state(request, State.UPLOADED)
    assert store.sent() == sum(map(len, FILES.values())) + 2


async def test_a_deleted_version_hides_the_latest(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """The latest version is the highest that is not deleted."""
    await _log(bench, FILES)
    gone = await _log(bench, {"a": b"a", "b": b"b"})
    stored = await bench.registry().read_version("cats", "model", 1)
    assert stored is not None and gone.digest and gone.content
    tombstone = Tombstone(1, 1, gone.id, gone.digest, gone.content, "2026-11-24T08:30:00.000Z")
    await bench.registry().bury_version("cats", "model", 1, tombstone, stored.etag)
    store.sent()
    await _log(other, FILES | {"new": b"new"})
    assert store.sent() == len(b"new")


# ── what is not to be had ──────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("is_there", [False, True])
async def test_a_lost_pack_is_pointed_at(
    bench: Bench, store: Shared, other: Bench, is_there: bool
) -> None:
    """A pack that the other's version names and the store does not have, or a part of, is not pointed at."""
    await _log(bench, FILES)
    if is_there:
        store.change("packs", _cut)
    else:
        store.lose("packs")
    changed = {"0000": b"new", **{path: FILES[path] for path in sorted(FILES)[1:]}}
    await _log(other, changed)
    assert await _read_latest(other, store) == changed


async def test_a_pack_is_lost_behind_the_plan(bench: Bench, store: Shared, other: Bench) -> None:
    """A pack of the other's that goes between the plan and the commit is missed before the commit, and what
    lay in it is packed and sent.
    """
    await _log(bench, FILES)
    lost = False

    async def sync(*arguments: object) -> object:
        nonlocal lost
        if not lost and any("/manifests/" in str(key) for key in arguments[0]):  # type: ignore[attr-defined]
            lost = True
            store.lose("packs")
        return await MemoryStore.sync(store, *arguments)  # type: ignore[arg-type]

    store.sync = sync  # type: ignore[assignment,method-assign]
    store.sent()
    await _log(other, FILES | {"new": b"new"})
    assert lost
    assert store.sent() == sum(map(len, FILES.values())) + len(b"new")
    assert await _read_latest(other, store) == FILES | {"new": b"new"}


@pytest.mark.parametrize("damage", [_cut, _misled])
async def test_a_damaged_manifest_misleads_the_next_version(
    bench: Bench,
    store: Shared,
    other: Bench,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
) -> None:
    """What stands in a manifest that is not the one counts for nothing, and nobody waits for it."""
    monkeypatch.setattr(latest, "PAGE", 7)
    files = {f"{n:04}": b"file %d" % n * 30 for n in range(800)}  # more than is decoded at once
    await _log(bench, files)
    store.change("manifests", damage)
    store.sent()
    await _log(other, files | {"new": b"new"})
    assert store.read
    assert store.sent() == sum(map(len, files.values())) + len(b"new")
    assert await _read_latest(other, store) == files | {"new": b"new"}


async def test_a_refused_read_holds_up_the_next_version(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """Where manifests may not be read, all is sent."""
    await _log(bench, FILES)
    store.failure = AccessRefused("no reading here")
    store.sent()
    await _log(other, FILES | {"new": b"new"})
    assert store.sent() == sum(map(len, FILES.values())) + len(b"new")


async def test_a_store_in_trouble_holds_up_others(
    bench: Bench, store: Shared, other: Bench
) -> None:
    """A store that does not answer is waited for, with the reason in the row, as for any upload; requests
    to others go on. Then only what differs travels.
    """
    await _log(bench, FILES)
    store.failure = StoreUnavailable("down")
    store.sent()
    waiting = await other.log(FILES | {"new": b"new"})
    told = await other.wait_row(waiting, lambda now: now.error)
    assert (told.state, told.error) == (State.PREPARED, "StoreUnavailable")
    elsewhere = await other.log(FILES, store=OTHER)
    await other.wait_state(elsewhere, State.DONE)
    assert store.sent() == 0
    store.failure = None
    other.clock.advance(600)
    await other.wait_state(waiting, State.DONE)
    assert store.sent() == len(b"new")


# ── what it costs ──────────────────────────────────────────────────────────────────────────────
def test_a_large_manifest_is_read_for_little() -> None:
    """A manifest of a page is read for whatever it spares, a larger one where that is more than it costs."""
    assert is_worth_it(1, PAGE)
    assert not is_worth_it(0, 1)
    assert is_worth_it(ENTRY_BYTES * 10_000, 10_000)
    assert not is_worth_it(ENTRY_BYTES * 10_000 - 1, 10_000)


async def test_a_small_request_reads_a_large_manifest(
    bench: Bench, store: Shared, other: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that packs a few bytes does not read a manifest that is larger."""
    monkeypatch.setattr(latest, "PAGE", 7)
    await _log(bench, FILES)
    store.read.clear()
    await _log(other, {"a": b"a", "b": b"b"})
    assert store.read == []


@pytest.mark.blocks("tracemalloc makes all slow")
async def test_memory_grows_with_the_manifest(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a manifest with many entries two pages are in memory."""
    monkeypatch.setattr(bench.queue, "note_sent", _nothing)
    records = [await _a_version(bench, entries) for entries in (4_000, 4_000, 16_000)]
    _, few, many = [
        await _peak(bench, record) for record in records
    ]  # the first makes what is made once
    assert many < few + 500_000


async def _nothing(*_: object) -> None:
    pass


async def _a_version(bench: Bench, entries: int) -> VersionRecord:
    """A version of blobs, whose manifest lies in the store."""
    path = bench.root / "manifest"
    with ManifestWriter(str(path)) as writer:
        writer.add_batch([Entry(f"{n:07}", 4, digest(b"%d" % n)) for n in range(entries)])
        made = writer.finish()
    packed = path.read_bytes()
    body = FileBody(str(path), 0, len(packed), hashlib.sha256(packed).digest())
    await bench.registry().put_manifest("cats", made.manifest, body)
    return VersionRecord(
        1,
        0,
        "id",
        "model",
        None,
        {},
        entries,
        4 * entries,
        made.manifest,
        "",
        "",
        RunInfo("r"),
        [],
        [],
        "",
        "",
    )


async def _peak(bench: Bench, record: VersionRecord) -> int:
    lane = Lane(STORE, "cats", "model")
    learning = Latest(bench.queue, bench.clock)
    tracemalloc.start()
    try:
        contact = Contact(STORE, bench.registry(), "one")
        assert await learning._note(lane, record, contact, lambda: False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
