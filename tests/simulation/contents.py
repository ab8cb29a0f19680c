"""What requests hold in the simulation, where there are no files: type and metadata stand for all of it."""

from __future__ import annotations

import hashlib

import zstandard

from wherryd.model import Entry, Source
from wherryd.queue.base import Request
from wherryd.registry import layout
from wherryd.stores.base import FileBody

ENTRY_BYTES = 32


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
