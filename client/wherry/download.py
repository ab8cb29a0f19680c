"""Brings a version's files to this machine.

Owns: asking for them, checking each one's digest, copying ``file://`` references. Does not own: where
exactly they may be written (``safe_root``), references to servers (``fetching``).

A file has its name only when all its bytes are there and their SHA-256 is the entry's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from wherry import fetching, references
from wherry import messages as pb
from wherry.connection import connect
from wherry.copying import WriteFailed, write_all
from wherry.cut_off import CutOff
from wherry.errors import (
    BadURI,
    CaptureError,
    ProtocolError,
    ReferenceFailed,
    StoreDamaged,
    WherryError,
)
from wherry.safe_root import SafeRoot, refused
from wherry.stored import StoredEntry, StoredVersion
from wherry.wire.status import ConnectionLost

_CHUNK_BYTES = 1 << 20
#: Asked for by their names in one call, so that it stays well below gRPC's 4 MiB.
_NAMED_BYTES = 1 << 20


def download(
    stored: StoredVersion, root: str, paths: Iterable[str] | None, *, allow_missing: bool
) -> None:
    """Write entries as files below ``root``; files that are there already are replaced.

    Args:
        paths: which entries; None for all.
        allow_missing: pass over references that can't be had.

    Raises:
        StoreDamaged: the store gives other bytes than were logged; that file is not written.
        ReferenceFailed: a reference is gone or has changed.
        BadPath: an entry's path would lead out of ``root``.
        StoreError, CommError, DownloadError.
    """
    entries = stored.entries()
    wanted = entries if paths is None else {path: entries[path] for path in paths}
    local, remote = fetching.split(wanted)
    with SafeRoot(root) as target:
        for names in ([],) if paths is None else _batches(wanted):
            _fetch(stored, {path: wanted[path] for path in names or wanted}, names, target)
        for path, entry in local.items():
            _copy_reference(path, entry, target, allow_missing=allow_missing)

        def write(path: str, data: Iterable[bytes]) -> None:
            with target.create(path) as opened:
                _write_all(path, data, opened)

        for _, error in fetching.fetch(stored.home, remote, write):
            if not (allow_missing and isinstance(error, ReferenceFailed)):
                raise error


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for path in paths:
        batch.append(path)
        size += len(path.encode()) + 8
        if size >= _NAMED_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fetch(
    stored: StoredVersion, wanted: dict[str, StoredEntry], names: list[str], target: SafeRoot
) -> None:
    """Write the files ``wanted``; what came before the daemon went away is not written again."""
    record = stored.record
    request = pb.ReadFilesRequest(
        store=record.store, project=record.project, manifest=record.manifest, paths=names
    )
    left = {path: entry for path, entry in wanted.items() if entry.ref is None}
    cut_off = CutOff(stored.home)
    while left:
        count = len(left)
        chunks = connect(stored.home).server_stream("ReadFiles", request, pb.FileChunk)
        try:
            _receive(chunks, left, target)
        except ConnectionLost as error:
            if len(left) < count:
                cut_off.note_progress()
            cut_off.wait_again(error)
        else:
            if left:
                raise ProtocolError(f"The daemon did not send {len(left):,} files.")


def _receive(
    chunks: Iterator[pb.FileChunk], left: dict[str, StoredEntry], target: SafeRoot
) -> None:
    for first in chunks:
        entry = left.get(first.path)
        if entry is None:
            _pass_over(first, chunks)
            continue
        with target.create(first.path) as opened:
            _write(first.path, entry, _data(first, chunks), opened)
        del left[first.path]


def _data(first: pb.FileChunk, chunks: Iterator[pb.FileChunk]) -> Iterator[bytes]:
    """Give one file's bytes, and leave ``chunks`` where the next file begins."""
    chunk = first
    yield chunk.data
    while not chunk.last:
        following = next(chunks, None)
        if following is None:
            raise ProtocolError(f"The daemon stopped in the middle of {first.path!r}.")
        chunk = following
        yield chunk.data


def _pass_over(first: pb.FileChunk, chunks: Iterator[pb.FileChunk]) -> None:
    for _ in _data(first, chunks):
        pass


def _write(path: str, entry: StoredEntry, data: Iterable[bytes], opened: int) -> None:
    """Write a file and check it. Raises ``StoreDamaged``."""
    digest, size = _write_all(path, data, opened)
    if digest != entry.digest or size != entry.size:
        raise StoreDamaged(
            f"{path!r} came with {size:,} bytes and {digest}, and was logged with {entry.size}"
            f" and {entry.digest}; it was not written.",
            hint="Find what is damaged in the store with: wherry verify",
        )


def _write_all(path: str, data: Iterable[bytes], opened: int) -> tuple[str, int]:
    """Write and hash; return the digest and the size."""
    sha256 = hashlib.sha256()
    size = 0
    for piece in data:
        sha256.update(piece)
        try:
            write_all(opened, piece, size)
        except WriteFailed as error:
            raise refused(path, error.cause) from error
        size += len(piece)
    return f"sha256:{sha256.hexdigest()}", size


def _copy_reference(
    path: str, entry: StoredEntry, target: SafeRoot, *, allow_missing: bool
) -> None:
    """Copy what a reference points to, if it is what it was when the daemon looked at it."""
    uri = entry.ref or ""
    try:
        local = _referenced_file(uri)
        with open(local, "rb", buffering=0) as source, target.create(path) as opened:
            chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
            digest, _ = _write_all(path, chunks, opened)
            _compare(uri, entry, digest)
    except ReferenceFailed:
        if not allow_missing:
            raise
    except OSError as error:
        if isinstance(error, WherryError):
            raise
        raise ReferenceFailed(f"{uri} can't be read: {error.strerror}.") from error


def verify_references(stored: StoredVersion, entries: Mapping[str, StoredEntry]) -> None:
    """Make sure that references are what they were. Raises ``ReferenceFailed``, ``ReferenceUnavailable``."""
    local, remote = fetching.split(entries)
    for entry in local.values():
        _check_local(entry)
    for _, error in fetching.check(stored.home, remote):
        raise error


def _check_local(entry: StoredEntry) -> None:
    uri = entry.ref or ""
    file = _referenced_file(uri)
    try:
        with open(file, "rb") as opened:
            digest = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError as error:
        raise ReferenceFailed(f"{uri} can't be read: {error.strerror}.") from error
    _compare(uri, entry, digest)


def _compare(uri: str, entry: StoredEntry, digest: str) -> None:
    if entry.digest is not None and digest != entry.digest:
        raise ReferenceFailed(
            f"{uri} has changed since it was logged: {digest} instead of {entry.digest}.",
            hint="Put the old file back, or log the artifact again.",
        )


def _referenced_file(uri: str) -> str:
    try:
        return references.locate(uri)[0]
    except (CaptureError, BadURI) as error:
        raise ReferenceFailed(
            f"{uri} is gone, or can't be read.", hint="allow_missing_references=True leaves it out."
        ) from error
