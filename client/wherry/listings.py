"""Where a manifest's entries come from: what was built here, or what a store has.

Owns: making entries, and digests of what is not committed yet. Does not own: the tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from wherry import capture, references
from wherry.contents import Contents
from wherry.entries import ManifestEntry, Owner
from wherry.errors import ArtifactNotLoggedError, ArtifactStateError, FileChanged
from wherry.rows import IN_SPOOL, REFERENCES, Kind, Row
from wherry.stored import StoredEntry, StoredVersion
from wherry.wire.canonical import entries_digest
from wherry.wire.secrets import masked

_CHUNK_BYTES = 1 << 20


class BuiltListing:
    """Entries of an artifact that was made in this process."""

    def __init__(self, owner: Owner, contents: Contents) -> None:
        self._owner = owner
        self._table = contents.table
        self._base = contents.base

    def __len__(self) -> int:
        return len(self._table)

    def paths(self) -> list[str]:
        """All paths, in order."""
        return self._table.paths()

    def entry(self, path: str) -> ManifestEntry | None:
        """One entry, or None."""
        row = self._table.get(path)
        if row is None:
            return None
        if row.kind == Kind.KEPT and self._base is not None:
            return stored_entry(self._owner, path, self._base.entry(path))
        size = row.size if row.size >= 0 else None
        origin = self._table.origin(path, row)
        if row.kind in REFERENCES:
            return ManifestEntry(self._owner, path, size, ref=origin)
        return ManifestEntry(self._owner, path, size, local_path=origin)


class StoredListing:
    """Entries of a version that is in a store."""

    def __init__(self, owner: Owner, stored: StoredVersion) -> None:
        self._owner = owner
        self._stored = stored

    def __len__(self) -> int:
        return self._stored.record.entries

    def paths(self) -> list[str]:
        """All paths, in order."""
        return list(self._stored.entries())

    def entry(self, path: str) -> ManifestEntry | None:
        """One entry, or None."""
        found: StoredEntry | None = self._stored.entries().get(path)
        return None if found is None else stored_entry(self._owner, path, found)


def stored_entry(owner: Owner, path: str, found: StoredEntry) -> ManifestEntry:
    """Make an entry of what a version has."""
    return ManifestEntry(
        owner,
        path,
        found.size,
        ref=found.ref,
        digest=found.digest,
        version_id=found.version,
    )


def built_digest(contents: Contents) -> str:
    """Make the digest that the artifact would have if it were logged now; that hashes every entry.

    Raises ``ArtifactNotLoggedError`` where only a server can tell.
    """
    if contents.base is not None and contents.base.is_open:
        raise ArtifactNotLoggedError(
            f"What {contents.label} changes is known when it is a version.",
            hint="run.log_artifact(artifact).wait()",
        )
    for uri, _ in contents.buckets:
        raise ArtifactNotLoggedError(
            f"{masked(uri)} is resolved after {contents.label} was logged.",
            hint="run.log_artifact(artifact).wait()",
        )
    return entries_digest(_facts(contents))


def entry_digest(contents: Contents, path: str, row: Row) -> str | None:
    """Hash an entry's captured bytes; of a reference what is there now, None where nobody looks."""
    if row.kind == Kind.KEPT and contents.base is not None:
        return contents.base.entry(path).digest
    if row.kind == Kind.UNCHECKED or not contents.keeps:
        return None
    return _sha256(_bytes(contents, path, row))


def entry_bytes(contents: Contents, path: str) -> Iterator[bytes]:
    """Read an entry's captured bytes; of a reference to a file what is there now.

    Raises ``ArtifactNotLoggedError`` where only a server has them; ``ArtifactStateError`` in disabled mode.
    """
    row = contents.table.get(path)
    if row is None or not contents.keeps:
        raise ArtifactStateError(
            f"{contents.label} was built in disabled mode, which keeps nothing."
        )
    return _bytes(contents, path, row)


def _bytes(contents: Contents, path: str, row: Row) -> Iterator[bytes]:
    if row.kind in (Kind.LOOKUP, Kind.UNCHECKED):
        raise ArtifactNotLoggedError(
            f"{path!r} is a reference, and its server is asked after {contents.label} was logged.",
            hint="run.log_artifact(artifact).wait()",
        )
    if row.kind in IN_SPOOL:
        return capture.read_captured(contents.spool, row)
    origin = contents.table.origin(path, row) or ""
    local = references.locate(origin)[0] if row.kind == Kind.REFERENCE else origin
    return _read(local)


def _facts(
    contents: Contents,
) -> Iterator[tuple[str, str | None, int | None, str | None, str | None]]:
    table = contents.table
    for path in table.paths():
        row = table.get(path)
        if row is None:
            raise FileChanged(f"{contents.label} was changed while it was hashed.")
        if row.kind == Kind.KEPT and contents.base is not None:
            there = contents.base.entry(path)
            yield path, there.digest, there.size, there.ref, there.version
            continue
        ref = table.origin(path, row) if row.kind in REFERENCES else None
        size = row.size if row.size >= 0 else None
        yield path, entry_digest(contents, path, row), size, ref, None


def _read(local: str) -> Iterator[bytes]:
    try:
        with open(local, "rb", buffering=0) as opened:
            while data := opened.read(_CHUNK_BYTES):
                yield data
    except OSError as error:
        raise capture.unreadable(local, error) from error


def _sha256(chunks: Iterable[bytes]) -> str:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return f"sha256:{sha256.hexdigest()}"
