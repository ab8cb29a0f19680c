"""What is in a store, for those who use artifacts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock, digest
from tests.unit.daemon.stored import Ranges, put_files, put_packed, version_record
from wherry.errors import NotFoundError, StoreDamaged, TypeTaken
from wherryd.model import (
    Alias,
    ManifestEntry,
    Tombstone,
)
from wherryd.read.files import AHEAD, SMALL_BYTES, Chunk, Reader, Wanted, batches
from wherryd.read.stretches import GAP_BYTES
from wherryd.read.versions import Versions, list_artifacts
from wherryd.registry.objects import ObjectRegistry
from wherryd.registry.records import encode


@pytest.fixture
def store() -> MemoryStore:
    """A store in memory."""
    return MemoryStore(HandClock())


@pytest.fixture
def registry(store: MemoryStore) -> ObjectRegistry:
    """Its registry."""
    return ObjectRegistry(store)


async def _commit(registry: ObjectRegistry, number: int, name: str = "model") -> None:
    await registry.claim_type("cats", name, "kind")
    await registry.create_version("cats", name, number, encode(version_record(number)))


async def _delete(registry: ObjectRegistry, number: int) -> None:
    stored = await registry.read_version("cats", "model", number)
    assert stored is not None
    record = stored.record
    tombstone = Tombstone(1, number, record.request, record.digest, record.content, "2026-11-24T…")
    await registry.bury_version("cats", "model", number, tombstone, stored.etag)


@pytest.fixture
async def versions(registry: ObjectRegistry) -> Versions:
    """The versions v0 to v4, of which v1 and v4 are deleted; `best` is v2, `old` was removed."""
    for number in range(5):
        await _commit(registry, number)
    await _delete(registry, 1)
    await _delete(registry, 4)
    for alias, number in (("best", 2), ("old", None), ("dead", 4)):
        written = Alias(format=1, alias=alias, version=number, highest=4, write="w")
        await registry.write_alias("cats", "model", written, None)
    return Versions(registry, "cats", "model")


@pytest.mark.parametrize(
    ("asked", "number", "aliases"),
    [("", 3, ["latest"]), ("latest", 3, ["latest"]), ("v0", 0, []), ("best", 2, ["best"])],
)
async def test_wrong_version_is_found(
    versions: Versions, asked: str, number: int, aliases: list[str]
) -> None:
    """A number, an alias, or the highest that is not deleted; with the aliases that it bears now."""
    found = await versions.get(asked)
    assert (found.record.version, found.aliases) == (number, aliases)


@pytest.mark.parametrize("asked", ["v1", "v4", "v5", "old", "dead", "never"])
async def test_deleted_version_is_found(versions: Versions, asked: str) -> None:
    """What is deleted, removed or was never there is not found, and the error names it."""
    with pytest.raises(NotFoundError, match="cats/model"):
        await versions.get(asked)


async def test_unknown_artifact_is_found(registry: ObjectRegistry, versions: Versions) -> None:
    """An artifact that is not there, or of another type, is an error of its own."""
    with pytest.raises(NotFoundError, match="cats/other"):
        await Versions(registry, "cats", "other").get("")
    with pytest.raises(TypeTaken, match="'kind', not 'dataset'"):
        await Versions(registry, "cats", "model", "dataset").get("")


async def test_versions_come_in_another_order(versions: Versions) -> None:
    """Newest first, without tombstones; only the first is `latest`."""
    found = [(each.record.version, each.aliases) async for each in versions.newest_first()]
    assert found == [(3, ["latest"]), (2, ["best"]), (0, [])]


async def test_many_versions_are_lost(registry: ObjectRegistry) -> None:
    """More versions than are read at once all come, in order."""
    for number in range(40):
        await _commit(registry, number)
    found = [
        each.record.version async for each in Versions(registry, "cats", "model").newest_first()
    ]
    assert found == list(range(39, -1, -1))


async def test_artifacts_of_other_types_are_listed(
    registry: ObjectRegistry, versions: Versions
) -> None:
    """Artifacts are listed with their type and highest version; all, or those of a type."""
    await registry.claim_type("cats", "pets", "dataset")
    listed = [(a.name, a.type, a.latest) async for a in list_artifacts(registry, "cats")]
    assert listed == [("model", "kind", 3), ("pets", "dataset", -1)]
    assert [a.name async for a in list_artifacts(registry, "cats", "dataset")] == ["pets"]


# ── files ──────────────────────────────────────────────────────────────────────────────────────
async def _read(registry: ObjectRegistry, manifest: str, wanted: Wanted) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    path, is_open = "", False

    async def send(chunk: Chunk) -> None:
        nonlocal path, is_open
        assert (chunk.entry is None) == is_open
        if chunk.entry is not None:
            path = chunk.entry.path
            files[path] = b""
        files[path] += chunk.data
        is_open = not chunk.last

    await Reader(registry, "cats", send).read(manifest, wanted)
    assert not is_open
    assert list(files) == sorted(files)
    return files


async def test_files_come_out_of_order(registry: ObjectRegistry, tmp_path: Path) -> None:
    """Small and large files come whole and in order of their paths; references without bytes."""
    files = {f"{number:03d}": b"%d" % number for number in range(50)}
    files |= {"020-large": b"x" * (3 * SMALL_BYTES), "empty": b""}
    manifest = await put_files(registry, tmp_path, files)
    assert await _read(registry, manifest, Wanted()) == {**files, "zzz": b""}


async def test_manifest_comes_in_another_order(registry: ObjectRegistry, tmp_path: Path) -> None:
    """A manifest's entries come in batches, by path, references among them."""
    manifest = await put_files(
        registry, tmp_path, {"data/x": b"1", "data/y": b"2", "database/z": b"3"}
    )
    found = [batch async for batch in batches(registry, "cats", manifest, Wanted())]
    paths = [entry.path for batch in found for entry in batch]
    assert paths == ["data/x", "data/y", "database/z", "zzz"]


async def test_named_paths_are_left_out(registry: ObjectRegistry, tmp_path: Path) -> None:
    """Paths that are asked for come alone; one that is not there is an error that names it."""
    manifest = await put_files(registry, tmp_path, {"a": b"1", "b": b"2", "c": b"3"})
    assert await _read(registry, manifest, Wanted(paths=["c", "a"])) == {"a": b"1", "c": b"3"}
    with pytest.raises(NotFoundError, match="'nope'"):
        await _read(registry, manifest, Wanted(paths=["a", "nope"]))


async def test_missing_blob_reads_as_empty(
    registry: ObjectRegistry, store: MemoryStore, tmp_path: Path
) -> None:
    """Bytes that are gone from the store are an error, small and large alike."""
    manifest = await put_files(
        registry, tmp_path, {"small": b"1", "large": b"2" * (SMALL_BYTES + 1)}
    )
    for path, data in (("small", b"1"), ("large", b"2" * (SMALL_BYTES + 1))):
        await store.delete(f"cats/blobs/sha256/{digest(data)[7:9]}/{digest(data)[7:]}")
        with pytest.raises(StoreDamaged):
            await _read(registry, manifest, Wanted(paths=[path]))


async def test_slow_reader_fills_memory(registry: ObjectRegistry, tmp_path: Path) -> None:
    """However slow the reader, no more than a bounded number of files is read ahead."""
    files = {f"{number:03d}": b"%d" % number for number in range(100)}
    manifest = await put_files(registry, tmp_path, files)
    opened: list[str] = []

    class Counting(ObjectRegistry):
        async def open_entry(self, project: str, entry: ManifestEntry) -> AsyncIterator[bytes]:
            opened.append(entry.path)
            async with aclosing(super().open_entry(project, entry)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk

    go_on, sent = anyio.Event(), []

    async def send(chunk: Chunk) -> None:
        await go_on.wait()
        sent.append(chunk)

    counting = Counting(registry._store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Reader(counting, "cats", send).read, manifest, Wanted())
        await anyio.wait_all_tasks_blocked()
        assert 1 <= len(opened) <= AHEAD + 1
        go_on.set()
    assert len(sent) == 101
    assert msgspec.structs.asdict(sent[0])["last"]


# ── packs ──────────────────────────────────────────────────────────────────────────────────────
async def test_each_packed_file_is_asked_for(tmp_path: Path) -> None:
    """Files that lie together in a pack are read in one go, up to 1 MiB at a time."""
    store = Ranges()
    registry = ObjectRegistry(store)
    files = {f"{number:04d}": b"%04d" % number * 64 for number in range(10_000)}
    manifest = await put_packed(registry, tmp_path, files, [sorted(files)])
    assert await _read(registry, manifest, Wanted()) == files
    assert len(store.asked) == 10  # 1000 entries each, 256 bytes
    store.asked.clear()
    large = {f"{number:02d}": bytes([number]) * 300_000 for number in range(10)}
    manifest = await put_packed(registry, tmp_path, large, [sorted(large)])
    assert await _read(registry, manifest, Wanted()) == large
    assert store.asked == [(900_000 * n, 900_000) for n in range(3)] + [(2_700_000, 300_000)]


async def test_far_files_are_read_together(tmp_path: Path) -> None:
    """What lies between two files is passed over where it is little, and not read where it is much; files
    that share bytes, are empty, or change packs come right.
    """
    store = Ranges()
    registry = ObjectRegistry(store)
    files = {
        "a": b"a" * 10,
        "b": b"b" * GAP_BYTES,
        "c": b"c" * 10,
        "d": b"d" * (GAP_BYTES + 1),
        "e": b"e" * 10,
        "f": b"",
        "g": b"a" * 10,
        "h": b"h",
    }
    manifest = await put_packed(registry, tmp_path, files, [[*"abcdef"], [*"gh"]])
    assert await _read(registry, manifest, Wanted()) == files
    assert len(store.asked) == 2
    store.asked.clear()
    wanted = {path: files[path] for path in "acefh"}
    assert await _read(registry, manifest, Wanted(paths=wanted)) == wanted
    after_d = 10 + GAP_BYTES + 10 + GAP_BYTES + 1
    assert store.asked == [(0, 20 + GAP_BYTES), (after_d, 10), (10, 1)]
    assert await _read(registry, manifest, Wanted(paths=["f"])) == {"f": b""}


@pytest.mark.parametrize("damage", ["a byte", "cut", "gone"])
async def test_damaged_pack_is_handed_out(tmp_path: Path, damage: str) -> None:
    """A slice that is not what its entry's digest says is an error that names the entry or the pack."""
    store = Ranges()
    registry = ObjectRegistry(store)
    files = {"a": b"a" * 10, "b": b"b" * 10}
    manifest = await put_packed(registry, tmp_path, files, [["a", "b"]])
    (key,) = [key for key in store._objects if "/packs/" in key]
    if damage == "gone":
        await store.delete(key)
    else:
        await store.put(key, b"a" * 10 + (b"b" * 9 + b"x" if damage == "a byte" else b"b" * 9))
    with pytest.raises(StoreDamaged, match=key.rpartition("/")[2]):
        await _read(registry, manifest, Wanted())
    if damage == "a byte":
        assert await _read(registry, manifest, Wanted(paths=["a"])) == {"a": b"a" * 10}
