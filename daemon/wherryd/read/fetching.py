"""Brings objects of stores into the cache: each once, for all who ask at the same time.

Owns: who fetches and who waits for it, ranges side by side, comparing what came; what is in use and stays.
Does not own: the folder (``cache``), who wants which (``delivery``), short faults (stores around the store).

Whoever asks first fetches; where that call ends, the next one that waits goes on with what is there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial as partial_call
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import StoreDamaged, WherryError
from wherryd.closing import closing
from wherryd.read.cache import CacheFolder, Held, Partial
from wherryd.registry.base import Named, Registry
from wherryd.together import all_of

#: Ranges of one object that are under way at once …
RANGES_AT_ONCE = 8
#: … and of all.
STREAMS_AT_ONCE = 16
#: Written in one go.
_WRITE_BYTES = 1 << 20
#: What a pack may have, whose size only the store knows.
_PACK_BYTES = 16 << 20

_T = TypeVar("_T")
Take = Callable[[int, int], Awaitable[None]]


class CacheUnusable(Exception):
    """The cache takes no object of this size, or its disk none at all: it has to be read in passing."""


class Source(msgspec.Struct, frozen=True):
    """Where objects come from."""

    store: str  # address
    project: str
    registry: Registry


class Hold:
    """What one call uses: none of it leaves the cache."""

    def __init__(self) -> None:
        self.names: set[str] = set()


class _Going:
    """An object that is being fetched."""

    def __init__(self, source: Source) -> None:
        self.origin = source.store, source.project
        self.is_over = anyio.Event()
        self.error: WherryError | CacheUnusable | None = None


class Fetcher:
    """The one for a home.

    Args:
        folder: takes the objects.
    """

    def __init__(self, folder: CacheFolder) -> None:
        self._folder = folder
        self._going: dict[str, _Going] = {}
        self._in_use = Counter[str]()
        self._streams = anyio.CapacityLimiter(STREAMS_AT_ONCE)

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Use objects: what is fetched for the hold stays until the block's end."""
        hold = Hold()
        try:
            yield hold
        finally:
            self._in_use.subtract(hold.names)
            self._in_use += Counter()  # drops those that nobody uses

    async def room_bytes(self) -> int:
        """How much one call may use at once; it then lets go of that, and goes on."""
        return max(1, await _in_thread(self._folder.quota) // 2)

    async def trim(self, most_bytes: int) -> Held:
        """Remove what was not used for the longest time; return what was removed."""
        in_use = frozenset(self._in_use)
        return await _in_thread(lambda: self._folder.trim(most_bytes, in_use))

    async def holds(self) -> tuple[Held, int]:
        """What the cache holds, and how many bytes that may be."""
        return await _in_thread(self._folder.count), await _in_thread(self._folder.quota)

    async def find(self, name: str, size: int | None, hold: Hold) -> str | None:
        """Where an object is that the cache has; None for all others."""
        self._use(name, hold)
        return await _in_thread(lambda: self._folder.find(name, size))

    async def fetch(self, source: Source, named: Named, hold: Hold) -> str:
        """Bring an object here unless it is; return the path of its file, which must not be written to.

        Raises:
            CacheUnusable: it can't be kept here.
            StoreDamaged: it is gone from the store, or is not what its name says.
            StoreError: it can't be had now.
        """
        name = named.name.removeprefix("sha256:")
        self._use(name, hold)
        while True:
            try:
                found = await _in_thread(lambda: self._folder.find(name, named.size))
            except OSError as error:
                raise CacheUnusable(str(error)) from error
            if found is not None:
                return found
            going = self._going.get(name)
            if going is None:
                return await self._begin(source, named, name)
            await going.is_over.wait()
            if going.error and going.origin == (source.store, source.project):
                raise going.error

    def _use(self, name: str, hold: Hold) -> None:
        if name not in hold.names:
            hold.names.add(name)
            self._in_use[name] += 1

    async def _begin(self, source: Source, named: Named, name: str) -> str:
        going = self._going[name] = _Going(source)
        try:
            return await self._bring(source, named, name)
        except (WherryError, CacheUnusable) as error:
            going.error = error
            raise
        except OSError as error:
            going.error = CacheUnusable(str(error))
            raise going.error from error
        finally:
            del self._going[name]
            going.is_over.set()

    async def _bring(self, source: Source, named: Named, name: str) -> str:
        size = _PACK_BYTES if named.size is None else named.size
        if not await _in_thread(lambda: self._folder.fits(size)):
            raise CacheUnusable(f"the cache has no room for {size:,} bytes")
        in_use = frozenset(self._in_use)
        await _in_thread(lambda: self._folder.make_room(size, in_use))
        partial = await _in_thread(lambda: self._folder.open_partial(name, named.size))
        with partial:
            found = await self._fill(source, named, partial)
            if found != name and partial.is_resumed:
                # The power may have gone since, and with it bytes that were noted as there.
                await _in_thread(partial.begin_anew)
                found = await self._fill(source, named, partial)
            if found != name:
                await _in_thread(partial.begin_anew)
                raise StoreDamaged(
                    f"the {named.kind} {name} is damaged: its bytes have the SHA-256 {found}"
                )
            return await _in_thread(lambda: self._folder.keep(name, partial))

    async def _fill(self, source: Source, named: Named, partial: Partial) -> str:
        """Fetch what is missing; return the SHA-256 of the whole, as hex."""
        sha256 = hashlib.sha256()
        if len(partial.ranges) < 2 and not partial.is_resumed:
            await self._take(source, named, 0, None, partial, sha256.update)
            if partial.ranges:
                await _in_thread(lambda: partial.note(0))
        else:
            await _Ranges(partial, sha256.update).run(
                lambda at, size: self._take(source, named, at, size, partial)
            )
        return sha256.hexdigest()

    async def _take(
        self,
        source: Source,
        named: Named,
        offset: int,
        size: int | None,
        partial: Partial,
        update: Callable[[bytes], object] | None = None,
    ) -> None:
        """Write one stretch of an object, and perhaps hash it on the way."""
        waiting, held = list[bytes](), 0

        def put(pieces: list[bytes], at: int) -> None:
            partial.write(pieces, at)
            if update is not None:
                for piece in pieces:
                    update(piece)

        async with self._streams:
            stream = source.registry.open_object(source.project, named, offset, size)
            async with closing(stream) as chunks:
                async for chunk in chunks:
                    waiting.append(chunk)
                    held += len(chunk)
                    if held >= _WRITE_BYTES:
                        full, at = waiting, offset
                        waiting, offset, held = [], offset + held, 0
                        await _in_thread(partial_call(put, full, at))
        if waiting:
            await _in_thread(partial_call(put, waiting, offset))


class _Ranges:
    """The ranges of one object: some are fetched side by side, and all are hashed in order behind them."""

    def __init__(self, partial: Partial, update: Callable[[memoryview], object]) -> None:
        self._partial = partial
        self._update = update
        self._there = [anyio.Event() for _ in partial.ranges]
        self._missing = [n for n in range(len(self._there)) if not partial.has(n)]
        for index, event in enumerate(self._there):
            if partial.has(index):
                event.set()

    async def run(self, take: Take) -> None:
        """Fetch what is missing."""
        left = iter(self._missing)

        async def work() -> None:
            for index in left:
                await take(*self._partial.ranges[index])
                await _in_thread(partial_call(self._partial.note, index))
                self._there[index].set()

        workers = min(RANGES_AT_ONCE, len(self._missing))
        await all_of(self._hash, *[work] * workers)

    async def _hash(self) -> None:
        for event, (offset, size) in zip(self._there, self._partial.ranges, strict=True):
            await event.wait()
            await _in_thread(partial_call(self._partial.feed, self._update, offset, size))


async def _in_thread(call: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(call)
