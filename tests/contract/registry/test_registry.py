"""What every registry over an object store must do, against each kind of store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest
import zstandard

from tests.support.memory import MemoryStore
from tests.unit.registry import example
from tests.unit.registry.example import NAME, PROJECT
from wherry.errors import BadName, StoreChanged, StoreDamaged, StoreError
from wherryd.clock import SystemClock
from wherryd.model import Alias, ManifestEntry
from wherryd.registry import layout, records
from wherryd.registry.base import Identity, Kind, Lost, Named, Registry
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import (
    EtagMismatch,
    FileBody,
    ObjectExists,
    ObjectStat,
    ObjectStore,
    OutcomeUnknown,
    WriteConflict,
)
from wherryd.stores.folder import FolderStore

HEX = "ab" * 32


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store."""
    if request.param == "memory":
        return MemoryStore(SystemClock())
    (tmp_path / "store").mkdir()
    return FolderStore(str(tmp_path / "store"), SystemClock())


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    """A registry over it."""
    return ObjectRegistry(store)


def body(path: Path, data: bytes | None = None) -> FileBody:
    """Say what to put of a file; write it first if its bytes are given."""
    if data is not None:
        path.write_bytes(data)
    data = path.read_bytes()
    return FileBody(str(path), 0, len(data), bytes.fromhex(example.digest(data)[7:]))


async def fill(store: ObjectStore, folder: Path) -> None:
    """Put the store of docs/store-format.md."""
    for key, data in (await anyio.to_thread.run_sync(example.objects, folder)).items():
        await store.put(key, data)


async def collect(chunks: AsyncIterator[bytes]) -> bytes:
    """Read a stream whole."""
    return b"".join([chunk async for chunk in chunks])


class TestIdentity:
    async def test_an_empty_store_has_none(self, registry: Registry) -> None:
        """A store that nobody wrote to is told from one that has an id."""
        assert await registry.identify() is None

    async def test_the_first_id_stays(self, registry: Registry) -> None:
        """Whoever comes second gets the id that is there."""
        assert await registry.found("one") == Identity(1, "one")
        assert await registry.found("two") == Identity(1, "one")
        assert await registry.identify() == Identity(1, "one")

    async def test_a_newer_store_is_refused(self, store: ObjectStore, registry: Registry) -> None:
        """A format that is not known is neither read nor written over."""
        await store.put(layout.IDENTITY, b'{"format":2,"store":"x"}')
        with pytest.raises(StoreError, match="newer"):
            await registry.identify()
        with pytest.raises(StoreError, match="newer"):
            await registry.found("two")


class TestType:
    async def test_a_free_name_has_none(self, registry: Registry) -> None:
        """Reading a type claims nothing."""
        assert await registry.read_type("p", "n") is None
        assert await registry.read_type("p", "n") is None

    async def test_the_first_type_stays(self, registry: Registry) -> None:
        """A name belongs to one type for ever; whoever is refused learns which."""
        assert await registry.claim_type("p", "n", "model") == "model"
        assert await registry.claim_type("p", "n", "dataset") == "model"
        assert await registry.claim_type("p", "n", "model") == "model"
        assert await registry.read_type("p", "n") == "model"

    async def test_names_do_not_share_types(self, registry: Registry) -> None:
        """The same name in another project, and another name, are free."""
        await registry.claim_type("p", "n", "model")
        assert await registry.read_type("p", "m") is None
        assert await registry.read_type("q", "n") is None

    async def test_names_that_differ_in_case_are_refused_where_case_folds(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """Two names on one object would share versions; the second is the user's error."""
        await registry.claim_type("cats", "model", "model")
        claim = await store.get(layout.artifact_key("cats", "model"))
        await store.put(layout.artifact_key("cats", "Model"), claim.body)
        await store.put(layout.artifact_key("Cats", "model"), claim.body)
        for project, name in (("cats", "Model"), ("Cats", "model")):
            with pytest.raises(BadName, match="case"):
                await registry.read_type(project, name)
            with pytest.raises(BadName, match="case"):
                await registry.claim_type(project, name, "model")


class TestBytes:
    async def test_a_blob_is_there_once_it_was_put(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """A blob belongs to its project, and putting it again does no harm."""
        blob = body(tmp_path / "f", b"abc")
        digest = example.digest(b"abc")
        assert not await registry.has_blob("p", digest, 3)
        await registry.put_blob("p", digest, blob)
        await registry.put_blob("p", digest, blob)
        assert await registry.has_blob("p", digest, 3)
        assert not await registry.has_blob("q", digest, 3)
        assert await collect(registry.open_entry("p", ManifestEntry("f", digest, 3))) == b"abc"

    async def test_a_blob_of_another_size_does_not_count(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """What another program cut off is sent again."""
        await store.put(layout.blob_key("p", example.digest(b"abc")), b"ab")
        assert not await registry.has_blob("p", example.digest(b"abc"), 3)

    async def test_a_blob_under_anothers_digest_is_not_sent(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """The digest that the store checks is the one that the key says."""
        with pytest.raises(ValueError, match="sha256"):
            await registry.put_blob("p", example.digest(b"x"), body(tmp_path / "f", b"abc"))
        assert not await registry.has_blob("p", example.digest(b"x"), 3)

    async def test_a_manifest_is_read_back(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """A manifest is found by the digest of its plain bytes."""
        made = await anyio.to_thread.run_sync(example.write_manifest, tmp_path / "m")
        file = body(tmp_path / "m")
        assert not await registry.has_manifest("p", made.manifest, file.size)
        await registry.put_manifest("p", made.manifest, file)
        assert await registry.has_manifest("p", made.manifest, file.size)
        assert [
            entry async for entry in registry.open_manifest("p", made.manifest)
        ] == example.LINES

    @pytest.mark.parametrize("damage", ["cut", "empty", "other bytes", "more behind it", "another"])
    async def test_a_damaged_manifest_passes_for_whole(
        self, store: ObjectStore, registry: Registry, tmp_path: Path, damage: str
    ) -> None:
        """A manifest counts as there only if its size is the one of the file, and its digest its own."""
        made = await anyio.to_thread.run_sync(example.write_manifest, tmp_path / "m")
        whole = body(tmp_path / "m")
        packed = (tmp_path / "m").read_bytes()
        there = {
            "cut": packed[:-1],
            "empty": b"",
            "other bytes": packed[:40] + bytes(len(packed) - 40),
            "more behind it": packed + packed,
            "another": zstandard.compress(b"x" * 9),
        }[damage]
        await store.put(layout.manifest_key("p", made.manifest), there)
        assert not await registry.has_manifest("p", made.manifest, whole.size)
        assert not await registry.has_manifest("p", made.manifest, len(there))

    async def test_sync_passes_over_what_is_gone(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """Blobs and manifest that were put can be synced, more than once; a lost one is named."""
        digest = example.digest(b"abc")
        manifest = example.digest(b"m")
        await registry.found("one")
        await registry.put_blob("p", digest, body(tmp_path / "f", b"abc"))
        await registry.put_manifest("p", manifest, body(tmp_path / "m", b"whatever"))
        await registry.sync("p", [digest], [manifest], "one")
        await registry.sync("p", [digest], [], "one")
        await store.delete(layout.blob_key("p", digest))
        with pytest.raises(StoreDamaged, match=layout.blob_key("p", digest)):
            await registry.sync("p", [digest], [manifest], "one")

    async def test_another_store_passes_for_the_known_one(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """Whatever lies at the address: nothing is said to be in a store that is not there."""
        digest = example.digest(b"abc")
        await registry.put_blob("p", digest, body(tmp_path / "f", b"abc"))
        await registry.create_version("p", "n", 0, b"{}")

        async def check() -> None:
            for asked in (
                registry.sync("p", [digest], [], "one"),
                registry.sync("p", [example.digest(b"gone")], [], "one"),
                registry.sync_version("p", "n", 0, "one"),
                registry.read_versions("p", "n", [0], "one"),
                registry.read_type("p", "n", "one"),
                registry.read_alias("p", "n", "best", "one"),
                registry.check_identity("one"),
                registry.lost("p", [Named(Kind.BLOB, digest)], "one"),
                registry.lost("p", [], "one"),
            ):
                with pytest.raises(StoreChanged, match=f"at {store.address} is .*, not one"):
                    await asked

        await check()
        await registry.found("two")
        await check()
        await registry.check_identity("two")
        assert await registry.read_type("p", "n", "two") is None
        assert await registry.read_alias("p", "n", "best", "two") is None

    async def test_what_is_gone_looks_there(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """What a version names is there, or is told with its key; another size is not it, if one is known."""
        await registry.found("one")
        digest = example.digest(b"abc")
        named = [
            Named(Kind.BLOB, digest, 3),
            Named(Kind.PACK, digest[7:], 3),
            Named(Kind.MANIFEST, digest),
        ]
        keys = [
            layout.blob_key("p", digest),
            layout.pack_key("p", digest[7:]),
            layout.manifest_key("p", digest),
        ]
        assert [each.key for each in await registry.lost("p", named, "one")] == keys
        for key in keys:
            await store.put(key, b"abc")
        assert await registry.lost("p", named, "one") == []
        assert len(await registry.lost("q", named, "one")) == 3, "of another project"
        await store.put(keys[1], b"abcd")
        assert await registry.lost("p", named, "one") == [Lost(named[1], keys[1])]
        assert await registry.lost("p", [Named(Kind.PACK, digest[7:])], "one") == []

    async def test_versions_of_a_store_are_read_apart(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """Several numbers are read at once, and what is not there is told."""
        await fill(store, tmp_path)
        await registry.found("one")
        identity = await registry.identify()
        assert identity is not None
        read = await registry.read_versions(PROJECT, NAME, [1, 7, 0], identity.store)
        alone = [await registry.read_version(PROJECT, NAME, number) for number in (1, 7, 0)]
        assert read == alone and read[1] is None and read[0] is not None

    async def test_packed_bytes_are_read(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """An entry in a pack is its slice of it, and an empty one needs no byte."""
        await fill(store, tmp_path)
        assert await collect(registry.open_entry(PROJECT, example.LINES[0])) == example.EVAL
        empty = ManifestEntry("e", example.digest(b""), 0, pack=example.PACK_NAME, offset=23)
        assert await collect(registry.open_entry(PROJECT, empty)) == b""

    @pytest.mark.parametrize("found", [None, b"", b"ab", b"abd", b"abcd"])
    async def test_bytes_that_are_not_the_entrys_are_damage(
        self, store: ObjectStore, registry: Registry, found: bytes | None
    ) -> None:
        """Missing, cut, changed and longer objects are named, with the key."""
        key = layout.blob_key("p", example.digest(b"abc"))
        if found is not None:
            await store.put(key, found)
        with pytest.raises(StoreDamaged, match=key):
            await collect(registry.open_entry("p", ManifestEntry("f", example.digest(b"abc"), 3)))

    @pytest.mark.parametrize("pack", [None, b"xx", b"xxab", b"xxabd", b"abc"])
    async def test_a_slice_that_is_not_the_entrys_is_damage(
        self, store: ObjectStore, registry: Registry, pack: bytes | None
    ) -> None:
        """Missing, cut and changed packs are damage."""
        if pack is not None:
            await store.put(layout.pack_key("p", HEX), pack)
        entry = ManifestEntry("f", example.digest(b"abc"), 3, pack=HEX, offset=2)
        with pytest.raises(StoreDamaged):
            await collect(registry.open_entry("p", entry))

    async def test_a_manifest_that_is_gone_is_damage(self, registry: Registry) -> None:
        """A version names it, so it has to be there."""
        with pytest.raises(StoreDamaged, match="missing"):
            await anext(registry.open_manifest("p", example.digest(b"m")))

    async def test_a_reference_has_no_bytes_here(self, registry: Registry) -> None:
        """A reference's bytes stay where they are."""
        with pytest.raises(ValueError, match="reference"):
            await anext(registry.open_entry("p", example.LINES[1]))


class TestVersions:
    async def test_records_are_read_back_as_they_were_sent(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """A version and a tombstone are what their bytes say."""
        await fill(store, tmp_path)
        stored = await registry.read_version(PROJECT, NAME, 1)
        assert stored is not None
        assert stored.record == await anyio.to_thread.run_sync(
            lambda: example.record(example.write_manifest(tmp_path / "again"))
        )
        deleted = await registry.read_version(PROJECT, NAME, 0)
        assert deleted is not None
        assert deleted.record == example.TOMBSTONE
        assert await registry.read_version(PROJECT, NAME, 2) is None

    async def test_a_number_is_given_once(self, store: ObjectStore, registry: Registry) -> None:
        """A second record for a number is refused, be it the same one."""
        await registry.create_version("p", "n", 0, b"one")
        for record in (b"one", b"two"):
            with pytest.raises(ObjectExists):
                await registry.create_version("p", "n", 0, record)
        assert (await store.get(layout.version_key("p", "n", 0))).body == b"one"

    async def test_a_record_under_anothers_number_is_damage(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """A record that was copied to another number does not count as that one."""
        await store.put(layout.version_key("p", "n", 5), records.encode(example.TOMBSTONE))
        with pytest.raises(StoreDamaged, match="version 0"):
            await registry.read_version("p", "n", 5)

    async def test_a_tombstone_takes_the_records_place(
        self, store: ObjectStore, registry: Registry, tmp_path: Path
    ) -> None:
        """Deleting replaces exactly the record that was read."""
        await fill(store, tmp_path)
        stored = await registry.read_version(PROJECT, NAME, 1)
        assert stored is not None
        tombstone = msgspec.structs.replace(example.TOMBSTONE, version=1)
        with pytest.raises(EtagMismatch):
            await registry.bury_version(PROJECT, NAME, 1, tombstone, '"another"')
        await registry.bury_version(PROJECT, NAME, 1, tombstone, stored.etag)
        with pytest.raises(EtagMismatch):
            await registry.bury_version(PROJECT, NAME, 1, tombstone, stored.etag)
        buried = await registry.read_version(PROJECT, NAME, 1)
        assert buried is not None
        assert buried.record == tombstone

    async def test_a_listing_shows_numbers_in_order(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """Only records count, numbers of nine digits come last, and only those above are given."""
        numbers = [0, 1, 2, 10, 99_999_999, 100_000_000, 1_000_000_000]
        for number in numbers:
            await registry.create_version("p", "n", number, b"{}")
        await store.put(layout.edit_key("p", "n", 3), b"{}")
        await store.put(f"{layout.versions_prefix('p', 'n')}v00000004.json.bak", b"{}")
        await registry.create_version("p", "n2", 7, b"{}")
        for after in (-1, 0, 1, 5, 99_999_998, 99_999_999, 100_000_000, 10**9):
            stamps = await registry.list_versions("p", "n", after)
            assert [stamp.version for stamp in stamps] == [n for n in numbers if n > after]

    async def test_a_listing_tells_when(self, store: ObjectStore, registry: Registry) -> None:
        """The store's own dates say which records need no reading."""
        await registry.create_version("p", "n", 0, b"{}")
        stat = await store.head(layout.version_key("p", "n", 0))
        assert [stamp.modified for stamp in await registry.list_versions("p", "n")] == [
            stat.modified
        ]

    async def test_a_listing_of_nothing_is_empty(self, registry: Registry) -> None:
        """An artifact without versions has none."""
        assert await registry.list_versions("p", "n") == []


class TestEdits:
    async def test_an_edit_replaces_one_that_was_not_seen(self, registry: Registry) -> None:
        """Of two that save something of a version one wins, and the other hears of it."""
        assert await registry.read_edit("p", "n", 1) is None
        other = msgspec.structs.replace(example.EDIT, description=None, tags=[], write="w2")
        await registry.write_edit("p", "n", example.EDIT, None)
        with pytest.raises(ObjectExists):
            await registry.write_edit("p", "n", other, None)
        seen = await registry.read_edit("p", "n", 1)
        assert seen is not None and seen.edit == example.EDIT
        await registry.write_edit("p", "n", other, seen.etag)
        with pytest.raises(EtagMismatch):
            await registry.write_edit("p", "n", example.EDIT, seen.etag)
        now = await registry.read_edit("p", "n", 1)
        assert now is not None and now.edit == other

    async def test_a_listing_passes_over_edits(self, registry: Registry) -> None:
        """A listing of versions tells of which something was saved; an edit alone is no version."""
        for number in range(3):
            await registry.create_version("p", "n", number, b"{}")
        for number in (1, 7):
            edit = msgspec.structs.replace(example.EDIT, version=number)
            await registry.write_edit("p", "n", edit, None)
        stamps = await registry.list_versions("p", "n")
        assert [(each.version, each.is_edited) for each in stamps] == [
            (0, False),
            (1, True),
            (2, False),
        ]
        assert [each.is_edited for each in await registry.list_versions("p", "n", 0)] == [
            True,
            False,
        ]

    async def test_an_edit_under_anothers_key_is_damage(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """What was saved of one version is never read as another's."""
        await store.put(layout.edit_key("p", "n", 2), records.encode(example.EDIT))
        with pytest.raises(StoreDamaged, match="version 1"):
            await registry.read_edit("p", "n", 2)


class TestAliases:
    async def test_an_alias_is_moved_only_from_where_it_was_seen(self, registry: Registry) -> None:
        """Of two that move an alias one wins, and the other hears of it."""
        one, two = Alias(1, "a b", 1, 1, "w1"), Alias(1, "a b", 2, 2, "w2")
        assert await registry.read_alias("p", "n", "a b") is None
        await registry.write_alias("p", "n", one, None)
        with pytest.raises(ObjectExists):
            await registry.write_alias("p", "n", two, None)
        seen = await registry.read_alias("p", "n", "a b")
        assert seen is not None
        assert seen.alias == one
        await registry.write_alias("p", "n", two, seen.etag)
        with pytest.raises(EtagMismatch):
            await registry.write_alias("p", "n", one, seen.etag)
        now = await registry.read_alias("p", "n", "a b")
        assert now is not None
        assert now.alias == two

    async def test_all_aliases_are_listed(self, store: ObjectStore, registry: Registry) -> None:
        """Removed ones too; other objects beside them are passed over."""
        aliases = [Alias(1, "a.json", None, 3, "w"), Alias(1, "é/".rstrip("/"), 0, 0, "w")]
        for alias in aliases:
            await registry.write_alias("p", "n", alias, None)
        await store.put(f"{layout.aliases_prefix('p', 'n')}notes.txt", b"x")
        found = await registry.list_aliases("p", "n")
        assert sorted(found, key=lambda alias: alias.alias) == aliases
        assert await registry.list_aliases("p", "m") == []

    async def test_an_alias_under_anothers_key_is_damage(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """A copied alias object would be written back to the wrong place."""
        await store.put(layout.alias_key("p", "n", "prod"), records.encode(example.ALIAS))
        with pytest.raises(StoreDamaged, match="best"):
            await registry.read_alias("p", "n", "prod")
        await store.put(layout.alias_key("p", "m", "Best"), records.encode(example.ALIAS))
        with pytest.raises(BadName, match="case"):
            await registry.read_alias("p", "m", "Best")


class TestArtifacts:
    async def test_the_names_of_a_project_are_listed(
        self, store: ObjectStore, registry: Registry
    ) -> None:
        """Names come back decoded; what no name is written like is passed over."""
        for name in ("a b", "é", "z"):
            await registry.claim_type("p", name, "t")
        await registry.claim_type("q", "other", "t")
        await store.put("p/artifacts/not a name/x.json", b"x")
        found = [name async for name in registry.list_artifacts("p")]
        assert sorted(found) == ["a b", "z", "é"]
        assert [name async for name in registry.list_artifacts("r")] == []


class Refusing:
    """A store whose conditional writes all end in one way; counts them."""

    def __init__(self, outcome: Exception) -> None:
        self.outcome = outcome
        self.writes = 0

    async def put_if_absent(self, key: str, body: bytes) -> str:
        """Refuse."""
        self.writes += 1
        raise self.outcome

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """Refuse."""
        self.writes += 1
        raise self.outcome


@pytest.mark.parametrize("outcome", [WriteConflict(), OutcomeUnknown("no answer")])
async def test_a_conditional_write_is_sent_once(outcome: Exception) -> None:
    """What is not known is told, and nothing is repeated below the one who knows."""
    calls: list[Callable[[Registry], Awaitable[object]]] = [
        lambda registry: registry.found("x"),
        lambda registry: registry.claim_type("p", "n", "t"),
        lambda registry: registry.create_version("p", "n", 0, b"{}"),
        lambda registry: registry.bury_version("p", "n", 0, example.TOMBSTONE, "e"),
        lambda registry: registry.write_alias("p", "n", example.ALIAS, None),
        lambda registry: registry.write_alias("p", "n", example.ALIAS, "e"),
    ]
    for call in calls:
        store = Refusing(outcome)
        with pytest.raises(type(outcome)):
            await call(ObjectRegistry(store))  # type: ignore[arg-type]
        assert store.writes == 1


async def test_no_empty_range_is_asked_for() -> None:
    """HTTP has no range of no bytes: an empty entry in a pack is answered without one."""
    store = Ranges(SystemClock())
    entry = ManifestEntry("e", example.digest(b""), 0, pack=HEX, offset=0)
    assert await collect(ObjectRegistry(store).open_entry("p", entry)) == b""


class Ranges(MemoryStore):
    """Answers as HTTP does (RFC 9110 section 14.1.2)."""

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Refuse a range without bytes."""
        assert size != 0, "416 Range Not Satisfiable"
        async for chunk in super().stream(key, offset, size):
            yield chunk


async def test_a_stream_is_closed_with_its_reader(tmp_path: Path) -> None:
    """A reader that stops early gives the store's connection back at once."""
    store = Closable(SystemClock())
    await store.put(layout.blob_key("p", example.digest(b"abc")), b"abc")
    chunks = ObjectRegistry(store).open_entry("p", ManifestEntry("f", example.digest(b"abc"), 3))
    assert await anext(chunks) == b"abc"
    assert not store.closed
    await chunks.aclose()  # type: ignore[attr-defined]
    assert store.closed


class Closable(MemoryStore):
    """Notes whether its stream was closed."""

    closed = False

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Give the bytes, and note the end."""
        try:
            async for chunk in super().stream(key, offset, size):
                yield chunk
        finally:
            self.closed = True


class Growing(MemoryStore):
    """Counts what a listing looks at."""

    looked = 0

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        """List, and count."""
        async for stat in super().list(prefix, start_after):
            self.looked += 1
            yield stat


async def test_looking_for_new_versions_does_not_list_the_old_ones() -> None:
    """The way of a commit does not get longer with the artifact's history."""
    store = Growing(SystemClock())
    registry = ObjectRegistry(store)
    for number in range(50):
        await registry.create_version("p", "n", number, b"{}")
    assert [stamp.version for stamp in await registry.list_versions("p", "n", 47)] == [48, 49]
    assert store.looked == 2
