"""Brings a version's files to this machine.

Owns: which of them come which way, what the daemon sends itself, copying ``file://`` references. Does not
own: what lies on this machine (``taking``), where exactly they may be written (``safe_root``), references to
servers (``fetching``).

A file has its name only when all its bytes are there, and are those of the entry's digest.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping

from wherry import fetching, references, taking
from wherry import messages as pb
from wherry.compared import write_compared, write_hashed
from wherry.connection import connect
from wherry.cut_off import CutOff
from wherry.errors import (
    BadURI,
    CaptureError,
    ProtocolError,
    ReferenceFailed,
    WherryError,
)
from wherry.progress import Coming
from wherry.safe_root import SafeRoot
from wherry.stored import StoredEntry, StoredVersion
from wherry.wire.status import ConnectionLost

_CHUNK_BYTES = 1 << 20
#: Asked for by their names in one call, so that it stays well below gRPC's 4 MiB.
_NAMED_BYTES = 1 << 20


def download(
    stored: StoredVersion,
    root: str,
    paths: Iterable[str] | None,
    *,
    allow_missing: bool,
    skip_cache: bool = False,
    hard_links: bool = False,
) -> None:
    """Write entries as files below ``root``; files that are there already are replaced.

    Args:
        paths: which entries; None for all.
        allow_missing: pass over references that can't be had.
        skip_cache: let the bytes pass through the daemon, and leave nothing of them on this machine.

        hard_links: of large files, to this machine's cache, where that can be.

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
            files = {path: wanted[path] for path in names or wanted if wanted[path].ref is None}
            asked = [name for name in names if name in files]
            left = files if skip_cache else _take(stored, files, asked, target, hard_links)
            for some in (asked,) if len(left) == len(files) else _batches(left):
                _receive_files(stored, {path: left[path] for path in some or left}, some, target)
        for path, entry in local.items():
            _copy_reference(path, entry, target, allow_missing=allow_missing)

        def write(path: str, data: Iterable[bytes]) -> None:
            with target.create(path) as opened:
                write_hashed(path, data, opened)

        for _, error in fetching.fetch(stored.home, remote, write):
            if not (allow_missing and isinstance(error, ReferenceFailed)):
                raise error


def _take(
    stored: StoredVersion,
    files: Mapping[str, StoredEntry],
    names: list[str],
    target: SafeRoot,
    hard_links: bool,
) -> dict[str, StoredEntry]:
    record, total = stored.record, sum(entry.size or 0 for entry in files.values())
    coming = Coming(f"{record.name}:v{record.version}", total, sys.stderr)
    try:
        return taking.take(stored, files, names, target, coming.note, links=hard_links)
    finally:
        coming.clear()


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


def _receive_files(
    stored: StoredVersion, left: dict[str, StoredEntry], names: list[str], target: SafeRoot
) -> None:
    """Write files as the daemon sends them; what came before it went away is not written again."""
    record = stored.record
    request = pb.ReadFilesRequest(
        store=record.store, project=record.project, manifest=record.manifest, paths=names
    )
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
            write_compared(first.path, entry, _data(first, chunks), opened)
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


def _copy_reference(
    path: str, entry: StoredEntry, target: SafeRoot, *, allow_missing: bool
) -> None:
    """Copy what a reference points to, if it is what it was when the daemon looked at it."""
    uri = entry.ref or ""
    try:
        local = _referenced_file(uri)
        with open(local, "rb", buffering=0) as source, target.create(path) as opened:
            chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
            digest, _ = write_hashed(path, chunks, opened)
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
