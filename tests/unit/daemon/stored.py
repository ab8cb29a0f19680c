"""Files in a store in memory, as a version has them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio.to_thread

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock, digest
from wherryd.model import Entry, Manifest, Reference, RunInfo, Source, VersionRecord
from wherryd.registry.manifest import ManifestWriter
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import FileBody, PackBody


class Ranges(MemoryStore):
    """Notes which bytes of packs are asked for."""

    def __init__(self) -> None:
        super().__init__(HandClock())
        self.asked: list[tuple[int, int | None]] = []

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if "/packs/" in key:
            self.asked.append((offset, size))
        async with aclosing(super().stream(key, offset, size)) as chunks:
            async for chunk in chunks:
                yield chunk


async def put_files(registry: ObjectRegistry, folder: Path, files: dict[str, bytes]) -> str:
    """Put files and their manifest; return the manifest's digest."""
    entries = []
    for number, (path, data) in enumerate(sorted(files.items())):
        file = folder / str(number)
        file.write_bytes(data)
        sha256 = hashlib.sha256(data).digest()
        await registry.put_blob("cats", digest(data), FileBody(str(file), 0, len(data), sha256))
        entries.append(Entry(path, len(data), digest(data), Source(str(file))))
    entries.append(Entry("zzz", 5, "etag:1", reference=Reference("s3://b/zzz")))
    manifest = await anyio.to_thread.run_sync(_write_manifest, str(folder / "manifest"), entries)
    packed = (folder / "manifest").read_bytes()
    body = FileBody(str(folder / "manifest"), 0, len(packed), hashlib.sha256(packed).digest())
    await registry.put_manifest("cats", manifest.manifest, body)
    return manifest.manifest


async def put_packed(
    registry: ObjectRegistry, folder: Path, files: dict[str, bytes], packs: list[list[str]]
) -> str:
    """Put files into packs, each given by its paths, and the manifest; return the manifest's digest."""
    places: dict[str, tuple[str, int]] = {}
    for paths in packs:
        whole = b"".join(files[path] for path in paths)
        name = hashlib.sha256(whole).hexdigest()
        file = folder / name
        file.write_bytes(whole)
        sha256 = bytes.fromhex(name)
        body = FileBody(str(file), 0, len(whole), sha256)
        await registry.put_pack("cats", name, PackBody((body,), len(whole), sha256))
        offset = 0
        for path in paths:
            places[path] = name, offset
            offset += len(files[path])
    entries = [
        Entry(path, len(data), digest(data), Source("gone"), None, *places[path])
        for path, data in sorted(files.items())
    ]
    manifest = await anyio.to_thread.run_sync(_write_manifest, str(folder / "manifest"), entries)
    packed = (folder / "manifest").read_bytes()
    made = FileBody(str(folder / "manifest"), 0, len(packed), hashlib.sha256(packed).digest())
    await registry.put_manifest("cats", manifest.manifest, made)
    return manifest.manifest


def _write_manifest(path: str, entries: list[Entry]) -> Manifest:
    with ManifestWriter(path) as writer:
        writer.add_batch(entries)
        return writer.finish()


def version_record(number: int, description: str | None = None) -> VersionRecord:
    """The record of a version without entries."""
    return VersionRecord(
        format=1,
        version=number,
        request=f"request-{number}",
        type="kind",
        description=description,
        metadata={"step": number},
        entries=0,
        size=0,
        manifest=digest(b""),
        digest=digest(b"entries"),
        content=digest(b"content"),
        run=RunInfo("run1"),
        inputs=[],
        aliases=[],
        created="2026-11-23T14:00:00.123Z",
        client="test",
    )
