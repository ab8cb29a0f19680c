"""What requests hold in the simulation, where there are no files: type and metadata stand for all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec
import zstandard

from wherry.wire.canonical import EntriesDigest
from wherryd.model import Entry, Manifest, ManifestEntry, Source
from wherryd.queue.base import Request
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry import layout
from wherryd.registry.lines import line_of
from wherryd.stores.base import FileBody

ENTRY_BYTES = 32
#: How the names of artifacts begin whose manifests have lines.
LINED = "lined"


def has_lines(request: Request) -> bool:
    """Whether a request's manifest is what its entries come to."""
    return bool(request.draft) or request.lane.name.startswith(LINED)


def lines_in(body: bytes) -> list[ManifestEntry]:
    """Read a manifest's body."""
    return msgspec.json.Decoder(ManifestEntry).decode_lines(
        zstandard.decompress(body, max_output_size=1 << 20)
    )


def content_of(type_: str, metadata: str) -> str:
    """The digest that stands for a request's content, and for its manifest's plain bytes."""
    return _digest(_plain(type_, metadata))


def entry_of(content: str) -> Entry:
    """The one entry of all requests of a content."""
    data = hashlib.sha256(content.encode()).digest()
    return Entry("x", ENTRY_BYTES, digest=_digest(data), source=Source(data.hex(), 0))


def named_by(project: str, content: str) -> set[str]:
    """The keys of what a version of this content names."""
    entry = entry_of(content)
    return {
        layout.manifest_key(project, content),
        layout.blob_key(project, entry.digest or ""),
    }


def manifest_of(request: Request) -> FileBody:
    """The body of a request's manifest."""
    data = zstandard.compress(_plain(request.type, request.metadata))
    return FileBody(data.hex(), 0, len(data), hashlib.sha256(data).digest())


def bytes_of(body: FileBody) -> bytes:
    """The bytes of a body: its path spells them out."""
    return bytes.fromhex(body.path)


def is_bad(metadata: str) -> bool:
    """Whether something is wrong with the request, which fails it alone."""
    return metadata == '{"bad":true}'


def _plain(type_: str, metadata: str) -> bytes:
    return f"{type_} {metadata}".encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class MemoryWriter:
    """A manifest in memory (``wherryd.commit.gathering.Writer``)."""

    def __init__(self, _: int = 0) -> None:
        self._lines: list[ManifestEntry] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        pass

    async def add(self, lines: Sequence[ManifestEntry]) -> None:
        self._lines += lines

    async def finish(self) -> tuple[Manifest, FileBody]:
        return manifest_of_lines(self._lines)


def manifest_of_lines(lines: Sequence[ManifestEntry]) -> tuple[Manifest, FileBody]:
    """A manifest, and its file: a body whose path spells out its bytes."""
    entries = EntriesDigest()
    for line in lines:
        entries.add(line.path, line.digest, line.size, line.ref, line.version)
    plain = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    data = zstandard.compress(plain)
    manifest = Manifest(
        f"sha256:{hashlib.sha256(plain).hexdigest()}",
        entries.value(),
        len(lines),
        sum(line.size or 0 for line in lines),
    )
    return manifest, FileBody(data.hex(), 0, len(data), hashlib.sha256(data).digest())


async def own_manifest(queue: SqliteQueue, request: Request) -> tuple[Manifest, FileBody]:
    """The manifest of what an upsert or a finish brings itself."""
    return manifest_of_lines([line_of(entry) for entry in await queue.entries(request.row)])
