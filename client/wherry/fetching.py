"""References to servers, read by the daemon: their bytes, or only whether they are what was logged.

Owns: asking for them, which could not be had, going on where the daemon ended, that what came is what was
logged. Does not own: references to files of this machine, where bytes are written (``download``).

The daemon compares what a server says of an object; the bytes themselves are compared here, with those of the
recorded checksums that Python can make (``sums``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from wherry import messages as pb
from wherry.connection import connect
from wherry.cut_off import CutOff
from wherry.errors import ProtocolError, ReferenceFailed, WherryError, from_wire
from wherry.stored import StoredEntry
from wherry.sums import Sums
from wherry.wire.address import credentials_from
from wherry.wire.object_uri import server_of
from wherry.wire.secrets import masked
from wherry.wire.status import ConnectionLost

#: Asked for in one call, so that it stays well below gRPC's 4 MiB.
_CALL_BYTES = 1 << 20
_ENTRY_BYTES = 200

Write = Callable[[str, Iterable[bytes]], None]
Failed = tuple[str, WherryError]


def split(
    wanted: Mapping[str, StoredEntry],
) -> tuple[dict[str, StoredEntry], dict[str, StoredEntry]]:
    """Take references apart: those to files of this machine, and those to servers."""
    local: dict[str, StoredEntry] = {}
    remote: dict[str, StoredEntry] = {}
    for path, entry in wanted.items():
        if entry.ref is not None:
            (local if entry.ref.lower().startswith("file:") else remote)[path] = entry
    return local, remote


def fetch(home: Path, wanted: Mapping[str, StoredEntry], write: Write) -> Iterator[Failed]:
    """Bring references here; give those that can't be had.

    Args:
        home: whose daemon reads.
        write: takes a path and its bytes; whatever it raises passes through.

    Raises ``CommError``.
    """
    return _ask(home, wanted, write, check_only=False)


def check(home: Path, wanted: Mapping[str, StoredEntry]) -> Iterator[Failed]:
    """Ask whether references are what was logged; give those that are not. Raises ``CommError``."""
    return _ask(home, wanted, _pass_over, check_only=True)


def _ask(
    home: Path, wanted: Mapping[str, StoredEntry], write: Write, *, check_only: bool
) -> Iterator[Failed]:
    for batch in _batches(wanted):
        cut_off = CutOff(home)
        while batch:
            count = len(batch)
            chunks = _Chunks(home, batch, check_only=check_only)
            try:
                yield from _receive(chunks, batch, write, check_only=check_only)
            except ConnectionLost as error:  # what has come is not asked for again
                if len(batch) < count:
                    cut_off.note_progress()
                cut_off.wait_again(error)
            else:
                if batch:
                    raise ProtocolError(f"The daemon told nothing of {len(batch):,} references.")


def _batches(wanted: Mapping[str, StoredEntry]) -> Iterator[dict[str, StoredEntry]]:
    batch: dict[str, StoredEntry] = {}
    size = 0
    for path, entry in wanted.items():
        batch[path] = entry
        size += _ENTRY_BYTES + len(path.encode()) + len((entry.ref or "").encode())
        if size >= _CALL_BYTES:
            yield batch
            batch, size = {}, 0
    yield batch


class _Chunks:
    """What the daemon sends; when it ends within a reference, the next one sends the rest of that.

    Args:
        left: what has not come, in order; whoever takes the chunks takes it out.
    """

    def __init__(self, home: Path, left: Mapping[str, StoredEntry], *, check_only: bool) -> None:
        self._home = home
        self._left = left
        self._check_only = check_only
        self._chunks = _call(home, left, check_only=check_only)
        self._came = 0  # bytes of the first one that is left
        self._pass_over = 0
        self._cut_off = CutOff(home)

    def __iter__(self) -> Iterator[pb.FileChunk]:
        return self

    def __next__(self) -> pb.FileChunk:
        while True:
            try:
                return self._noted(next(self._chunks))
            except ConnectionLost as error:
                if not (self._came and self._can_go_on()):
                    raise
                self._cut_off.wait_again(error)
                self._chunks = self._rest()

    def _can_go_on(self) -> bool:
        """Whether the rest is known to belong to what has come."""
        entry = next(iter(self._left.values()))
        return entry.digest is not None or entry.version is not None

    def _rest(self) -> Iterator[pb.FileChunk]:
        chunks = _call(self._home, self._left, check_only=self._check_only, start=self._came)
        first = next(chunks, None)
        if first is None:
            return
        self._pass_over = self._came - first.start  # a daemon that can't go on begins anew
        yield first
        yield from chunks

    def _noted(self, chunk: pb.FileChunk) -> pb.FileChunk:
        passed_over = min(self._pass_over, len(chunk.data))
        self._pass_over -= passed_over
        if passed_over:
            chunk.data = chunk.data[passed_over:]
        self._came = 0 if chunk.last else self._came + len(chunk.data)
        if chunk.data:
            self._cut_off.note_progress()
        return chunk


def _call(
    home: Path, wanted: Mapping[str, StoredEntry], *, check_only: bool, start: int = 0
) -> Iterator[pb.FileChunk]:
    """Ask.

    Args:
        start: bytes of the first one that are here already.
    """
    connection, request = connect(home), pb.ReadReferencesRequest(check_only=check_only)
    for path, entry in wanted.items():
        uri = entry.ref or ""
        seen = request.references.add(path=path, uri=uri, server=server_of(uri, os.environ))
        seen.digest, seen.version = entry.digest or "", entry.version or ""
        seen.size = -1 if entry.size is None else entry.size
        seen.start, start = start, 0
    for server in {seen.server for seen in request.references if seen.server}:
        connection.offer_credentials(server, credentials_from(os.environ, server))
    return connection.server_stream("ReadReferences", request, pb.FileChunk)


def _receive(
    chunks: Iterator[pb.FileChunk],
    left: dict[str, StoredEntry],
    write: Write,
    *,
    check_only: bool,
) -> Iterator[Failed]:
    for first in chunks:
        data, entry = _data(first, chunks), left.get(first.path)
        if entry is not None and entry.sums and not check_only:
            data = _compared(entry, data)
        try:
            write(first.path, data)
        except _Refused as refused:
            yield first.path, refused.error
        left.pop(first.path, None)


def _data(first: pb.FileChunk, chunks: Iterator[pb.FileChunk]) -> Iterator[bytes]:
    """Give one reference's bytes, and leave ``chunks`` where the next one begins."""
    chunk = first
    while True:
        if chunk.error:
            raise _Refused(from_wire(chunk.error, chunk.reason))
        yield chunk.data
        if chunk.last:
            return
        following = next(chunks, None)
        if following is None:
            raise ProtocolError(f"The daemon stopped in the middle of {first.path!r}.")
        chunk = following


def _compared(entry: StoredEntry, data: Iterator[bytes]) -> Iterator[bytes]:
    """Give the bytes; after the last, refuse those that are not what the checksums were of."""
    sums = Sums(entry.sums)
    for piece in data:
        sums.update(piece)
        yield piece
    if difference := sums.difference():
        error = ReferenceFailed(
            f"{masked(entry.ref or '')} has changed since it was logged: {difference}",
            hint="Log the artifact again to reference what is there now.",
        )
        raise _Refused(error)


def _pass_over(path: str, data: Iterable[bytes]) -> None:
    del path
    for _ in data:
        pass


class _Refused(Exception):
    """A reference can't be had."""

    def __init__(self, error: WherryError) -> None:
        super().__init__(str(error))
        self.error = error
