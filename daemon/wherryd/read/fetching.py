"""Who wants which objects of stores on this machine: each is fetched once, for all who ask at the same time.

Owns: who fetches and who waits for it; what is in use, and so stays; room for what is on its way. Does not
own: how an object comes (``bringing``), where it is kept (``cache``), which ones a version needs
(``delivery``).

Whoever asks first fetches; where that call ends, the next one that waits goes on with what is there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio
import msgspec

from wherry.errors import WherryError
from wherryd.read.bringing import Bringing, Source, Threads
from wherryd.read.cache import CacheFolder, Held, IsInUse, is_lent
from wherryd.registry.base import Named

#: Objects of one store, and ranges of them, that are read at once.
STREAMS_AT_ONCE = 16
_THREADS = 8
#: What a pack most likely has at most, whose size only the store knows.
PACK_BYTES = 16 << 20


class CacheUnusable(Exception):
    """The cache has no room for an object, or its disk takes none at all: it has to be read in passing."""


class Room(msgspec.Struct, frozen=True):
    """How much fits into the cache."""

    most_bytes: int  # of one object
    at_once_bytes: int  # of what one call uses; it then lets go of that, and goes on


class Hold:
    """What one call uses: none of it leaves the cache."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.bytes = 0
        """Of what has come for the call, as far as it has been told."""


class _Going:
    """An object that is being fetched."""

    def __init__(self, source: Source, named: Named, bringing: Bringing) -> None:
        self.origin = source.store, source.project, named
        self.bringing = bringing
        self.is_over = anyio.Event()
        self.error: WherryError | CacheUnusable | None = None
        self.lent = ""
        """Where it is, if programs may have hard links to it."""


class Fetcher:
    """The one for a home.

    Args:
        open_folder: makes the folder that takes the objects; is given what tells which have to stay.
    """

    def __init__(self, open_folder: Callable[[IsInUse], CacheFolder]) -> None:
        self._in_use = Counter[str]()
        self.folder = open_folder(self._in_use.__contains__)
        self._going: dict[str, _Going] = {}
        self._coming = 0  # bytes of those
        self._admitting = anyio.Lock()
        self._threads = Threads(_THREADS)
        self._streams = defaultdict[str, anyio.CapacityLimiter](
            partial(anyio.CapacityLimiter, STREAMS_AT_ONCE)
        )

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Use objects: what is fetched for the hold stays until the block's end."""
        hold = Hold()
        try:
            yield hold
        finally:
            for name in hold.names:
                self._in_use[name] -= 1
                if not self._in_use[name]:
                    del self._in_use[name]

    def streams(self, source: Source) -> anyio.CapacityLimiter:
        """What limits how many objects, or parts of them, are read from a store at once."""
        return self._streams[source.store]

    def bytes_of(self, hold: Hold) -> int:
        """How many bytes have come of what a call wants."""
        going = (self._going[name].bringing.bytes for name in hold.names if name in self._going)
        return hold.bytes + sum(going)

    def coming(self, named: Named) -> tuple[str, int]:
        """The file of an object that is on its way, and how many bytes from its beginning on are in it."""
        going = self._going.get(named.name.removeprefix("sha256:"))
        return (going.bringing.file, going.bringing.hashed) if going else ("", 0)

    async def room(self) -> Room:
        """How much fits into the cache."""
        quota = await self._threads.run(self.folder.quota)
        return Room(quota, quota // 2)

    async def trim(self, most_bytes: int) -> Held:
        """Remove what was not used for the longest time; return what was removed."""
        return await self._threads.run(partial(self.folder.trim, most_bytes))

    async def holds(self) -> tuple[Held, int]:
        """What the cache holds, and how many bytes that may be."""
        held = await self._threads.run(self.folder.count)
        return held, await self._threads.run(self.folder.quota)

    async def find(self, named: Named, hold: Hold) -> str | None:
        """Where an object is that the cache has, or that is coming; None for all others."""
        name = named.name.removeprefix("sha256:")
        self._use(name, hold)
        if name in self._going:
            await self._going[name].is_over.wait()
        return await self._threads.run(partial(self.folder.find, name, named.size))

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
            found = await self._threads.run(partial(self.folder.find, name, named.size))
            if found is not None:
                return found
            going = self._going.get(name)
            if going is None:
                return await self._bring(source, named, name)
            await going.is_over.wait()
            if going.lent:  # it has been compared for all who waited
                return going.lent
            if going.error and going.origin == (source.store, source.project, named):
                raise going.error

    async def lend(self, named: Named) -> str | None:
        """Let a program make hard links to an object that was fetched; where it is then, None: nowhere."""
        name = named.name.removeprefix("sha256:")
        return await self._threads.run(partial(self.folder.lend, name))

    def _use(self, name: str, hold: Hold) -> None:
        if name not in hold.names:
            hold.names.add(name)
            self._in_use[name] += 1

    async def _bring(self, source: Source, named: Named, name: str) -> str:
        bringing = Bringing(source, named, name, self.folder, self.streams(source), self._threads)
        going = self._going[name] = _Going(source, named, bringing)
        try:
            # Another call may have brought it just now, or another boot.
            found = await self._threads.run(partial(self.folder.adopt, name, named.size))
            if found is not None:
                going.lent = found if is_lent(found) else ""
                return found
            async with self._admitted(PACK_BYTES if named.size is None else named.size):
                return await bringing.run()
        except (WherryError, CacheUnusable) as error:
            going.error = error
            raise
        except OSError as error:
            going.error = CacheUnusable(str(error))
            raise going.error from error
        finally:
            del self._going[name]
            going.is_over.set()

    @asynccontextmanager
    async def _admitted(self, size: int) -> AsyncIterator[None]:
        """Make room for an object, and keep it until it is here, or given up. Raises ``CacheUnusable``."""
        async with self._admitting:
            if not await self._threads.run(partial(self.folder.make_room, self._coming + size)):
                raise CacheUnusable(f"the cache has no room for {size:,} bytes")
            self._coming += size
        try:
            yield
        finally:
            self._coming -= size
