"""Applying changes while the store, another machine and the user do something else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.support.resolving import lookup
from tests.unit.daemon.bench import STORE, Bench, opened_bench
from tests.unit.daemon.test_changes import OPEN, ended, lines
from wherry.errors import BadPath, StoreDamaged
from wherryd.commit import applying
from wherryd.commit.changed import Removed
from wherryd.commit.changing import LOOKED_S
from wherryd.commit.committer import Committer
from wherryd.commit.editing import Editor
from wherryd.commit.manifest_file import ManifestFile
from wherryd.commit.wanted import Wanted
from wherryd.model import Base, Entry, ManifestEntry, Reference, State, VersionRecord
from wherryd.queue.base import Request
from wherryd.registry.objects import ObjectRegistry
from wherryd.rpc.messages import state_message
from wherryd.stores.base import Body, Object, ObjectMissing, Sizes

Hook = Callable[[], Awaitable[None]]


class Gate:
    """Somebody who comes here waits until the test has done something."""

    def __init__(self) -> None:
        self._reached, self._open = anyio.Event(), anyio.Event()

    async def __call__(self) -> None:
        """Wait here."""
        self._reached.set()
        with anyio.fail_after(20):
            await self._open.wait()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let the block be done while somebody waits here."""
        with anyio.fail_after(20):
            await self._reached.wait()
        yield
        self._open.set()


class Watched(MemoryStore):
    """Notes what is looked at; lets something else happen before a call, once."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self.looks: list[list[str]] = []
        #: What happens before the next look, the next manifest, the next record.
        self.before_look: Hook | None = None
        self.before_manifest: Hook | None = None
        self.before_record: Hook | None = None
        #: So many streams find nothing.
        self.to_miss = 0
        #: Streams before those.
        self.to_find = 0
        self.exchanged: dict[str, Object] | None = None
        bench.stores[STORE] = bench.memory[STORE] = self

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        hook, self.before_look = self.before_look, None
        if hook is not None:
            await hook()
        self.looks.append([key for key in keys if "/manifests/" not in key])
        return await super().sizes(keys, witness)

    async def put(self, key: str, body: Body) -> None:
        if "/manifests/" in key and self.before_manifest is not None:
            hook, self.before_manifest = self.before_manifest, None
            await hook()
        await super().put(key, body)

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if "/versions/" in key and self.before_record is not None:
            hook, self.before_record = self.before_record, None
            await hook()
        return await super().put_if_absent(key, body)

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if self.to_find:
            self.to_find -= 1
        elif self.to_miss:
            self.to_miss -= 1
            if self.exchanged is not None:
                self._objects, self.exchanged = self.exchanged, self._objects
            raise ObjectMissing(key)
        async with aclosing(super().stream(key, offset, size)) as chunks:
            async for chunk in chunks:
                yield chunk


@pytest.fixture
async def store(bench: Bench) -> Watched:
    """The bench's store; all stages run."""
    store = Watched(bench)
    await run(bench)
    return store


@pytest.fixture
async def other(bench: Bench, store: Watched, tmp_path: Path) -> AsyncIterator[Bench]:
    """Another machine at the same store."""
    async with opened_bench(tmp_path / "other") as other:
        other.stores[STORE] = other.memory[STORE] = store
        await run(other)
        yield other


async def run(bench: Bench) -> Committer:
    """Run all stages."""
    bench.preparer()
    bench.transferrer()
    opened = bench.opened
    made = Committer(
        bench.queue,
        opened.registry,
        bench.clock,
        bench.news,
        bench.gatherer,
        doubts=opened.doubts,
        progress=bench.progress,
    )
    bench.start(made.run())
    return made


async def log_one_by_one(bench: Bench, *names: str) -> None:
    """A version with a blob for each of these, the last of as many."""
    for name in names:
        done = await ended(bench, await bench.log({name: name.encode()}, base=OPEN))
        assert done.state is State.DONE


def unchecked(path: str, uri: str) -> Entry:
    """A reference that nobody looks at."""
    return Entry(path, -1, reference=Reference(uri, checksum=False))


async def manifest_of(bench: Bench, version: int) -> str:
    """A version's manifest."""
    stored = await bench.registry().read_version("cats", "model", version)
    assert stored is not None and isinstance(stored.record, VersionRecord)
    return stored.record.manifest


async def bury(bench: Bench, request: Request, version: int) -> None:
    """Delete a version."""
    editor = Editor(request.lane, bench.registry(), bench.clock)
    await editor.delete(version, with_aliases=True)


# ── a store that is away ───────────────────────────────────────────────────────────────────────
async def test_a_store_that_was_away_for_a_moment_fails_changes(
    bench: Bench, store: Watched
) -> None:
    """A base that is not there, and a moment later is, is waited for."""
    await log_one_by_one(bench, "a")
    store.to_miss = 1
    request = await bench.log({"b": b"2"}, base=OPEN)
    await bench.wait_row(request, lambda now: now.error == "StoreUnavailable")
    bench.clock.advance(1000)
    assert (await ended(bench, request)).version == 1


async def test_a_store_that_was_exchanged_fails_changes(bench: Bench, store: Watched) -> None:
    """Where another store lies while the base is read, the lane stops, and the request waits."""
    await log_one_by_one(bench, "a")
    store.to_miss, store.exchanged = 1, {}
    request = await bench.log({"b": b"2"}, base=OPEN)
    stopped = await bench.wait_row(request, lambda now: bool(now.error))
    assert (stopped.state, stopped.error) == (State.UPLOADED, "StoreChanged")


# ── another machine is faster ──────────────────────────────────────────────────────────────────
async def test_a_faster_machine_starves_changes(bench: Bench, other: Bench, store: Watched) -> None:
    """Applied again, changes ask only for what is new, by what they came to before; and know the number."""
    await log_one_by_one(bench, "a", "b", "c")
    highest: list[int] = []

    async def note_known() -> None:
        highest.append((await bench.queue.known(request.lane)).highest)

    store.before_record = gate = Gate()
    request = await bench.log({"d": b"d"}, base=OPEN)
    async with gate.held():
        await log_one_by_one(other, "theirs")
        store.looks.clear()
        store.before_look = note_known
    assert (await ended(bench, request)).version == 4
    assert [*await lines(bench, 4)] == ["a", "b", "c", "d", "theirs"]
    theirs = (await lines(bench, 4))["theirs"].digest or ""
    assert [key.rpartition("/")[2] for look in store.looks for key in look] == [theirs[7:]]
    assert highest == [3]


@pytest.mark.parametrize("why", ["gone", "old"])
async def test_what_was_looked_at_long_ago_counts(
    bench: Bench, other: Bench, store: Watched, why: str
) -> None:
    """What changes came to before says nothing when it is old, or can't be read."""
    await log_one_by_one(bench, "a", "b")

    store.before_record = gate = Gate()
    request = await bench.log({"d": b"d"}, base=OPEN)
    async with gate.held():
        await log_one_by_one(other, "theirs")
        if why == "old":
            bench.clock.advance(LOOKED_S)
        else:
            manifest = (await bench.queue.get(request.row)).manifest or ""
            (key,) = [key for key in store._objects if manifest[7:] in key]
            del store._objects[key]
        store.looks.clear()
    done = await ended(bench, request)
    assert [*await lines(bench, 3)] == ["a", "b", "d", "theirs"] and done.version == 3
    assert {len(look) for look in store.looks} >= {3}


async def test_batches_wait_for_each_other(bench: Bench) -> None:
    """Some batches are asked for at once; each blob of a page once; a pack by how far entries reach."""
    begun, all_there = 0, anyio.Event()

    class Slow(MemoryStore):
        async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
            nonlocal begun
            begun += 1
            if begun == 4:
                all_there.set()
            with anyio.fail_after(20):
                await all_there.wait()
            return await super().sizes(keys, witness)

    registry = ObjectRegistry(Slow(bench.clock))
    await registry.found("0" * 32)
    wanted = Wanted("cats", registry, "0" * 32)
    blobs = [ManifestEntry(f"{n:04}", f"sha256:{n // 2:064x}", 1) for n in range(256)]
    await wanted.look(blobs)
    assert begun == 4
    await wanted.look([], is_last=True)
    assert wanted.lost().endswith("and 125 more")


async def test_a_pack_that_was_cut_off_is_whole(bench: Bench, store: Watched) -> None:
    """A pack has to reach as far as what lies in it."""
    await ended(bench, await bench.log({"a": b"1" * 10, "b": b"2" * 10}))
    (key,) = [key for key in store._objects if "/packs/" in key]
    whole = store._objects[key]
    assert len(whole.body) == 20
    await store.put(key, whole.body[:19])
    failed = await ended(bench, await bench.log({"c": b"3"}, base=OPEN))
    assert failed.error == "StoreDamaged" and key in failed.reason
    assert "overwrite=True" in failed.reason
    removes = await ended(bench, await bench.log({}, base=OPEN, removed=("b",)))
    assert (removes.version, [*await lines(bench, 1)]) == (1, ["a"])


async def test_deleted_versions_are_read_again_and_again(bench: Bench, other: Bench) -> None:
    """The highest number is known as soon as it was read, and not when there is a version above it."""
    for name in ("a", "b"):
        done = await ended(other, await other.log({name: b""}))
        await bury(other, done, done.version or 0)
    highest: list[int] = []

    async def note_known() -> None:
        highest.append((await bench.queue.known(request.lane)).highest)

    store = bench.memory[STORE]
    assert isinstance(store, Watched)
    store.before_manifest = note_known
    request = await bench.log({"c": b"3"}, base=OPEN)
    assert (await ended(bench, request)).version == 2 and highest == [1]


# ── what a base may be ─────────────────────────────────────────────────────────────────────────
async def test_a_draft_of_a_deleted_version_brings_it_back(bench: Bench, store: Watched) -> None:
    """A draft of a version that was deleted before it was logged fails, and the next request goes on."""
    await log_one_by_one(bench, "a", "b")
    base = Base(0, await manifest_of(bench, 0))
    done = await bench.log({"c": b"3"}, base=base)
    assert (await ended(bench, done)).version == 2
    await bury(bench, done, 0)
    failed = await ended(bench, await bench.log({"d": b"4"}, base=base))
    assert (failed.state, failed.error) == (State.FAILED, "NotFoundError")
    assert "v0 of 'model', which this changes, was deleted" in failed.reason
    assert (await ended(bench, await bench.log({"d": b"4"}, base=OPEN))).version == 3


async def test_keys_of_a_bucket_clash(bench: Bench, store: Watched) -> None:
    """What a bucket may have, an object and others below its key, stays; only what is added is in its way."""
    keys = tuple(unchecked(path, f"s3://b/{path}") for path in ("data", "data/x", "data/y"))
    await ended(bench, await bench.log({}, entries=keys))
    assert (await ended(bench, await bench.log({"new": b"1"}, base=OPEN))).version == 1
    draft = Base(1, await manifest_of(bench, 1))
    done = await ended(bench, await bench.log({}, base=draft, removed=("data",)))
    assert [*await lines(bench, done.version or 0)] == ["data/x", "data/y", "new"]
    both = tuple(unchecked(path, f"s3://b/{path}") for path in ("more", "more/x"))
    done = await ended(bench, await bench.log({}, entries=both, base=draft))
    assert [*await lines(bench, done.version or 0)][-3:] == ["more", "more/x", "new"]
    done = await ended(bench, await bench.log({}, base=OPEN, removed=("data", "more")))
    assert [*await lines(bench, done.version or 0)] == ["new"]
    below = await ended(bench, await bench.log({"new/x": b"1"}, base=OPEN))
    assert "'new/x', which this adds, would lie below 'new', a file of v4" in below.reason
    above = await ended(bench, await bench.log({"data": b"1"}, base=draft))
    assert "'data/x' of v1, which this changes, would lie below 'data'" in above.reason
    assert (below.error, above.error) == ("PathTaken", "PathTaken")


async def test_a_lookup_replaces_what_stays(bench: Bench, store: Watched) -> None:
    """What a lookup of a draft leads to is not put in the place of what its user wanted to keep."""
    bench.resolver.objects.update({"bucket://b/i/1": "e", "bucket://b/i/2": "e"})
    there = (unchecked("i/1", "s3://other/1"), unchecked("i/2", "bucket://b/i/2"))
    await ended(bench, await bench.log({}, entries=there))
    draft = Base(0, await manifest_of(bench, 0))
    found = (lookup(0, "bucket://b/i", "i"),)
    taken = await ended(bench, await bench.log({}, lookups=found, base=draft))
    assert taken.error == "PathTaken" and "'i/1', of which v0, which this changes" in taken.reason
    done = await ended(bench, await bench.log({}, lookups=found, base=draft, removed=("i/1",)))
    assert (await lines(bench, done.version or 0))["i/1"].ref == "bucket://b/i/1"
    again = await ended(bench, await bench.log({"x": b"1"}, lookups=found, base=OPEN))
    assert (await lines(bench, again.version or 0))["i/2"].digest == "etag:e"
    asked = (unchecked("i/1", "s3://third/1"),)
    done = await ended(bench, await bench.log({}, entries=asked, base=draft))
    assert (await lines(bench, done.version or 0))["i/1"].ref == "s3://third/1"


async def test_a_long_path_takes_for_ever(bench: Bench) -> None:
    """A path of a quarter of a million folders costs what another of its length does."""
    request = await bench.log({}, base=OPEN, removed=("a/a/b", "a/a0"))
    removed = Removed(bench.queue, request)
    assert not await removed.has("a/" * 250_000 + "a")
    assert await removed.has("a/a/b/" + "b/" * 250_000 + "b")
    assert not await removed.has("a/a/bb") and not await removed.has("a/a/c")


async def test_a_page_of_long_lines_is_held(
    bench: Bench, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page has so many lines, or so many bytes."""
    long = tuple(unchecked(f"{n}", f"s3://b/{n}" + "x" * 300_000) for n in range(8))
    await ended(bench, await bench.log({}, entries=long))
    pages: list[int] = []
    add = ManifestFile.add

    async def note(self: ManifestFile, page: Sequence[ManifestEntry]) -> None:
        pages.append(len(page))
        await add(self, page)

    monkeypatch.setattr(ManifestFile, "add", note)
    done = await ended(bench, await bench.log({}, base=OPEN, removed=("7",)))
    assert (done.version, pages) == (1, [4, 3])


async def test_a_line_that_is_too_long_is_tried_for_ever(
    bench: Bench, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't stand in a manifest fails its request alone."""

    async def add(self: ManifestFile, page: Sequence[ManifestEntry]) -> None:
        raise BadPath("too long")

    with monkeypatch.context() as patched:
        patched.setattr(ManifestFile, "add", add)
        failed = await ended(bench, await bench.log({"a": b"1"}, base=OPEN))
    assert (failed.state, failed.error) == (State.FAILED, "BadPath")
    await log_one_by_one(bench, "b")


async def test_a_clash_in_a_damaged_base_is_believed(
    bench: Bench, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is a clash is known when the whole base was read: it may be another manifest."""
    monkeypatch.setattr(applying, "PAGE", 1)
    await log_one_by_one(bench, "a")

    async def damaged(*_: object) -> AsyncGenerator[ManifestEntry]:
        for path in ("b/c", "d", "e"):
            yield ManifestEntry(path, None, None, ref="s3://b/x")
        raise StoreDamaged("another manifest")

    monkeypatch.setattr(ObjectRegistry, "open_manifest", damaged)
    failed = await ended(bench, await bench.log({"b": b"2"}, base=OPEN))
    assert failed.error == "StoreDamaged"


# ── the user ───────────────────────────────────────────────────────────────────────────────────
async def test_cancelled_changes_keep_the_lane(
    bench: Bench, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applying tells how far it is, and ends at the next page once it was cancelled."""
    monkeypatch.setattr(applying, "PAGE", 1)
    monkeypatch.setattr("wherryd.commit.wanted._AT_ONCE", 1)
    await log_one_by_one(bench, *"abcdef")
    store.looks.clear()
    shown: list[tuple[int, int]] = []

    async def cancel() -> None:
        now = await bench.queue.get(request.row)
        message = state_message(now, bench.progress.done(request.row), 0)
        shown.append((message.bytes_done, message.size))
        await bench.queue.cancel(request.row)

    store.before_look = cancel
    request = await bench.log({}, base=OPEN, removed=("f",))
    cancelled = await ended(bench, request)
    assert cancelled.state is State.CANCELLED and shown == [(1, 1)]
    done = await ended(bench, await bench.log({"g": b"g"}, base=OPEN))
    assert done.version == 6 and len(store.looks) == 1 + 6
    assert bench.progress.done(request.row) is None
