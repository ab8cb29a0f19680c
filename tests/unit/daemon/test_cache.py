"""The cache: each object is fetched once, whole and compared, and what is not used leaves it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock, digest
from tests.unit.daemon.stored import Ranges, put_files, put_packed
from wherry.errors import NotFoundError, StoreDamaged, StoreUnavailable
from wherryd.read import bringing, cache, delivery
from wherryd.read.bringing import Source
from wherryd.read.cache import CacheFolder
from wherryd.read.delivery import AHEAD, WHOLE_BYTES, WHOLE_ERRANDS, Delivery, Told
from wherryd.read.fetching import CacheUnusable, Fetcher, Room
from wherryd.read.files import Wanted
from wherryd.registry.base import Kind, Named
from wherryd.registry.objects import ObjectRegistry

ROOM = 1 << 40


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of a few bytes come in several ranges."""
    monkeypatch.setattr(cache, "RANGE_BYTES", 1000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache"


def fetching(root: Path, boot: str = "boot", quota_bytes: int | None = ROOM) -> Fetcher:
    """Who fetches, as a daemon that starts has it."""
    clock = HandClock()
    return Fetcher(lambda is_in_use: CacheFolder(str(root), boot, clock, is_in_use, quota_bytes))


def _nobody(_: str) -> bool:
    return False


class Counting(Ranges):
    """Notes what of blobs is asked for; breaks off once, where a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: list[tuple[int, int | None]] = []
        self.breaks_at: set[int] = set()
        self.waits_at: set[int] = set()  # none: everywhere
        self.go_on = anyio.Event()
        self.go_on.set()

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if "/blobs/" in key:
            self.blobs.append((offset, size))
            if not self.waits_at or offset in self.waits_at:
                await self.go_on.wait()
            if offset in self.breaks_at:
                raise StoreUnavailable("the store is away")
        async with aclosing(super().stream(key, offset, size)) as chunks:
            async for chunk in chunks:
                yield chunk


@pytest.fixture
def store() -> Counting:
    """A store in memory."""
    return Counting()


@pytest.fixture
def source(store: Counting) -> Source:
    """The project in it."""
    return Source("memory:", "cats", ObjectRegistry(store))


def blob(data: bytes) -> Named:
    return Named(Kind.BLOB, digest(data), len(data))


async def put(source: Source, tmp_path: Path, *blobs: bytes) -> None:
    await put_files(source.registry, tmp_path, {str(n): data for n, data in enumerate(blobs)})  # type: ignore[arg-type]


async def fetch(fetcher: Fetcher, source: Source, named: Named) -> bytes:
    with fetcher.holding() as hold:
        return Path(await fetcher.fetch(source, named, hold)).read_bytes()


BIG = random.Random(9).randbytes(9_500)


# ── fetching ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("data", [b"", b"x", BIG[:1000], BIG[:1001], BIG], ids=len)
async def test_object_is_fetched_twice(
    source: Source, store: Counting, root: Path, tmp_path: Path, data: bytes
) -> None:
    """An object comes whole, however many ranges it has; the second time it is there."""
    await put(source, tmp_path, data)
    fetcher = fetching(root)
    assert await fetch(fetcher, source, blob(data)) == data
    asked = len(store.blobs)
    assert asked == max(1, -(-len(data) // 1000))
    assert await fetch(fetcher, source, blob(data)) == data
    assert await fetch(fetching(root), source, blob(data)) == data  # the next daemon's
    assert len(store.blobs) == asked
    assert not any((root / "partial").iterdir())


async def test_each_who_asks_fetches(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Twenty who ask for an object at once have it fetched once."""
    await put(source, tmp_path, BIG)
    fetcher, got = fetching(root), list[bytes]()

    async def ask() -> None:
        got.append(await fetch(fetcher, source, blob(BIG)))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert got == [BIG] * 20
    assert len(store.blobs) == 10


async def test_who_waits_fails_with_who_leaves(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Where the call that fetches is ended, another that waits goes on with what is there."""
    await put(source, tmp_path, BIG)
    fetcher, got = fetching(root), list[bytes]()
    store.go_on = anyio.Event()

    async def ask() -> None:
        got.append(await fetch(fetcher, source, blob(BIG)))

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as first:
            first.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        store.go_on.set()
    assert got == [BIG] * 2


async def test_a_fault_begins_anew(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """After a fault, or a kill, only what is missing is fetched."""
    await put(source, tmp_path, BIG)
    store.breaks_at = {9000}
    with pytest.raises(StoreUnavailable):
        await fetch(fetching(root), source, blob(BIG))
    store.breaks_at, before = set(), len(store.blobs)
    assert await fetch(fetching(root), source, blob(BIG)) == BIG
    again = store.blobs[before:]
    assert 9000 in {offset for offset, _ in again}
    assert len(again) < 9


@pytest.mark.parametrize("is_noted", [True, False])
async def test_bytes_that_power_took_are_given_out(
    source: Source, store: Counting, root: Path, tmp_path: Path, is_noted: bool
) -> None:
    """What a partial file has is compared with the rest, and fetched again where it is wrong."""
    await put(source, tmp_path, BIG)
    name = hashlib.sha256(BIG).hexdigest()
    (root / "partial").mkdir(parents=True)
    wrong = b"\0" * len(BIG) + (b"\1" * 9 + b"\0" if is_noted else b"")
    (root / "partial" / name).write_bytes(wrong)  # or: cut, and not renamed
    assert await fetch(fetching(root), source, blob(BIG)) == BIG
    assert len(store.blobs) == (11 if is_noted else 10)


@pytest.mark.parametrize("length", [0, 5, 9_499, 9_501, 20_000])
async def test_rubbish_is_gone_on_with(
    source: Source, root: Path, tmp_path: Path, length: int
) -> None:
    """A partial file of another length counts for nothing."""
    await put(source, tmp_path, BIG)
    (root / "partial").mkdir(parents=True)
    (root / "partial" / hashlib.sha256(BIG).hexdigest()).write_bytes(b"\1" * length)
    assert await fetch(fetching(root), source, blob(BIG)) == BIG


@pytest.mark.parametrize("harm", ["gone", "cut", "changed"])
@pytest.mark.parametrize("data", [BIG, BIG[:500]], ids=["ranges", "one range"])
async def test_damaged_object_is_kept(
    source: Source, store: Counting, root: Path, tmp_path: Path, harm: str, data: bytes
) -> None:
    """An object that is gone, cut or changed is an error each time, and no file of the cache."""
    await put(source, tmp_path, data)
    hex_ = digest(data)[7:]
    key = f"cats/blobs/sha256/{hex_[:2]}/{hex_}"
    changed = {"cut": data[:-1], "changed": data[:-1] + bytes([data[-1] ^ 1])}
    await (store.delete(key) if harm == "gone" else store.put(key, changed[harm]))
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=hex_):
            await fetch(fetching(root), source, blob(data))
    assert not _names(root)


@pytest.mark.parametrize("data", [BIG, BIG[:500]], ids=["ranges", "one range"])
@pytest.mark.parametrize("size", [0, 5, 499])
async def test_a_part_has_the_name_of_the_whole(
    source: Source, root: Path, tmp_path: Path, data: bytes, size: int
) -> None:
    """A line that says less of a blob than there is leads to an error, and not to a file that is cut."""
    await put(source, tmp_path, data)
    fetcher = fetching(root)
    with pytest.raises(StoreDamaged):
        await fetch(fetcher, source, Named(Kind.BLOB, digest(data), size))
    assert not _names(root)
    assert await fetch(fetcher, source, blob(data)) == data


async def test_an_endless_pack_fills_the_disk(
    source: Source, store: Counting, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack ends where no pack is longer, whatever the store sends."""
    monkeypatch.setattr(bringing, "MOST_PACK_BYTES", 3 << 20)
    await store.put(f"cats/packs/sha256/ab/{'ab' * 32}", b"x" * (9 << 20))
    with pytest.raises(StoreDamaged, match="more bytes"):
        await fetch(fetching(root), source, Named(Kind.PACK, "ab" * 32))
    assert sum(file.stat().st_size for file in (root / "partial").iterdir()) <= 4 << 20


async def test_one_line_fails_anothers(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Who waits for an object that another asks for wrongly gets it all the same."""
    await put(source, tmp_path, BIG)
    fetcher, store.go_on = fetching(root), anyio.Event()

    async def ask_wrongly() -> None:
        with pytest.raises(StoreDamaged):
            await fetch(fetcher, source, Named(Kind.BLOB, digest(BIG), 5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_wrongly)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(fetch, fetcher, source, blob(BIG))
        await anyio.wait_all_tasks_blocked()
        store.go_on.set()
    assert await fetch(fetcher, source, blob(BIG)) == BIG


# ── what is there ──────────────────────────────────────────────────────────────────────────────
async def test_another_boots_bytes_are_trusted(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """What came in before this boot is compared once; what is damaged is fetched again."""
    good, bad = BIG, BIG[::-1]
    await put(source, tmp_path, good, bad)
    for data in (good, bad):
        await fetch(fetching(root, "first"), source, blob(data))
    damaged = root / "since-first" / digest(bad)[7:9] / digest(bad)[7:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"\0" * len(bad))
    before = len(store.blobs)
    second = fetching(root, "second")
    assert await fetch(second, source, blob(good)) == good
    assert len(store.blobs) == before
    assert await fetch(second, source, blob(bad)) == bad
    assert len(store.blobs) == before + 10
    assert {path.parent.parent.name for path in root.glob("since-*/*/*")} == {"since-second"}


async def test_an_object_of_another_size_is_given_out(
    source: Source, root: Path, tmp_path: Path
) -> None:
    """A file of the cache that was cut off, by hand or by a loss of power, is fetched again."""
    await put(source, tmp_path, BIG)
    fetcher = fetching(root)
    await fetch(fetcher, source, blob(BIG))
    (file,) = root.glob("since-*/*/*")
    assert file.stat().st_mode & 0o777 == 0o400
    file.chmod(0o600)
    file.write_bytes(BIG[:-1])
    assert await fetch(fetcher, source, blob(BIG)) == BIG


async def test_an_old_object_is_taken_over_twice(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Many who ask at once for what another boot has left get it, and it is not fetched."""
    await put(source, tmp_path, BIG)
    await fetch(fetching(root, "first"), source, blob(BIG))
    before, got = len(store.blobs), list[bytes]()
    second = fetching(root, "second")

    async def ask() -> None:
        got.append(await fetch(second, source, blob(BIG)))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert (got, len(store.blobs)) == ([BIG] * 20, before)
    assert [path.name for path in root.glob("since-*")] == ["since-second"]


def _names(root: Path) -> set[str]:
    return {path.name for path in root.glob("since-*/*/*")}


def _fill(cached: CacheFolder, clock: HandClock, *objects: bytes) -> list[str]:
    names = []
    for data in objects:
        name = hashlib.sha256(data).hexdigest()
        clock.advance(10)
        with cached.open_partial(name, len(data)) as partial:
            partial.write(memoryview(data), 0)
            cached.keep(name, partial)
        names.append(name)
    return names


def test_the_wrong_one_leaves(root: Path) -> None:
    """What was not used for the longest time leaves first; what is in use stays; so does what fits."""
    clock, in_use = HandClock(), set[str]()
    cached = CacheFolder(str(root), "boot", clock, in_use.__contains__, 4_000)
    one, two, three = _fill(cached, clock, b"1" * 1000, b"2" * 1000, b"3" * 1000)
    clock.advance(10)
    assert cached.find(one, 1000)
    assert cached.make_room(1000)
    assert _names(root) == {one, two, three}
    (four,) = _fill(cached, clock, b"4" * 1000)
    in_use.add(three)
    assert cached.make_room(1000)  # a tenth of the quota more than is needed
    assert _names(root) == {three, four}
    assert not cached.make_room(5_000)
    assert _names(root) == {three, four}
    assert not cached.make_room(3_500)  # three stays, so there is no use in four's leaving
    assert _names(root) == {three, four}
    assert cached.make_room(3_000)
    assert _names(root) == {three}
    assert (cached.count().bytes, cached.count().files) == (1000, 1)


def test_what_nobody_goes_on_with_stays(root: Path) -> None:
    """Partial files count, for what they take, and leave like others; so do the folders of other boots."""
    clock, in_use = HandClock(), set[str]()
    (old,) = _fill(CacheFolder(str(root), "old", clock, _nobody, ROOM), clock, b"1" * 1000)
    cached = CacheFolder(str(root), "new", clock, in_use.__contains__, ROOM)
    with cached.open_partial("ab" * 32, 1 << 30) as partial:
        partial.write(memoryview(b"x" * 10), 0)
    assert cached.count().files == 2
    assert cached.count().bytes < 100_000
    in_use.add(old)
    removed = cached.trim(0)
    assert (removed.files, cached.count().files) == (1, 1)
    in_use.clear()
    assert cached.trim(0).bytes == 1000
    assert [path.name for path in root.iterdir()] == ["partial"]


async def test_a_partial_object_is_in_its_own_way(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """What has come of an object counts with it, and not beside it."""
    await put(source, tmp_path, BIG)
    store.breaks_at = {9000}
    with pytest.raises(StoreUnavailable):
        await fetch(fetching(root, quota_bytes=10_000), source, blob(BIG))
    store.breaks_at = set()
    again = fetching(root, quota_bytes=10_000)
    held, _ = await again.holds()
    assert held.bytes > 0
    assert await fetch(again, source, blob(BIG)) == BIG


async def test_others_leave_for_what_never_fits(source: Source, root: Path, tmp_path: Path) -> None:
    """Where what is in use leaves no room, nothing is removed in vain."""
    objects = [bytes([number]) * 4_000 for number in range(3)]
    await put(source, tmp_path, *objects)
    fetcher = fetching(root, quota_bytes=10_000)
    await fetch(fetcher, source, blob(objects[0]))
    with fetcher.holding() as hold:
        await fetcher.fetch(source, blob(objects[1]), hold)
        with pytest.raises(CacheUnusable):
            await fetcher.fetch(source, Named(Kind.BLOB, digest(b"never"), 7_000), hold)
    assert len(_names(root)) == 2


def test_a_cache_without_a_quota_fills_the_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting it is a quarter of what is free, with what the cache has."""
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7_000}))
    clock = HandClock()
    cached = CacheFolder(str(root), "boot", clock, _nobody)
    assert cached.quota() == 1750
    _fill(cached, clock, b"1" * 1000)
    assert cached.quota() == 2000
    assert cached.make_room(2000)
    assert not cached.make_room(2001)
    monkeypatch.setattr(cache, "LEFT_BYTES", 6_500)
    cached.quota_bytes = 1_800
    assert cached.quota() == 500  # with what the cache has had no more is free
    cached.quota_bytes = 0
    assert cached.quota() == 0


@pytest.mark.parametrize("trouble", ["quota", "disk"])
async def test_a_cache_that_takes_nothing_is_the_end(
    source: Source, root: Path, tmp_path: Path, trouble: str
) -> None:
    """What is more than the quota, or finds no room on the disk, is left to be read in passing."""
    await put(source, tmp_path, BIG)
    if trouble == "disk":
        root.write_bytes(b"in the way")
    fetcher = fetching(root, quota_bytes=9_000 if trouble == "quota" else ROOM)
    with pytest.raises(CacheUnusable):
        await fetch(fetcher, source, blob(BIG))
    files = dict.fromkeys("abc", BIG)
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    told = await deliver(fetcher, source, manifest)
    places = [(place.path, place.file) for one in told for place in one.places]
    assert (places, told[-1].has_more) == ([("a", ""), ("b", ""), ("c", "")], False)


async def test_many_calls_overrun_the_cache(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """What is on its way and in use never takes more than the quota: the rest is read in passing."""
    objects = [bytes([number]) * 3_000 for number in range(5)]
    await put(source, tmp_path, *objects)
    fetcher, store.go_on = fetching(root, quota_bytes=10_000), anyio.Event()
    refused = list[bytes]()

    async def ask(data: bytes) -> None:
        with fetcher.holding() as hold:
            try:
                await fetcher.fetch(source, blob(data), hold)
            except CacheUnusable:
                refused.append(data)
            await done.wait()

    done = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for data in objects:
            tasks.start_soon(ask, data)
            await anyio.wait_all_tasks_blocked()
        store.go_on.set()
        while len(_names(root)) < 3:
            await anyio.sleep(0.01)
        assert len(refused) == 2
        done.set()
    assert len(_names(root)) == 3
    assert await fetch(fetcher, source, blob(refused[0])) == refused[0]  # what is not used leaves
    assert (await fetcher.holds())[0].bytes <= 10_000


# ── delivering ─────────────────────────────────────────────────────────────────────────────────
async def deliver(
    fetcher: Fetcher,
    source: Source,
    manifest: str,
    paths: Iterator[str] | list[str] | tuple[()] = (),
    after: str = "",
    at_once_bytes: int = ROOM,
) -> list[Told]:
    """All that is told, in order."""
    told = list[Told]()

    async def send(one: Told) -> None:
        told.append(one)

    with fetcher.holding() as hold:
        room = Room((await fetcher.room()).most_bytes, at_once_bytes)
        delivery = Delivery(source, fetcher, hold, send, room)
        await delivery.deliver(manifest, Wanted(paths), after)
    return told


def read(told: list[Told], files: dict[str, bytes]) -> dict[str, bytes]:
    """The bytes at the places that were told."""
    found, objects = {}, dict[str, bytes]()
    for place in (place for one in told for place in one.places):
        data = place.data
        if place.file:
            assert place.is_checked
            if place.file not in objects:
                objects[place.file] = Path(place.file).read_bytes()
            end = place.offset + len(files[place.path])
            data = objects[place.file][place.offset : end]
        found[place.path] = data
    return found


async def test_each_packed_file_is_asked_for(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """10,001 small files of one pack are one request, and the second time none."""
    files = {f"{number:05}": b"%04d" % number * 64 for number in range(10_001)}
    manifest = await put_packed(source.registry, tmp_path, files, [sorted(files)])  # type: ignore[arg-type]
    fetcher = fetching(root)
    told = await deliver(fetcher, source, manifest)
    assert read(told, files) == files
    assert list(read(told, files)) == sorted(files)
    assert (told[-1].is_last, told[-1].has_more) == (True, False)
    assert store.asked == [(0, None)]
    assert read(await deliver(fetcher, source, manifest), files) == files
    assert store.asked == [(0, None)]


async def test_a_whole_pack_is_fetched_for_a_file(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """A few files of a pack come alone; out of the pack where that is here."""
    files = {f"{number:02}": bytes([number]) * 200_000 for number in range(20)}
    manifest = await put_packed(source.registry, tmp_path, files, [sorted(files)])  # type: ignore[arg-type]
    fetcher = fetching(root)
    few = ["03", "17"]
    told = await deliver(fetcher, source, manifest, few)
    assert read(told, files) == {path: files[path] for path in few}
    assert store.asked == [(600_000, 200_000), (3_400_000, 200_000)]
    many = sorted(files)[: WHOLE_BYTES // 200_000 + 1]
    assert read(await deliver(fetcher, source, manifest, many), files).keys() == {*many}
    assert store.asked[2:] == [(0, None)]
    assert read(await deliver(fetcher, source, manifest, few), files).keys() == {*few}
    assert len(store.asked) == 3


async def test_interleaved_packs_come_file_by_file(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Packs whose entries alternate are fetched whole, after a few requests for single files."""
    files = {f"{number:04}": b"%04d" % number * 64 for number in range(400)}
    packs = [sorted(files)[which::2] for which in range(2)]
    manifest = await put_packed(source.registry, tmp_path, files, packs)  # type: ignore[arg-type]
    told = await deliver(fetching(root), source, manifest)
    assert read(told, files) == files
    assert store.asked.count((0, None)) == 2
    assert len(store.asked) <= 2 * (WHOLE_ERRANDS + 1)


async def test_a_small_version_is_never_kept(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """All of a small pack is fetched whole, and is here the next time."""
    files = {f"{number:04}": b"%04d" % number * 64 for number in range(100)}
    manifest = await put_packed(source.registry, tmp_path, files, [sorted(files)])  # type: ignore[arg-type]
    fetcher = fetching(root)
    for _ in range(2):
        assert read(await deliver(fetcher, source, manifest), files) == files
    assert store.asked == [(0, None)]


async def test_references_are_fetched(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """References lie elsewhere, and are not told; a path that is not there is an error."""
    files = {"a": b"a", "b": BIG}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    fetcher = fetching(root)
    assert read(await deliver(fetcher, source, manifest), files) == files
    assert read(await deliver(fetcher, source, manifest, after="a"), files) == {"b": BIG}
    with pytest.raises(NotFoundError, match="'nope'"):
        await deliver(fetcher, source, manifest, ["a", "nope"])


async def test_more_than_the_cache_holds_comes_at_once(
    source: Source, root: Path, tmp_path: Path
) -> None:
    """What one call uses is bounded: it stops there, and says so; one object may always come."""
    files = {path: path.encode() * 3_000 for path in "abcde"}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    fetcher = fetching(root)
    told = await deliver(fetcher, source, manifest, at_once_bytes=7_000)
    assert ([*read(told, files)], told[-1].has_more) == ([*"ab"], True)
    told = await deliver(fetcher, source, manifest, after="b", at_once_bytes=1)
    assert ([*read(told, files)], told[-1].has_more) == ([*"c"], True)
    told = await deliver(fetcher, source, manifest, after="c", at_once_bytes=6_000)
    assert ([*read(told, files)], told[-1].has_more) == ([*"de"], False)


async def test_what_was_told_leaves_the_cache(source: Source, root: Path, tmp_path: Path) -> None:
    """What a call has told of stays as long as the call lasts, and may leave after it."""
    files = {path: path.encode() * 3_000 for path in "abc"}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    fetcher = fetching(root, quota_bytes=7_000)
    with fetcher.holding() as hold:
        await fetcher.fetch(source, blob(files["a"]), hold)
        await deliver(fetcher, source, manifest, ["b"])
        await deliver(fetcher, source, manifest, ["c"])
        assert digest(files["a"])[7:] in _names(root)
        assert (await fetcher.trim(0)).files == 1
    assert (await fetcher.trim(0)).files == 1
    assert _names(root) == set()


async def test_slow_client_has_all_fetched_ahead(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """However slow the client, no more than a bounded number of objects is fetched ahead."""
    files = {f"{number:03}": b"%d" % number for number in range(100)}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    go_on, told = anyio.Event(), list[Told]()

    async def send(one: Told) -> None:
        await go_on.wait()
        told.append(one)

    fetcher = fetching(root)
    with fetcher.holding() as hold:
        async with anyio.create_task_group() as tasks:
            delivery = Delivery(source, fetcher, hold, send, Room(ROOM, ROOM))
            tasks.start_soon(delivery.deliver, manifest, Wanted())
            while len(store.blobs) < AHEAD:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            assert len(store.blobs) <= AHEAD + 1
            go_on.set()
    assert read(told, files) == files


async def test_a_large_file_comes_in_silence(
    source: Source, store: Counting, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a large file comes, it is told how far it is, after all before it, to each who waits for it."""
    monkeypatch.setattr(delivery, "LARGE_BYTES", 5_000)
    monkeypatch.setattr(delivery, "_STEP_BYTES", 2_000)
    files = {"a": b"a", "b": BIG, "c": BIG[:4_000]}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    store.waits_at = {5000}
    store.go_on = anyio.Event()
    calls: list[list[Told]] = [[], []]

    async def send(call: list[Told], one: Told) -> None:
        call.append(one)
        if all(each[-1:] and each[-1].coming for each in calls):
            store.go_on.set()

    fetcher = fetching(root)
    with fetcher.holding() as hold:
        async with anyio.create_task_group() as tasks:
            for call in calls:
                made = Delivery(source, fetcher, hold, partial(send, call), Room(ROOM, ROOM))
                tasks.start_soon(made.deliver, manifest, Wanted())
    for call in calls:
        assert read(call, files) == files
        assert [place.path for place in call[0].places] == ["a"]
        coming = [one.coming for one in call if one.coming]
        assert {one.path for one in coming} == {"b"}
        assert all(0 < one.bytes <= len(BIG) and one.bytes % 1000 in (0, 500) for one in coming)
        assert coming[0].bytes <= 5_000
        assert [one.bytes for one in coming] == sorted({one.bytes for one in coming})


async def test_a_file_that_is_told_is_written_anew(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Bytes that are fetched again come into another file: somebody may be copying from the first."""
    await put(source, tmp_path, BIG)
    name = hashlib.sha256(BIG).hexdigest()
    (root / "partial").mkdir(parents=True)
    first = root / "partial" / name
    wrong = BIG[::-1] + b"\1" * 10
    first.write_bytes(wrong)
    with first.open("rb") as opened:
        assert await fetch(fetching(root), source, blob(BIG)) == BIG
        assert opened.read() == wrong


def test_rubbish_that_is_told_is_written_over(root: Path) -> None:
    """A partial file of another length is replaced, and not written to."""
    folder = CacheFolder(str(root), "b", HandClock(), _nobody)
    (root / "partial").mkdir(parents=True)
    first = root / "partial" / "name"
    first.write_bytes(b"rubbish")
    with first.open("rb") as opened, folder.open_partial("name", 9_500) as again:
        assert not again.is_resumed
        again.write(memoryview(b"bytes"), 0)
        assert opened.read() == b"rubbish"
    assert first.stat().st_size == 9_510


async def test_one_damaged_object_is_passed_over(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """A damaged object fails the call, whatever else there is, and the error names it."""
    files = {"a": b"a", "b": BIG, "c": b"c"}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    hex_ = digest(BIG)[7:]
    await store.delete(f"cats/blobs/sha256/{hex_[:2]}/{hex_}")
    with pytest.raises(StoreDamaged, match=hex_):
        await deliver(fetching(root), source, manifest)


async def test_a_folders_files_are_fetched(root: Path, tmp_path: Path) -> None:
    """Of a store that is a folder the client copies the files themselves, and compares them."""
    registry = ObjectRegistry(MemoryStore(HandClock(), f"file://{tmp_path}/store%20x"))
    manifest = await put_files(registry, tmp_path, {"a": b"abc"})
    source = Source("file:", "cats", registry)
    (told, last) = await deliver(fetching(root), source, manifest, at_once_bytes=1)
    hex_ = digest(b"abc")[7:]
    (place,) = told.places
    assert place.file == f"{tmp_path}/store x/cats/blobs/sha256/{hex_[:2]}/{hex_}"
    assert not place.is_checked
    assert last.is_last
    assert not root.exists()
