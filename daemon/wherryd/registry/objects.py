"""The registry over any object store: one folder or bucket that the user owns.

Owns: which object each verb reads or writes, and what an answer means in Wherry's words.
Does not own: key names (``layout``), bytes (``records``, ``manifest``), which number is tried and what
follows an unknown outcome (``commit``), retries and limits (stores around the store).

Each verb sends at most one write, once. ``WriteConflict``, ``OutcomeUnknown`` and the store's errors
pass through: whoever called knows what may be done twice. Nothing is kept between two calls, but for what was
put (``puts``).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from wherry.errors import BadName, StoreDamaged, StoreUnavailable
from wherry.wire.address import split_store
from wherryd.model import Alias, Edit, ManifestEntry, Tombstone
from wherryd.registry import layout, records
from wherryd.registry.base import (
    Identity,
    Kind,
    Lost,
    Named,
    ObjectGone,
    Since,
    Stamp,
    StoredAlias,
    StoredEdit,
    StoredVersion,
    VersionStamp,
)
from wherryd.registry.drafts import ObjectDrafts
from wherryd.registry.identity import Exchanged
from wherryd.registry.manifest_reader import is_manifest, read_manifest
from wherryd.registry.puts import Puts, stamp
from wherryd.registry.records import ArtifactClaim, damaged
from wherryd.registry.runs import ObjectRuns
from wherryd.stores.base import (
    ConditionalWrites,
    FileBody,
    Object,
    ObjectExists,
    ObjectMissing,
    ObjectStat,
    ObjectStore,
    PackBody,
    Sink,
    UploadStat,
)
from wherryd.together import all_of

_T = TypeVar("_T")
#: Small objects that are read side by side.
_AT_ONCE = 16
_KEY_OF = {
    Kind.BLOB: layout.blob_key,
    Kind.PACK: layout.pack_key,
    Kind.MANIFEST: layout.manifest_key,
}


class ObjectRegistry:
    """Implements ``registry.base.Registry`` over an ``ObjectStore``; the store stays the caller's.

    Args:
        store: read, listed and put to.
        conditional: makes the writes that depend on what is there; None: the store itself.
        puts: shared by all who write to the store; None: nobody else does.
    """

    def __init__(
        self,
        store: ObjectStore,
        conditional: ConditionalWrites | None = None,
        puts: Puts | None = None,
    ) -> None:
        self._store = store
        self._conditional = conditional or store
        self._puts = puts or Puts()
        self._drafts = ObjectDrafts(store, self._conditional, self._get_in, self._sync)
        self._runs = ObjectRuns(store, self._conditional, self._puts)

    @property
    def drafts(self) -> ObjectDrafts:
        """The store's drafts."""
        return self._drafts

    @property
    def runs(self) -> ObjectRuns:
        """What the store keeps of runs."""
        return self._runs

    # ── the store and its artifacts ────────────────────────────────────────────────────────────
    async def identify(self) -> Identity | None:
        """Read the store's id; None where the store has none yet."""
        return await self._read(layout.IDENTITY, records.decode_identity)

    async def check_identity(self, store_id: str) -> None:
        """Raise ``StoreChanged`` unless the store here and now is this one."""
        await self._get_in([], store_id)

    async def found(self, store_id: str) -> Identity:
        """Give the store ``store_id`` unless it has an id; return the one it has."""
        mine = Identity(records.FORMAT, store_id)
        return await self._create(layout.IDENTITY, mine, records.decode_identity)

    async def read_type(self, project: str, name: str, in_store: str | None = None) -> str | None:
        """The type that the artifact's name belongs to; None while it is free."""
        claim = await self._read(layout.artifact_key(project, name), records.decode_claim, in_store)
        return _type_of(claim, project, name) if claim else None

    async def claim_type(self, project: str, name: str, type_: str) -> str:
        """Claim the name for ``type_`` unless it is taken; return the type it belongs to."""
        mine = ArtifactClaim(records.FORMAT, project, name, type_)
        key = layout.artifact_key(project, name)
        return _type_of(await self._create(key, mine, records.decode_claim), project, name)

    async def list_artifacts(self, project: str) -> AsyncIterator[str]:
        """Names of the project's artifacts, in order of their keys."""
        async with _closing(self._store.list_folders(layout.artifacts_prefix(project))) as segments:
            async for segment in segments:
                name = layout.parse_name(segment)
                if name is not None:
                    yield name

    # ── what versions name ─────────────────────────────────────────────────────────────────────
    async def has_blob(self, project: str, digest: str, size: int) -> bool:
        """Whether the project holds these bytes; an object of another size does not count."""
        return await self._size(layout.blob_key(project, digest)) == size

    async def put_blob(self, project: str, digest: str, body: FileBody) -> None:
        """Put a file's bytes under their digest; safe to repeat.

        Raises ``ValueError`` where the body, which the store checks, is not what the digest says.
        """
        if digest != f"sha256:{body.sha256.hex()}":
            raise ValueError(f"{body.path} has sha256:{body.sha256.hex()}, not {digest}")
        await self._store.put(layout.blob_key(project, digest), body)

    async def give_up_blob(self, project: str, digest: str, upload: str) -> None:
        """Remove the parts of an upload that was to become a blob; no error where it is gone."""
        await self._store.give_up(layout.blob_key(project, digest), upload)

    async def give_up(self, upload: UploadStat) -> None:
        """Remove the parts of one of these; no error where it is gone."""
        await self._store.give_up(upload.key, upload.upload)

    async def list_uploads(self) -> AsyncGenerator[UploadStat, None]:
        """All uploads in parts that are under way in the store, or were left there."""
        async with _closing(self._store.list_uploads("")) as uploads:
            async for upload in uploads:
                if layout.holds_bytes(upload.key):
                    yield upload

    async def has_pack(self, project: str, pack: str, size: int) -> bool:
        """Whether a pack (``<hex>``) is there, with all its bytes."""
        return await self._size(layout.pack_key(project, pack)) == size

    async def put_pack(self, project: str, pack: str, body: PackBody) -> None:
        """Put many files' bytes under their digest (``<hex>``); safe to repeat."""
        if body.sha256.hex() != pack:
            raise ValueError(f"these files make up {body.sha256.hex()}, not {pack}")
        await self._store.put(layout.pack_key(project, pack), body)

    async def has_manifest(self, project: str, manifest: str, size: int) -> bool:
        """Whether this manifest is there, whole, in a file of this size; it is read for that."""
        key = layout.manifest_key(project, manifest)
        if await self._size(key) != size:
            return False
        async with _closing(self._store.stream(key)) as chunks:
            try:
                return await is_manifest(chunks, manifest)
            except (ObjectMissing, StoreDamaged):  # removed or cut off since it was looked at
                return False

    async def put_manifest(self, project: str, manifest: str, body: FileBody) -> None:
        """Put a manifest file (zstd JSON Lines) under the digest of its plain bytes."""
        await self._store.put(layout.manifest_key(project, manifest), body)

    async def sync(
        self,
        project: str,
        digests: Sequence[str],
        manifests: Sequence[str],
        store_id: str,
        packs: Sequence[str] = (),
    ) -> None:
        """Make sure that all of these are in the store ``store_id``, and survive a power loss there.

        Of an object store only that it is still this one. Raises ``StoreChanged`` if it is another: then
        what was put may lie in either; ``StoreDamaged`` if something is gone, and has to be put again.
        """
        keys = [layout.blob_key(project, digest) for digest in digests]
        keys += [layout.manifest_key(project, manifest) for manifest in manifests]
        keys += [layout.pack_key(project, pack) for pack in packs]
        await self._sync(keys, store_id)

    async def sizes(self, project: str, named: Sequence[Named], store_id: str) -> list[int | None]:
        """How many bytes each of these has in the store ``store_id``; None where it is not there."""
        keys = [_key_of(project, each) for each in named]
        found = await self._store.sizes(keys, layout.IDENTITY)
        self._check(found.witness, store_id)
        return [found.sizes.get(key) for key in keys]

    async def lost(self, project: str, named: Sequence[Named], store_id: str) -> list[Lost]:
        """Which of these the store ``store_id`` does not have; an object of another size does not count."""
        sizes = await self.sizes(project, named, store_id)
        return [
            Lost(each, _key_of(project, each))
            for each, size in zip(named, sizes, strict=True)
            if size is None or each.size not in (None, size)
        ]

    # ── versions ───────────────────────────────────────────────────────────────────────────────
    async def list_versions(self, project: str, name: str, after: int = -1) -> list[Stamp]:
        """The numbers above ``after`` that have a record or a tombstone, ascending, one listing."""
        found, edited = dict[int, ObjectStat](), set[int | None]()
        prefix = layout.versions_prefix(project, name)
        start = layout.before_versions_above(project, name, after)
        async for stat in self._store.list(prefix, start_after=start):
            number = layout.parse_version(stat.key)
            if number is None:
                edited.add(layout.parse_edit(stat.key))
            elif number > after:
                found[number] = stat
        return [
            Stamp(number, stat.modified, number in edited, stat.size)
            for number, stat in sorted(found.items())
        ]

    def follow(self, project: str) -> Since:
        """Begin to note what this daemon puts of versions and runs below a project."""
        return self._puts.follow(project)

    async def list_all_versions(self, project: str) -> AsyncGenerator[VersionStamp, None]:
        """The records of all artifacts of a project, in one listing, in any order."""
        async with _closing(self._store.scan(layout.artifacts_prefix(project))) as stats:
            async for stat in stats:
                found = layout.parse_version_key(stat.key)
                if found is not None:
                    yield VersionStamp(*found, stamp(stat.etag, stat.size))

    async def read_version(self, project: str, name: str, version: int) -> StoredVersion | None:
        """The record or tombstone of one number; None where nothing is there."""
        key = layout.version_key(project, name, version)
        return _version_of(version, await self._get(key))

    async def read_versions(
        self, project: str, name: str, versions: Sequence[int], in_store: str
    ) -> list[StoredVersion | None]:
        """The records or tombstones of a few numbers; None where nothing is there."""
        keys = [layout.version_key(project, name, version) for version in versions]
        found = await self._get_in(keys, in_store)
        return [
            _version_of(version, found.get(key))
            for version, key in zip(versions, keys, strict=True)
        ]

    async def create_version(self, project: str, name: str, version: int, record: bytes) -> None:
        """The commit. Raises ``ObjectExists``, ``WriteConflict``, ``OutcomeUnknown``."""
        put = self._conditional.put_if_absent(layout.version_key(project, name, version), record)
        await self._puts.noted(project, VersionStamp(name, version, ""), len(record), put)

    async def sync_version(self, project: str, name: str, version: int, store_id: str) -> None:
        """On a folder: make a record that was found there survive a power loss."""
        key = layout.version_key(project, name, version)
        await self._sync([key], store_id)

    async def bury_version(
        self, project: str, name: str, version: int, tombstone: Tombstone, etag: str
    ) -> None:
        """Put a tombstone in a record's place. Raises as ``put_if_match``."""
        key, body = layout.version_key(project, name, version), records.encode(tombstone)
        put = self._conditional.put_if_match(key, body, etag)
        await self._puts.noted(project, VersionStamp(name, version, ""), len(body), put)

    async def read_edit(self, project: str, name: str, version: int) -> StoredEdit | None:
        """What a user has saved of a version since it was logged; None where nothing is."""
        key = layout.edit_key(project, name, version)
        found = await self._get(key)
        if found is None:
            return None
        edit = records.decode_edit(key, found.body)
        if edit.version != version:
            raise damaged(key, f"it says that it is of version {edit.version}")
        return StoredEdit(edit, found.stat.etag)

    async def write_edit(self, project: str, name: str, edit: Edit, etag: str | None) -> None:
        """Create (``etag`` None) or replace it. Raises as the conditional puts."""
        key, body = layout.edit_key(project, name, edit.version), records.encode(edit)
        await self._write(key, body, etag)

    # ── aliases ────────────────────────────────────────────────────────────────────────────────
    async def read_alias(
        self, project: str, name: str, alias: str, in_store: str | None = None
    ) -> StoredAlias | None:
        """An alias object; None where the alias was never given."""
        key = layout.alias_key(project, name, alias)
        found = await self._get(key, in_store)
        if found is None:
            return None
        stored = records.decode_alias(key, found.body)
        _check_case("alias", alias, stored.alias)
        if stored.alias != alias:
            raise damaged(key, f"it is the alias {stored.alias!r}")
        return StoredAlias(stored, found.stat.etag)

    async def write_alias(self, project: str, name: str, alias: Alias, etag: str | None) -> None:
        """Create (``etag`` None) or replace an alias object. Raises as the conditional puts."""
        key, body = layout.alias_key(project, name, alias.alias), records.encode(alias)
        await self._write(key, body, etag)

    async def list_aliases(self, project: str, name: str) -> list[Alias]:
        """All alias objects of an artifact, removed ones too."""
        keys = [stat.key async for stat in self._store.list(layout.aliases_prefix(project, name))]
        names = [alias for key in keys if (alias := layout.parse_alias(key)) is not None]
        found: list[StoredAlias | None] = []
        for start in range(0, len(names), _AT_ONCE):
            chunk = names[start : start + _AT_ONCE]
            found += await all_of(
                *(partial(self.read_alias, project, name, alias) for alias in chunk)
            )
        return [stored.alias for stored in found if stored is not None]

    # ── reading back ───────────────────────────────────────────────────────────────────────────
    async def open_manifest(
        self, project: str, manifest: str
    ) -> AsyncGenerator[ManifestEntry, None]:
        """A manifest's entries by path. Raises ``StoreDamaged`` if its digest is another.

        That is known after the last entry only.
        """
        key = layout.manifest_key(project, manifest)
        try:
            async with (
                _closing(self._store.stream(key)) as chunks,
                _closing(read_manifest(chunks, manifest, key)) as entries,
            ):
                async for entry in entries:
                    yield entry
        except ObjectMissing as exc:
            why = damaged(key, "it is missing, and a version names it")
            raise ObjectGone(why.message, hint=why.hint) from exc

    async def stream_object(
        self, project: str, named: Named, offset: int, size: int | None, sink: Sink
    ) -> None:
        """Give a stretch of a blob's or a pack's bytes to a sink, as they are."""
        key = _key_of(project, named)
        try:
            await self._store.stream_to(key, offset, size, sink)
        except ObjectMissing as exc:
            raise damaged(key, "it is missing, and a version names it") from exc

    def local_file(self, project: str, named: Named) -> str | None:
        """The file in which a blob or a pack lies, where the store is a folder of this machine's."""
        place = split_store(self._store.address)
        return f"{place.path}/{_key_of(project, named)}" if place.scheme == "file" else None

    async def read_packed(self, project: str, entries: Sequence[ManifestEntry]) -> list[bytes]:
        """The bytes of entries that lie near each other in one pack, read in one go, into memory."""
        begin = min(entry.offset or 0 for entry in entries)
        end = max((entry.offset or 0) + (entry.size or 0) for entry in entries)
        if end == begin:  # no range of bytes is empty (RFC 9110 section 14.1.2)
            return [b""] * len(entries)
        key = layout.pack_key(project, entries[0].pack or "")
        try:
            async with _closing(self._store.stream(key, begin, end - begin)) as chunks:
                stretch = b"".join([chunk async for chunk in chunks])
        except ObjectMissing as exc:
            raise damaged(key, f"it is missing, and {entries[0].path!r} lies there") from exc
        return [_slice_of(stretch, begin, key, entry) for entry in entries]

    async def open_entry(self, project: str, entry: ManifestEntry) -> AsyncIterator[bytes]:
        """An entry's bytes in chunks.

        Raises ``StoreDamaged`` if they are missing, too few, too many, or (known after the last chunk)
        not those of the entry's digest. A reference has no bytes here: ``ValueError``.
        """
        key, stream = self._bytes_of(project, entry)
        sha256, size = hashlib.sha256(), 0
        try:
            async with _closing(stream) as chunks:
                async for chunk in chunks:
                    sha256.update(chunk)
                    size += len(chunk)
                    yield chunk
        except ObjectMissing as exc:
            raise damaged(key, f"it is missing, and {entry.path!r} lies there") from exc
        if size != entry.size or f"sha256:{sha256.hexdigest()}" != entry.digest:
            raise damaged(
                key,
                f"it has {size} bytes, sha256:{sha256.hexdigest()}, and {entry.path!r},"
                f" which lies there, has {entry.size}, {entry.digest}",
            )

    def _bytes_of(self, project: str, entry: ManifestEntry) -> tuple[str, AsyncIterator[bytes]]:
        if entry.ref is not None or entry.digest is None or entry.size is None:
            raise ValueError(f"{entry.path!r} is a reference; its bytes are not in the store")
        if entry.pack is None or entry.offset is None:
            key = layout.blob_key(project, entry.digest)
            return key, self._store.stream(key)
        key = layout.pack_key(project, entry.pack)
        if not entry.size:  # no range of bytes is empty (RFC 9110 section 14.1.2)
            return key, _nothing()
        return key, self._store.stream(key, entry.offset, entry.size)

    async def _write(self, key: str, body: bytes, etag: str | None) -> None:
        """Create (``etag`` None) or replace an object."""
        if etag is None:
            await self._conditional.put_if_absent(key, body)
        else:
            await self._conditional.put_if_match(key, body, etag)

    # ── single objects ─────────────────────────────────────────────────────────────────────────
    async def _get(self, key: str, in_store: str | None = None) -> Object | None:
        if in_store is not None:
            return (await self._get_in([key], in_store)).get(key)
        try:
            return await self._store.get(key)
        except ObjectMissing:
            return None

    async def _get_in(self, keys: Sequence[str], store_id: str) -> dict[str, Object]:
        """Read objects together with the store's id. Raises ``Exchanged``."""
        found = await self._store.get_all([layout.IDENTITY, *keys])
        there = found.get(layout.IDENTITY)
        self._check(there.body if there else None, store_id)
        return found

    async def _sync(self, keys: Sequence[str], store_id: str) -> None:
        found = await self._store.sync(keys, layout.IDENTITY)
        self._check(found.witness, store_id)
        for key in found.missing:
            raise StoreDamaged(f"{key} was put and is gone")

    def _check(self, identity: bytes | None, store_id: str) -> None:
        there = records.decode_identity(layout.IDENTITY, identity) if identity else None
        if there is None or there.store != store_id:
            raise Exchanged(self._store.address, there, store_id)

    async def _read(
        self, key: str, decode: Callable[[str, bytes], _T], in_store: str | None = None
    ) -> _T | None:
        found = await self._get(key, in_store)
        return decode(key, found.body) if found else None

    async def _size(self, key: str) -> int | None:
        try:
            return (await self._store.head(key)).size
        except ObjectMissing:
            return None

    async def _create(
        self, key: str, mine: records.Small, decode: Callable[[str, bytes], _T]
    ) -> _T:
        """Put ``mine`` unless there is something; return what is there."""
        body = records.encode(mine)
        try:
            await self._conditional.put_if_absent(key, body)
        except ObjectExists as exc:
            theirs = await self._read(key, decode)
            if theirs is None:
                raise StoreUnavailable(f"{key} exists for a write and not for a read") from exc
            return theirs
        return decode(key, body)


def _key_of(project: str, named: Named) -> str:
    return _KEY_OF[named.kind](project, named.name)


def _version_of(version: int, found: Object | None) -> StoredVersion | None:
    if found is None:
        return None
    record = records.decode_version(found.stat.key, found.body)
    if record.version != version:
        raise damaged(found.stat.key, f"it says that it is version {record.version}")
    return StoredVersion(record, found.stat.etag, found.stat.modified)


def _slice_of(stretch: bytes, begin: int, key: str, entry: ManifestEntry) -> bytes:
    start = (entry.offset or 0) - begin
    data = stretch[start : start + (entry.size or 0)]
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != entry.digest:
        raise damaged(key, f"the bytes of {entry.path!r} are not those of its digest")
    return data


def _type_of(claim: ArtifactClaim, project: str, name: str) -> str:
    _check_case("project", project, claim.project)
    _check_case("artifact", name, claim.name)
    return claim.type


def _check_case(what: str, asked: str, found: str) -> None:
    if asked != found and asked.casefold() == found.casefold():
        raise BadName(
            f"the {what} names {asked!r} and {found!r} differ in case only, and this store folds case",
            hint=f"Use {found!r}, or another name.",
        )


@asynccontextmanager
async def _closing(stream: AsyncIterator[_T]) -> AsyncIterator[AsyncIterator[_T]]:
    """Close a store's stream with its reader, not when the garbage collector comes by."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk
