"""The cache: each object is fetched once, whole and compared, and what is not used leaves it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock, digest
from tests.unit.daemon.stored import Ranges, put_files, put_packed
from wherry.errors import NotFoundError, StoreDamaged, StoreUnavailable
from wherryd.read import cache
from wherryd.read.cache import CacheFolder
from wherryd.read.delivery import AHEAD, WHOLE_BYTES, Delivery, Told
from wherryd.read.fetching import CacheUnusable, Fetcher, Source
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


def folder(root: Path, boot: str = "boot", quota_bytes: int | None = ROOM) -> CacheFolder:
    """The cache, as a daemon that starts finds it."""
    return CacheFolder(str(root), boot, HandClock(), quota_bytes)


class Counting(Ranges):
    """Notes what of blobs is asked for; breaks off once, where a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: list[tuple[int, int | None]] = []
        self.breaks_at: set[int] = set()
        self.go_on = anyio.Event()
        self.go_on.set()

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if "/blobs/" in key:
            self.blobs.append((offset, size))
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


BIG = os.urandom(9_500)


# ── fetching ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("data", [b"", b"x", BIG[:1000], BIG[:1001], BIG])
async def test_object_is_fetched_twice(
    source: Source, store: Counting, root: Path, tmp_path: Path, data: bytes
) -> None:
    """An object comes whole, however many ranges it has; the second time it is there."""
    await put(source, tmp_path, data)
    fetcher = Fetcher(folder(root))
    assert await fetch(fetcher, source, blob(data)) == data
    asked = len(store.blobs)
    assert asked == max(1, -(-len(data) // 1000))
    assert await fetch(fetcher, source, blob(data)) == data
    assert await fetch(Fetcher(folder(root)), source, blob(data)) == data  # the next daemon's
    assert len(store.blobs) == asked
    assert not any((root / "partial").iterdir())


async def test_each_who_asks_fetches(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """Twenty who ask for an object at once have it fetched once."""
    await put(source, tmp_path, BIG)
    fetcher, got = Fetcher(folder(root)), list[bytes]()

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
    fetcher, got = Fetcher(folder(root)), list[bytes]()
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
        await fetch(Fetcher(folder(root)), source, blob(BIG))
    store.breaks_at, before = set(), len(store.blobs)
    assert await fetch(Fetcher(folder(root)), source, blob(BIG)) == BIG
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
    assert await fetch(Fetcher(folder(root)), source, blob(BIG)) == BIG
    assert len(store.blobs) == (11 if is_noted else 10)


@pytest.mark.parametrize("length", [0, 5, 9_499, 9_501, 20_000])
async def test_rubbish_is_gone_on_with(
    source: Source, root: Path, tmp_path: Path, length: int
) -> None:
    """A partial file of another length counts for nothing."""
    await put(source, tmp_path, BIG)
    (root / "partial").mkdir(parents=True)
    (root / "partial" / hashlib.sha256(BIG).hexdigest()).write_bytes(b"\1" * length)
    assert await fetch(Fetcher(folder(root)), source, blob(BIG)) == BIG


@pytest.mark.parametrize("stored", [BIG[:-1] + b"x", BIG + b"x", BIG[:-1], None])
@pytest.mark.parametrize("times", [1, 2])
async def test_damaged_object_is_kept(
    source: Source, store: Counting, root: Path, tmp_path: Path, stored: bytes | None, times: int
) -> None:
    """An object that is gone, cut or changed is an error each time, and no file of the cache."""
    await put(source, tmp_path, BIG)
    hex_ = digest(BIG)[7:]
    key = f"cats/blobs/sha256/{hex_[:2]}/{hex_}"
    await (store.delete(key) if stored is None else store.put(key, stored))
    if stored == BIG + b"x":  # its first bytes are the object's
        assert await fetch(Fetcher(folder(root)), source, blob(BIG)) == BIG
        return
    for _ in range(times):
        with pytest.raises(StoreDamaged, match=hex_):
            await fetch(Fetcher(folder(root)), source, blob(BIG))
    assert not [*root.glob("since-*/*/*")]


# ── what is there ──────────────────────────────────────────────────────────────────────────────
async def test_another_boots_bytes_are_trusted(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """What came in before this boot is compared once; what is damaged is fetched again."""
    good, bad = BIG, BIG[::-1]
    await put(source, tmp_path, good, bad)
    for data in (good, bad):
        await fetch(Fetcher(folder(root, "first")), source, blob(data))
    damaged = root / "since-first" / digest(bad)[7:9] / digest(bad)[7:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"\0" * len(bad))
    before = len(store.blobs)
    second = Fetcher(folder(root, "second"))
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
    fetcher = Fetcher(folder(root))
    await fetch(fetcher, source, blob(BIG))
    (file,) = root.glob("since-*/*/*")
    assert file.stat().st_mode & 0o777 == 0o400
    file.chmod(0o600)
    file.write_bytes(BIG[:-1])
    assert await fetch(fetcher, source, blob(BIG)) == BIG


def _names(root: Path) -> set[str]:
    return {path.name for path in root.glob("since-*/*/*")}


def _fill(cached: CacheFolder, clock: HandClock, *objects: bytes) -> list[str]:
    names = []
    for data in objects:
        name = hashlib.sha256(data).hexdigest()
        clock.advance(10)
        with cached.open_partial(name, len(data)) as partial:
            partial.write([data], 0)
            cached.keep(name, partial)
        names.append(name)
    return names


def test_the_wrong_one_leaves(root: Path) -> None:
    """What was not used for the longest time leaves first; what is in use stays; so does what fits."""
    clock = HandClock()
    cached = CacheFolder(str(root), "boot", clock, 4_000)
    one, two, three = _fill(cached, clock, b"1" * 1000, b"2" * 1000, b"3" * 1000)
    clock.advance(10)
    assert cached.find(one, 1000)
    cached.make_room(1000, ())
    assert _names(root) == {one, two, three}
    (four,) = _fill(cached, clock, b"4" * 1000)
    cached.make_room(1000, {three})  # a tenth of the quota more than is needed
    assert _names(root) == {three, four}
    cached.make_room(5_000, {three})
    assert _names(root) == {three}
    assert (cached.count().bytes, cached.count().files) == (1000, 1)


def test_what_nobody_goes_on_with_stays(root: Path) -> None:
    """Partial files count, and leave like others; so do the folders of other boots."""
    clock = HandClock()
    (old,) = _fill(CacheFolder(str(root), "old", clock, ROOM), clock, b"1" * 1000)
    cached = CacheFolder(str(root), "new", clock, 4_000)
    with cached.open_partial("ab" * 32, 2_000) as partial:
        partial.write([b"x" * 10], 0)
    assert cached.count().files == 2
    removed = cached.trim(0, {old})
    assert (removed.files, cached.count().files) == (1, 1)
    assert cached.trim(0, ()).bytes == 1000
    assert [path.name for path in root.iterdir()] == ["partial"]


def test_a_cache_without_a_quota_fills_the_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting it is a quarter of what is free, with what the cache has."""
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 7_000}))
    clock = HandClock()
    cached = CacheFolder(str(root), "boot", clock)
    assert cached.quota() == 1750
    _fill(cached, clock, b"1" * 1000)
    assert cached.quota() == 2000
    assert cached.fits(2000)
    assert not cached.fits(2001)


@pytest.mark.parametrize("trouble", ["quota", "disk"])
async def test_a_cache_that_takes_nothing_is_the_end(
    source: Source, root: Path, tmp_path: Path, trouble: str
) -> None:
    """What is more than the quota, or finds no room on the disk, is left to be read in passing."""
    await put(source, tmp_path, BIG)
    if trouble == "disk":
        root.write_bytes(b"in the way")
    fetcher = Fetcher(folder(root, quota_bytes=9_000 if trouble == "quota" else ROOM))
    with pytest.raises(CacheUnusable):
        await fetch(fetcher, source, blob(BIG))
    manifest = await put_files(source.registry, tmp_path, {"a": BIG})  # type: ignore[arg-type]
    told = await deliver(fetcher, source, manifest)
    assert [(place.path, place.file) for place in told[0].places] == [("a", "")]


# ── delivering ─────────────────────────────────────────────────────────────────────────────────
async def deliver(
    fetcher: Fetcher,
    source: Source,
    manifest: str,
    paths: Iterator[str] | list[str] | tuple[()] = (),
    after: str = "",
    most_bytes: int = ROOM,
) -> list[Told]:
    """All that is told, in order."""
    told = list[Told]()

    async def send(one: Told) -> None:
        told.append(one)

    with fetcher.holding() as hold:
        delivery = Delivery(source, fetcher, hold, send, most_bytes)
        await delivery.deliver(manifest, Wanted(paths), after)
    return told


def read(told: list[Told], files: dict[str, bytes]) -> dict[str, bytes]:
    """The bytes at the places that were told."""
    found = {}
    for place in (place for one in told for place in one.places):
        data = place.data
        if place.file:
            assert place.is_checked
            data = Path(place.file).read_bytes()[place.offset :][: len(files[place.path])]
        found[place.path] = data
    return found


async def test_each_packed_file_is_asked_for(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """10,001 small files of one pack are one request, and the second time none."""
    files = {f"{number:05}": b"%04d" % number * 64 for number in range(10_001)}
    manifest = await put_packed(source.registry, tmp_path, files, [sorted(files)])  # type: ignore[arg-type]
    fetcher = Fetcher(folder(root))
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
    fetcher = Fetcher(folder(root))
    few = ["03", "17"]
    told = await deliver(fetcher, source, manifest, few)
    assert read(told, files) == {path: files[path] for path in few}
    assert store.asked == [(600_000, 200_000), (3_400_000, 200_000)]
    many = sorted(files)[: WHOLE_BYTES // 200_000 + 1]
    assert read(await deliver(fetcher, source, manifest, many), files).keys() == {*many}
    assert store.asked[2:] == [(0, None)]
    assert read(await deliver(fetcher, source, manifest, few), files).keys() == {*few}
    assert len(store.asked) == 3


async def test_references_are_fetched(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """References lie elsewhere, and are not told; a path that is not there is an error."""
    files = {"a": b"a", "b": BIG}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    fetcher = Fetcher(folder(root))
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
    fetcher = Fetcher(folder(root))
    told = await deliver(fetcher, source, manifest, most_bytes=7_000)
    assert ([*read(told, files)], told[-1].has_more) == ([*"ab"], True)
    told = await deliver(fetcher, source, manifest, after="b", most_bytes=1)
    assert ([*read(told, files)], told[-1].has_more) == ([*"c"], True)
    told = await deliver(fetcher, source, manifest, after="c", most_bytes=6_000)
    assert ([*read(told, files)], told[-1].has_more) == ([*"de"], False)


async def test_what_was_told_leaves_the_cache(source: Source, root: Path, tmp_path: Path) -> None:
    """What a call has told of stays as long as the call lasts, and may leave after it."""
    files = {path: path.encode() * 3_000 for path in "abc"}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    cached = folder(root, quota_bytes=5_000)
    fetcher = Fetcher(cached)
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

    fetcher = Fetcher(folder(root))
    with fetcher.holding() as hold:
        async with anyio.create_task_group() as tasks:
            delivery = Delivery(source, fetcher, hold, send, ROOM)
            tasks.start_soon(delivery.deliver, manifest, Wanted())
            while len(store.blobs) < AHEAD:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            assert len(store.blobs) <= AHEAD + 1
            go_on.set()
    assert read(told, files) == files


async def test_one_damaged_object_is_passed_over(
    source: Source, store: Counting, root: Path, tmp_path: Path
) -> None:
    """What is before a damaged object is told; then the call fails, and names it."""
    files = {"a": b"a", "b": BIG, "c": b"c"}
    manifest = await put_files(source.registry, tmp_path, files)  # type: ignore[arg-type]
    hex_ = digest(BIG)[7:]
    await store.delete(f"cats/blobs/sha256/{hex_[:2]}/{hex_}")
    with pytest.raises(StoreDamaged, match=hex_):
        await deliver(Fetcher(folder(root)), source, manifest)


async def test_a_folders_files_are_fetched(root: Path, tmp_path: Path) -> None:
    """Of a store that is a folder the client copies the files themselves, and compares them."""
    registry = ObjectRegistry(MemoryStore(HandClock(), f"file://{tmp_path}/store%20x"))
    manifest = await put_files(registry, tmp_path, {"a": b"abc"})
    source = Source("file:", "cats", registry)
    (told, last) = await deliver(Fetcher(folder(root)), source, manifest, most_bytes=1)
    hex_ = digest(b"abc")[7:]
    (place,) = told.places
    assert place.file == f"{tmp_path}/store x/cats/blobs/sha256/{hex_[:2]}/{hex_}"
    assert not place.is_checked
    assert last.is_last
    assert not root.exists()
