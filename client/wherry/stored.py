"""A version that is in a store, as the daemon reads it. Owns: its record and its manifest, once read.

Does not own: bytes (``download``), what users see of it (``artifact``).
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

from wherry import messages as pb
from wherry.connection import connect
from wherry.wire.canonical import Json


class StoredEntry(NamedTuple):
    """One line of a manifest; ``size`` in bytes, None for a reference whose server tells none."""

    digest: str | None
    size: int | None
    ref: str | None
    version: str | None
    sums: tuple[str, ...] = ()  # a reference's further checksums: "sha256:…"


class StoredVersion:
    """One version.

    Args:
        home: whose daemon reads it.
        record: as the daemon gave it.
    """

    def __init__(self, home: Path, record: pb.Version) -> None:
        self.home = home
        self.record = record
        self._entries: dict[str, StoredEntry] | None = None

    @property
    def metadata(self) -> dict[str, Json]:
        """The metadata as logged."""
        text = self.record.metadata
        return cast("dict[str, Json]", json.loads(text)) if text else {}

    def entries(self) -> dict[str, StoredEntry]:
        """Read the manifest, at the first call; entries by path, in order."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, StoredEntry]:
        record = self.record
        request = pb.ReadManifestRequest(
            store=record.store, project=record.project, manifest=record.manifest
        )
        daemon = connect(self.home)
        batches = daemon.whole_stream("ReadManifest", request, pb.EntryBatch, _entries)
        return dict(chain.from_iterable(batches))


class Shelf(NamedTuple):
    """A project in a store."""

    home: Path  # whose daemon reads
    store: str  # address
    project: str

    def place(self, name: str) -> Place:
        """Name an artifact of it."""
        return Place(*self, name)


class Place(NamedTuple):
    """Where an artifact is."""

    home: Path  # whose daemon reads
    store: str  # address
    project: str
    name: str


def find(place: Place, version: str, type_: str | None = None) -> StoredVersion:
    """Find one version in a store.

    Args:
        version: "v3", an alias, or "" for the latest.
        type_: None for any.

    Raises:
        NotFoundError: no such artifact, version or alias.
        TypeTaken: the artifact is of another type.
        StoreError: the store can't be read now.
    """
    request = pb.GetVersionRequest(
        store=place.store,
        project=place.project,
        name=place.name,
        version=version,
        type=type_ or "",
    )
    record = connect(place.home).unary("GetVersion", request, pb.Version, timeout_s=READ_TIMEOUT_S)
    return StoredVersion(place.home, record)


def edit(found: StoredVersion, changes: pb.EditVersionRequest) -> StoredVersion:
    """Change a version in its store; as it is then.

    Args:
        changes: what changes; which version is filled in.

    Raises:
        NotFoundError: it is not there any more.
        BadName: an alias or a tag can't be one.
        StoreError: the store can't be written now; some of it may have changed.
    """
    _name_version(changes, found)
    record = connect(found.home).unary("EditVersion", changes, pb.Version, timeout_s=READ_TIMEOUT_S)
    return StoredVersion(found.home, record)


def delete(found: StoredVersion, *, with_aliases: bool) -> None:
    """Delete a version. Raises ``UsageError`` where it has aliases, ``StoreError``."""
    request = pb.DeleteVersionRequest(with_aliases=with_aliases)
    _name_version(request, found)
    connect(found.home).unary(
        "DeleteVersion", request, pb.DeleteVersionReply, timeout_s=READ_TIMEOUT_S
    )


def _name_version(
    request: pb.EditVersionRequest | pb.DeleteVersionRequest, found: StoredVersion
) -> None:
    record = found.record
    request.store, request.project = record.store, record.project
    request.name, request.version = record.name, record.version


def find_page(
    place: Place, type_: str | None, before: int | None, limit: int
) -> list[StoredVersion]:
    """Find some of an artifact's versions, newest first. Raises as ``find``.

    Args:
        before: only lower numbers; None: from the newest on.
        limit: so many at most; fewer are all that there are.
    """
    request = pb.ListVersionsRequest(
        store=place.store,
        project=place.project,
        name=place.name,
        type=type_ or "",
        before=before,
        limit=limit,
    )
    found = connect(place.home).whole_stream("ListVersions", request, pb.Version)
    # A daemon that was started before there were pages gives all, each time.
    page = [record for record in found if before is None or record.version < before]
    return [StoredVersion(place.home, record) for record in page[:limit]]


def find_artifact(
    place: Place, type_: str | None = None, before: int | None = None
) -> pb.ArtifactName | None:
    """Find what an artifact has: how many versions and which aliases; None where there is none.

    Args:
        type_: None for any.
        before: count only versions of lower numbers.

    Raises:
        StoreError: the store can't be read now.
    """
    request = pb.ListArtifactsRequest(
        store=place.store, project=place.project, type=type_ or "", name=place.name, before=before
    )
    found = connect(place.home).whole_stream("ListArtifacts", request, pb.ArtifactName)
    return next((each for each in found if each.name == place.name), None)


def find_artifacts(shelf: Shelf, type_: str = "") -> list[pb.ArtifactName]:
    """Find a project's artifacts by name, of one type or ("") of all. Raises ``StoreError``."""
    request = pb.ListArtifactsRequest(store=shelf.store, project=shelf.project, type=type_)
    return connect(shelf.home).whole_stream("ListArtifacts", request, pb.ArtifactName)


def is_held(place: Place) -> bool:
    """Tell whether offline mode holds versions of an artifact. Raises ``CommError``."""
    wanted = pb.ListRequestsRequest(
        states=["held"], project=place.project, name=place.name, limit=1000
    )
    states = connect(place.home).server_stream("ListRequests", wanted, pb.RequestState)
    return any(state.store == place.store for state in states)


#: For one record; the daemon itself tries a store that does not answer a few times.
READ_TIMEOUT_S = 120.0


def _entries(batch: pb.EntryBatch) -> list[tuple[str, StoredEntry]]:
    return [(entry.path, _entry(entry)) for entry in batch.entries]


def _entry(entry: pb.Entry) -> StoredEntry:
    reference = entry.reference if entry.HasField("reference") else None
    return StoredEntry(
        entry.digest or None,
        entry.size if entry.size >= 0 else None,
        reference.uri if reference else None,
        (reference.version or None) if reference else None,
        tuple(reference.sums) if reference else (),
    )
