"""Brings one object of a store into the cache.

Owns: ranges side by side, going on with what an earlier try has left, comparing what came. Does not own: who
wants it and who waits (``fetching``), the folder (``cache``), short faults (stores around the store).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import StoreDamaged
from wherryd.read.cache import CacheFolder, Partial
from wherryd.registry.base import Named, Registry
from wherryd.together import all_of

#: Ranges of one object that are under way at once.
RANGES_AT_ONCE = 8
#: No pack is larger; those that this program makes have 16 MiB.
MOST_PACK_BYTES = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_T = TypeVar("_T")


class Threads:
    """Of the cache alone: what waits for the disk here must hold up nothing else of the daemon's."""

    def __init__(self, count: int) -> None:
        self._limiter = anyio.CapacityLimiter(count)

    async def run(self, call: Callable[[], _T]) -> _T:
        """Make a call that blocks; it is waited for whatever becomes of the task."""
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)


class Source(msgspec.Struct, frozen=True):
    """Where objects come from."""

    store: str  # address
    project: str
    registry: Registry


class Bringing:
    """One object on its way.

    Args:
        name: ``<hex>``, the SHA-256 of its bytes.
        streams: limits how many are read at once, of all objects of the store.
    """

    def __init__(
        self,
        source: Source,
        named: Named,
        name: str,
        folder: CacheFolder,
        streams: anyio.CapacityLimiter,
        threads: Threads,
    ) -> None:
        self._source = source
        self._named = named
        self._name = name
        self._folder = folder
        self._streams = streams
        self._threads = threads
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        """How many have come."""
        self.file = ""
        """Where they are, if there are some."""
        self.hashed = 0
        """How many from its beginning on are there, and have been hashed."""

    async def run(self) -> str:
        """Bring it; return the path of its file.

        Raises:
            StoreDamaged: it is gone from the store, or is not what its name says.
            StoreError: it can't be had now.
            OSError: the cache's disk does not take it.
        """
        try:
            return await self._run()
        except OSError as error:
            if error.errno in _FULL:
                await self._threads.run(partial(self._folder.drop, self._name))
            raise

    async def _run(self) -> str:
        opened = await self._threads.run(
            partial(self._folder.open_partial, self._name, self._named.size)
        )
        with opened:
            self.file = opened.path
            found = await self._fill(opened)
            if found != self._name and opened.is_resumed:
                # The power may have gone since, and with it bytes that were noted as there.
                await self._threads.run(opened.begin_anew)
                found = await self._fill(opened)
            if found != self._name:
                await self._threads.run(opened.begin_anew)
                raise StoreDamaged(
                    f"the {self._named.kind} {self._name} is damaged: its bytes have the SHA-256 {found}",
                    hint="Put the object back from a copy of the store.",
                )
            return await self._threads.run(partial(self._folder.keep, self._name, opened))

    async def _fill(self, opened: Partial) -> str:
        """Fetch what is missing; return the SHA-256 of the whole, as hex."""
        self._sha256 = hashlib.sha256()
        self.bytes = self.hashed = 0
        if len(opened.ranges) < 2 and not opened.is_resumed:
            await self._take(opened, 0, self._named.size, self._sha256.update)
            if opened.ranges:
                await self._threads.run(partial(opened.note, 0))
        else:
            await self._fill_ranges(opened)
        return self._sha256.hexdigest()

    async def _fill_ranges(self, opened: Partial) -> None:
        """Fetch some ranges side by side, and hash all in order behind them."""
        ranges = [(anyio.Event(), at, size) for at, size in opened.ranges]
        missing = [index for index in range(len(ranges)) if not opened.has(index)]
        for index, (is_there, _, size) in enumerate(ranges):
            if opened.has(index):
                is_there.set()
                self.bytes += size
        left = iter(missing)

        async def work() -> None:
            for index in left:
                is_there, at, size = ranges[index]
                await self._take(opened, at, size)
                await self._threads.run(partial(opened.note, index))
                is_there.set()

        async def hash_all() -> None:
            for is_there, at, size in ranges:
                await is_there.wait()
                await self._threads.run(partial(opened.feed, self._sha256.update, at, size))
                self.hashed = at + size

        await all_of(hash_all, *[work] * min(RANGES_AT_ONCE, len(missing)))

    async def _take(
        self,
        opened: Partial,
        offset: int,
        size: int | None,
        update: Callable[[memoryview], object] | None = None,
    ) -> None:
        """Write one stretch of the object, and perhaps hash it on the way."""

        def put(piece: memoryview) -> None:
            nonlocal offset
            try:
                opened.write(piece, offset)
            except OSError as error:
                raise _DiskRefuses(error) from error
            if update is not None:
                update(piece)
            offset += len(piece)
            self.bytes += len(piece)
            self._check_size(offset)

        registry, project = self._source.registry, self._source.project
        async with self._streams:
            try:
                await registry.stream_object(project, self._named, offset, size, put)
            except _DiskRefuses as refusal:
                raise refusal.error from refusal

    def _check_size(self, come: int) -> None:
        if self._named.size is None and come > MOST_PACK_BYTES:
            raise StoreDamaged(
                f"the {self._named.kind} {self._name} has more bytes than any may have"
            )


class _DiskRefuses(Exception):
    """The cache's disk did not take what came."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error
