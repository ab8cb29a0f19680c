"""Manifests and the bytes of their entries.

Owns: which entries are wanted, reading small files ahead in bounded memory (those that lie together in a pack
in one go), giving all in order. Does not own: where they are written and whether they are what was asked for
(the client checks).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wherry.errors import NotFoundError
from wherryd.closing import closing, in_batches
from wherryd.model import ManifestEntry
from wherryd.read.stretches import STRETCH_BYTES, Stretch
from wherryd.registry.base import Registry
from wherryd.together import all_of

BATCH = 1000
#: Files up to this size are read ahead, whole; or so much of a pack in which several follow each other.
SMALL_BYTES = STRETCH_BYTES
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


def batches(
    registry: Registry, project: str, manifest: str, wanted: Wanted
) -> AsyncGenerator[list[ManifestEntry], None]:
    """The same in batches."""
    return in_batches(entries(registry, project, manifest, wanted), BATCH)


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
        sender, receiver = anyio.create_memory_object_stream[_Run](AHEAD - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_ahead, manifest, wanted, tasks, sender)
            await self._send_in_order(receiver)

    async def _look_ahead(
        self,
        manifest: str,
        wanted: Wanted,
        tasks: TaskGroup,
        sender: MemoryObjectSendStream[_Run],
    ) -> None:
        found = entries(self._registry, self._project, manifest, wanted)
        async with sender, closing(found) as wanted_entries:
            run: _Run | None = None
            async for entry in wanted_entries:
                if run is not None and run.takes(entry):
                    continue
                if run is not None:
                    await self._begin(run, tasks, sender)
                run = _Run(entry)
            if run is not None:
                await self._begin(run, tasks, sender)

    async def _begin(
        self, run: _Run, tasks: TaskGroup, sender: MemoryObjectSendStream[_Run]
    ) -> None:
        await sender.send(run)
        if run.is_small:
            tasks.start_soon(self._fetch, run)

    async def _fetch(self, run: _Run) -> None:
        if run.first.pack is not None:
            run.data = await self._registry.read_packed(self._project, run.entries)
        else:
            async with closing(self._registry.open_entry(self._project, run.first)) as chunks:
                run.data = [b"".join([chunk async for chunk in chunks])]
        run.is_there.set()

    async def _send_in_order(self, receiver: MemoryObjectReceiveStream[_Run]) -> None:
        async with receiver:
            async for run in receiver:
                if run.is_small:
                    await run.is_there.wait()
                    for entry, data in zip(run.entries, run.data, strict=True):
                        await self._send(Chunk(data, True, entry))
                elif run.first.ref is not None:
                    await self._send(Chunk(b"", True, run.first))
                else:
                    await self._send_large(run.first)

    async def _send_large(self, entry: ManifestEntry) -> None:
        """The last chunk is known when the stream has ended, so that nothing is last by mistake."""
        first: ManifestEntry | None = entry
        async with closing(self._registry.open_entry(self._project, entry)) as chunks:
            async for data in chunks:
                await self._send(Chunk(data, False, first))
                first = None
        await self._send(Chunk(b"", True, first))


class _Run:
    """Entries whose turn has not come, read in one go: one, or several that follow each other in a pack."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.first = entry
        self.is_small = entry.ref is None and (entry.size or 0) <= SMALL_BYTES
        self.is_there = anyio.Event()
        self.data: list[bytes] = []
        self._stretch = Stretch(entry)

    @property
    def entries(self) -> list[ManifestEntry]:
        """In order."""
        return self._stretch.entries

    def takes(self, entry: ManifestEntry) -> bool:
        """Whether the next entry is read with these; then it is one of them."""
        return self.is_small and self._stretch.takes(entry)
