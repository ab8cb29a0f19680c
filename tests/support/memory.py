"""A store in this process's memory, for tests: plain, deterministic, without threads.

Owns: nothing that outlives it. Does not own: faults and delays (tests put a store around it). Its ETags are
those of S3: they depend on the bytes alone, so that the same bytes have the same one again.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress

from wherry.errors import StoreDamaged
from wherryd.clock import Clock
from wherryd.stores.base import (
    Body,
    EtagMismatch,
    Found,
    Object,
    ObjectExists,
    ObjectMissing,
    ObjectStat,
)
from wherryd.stores.bodies import CHUNK_BYTES, read_whole
from wherryd.stores.chunks import InChunks
from wherryd.stores.together import OneByOne
from wherryd.stores.whole import PutsWhole


class MemoryStore(InChunks, PutsWhole):
    """An ``ObjectStore`` in a dictionary.

    Args:
        clock: dates the objects.
        address: what ``address`` gives.
    """

    def __init__(self, clock: Clock, address: str = "memory:") -> None:
        self._clock = clock
        self._address = address
        self._objects: dict[str, Object] = {}

    @property
    def address(self) -> str:
        return self._address

    async def get(self, key: str) -> Object:
        return self._find(key)

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        found = self._find(key).body[offset : None if size is None else offset + size]
        for start in range(0, len(found), CHUNK_BYTES):
            yield found[start : start + CHUNK_BYTES]
        if size is not None and len(found) < size:
            raise StoreDamaged(f"{key} has {len(found)} bytes from {offset}, not {size}.")

    async def head(self, key: str) -> ObjectStat:
        return self._find(key).stat

    async def put(self, key: str, body: Body) -> None:
        self._write(key, body if isinstance(body, bytes) else read_whole(body))

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if key in self._objects:
            raise ObjectExists(key)
        return self._write(key, body)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        if key not in self._objects or self._objects[key].stat.etag != etag:
            raise EtagMismatch(key)
        return self._write(key, body)

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        for key in self._keys(prefix):
            if key.encode() > start_after.encode() and key in self._objects:
                yield self._objects[key].stat

    def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        return self.list(prefix)

    async def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        below = (key.removeprefix(prefix).partition("/") for key in self._keys(prefix))
        for name in dict.fromkeys(name for name, slash, _ in below if slash):
            yield name

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        found = {}
        for key in keys:
            with suppress(ObjectMissing):
                found[key] = await self.get(key)
        return found

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        there = self._objects.get(witness)
        missing = {*keys} - self._objects.keys()
        return Found(there.body if there else None, tuple(sorted(missing)))

    sizes = OneByOne.sizes

    async def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    async def aclose(self) -> None:
        pass

    def _find(self, key: str) -> Object:
        if key not in self._objects:
            raise ObjectMissing(key)
        return self._objects[key]

    def _keys(self, prefix: str) -> Iterator[str]:
        found = [key for key in self._objects if key.startswith(prefix)]
        return iter(sorted(found, key=str.encode))

    def _write(self, key: str, body: bytes) -> str:
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        stat = ObjectStat(key=key, size=len(body), etag=etag, modified=self._clock.now())
        self._objects[key] = Object(stat=stat, body=bytes(body))
        return etag
