"""The registry interface: what a stage may ask of a store, in Wherry's own words.

Owns: the verbs. Does not own: order, retries, or which number is tried next (``commit``).
Errors of the store layer pass through where a verb names them; others are ``StoreError``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from wherry.errors import StoreDamaged
from wherryd.model import (
    Alias,
    DraftPart,
    Edit,
    ManifestEntry,
    RunRecord,
    Sealed,
    Tombstone,
    VersionRecord,
)
from wherryd.stores.base import FileBody, PackBody, Sink, UploadStat


class Identity(msgspec.Struct, frozen=True):
    """``wherry.json``: what tells one store from another at the same address."""

    format: int
    store: str  # random id


class Writer(msgspec.Struct, frozen=True):
    """``wherry-writer.json``: who alone writes to a store without conditional writes."""

    format: int
    home: str  # the home's id
    address: str  # under which it writes
    place: str  # where the home is, for people


class Stamp(msgspec.Struct, frozen=True):
    """A version's number as a listing shows it."""

    version: int
    modified: float  # the store's clock
    is_edited: bool = False  # a user has saved something of it since it was logged
    size: int = 0  # bytes of the record or tombstone


class StoredVersion(msgspec.Struct, frozen=True):
    """A record as it was read."""

    record: VersionRecord | Tombstone
    etag: str
    modified: float


class StoredAlias(msgspec.Struct, frozen=True):
    """An alias object as it was read."""

    alias: Alias
    etag: str


class StoredEdit(msgspec.Struct, frozen=True):
    """What was saved of a version, as it was read."""

    edit: Edit
    etag: str


class Kind(StrEnum):
    """What an object is to a version that names it."""

    BLOB = "blob"
    PACK = "pack"
    MANIFEST = "manifest"


class Named(msgspec.Struct, frozen=True):
    """An object that a version names."""

    kind: Kind
    name: str  # a digest; of a pack its <hex>
    #: Bytes; None: any, as for a manifest, which any compressor may have made.
    size: int | None = None


class Lost(msgspec.Struct, frozen=True):
    """An object that a version names and the store does not have."""

    named: Named
    key: str


class ObjectGone(StoreDamaged):
    """An object that a version names is not there: in whichever store was asked."""


class DraftSeen(msgspec.Struct, frozen=True):
    """How a draft stands, seen together with the store's id."""

    has_part: bool  # the part that was asked for is there
    is_sealing: bool  # a part that is put from now on may come too late
    sealing: str  # the request id of the finish that has said so first; "": not known
    sealed: Sealed | None
    conflict: str  # why a finish has failed; "": none has


class Drafts(Protocol):
    """The drafts of a store: versions that several runs make together (docs/drafts.md).

    A draft is known by its id, ``<hex>``. ``in_store`` is the id of the store that has to be asked:
    ``StoreChanged`` where another lies at the address.
    """

    async def put_part(self, project: str, draft: str, request: str, part: bytes) -> bool:
        """Put what an upsert brings, unless it is there; whether it was not.

        Raises ``WriteConflict``, ``OutcomeUnknown``.
        """
        ...

    async def look(
        self,
        project: str,
        draft: str,
        in_store: str,
        part: str | None = None,
        *,
        is_lasting: bool = False,
    ) -> DraftSeen:
        """How the draft stands now. On a folder, what is found survives a power loss.

        Args:
            part: the request id of a part to look for.
            is_lasting: whether the part is known to survive a power loss, where it is there.
        """
        ...

    async def begin_sealing(self, project: str, draft: str, mark: bytes) -> None:
        """Put ``sealing.json`` unless it is there. Raises ``WriteConflict``, ``OutcomeUnknown``."""
        ...

    async def list_parts(self, project: str, draft: str) -> list[str]:
        """The request ids of all parts that are there, sorted, once ``sealing.json`` is there.

        Raises ``StoreUnavailable`` where the same listing does not show that: it is another store's.
        """
        ...

    async def read_parts(
        self, project: str, draft: str, requests: Sequence[str], in_store: str
    ) -> list[DraftPart]:
        """A few parts, all at once. Raises ``StoreDamaged`` where one was listed and is gone."""
        ...

    async def put_sealed(self, project: str, draft: str, sealed: bytes) -> None:
        """Put ``sealed.json`` unless it is there: ``look`` tells whose it is.

        Raises ``WriteConflict``, ``OutcomeUnknown``.
        """
        ...

    async def put_conflict(self, project: str, draft: str, mark: bytes) -> None:
        """Put ``conflict.json`` unless it is there. Raises ``WriteConflict``, ``OutcomeUnknown``."""
        ...


class RecordStamp(msgspec.Struct, frozen=True):
    """A small object as a listing shows it: other bytes have another stamp."""

    key: str
    stamp: str


class VersionStamp(msgspec.Struct, frozen=True):
    """A version's record, or the tombstone in its place, as a listing of its whole project shows it."""

    name: str
    version: int
    stamp: str


Put = VersionStamp | RecordStamp
"""What was put, with the stamp that a listing shows; "": not known, as the put may have failed."""


class Since:
    """What this daemon has put below one project since this began."""

    def __init__(self) -> None:
        self.puts: list[Put] = []
        """Those that nobody has taken up yet."""
        self.is_whole = True
        """False: it was too much, or another one has begun."""

    def drop(self, count: int) -> None:
        """Forget the first ones: they were taken up."""
        del self.puts[:count]


class Runs(Protocol):
    """What a store keeps of runs, beside what their versions' records say."""

    async def put_record(self, project: str, run: str, home: str, number: int, body: bytes) -> bool:
        """Put a record of a run; False where another one lies there, which a copy of this home has put.

        Safe to repeat. Raises ``WriteConflict``, ``OutcomeUnknown``.
        """
        ...

    def list_records(self, project: str, run: str = "") -> AsyncGenerator[RecordStamp, None]:
        """The records of all runs below a project, or of one, in any order."""
        ...

    async def read_records(self, keys: Sequence[str]) -> list[RunRecord | None]:
        """A few records; None for what is not there, or can't be read, which is passed over."""
        ...


class Registry(Protocol):
    """One store, seen as projects, artifacts and versions. Names are plain, not encoded."""

    @property
    def drafts(self) -> Drafts:
        """The store's drafts."""
        ...

    @property
    def runs(self) -> Runs:
        """What the store keeps of runs."""
        ...

    async def identify(self) -> Identity | None:
        """Read the store's id; None where the store has none yet."""
        ...

    async def check_identity(self, store_id: str) -> None:
        """Raise ``StoreChanged`` unless the store here and now is this one."""
        ...

    async def found(self, store_id: str) -> Identity:
        """Give the store ``store_id`` unless it has an id; return the one it has.

        Raises ``WriteConflict``, ``OutcomeUnknown``; safe to repeat.
        """
        ...

    async def read_type(self, project: str, name: str, in_store: str | None = None) -> str | None:
        """The type that the artifact's name belongs to; None while it is free.

        Args:
            in_store: the store that has to be asked; ``StoreChanged`` where another lies there. What is
                read is in that store, whatever else lay at its address a moment ago. None: any.

        Raises ``BadName`` where the store folds case and the object is another name's.
        """
        ...

    async def claim_type(self, project: str, name: str, type_: str) -> str:
        """Claim the name for ``type_`` unless it is taken; return the type it belongs to.

        Raises ``BadName`` as ``read_type``, ``WriteConflict``, ``OutcomeUnknown``; safe to repeat.
        """
        ...

    async def has_blob(self, project: str, digest: str, size: int) -> bool:
        """Whether the project holds these bytes; an object of another size does not count."""
        ...

    async def put_blob(self, project: str, digest: str, body: FileBody) -> None:
        """Put a file's bytes under their digest; safe to repeat."""
        ...

    async def give_up_blob(self, project: str, digest: str, upload: str) -> None:
        """Remove the parts of an upload that was to become a blob; no error where it is gone."""
        ...

    def list_uploads(self) -> AsyncGenerator[UploadStat, None]:
        """All uploads in parts that are under way in the store, or were left there."""
        ...

    async def give_up(self, upload: UploadStat) -> None:
        """Remove the parts of one of these; no error where it is gone."""
        ...

    async def has_pack(self, project: str, pack: str, size: int) -> bool:
        """Whether a pack (``<hex>``) is there, with all its bytes."""
        ...

    async def put_pack(self, project: str, pack: str, body: PackBody) -> None:
        """Put many files' bytes under their digest (``<hex>``); safe to repeat."""
        ...

    async def has_manifest(self, project: str, manifest: str, size: int) -> bool:
        """Whether this manifest is there, whole, in a file of this size; it is read for that."""
        ...

    async def put_manifest(self, project: str, manifest: str, body: FileBody) -> None:
        """Put a manifest file (zstd JSON Lines) under the digest of its plain bytes."""
        ...

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
        ...

    async def sizes(self, project: str, named: Sequence[Named], store_id: str) -> list[int | None]:
        """How many bytes each of these has in the store ``store_id``; None where it is not there.

        All are asked for at once, so give a few at a time. Raises ``StoreChanged`` if it is another store.
        """
        ...

    async def lost(self, project: str, named: Sequence[Named], store_id: str) -> list[Lost]:
        """Which of these the store ``store_id`` does not have; an object of another size does not count.

        As ``sizes``.
        """
        ...

    async def list_versions(self, project: str, name: str, after: int = -1) -> list[Stamp]:
        """The numbers above ``after`` that have a record or a tombstone, ascending, one listing."""
        ...

    def follow(self, project: str) -> Since:
        """Begin to note what this daemon puts of versions and runs below a project; an earlier one ends."""
        ...

    def list_all_versions(self, project: str) -> AsyncGenerator[VersionStamp, None]:
        """The records of all artifacts of a project, in one listing, in any order."""
        ...

    async def read_version(self, project: str, name: str, version: int) -> StoredVersion | None:
        """The record or tombstone of one number; None where nothing is there."""
        ...

    async def read_versions(
        self, project: str, name: str, versions: Sequence[int], in_store: str
    ) -> list[StoredVersion | None]:
        """The records or tombstones of a few numbers; None where nothing is there. As ``read_type``."""
        ...

    async def create_version(self, project: str, name: str, version: int, record: bytes) -> None:
        """The commit. Raises ``ObjectExists``, ``WriteConflict``, ``OutcomeUnknown``."""
        ...

    async def sync_version(self, project: str, name: str, version: int, store_id: str) -> None:
        """On a folder: make a record that was found there survive a power loss.

        Its writer may have ended before it could. Raises ``StoreChanged``, ``StoreDamaged`` as ``sync``.
        """
        ...

    async def bury_version(
        self, project: str, name: str, version: int, tombstone: Tombstone, etag: str
    ) -> None:
        """Put a tombstone in a record's place. Raises as ``put_if_match``."""
        ...

    async def read_edit(self, project: str, name: str, version: int) -> StoredEdit | None:
        """What a user has saved of a version since it was logged; None where nothing is."""
        ...

    async def write_edit(self, project: str, name: str, edit: Edit, etag: str | None) -> None:
        """Create (``etag`` None) or replace it. Raises as the conditional puts."""
        ...

    async def read_alias(
        self, project: str, name: str, alias: str, in_store: str | None = None
    ) -> StoredAlias | None:
        """An alias object; None where the alias was never given. ``in_store`` as for ``read_type``."""
        ...

    async def write_alias(self, project: str, name: str, alias: Alias, etag: str | None) -> None:
        """Create (``etag`` None) or replace an alias object. Raises as the conditional puts."""
        ...

    async def list_aliases(self, project: str, name: str) -> list[Alias]:
        """All alias objects of an artifact, removed ones too."""
        ...

    def list_artifacts(self, project: str) -> AsyncIterator[str]:
        """Names of the project's artifacts, in order of their keys."""
        ...

    def open_manifest(self, project: str, manifest: str) -> AsyncGenerator[ManifestEntry, None]:
        """A manifest's entries by path. Raises ``StoreDamaged`` if its digest is another.

        Which is known only after the last entry: nothing is final before.
        """
        ...

    async def stream_object(
        self, project: str, named: Named, offset: int, size: int | None, sink: Sink
    ) -> None:
        """Give a stretch of a blob's or a pack's bytes to a sink, as they are: nothing is compared.

        Args:
            size: of the stretch; None: up to the end.

        Raises ``StoreDamaged`` if the object is missing, or ends before the stretch does; and what the sink
        raises.
        """
        ...

    def local_file(self, project: str, named: Named) -> str | None:
        """The file in which a blob or a pack lies, where the store is a folder of this machine's.

        Whether it is there, and what is in it, is not looked at.
        """
        ...

    async def read_packed(self, project: str, entries: Sequence[ManifestEntry]) -> list[bytes]:
        """The bytes of entries that lie near each other in one pack, read in one go, into memory.

        Raises ``StoreDamaged`` as ``open_entry``.
        """
        ...

    def open_entry(self, project: str, entry: ManifestEntry) -> AsyncIterator[bytes]:
        """An entry's bytes in chunks. No reference has bytes here.

        Raises ``StoreDamaged`` if they are missing, too few or too many, or, known after the last chunk,
        not those of its digest.
        """
        ...
