"""How many bodies go to stores at once, over all requests.

Owns: the limit, the share of it that large bodies may take, and that bytes which two requests need
are not sent twice at once. Does not own: which body is next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio

#: Bodies from here on leave a quarter of the slots to smaller ones.
LARGE_BYTES = 8 << 20


class Slots:
    """Places for transfers.

    Args:
        at_once: bodies in flight, over all stores.
    """

    def __init__(self, at_once: int) -> None:
        # A slot that is free is taken at once: a turn of the loop is much for a small body.
        self._all = anyio.Semaphore(at_once, fast_acquire=True)
        self._large = anyio.Semaphore(max(1, at_once * 3 // 4), fast_acquire=True)
        self._flying: dict[Hashable, anyio.Event] = {}

    def flying(self, key: Hashable) -> anyio.Event | None:
        """Set when the transfer of this key, which is under way, has ended; None if there is none."""
        return self._flying.get(key)

    async def take(self, key: Hashable, size: int) -> None:
        """Say that ``key`` is under way, and wait for a slot. Ask ``flying`` first; then ``give_back``."""
        self._flying[key] = anyio.Event()
        try:
            if size >= LARGE_BYTES:
                await self._large.acquire()
            await self._take_one(size)
        except BaseException:
            self._land(key)
            raise

    def give_back(self, key: Hashable, size: int) -> None:
        """The transfer has ended, well or not."""
        self._all.release()
        if size >= LARGE_BYTES:
            self._large.release()
        self._land(key)

    def take_further(self) -> bool:
        """Take a slot for one more piece of a large body, if there is one and nobody waits for it."""
        if any(slots.statistics().tasks_waiting for slots in (self._all, self._large)):
            return False
        try:
            self._large.acquire_nowait()
        except anyio.WouldBlock:
            return False
        try:
            self._all.acquire_nowait()
        except anyio.WouldBlock:
            self._large.release()
            return False
        return True

    def give_further(self) -> None:
        """Give it back."""
        self._all.release()
        self._large.release()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot for something small."""
        async with self._all:
            yield

    async def _take_one(self, size: int) -> None:
        try:
            await self._all.acquire()
        except BaseException:
            if size >= LARGE_BYTES:
                self._large.release()
            raise

    def _land(self, key: Hashable) -> None:
        self._flying.pop(key).set()
