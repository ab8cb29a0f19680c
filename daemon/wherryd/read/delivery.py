"""Entries of a version, as files on this machine.

Owns: which objects have to be fetched for the entries that are wanted, a few ahead and in order; what is too
little to be fetched whole. Does not own: fetching (``fetching``), copying the bytes out (the client).

Entries that follow each other in a pack are one errand: the pack is fetched whole, once, and not entry by
entry. A store that is a folder needs no errands at all: the client copies from its files, and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wherryd.closing import closing
from wherryd.model import ManifestEntry
from wherryd.read.bringing import Source
from wherryd.read.cache import is_lent
from wherryd.read.fetching import PACK_BYTES, CacheUnusable, Fetcher, Hold, Room
from wherryd.read.files import Wanted, entries
from wherryd.read.stretches import stretches
from wherryd.registry.base import Kind, Named
from wherryd.together import all_of

#: Errands that are under way or wait for their turn, beside the one whose turn it is.
AHEAD = 16
#: Of a pack that are one errand, and are told at once: entries, and bytes of their paths.
ERRAND_ENTRIES = 2000
_PATH_BYTES = 1 << 20
#: From here on a file is told of while it comes, in steps of so many bytes, looked for so often.
LARGE_BYTES = 64 << 20
_STEP_BYTES = 16 << 20
_LOOK_S = 0.05
#: A pack that the cache does not have is fetched whole for so many bytes, entries, or errands …
WHOLE_BYTES = 1 << 20
WHOLE_ERRANDS = 8
#: … or where what is wanted is so much of its beginning, and may be all of it.
_WHOLE_SHARE = 0.5


class Place(msgspec.Struct, frozen=True):
    """Where the bytes of an entry are."""

    path: str  # of the entry
    file: str = ""  # absolute; "": nowhere that the client could copy from
    offset: int = 0
    is_checked: bool = (
        False  # the file is whole, and was compared with its name, the SHA-256 of its bytes
    )
    data: bytes = b""  # the bytes, of a small entry that lies nowhere
    is_linkable: bool = False  # a hard link may be made to it
    is_cached: bool = (
        False  # the file is the cache's: what is wrong with it is no fault of the store
    )


class Coming(msgspec.Struct, frozen=True):
    """The next entry to be told of, which is large, while it is fetched."""

    path: str
    file: str  # absolute
    bytes: int  # from its beginning on, that are there


class Told(msgspec.Struct, frozen=True):
    """Some entries' places, in order of the paths."""

    places: list[Place]
    coming: Coming | None = None  # what is behind them
    is_last: bool = False
    has_more: bool = False  # in the last one: more is wanted than fits at once


Send = Callable[[Told], Awaitable[None]]


class Delivery:
    """Tells where the bytes of a version's entries are.

    Args:
        send: what it waits, the fetching waits.
        room: how much fits into the cache.
        links: make objects that are one entry each such that hard links may be made to them.
    """

    def __init__(
        self,
        source: Source,
        fetcher: Fetcher,
        hold: Hold,
        send: Send,
        room: Room,
        *,
        links: bool = False,
    ) -> None:
        self._links = links
        self._source = source
        self._fetcher = fetcher
        self._hold = hold
        self._send = send
        self._room = room
        self._using = set[str]()  # objects that take room …
        self._used_bytes = 0  # … and how much
        self._is_full = False  # there was no room for one, as others are in use
        self._packs = _Packs()
        self._has_more = False

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
        async with sender, closing(self._errands(manifest, wanted, after)) as errands:
            async for errand in errands:
                begin = self._way(errand)
                if begin is None:
                    self._has_more = True
                    return
                await sender.send(errand)
                tasks.start_soon(self._run, errand, begin)

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
                    continue
                if errand is not None:
                    yield errand
                errand = _Errand(entry)
        if errand is not None:
            yield errand

    def _way(self, errand: _Errand) -> Callable[[], Awaitable[list[Place]]] | None:
        """How an errand is done; None where there is no room for it any more."""
        local = self._source.registry.local_file(self._source.project, errand.named)
        if local is not None:
            return partial(_done, errand.placed(local, is_checked=False))
        if errand.named.kind is Kind.PACK and not self._packs.is_whole(errand):
            return partial(self._few, errand)
        size = PACK_BYTES if errand.named.size is None else errand.named.size
        if size > self._room.most_bytes:
            return partial(_done, errand.nowhere())
        if errand.named.name not in self._using:
            if self._used_bytes and self._used_bytes + size > self._room.at_once_bytes:
                return None
            self._using.add(errand.named.name)
            self._used_bytes += size
        return partial(self._fetch, errand)

    async def _run(self, errand: _Errand, way: Callable[[], Awaitable[list[Place]]]) -> None:
        errand.places = await way()
        self._hold.bytes += errand.size
        errand.is_over.set()

    async def _tell_in_order(self, receiver: MemoryObjectReceiveStream[_Errand]) -> None:
        async with receiver:
            async for errand in receiver:
                if (
                    errand.named.kind is Kind.BLOB
                    and errand.size >= LARGE_BYTES
                    and not self._links
                ):
                    await self._tell_coming(errand)
                await errand.is_over.wait()
                await self._send(Told(errand.places))

    async def _tell_coming(self, errand: _Errand) -> None:
        """Tell how far a large file is, so that the client may copy it meanwhile."""
        told = 0
        while not errand.is_over.is_set():
            file, there = self._fetcher.coming(errand.named)
            if there - told >= _STEP_BYTES:
                await self._send(Told([], Coming(errand.entries[0].path, file, there)))
                told = there
            with anyio.move_on_after(_LOOK_S):
                await errand.is_over.wait()

    async def _fetch(self, errand: _Errand) -> list[Place]:
        if self._is_full:
            file = await self._fetcher.find(errand.named, self._hold)
            return errand.placed(file, is_checked=True) if file else errand.nowhere()
        try:
            file = await self._fetcher.fetch(self._source, errand.named, self._hold)
        except CacheUnusable:
            self._is_full = True
            return errand.nowhere()
        if self._links and errand.named.kind is Kind.BLOB:
            return await self._lend(errand)
        return errand.placed(file, is_checked=not is_lent(file))

    async def _lend(self, errand: _Errand) -> list[Place]:
        try:
            lent = await self._fetcher.lend(errand.named)
        except OSError:
            lent = None
        if lent is None:
            return errand.nowhere()
        return [
            Place(entry.path, lent, is_linkable=True, is_cached=True) for entry in errand.entries
        ]

    async def _few(self, errand: _Errand) -> list[Place]:
        """A few entries of a pack: out of the pack if it is here, else their bytes alone."""
        file = await self._fetcher.find(errand.named, self._hold)
        if file is not None:
            return errand.placed(file, is_checked=True)
        registry, project, places = self._source.registry, self._source.project, list[Place]()
        for stretch in stretches(errand.entries):
            async with self._fetcher.streams(self._source):
                data = await registry.read_packed(project, stretch)
            places += [
                Place(entry.path, data=each) for entry, each in zip(stretch, data, strict=True)
            ]
        return places


async def _done(places: list[Place]) -> list[Place]:
    return places


class _Packs:
    """What was wanted so far of each pack."""

    def __init__(self) -> None:
        self._errands = Counter[str]()
        self._bytes = Counter[str]()
        self._entries = Counter[str]()

    def is_whole(self, errand: _Errand) -> bool:
        """Whether a pack is to be fetched whole, for what an errand wants beside all that was before."""
        name = errand.named.name
        self._errands[name] += 1
        self._bytes[name] += errand.size
        self._entries[name] += len(errand.entries)
        return (
            self._bytes[name] >= WHOLE_BYTES
            or self._entries[name] >= ERRAND_ENTRIES
            or self._errands[name] > WHOLE_ERRANDS
            or errand.is_most()
        )


class _Errand:
    """An object that is to be fetched, and the entries that lie in it."""

    def __init__(self, entry: ManifestEntry) -> None:
        assert entry.digest is not None
        blob = Named(Kind.BLOB, entry.digest, entry.size)
        self.named = blob if entry.pack is None else Named(Kind.PACK, entry.pack)
        self.entries = [entry]
        self.size = entry.size or 0
        """Bytes of the entries."""
        self.places: list[Place] = []
        self.is_over = anyio.Event()
        self._path_bytes = len(entry.path)

    def takes(self, entry: ManifestEntry) -> bool:
        """Whether another entry is fetched by the same errand; then it is one of its entries."""
        is_here = entry.pack is not None and entry.pack == self.named.name
        if not is_here or len(self.entries) >= ERRAND_ENTRIES or self._path_bytes > _PATH_BYTES:
            return False
        self.entries.append(entry)
        self.size += entry.size or 0
        self._path_bytes += len(entry.path)
        return True

    def is_most(self) -> bool:
        """Whether the entries are most of what is known to be in the pack, from its beginning on."""
        begin = min(entry.offset or 0 for entry in self.entries)
        end = max((entry.offset or 0) + (entry.size or 0) for entry in self.entries)
        return begin == 0 and len(self.entries) > 1 and self.size >= _WHOLE_SHARE * end

    def placed(self, file: str, *, is_checked: bool) -> list[Place]:
        """The entries' places in the object's file."""
        is_cached = is_checked or is_lent(file)
        return [
            Place(entry.path, file, entry.offset or 0, is_checked, is_cached=is_cached)
            for entry in self.entries
        ]

    def nowhere(self) -> list[Place]:
        """The entries, which lie in no file here."""
        return [Place(entry.path) for entry in self.entries]
