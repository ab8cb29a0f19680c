"""Manifests and the bytes of their entries.

Owns: which entries are wanted, reading small files ahead in bounded memory, giving all in order.
Does not own: where they are written and whether they are what was asked for (the client checks).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wherry.errors import NotFoundError
from wherryd.model import ManifestEntry
from wherryd.read.closing import closing
from wherryd.registry.base import Registry
from wherryd.together import all_of

BATCH = 1000
#: Files up to this size are read ahead, whole.
SMALL_BYTES = 1 << 20
#: So many at once; their product is what a call may hold in memory.
AHEAD = 16


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a file."""

    data: bytes
    last: bool
    entry: ManifestEntry | None  # in a file's first chunk


Send = Callable[[Chunk], Awaitable[None]]


class Wanted:
    """Which entries of a manifest are asked for.

    Args:
        paths: exactly these; none for all.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._missing = set(paths)
        self._paths = frozenset(self._missing)

    def has(self, path: str) -> bool:
        """Whether the path is asked for."""
        self._missing.discard(path)
        return not self._paths or path in self._paths

    def check_all_found(self) -> None:
        """Raise ``NotFoundError`` where a path that was asked for never came."""
        if self._missing:
            some = ", ".join(repr(path) for path in sorted(self._missing)[:3])
            raise NotFoundError(f"the version has no entry {some}")


async def entries(
    registry: Registry, project: str, manifest: str, wanted: Wanted
) -> AsyncGenerator[ManifestEntry, None]:
    """The wanted entries of a manifest, by path; raises ``StoreDamaged``, ``NotFoundError``."""
    async with closing(registry.open_manifest(project, manifest)) as found:
        async for entry in found:
            if wanted.has(entry.path):
                yield entry
    wanted.check_all_found()


async def batches(
    registry: Registry, project: str, manifest: str, wanted: Wanted
) -> AsyncGenerator[list[ManifestEntry], None]:
    """The same in batches."""
    batch: list[ManifestEntry] = []
    async with closing(entries(registry, project, manifest, wanted)) as found:
        async for entry in found:
            batch.append(entry)
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


class Reader:
    """Reads the files of one manifest.

    Args:
        send: takes the chunks in order; what it waits, the reading waits.
    """

    def __init__(self, registry: Registry, project: str, send: Send) -> None:
        self._registry = registry
        self._project = project
        self._send = send

    async def read(self, manifest: str, wanted: Wanted) -> None:
        """Send the wanted files, in order of their paths; references have no bytes.

        Raises ``StoreError`` (``StoreDamaged`` where bytes are not what the manifest says) and
        ``NotFoundError``.
        """
        await all_of(partial(self._read, manifest, wanted))  # for one plain error

    async def _read(self, manifest: str, wanted: Wanted) -> None:
        sender, receiver = anyio.create_memory_object_stream[_Ahead](AHEAD - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_ahead, manifest, wanted, tasks, sender)
            await self._send_in_order(receiver)

    async def _look_ahead(
        self,
        manifest: str,
        wanted: Wanted,
        tasks: TaskGroup,
        sender: MemoryObjectSendStream[_Ahead],
    ) -> None:
        found = entries(self._registry, self._project, manifest, wanted)
        async with sender, closing(found) as wanted_entries:
            async for entry in wanted_entries:
                ahead = _Ahead(entry)
                await sender.send(ahead)
                if ahead.is_small:
                    tasks.start_soon(self._fetch, ahead)

    async def _fetch(self, ahead: _Ahead) -> None:
        async with closing(self._registry.open_entry(self._project, ahead.entry)) as chunks:
            ahead.data = b"".join([chunk async for chunk in chunks])
        ahead.is_there.set()

    async def _send_in_order(self, receiver: MemoryObjectReceiveStream[_Ahead]) -> None:
        async with receiver:
            async for ahead in receiver:
                if ahead.entry.ref is not None:
                    await self._send(Chunk(b"", True, ahead.entry))
                elif ahead.is_small:
                    await ahead.is_there.wait()
                    await self._send(Chunk(ahead.data, True, ahead.entry))
                else:
                    await self._send_large(ahead.entry)

    async def _send_large(self, entry: ManifestEntry) -> None:
        """The last chunk is known when the stream has ended, so that nothing is last by mistake."""
        first: ManifestEntry | None = entry
        async with closing(self._registry.open_entry(self._project, entry)) as chunks:
            async for data in chunks:
                await self._send(Chunk(data, False, first))
                first = None
        await self._send(Chunk(b"", True, first))


class _Ahead:
    """An entry whose turn has not come."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.entry = entry
        self.is_small = entry.ref is None and (entry.size or 0) <= SMALL_BYTES
        self.is_there = anyio.Event()
        self.data = b""
