"""Entries of a version, as files on this machine.

Owns: which objects have to be fetched for the entries that are wanted, a few ahead and in order; what is too
little to be fetched whole. Does not own: fetching (``fetching``), copying the bytes out (the client).

Entries that follow each other in a pack are one errand: the pack is fetched whole, once, and not entry by
entry. A store that is a folder needs no errands at all: the client copies from its files, and compares.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wherryd.closing import closing
from wherryd.model import ManifestEntry
from wherryd.read.fetching import CacheUnusable, Fetcher, Hold, Source
from wherryd.read.files import Wanted, entries
from wherryd.read.stretches import stretches
from wherryd.registry.base import Kind, Named
from wherryd.together import all_of

#: Errands that are under way or wait for their turn, beside the one whose turn it is.
AHEAD = 16
#: Entries of a pack that are one errand, and are told at once.
ERRAND_ENTRIES = 2000
#: A pack that the cache does not have is fetched whole for so many entries, or so many bytes.
WHOLE_BYTES = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """Where the bytes of an entry are."""

    path: str  # of the entry
    file: str = ""  # absolute; "": nowhere that the client could copy from
    offset: int = 0
    is_checked: bool = False  # its bytes are those of the entry's digest
    data: bytes = b""  # the bytes, of a small entry that lies nowhere


class Told(msgspec.Struct, frozen=True):
    """Some entries' places, in order of the paths."""

    places: list[Place]
    is_last: bool = False
    has_more: bool = False  # in the last one: more is wanted than fits at once


Send = Callable[[Told], Awaitable[None]]


class Delivery:
    """Tells where the bytes of a version's entries are.

    Args:
        send: what it waits, the fetching waits.
        most_bytes: of objects that are in use at once.
    """

    def __init__(
        self, source: Source, fetcher: Fetcher, hold: Hold, send: Send, most_bytes: int
    ) -> None:
        self._source = source
        self._fetcher = fetcher
        self._hold = hold
        self._send = send
        self._most_bytes = most_bytes
        self._has_more = False
        self._whole = set[str]()  # packs that are fetched whole

    async def deliver(self, manifest: str, wanted: Wanted, after: str = "") -> None:
        """Tell of all wanted entries that are no references, or of as many as fit.

        Args:
            after: only of those behind this path.

        Raises ``StoreError`` and ``NotFoundError``.
        """
        await all_of(partial(self._deliver, manifest, wanted, after))  # for one plain error
        await self._send(Told([], is_last=True, has_more=self._has_more))

    async def _deliver(self, manifest: str, wanted: Wanted, after: str) -> None:
        sender, receiver = anyio.create_memory_object_stream[_Errand](AHEAD - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell_in_order, receiver)
            await self._set_out(manifest, wanted, after, tasks, sender)

    async def _set_out(
        self,
        manifest: str,
        wanted: Wanted,
        after: str,
        tasks: TaskGroup,
        sender: MemoryObjectSendStream[_Errand],
    ) -> None:
        """Begin the errands, a few ahead, as long as there is room for what they bring."""
        used = 0
        async with sender, closing(self._errands(manifest, wanted, after)) as errands:
            async for errand in errands:
                if self._file_of(errand) is None:
                    if used and used + errand.size > self._most_bytes:
                        self._has_more = True
                        return
                    used += errand.size
                if errand.is_much:
                    self._whole.add(errand.named.name)
                await sender.send(errand)
                tasks.start_soon(self._run, errand)

    async def _errands(
        self, manifest: str, wanted: Wanted, after: str
    ) -> AsyncGenerator[_Errand, None]:
        found = entries(self._source.registry, self._source.project, manifest, wanted)
        errand: _Errand | None = None
        async with closing(found) as wanted_entries:
            async for entry in wanted_entries:
                if entry.ref is not None or entry.path.encode() <= after.encode():
                    continue
                if errand is not None and errand.takes(entry):
                    errand.entries.append(entry)
                    continue
                if errand is not None:
                    yield errand
                errand = _Errand(entry)
        if errand is not None:
            yield errand

    async def _tell_in_order(self, receiver: MemoryObjectReceiveStream[_Errand]) -> None:
        async with receiver:
            async for errand in receiver:
                await errand.is_over.wait()
                await self._send(Told(errand.places))

    async def _run(self, errand: _Errand) -> None:
        errand.places = await self._places(errand)
        errand.is_over.set()

    async def _places(self, errand: _Errand) -> list[Place]:
        local = self._file_of(errand)
        if local is not None:
            return errand.placed(local, is_checked=False)
        try:
            if errand.named.kind is Kind.PACK and errand.named.name not in self._whole:
                return await self._few(errand)
            file = await self._fetcher.fetch(self._source, errand.named, self._hold)
        except CacheUnusable:
            return [Place(entry.path) for entry in errand.entries]
        return errand.placed(file, is_checked=True)

    def _file_of(self, errand: _Errand) -> str | None:
        return self._source.registry.local_file(self._source.project, errand.named)

    async def _few(self, errand: _Errand) -> list[Place]:
        """A few entries of a pack: out of the pack if it is here, else their bytes alone."""
        file = await self._fetcher.find(errand.named.name, None, self._hold)
        if file is not None:
            return errand.placed(file, is_checked=True)
        registry, project, places = self._source.registry, self._source.project, list[Place]()
        for stretch in stretches(errand.entries):
            data = await registry.read_packed(project, stretch)
            places += [
                Place(entry.path, data=each) for entry, each in zip(stretch, data, strict=True)
            ]
        return places


class _Errand:
    """An object that is to be fetched, and the entries that lie in it."""

    def __init__(self, entry: ManifestEntry) -> None:
        assert entry.digest is not None
        blob = Named(Kind.BLOB, entry.digest, entry.size)
        self.named = blob if entry.pack is None else Named(Kind.PACK, entry.pack)
        self.entries = [entry]
        self.places: list[Place] = []
        self.is_over = anyio.Event()

    @property
    def size(self) -> int:
        """Bytes of the entries."""
        return sum(entry.size or 0 for entry in self.entries)

    @property
    def is_much(self) -> bool:
        """Whether the entries are worth a whole pack."""
        return self.size >= WHOLE_BYTES or len(self.entries) >= ERRAND_ENTRIES

    def takes(self, entry: ManifestEntry) -> bool:
        """Whether another entry is fetched by the same errand."""
        is_here = entry.pack is not None and entry.pack == self.named.name
        return is_here and len(self.entries) < ERRAND_ENTRIES

    def placed(self, file: str, *, is_checked: bool) -> list[Place]:
        """The entries' places in the object's file."""
        return [Place(entry.path, file, entry.offset or 0, is_checked) for entry in self.entries]
