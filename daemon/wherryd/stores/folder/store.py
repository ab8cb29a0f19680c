"""The verbs of a store in a folder: each runs in one worker thread (``files``).

Owns: threads, and how many at once. Does not own: the steps of a verb. Long copies and syncs have threads of
their own, so that a commit never waits for one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

from anyio import CapacityLimiter, from_thread, to_thread

from wherry.errors import StoreDamaged
from wherryd.clock import Clock
from wherryd.stores.base import Body, Found, Object, ObjectStat, Sizes
from wherryd.stores.bodies import CHUNK_BYTES
from wherryd.stores.chunks import InChunks
from wherryd.stores.folder.files import Files
from wherryd.stores.folder.problems import check_root, writing
from wherryd.stores.folder.walking import walk, walk_folders
from wherryd.stores.whole import PutsWhole

_T = TypeVar("_T")
_QUICK, _LONG = 8, 4  # threads
_BATCH = 500  # listed objects per thread hop


class FolderStore(InChunks, PutsWhole):
    """An ``ObjectStore`` in a folder that is there already.

    Args:
        root: absolute path, without a slash at its end.
        clock: gives temporary files their names.
    """

    def __init__(self, root: str, clock: Clock) -> None:
        self._root = root
        self._files = Files(self._root, clock.token, from_thread.check_cancelled)
        self._quick = CapacityLimiter(_QUICK)
        self._long = CapacityLimiter(_LONG)

    @property
    def address(self) -> str:
        return "file://" + quote(self._root, safe="/", errors="surrogateescape")

    async def get(self, key: str) -> Object:
        return await self._in_thread(lambda: self._files.read(key))

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        file = await self._in_thread(lambda: self._files.open(key))
        with file:
            fd, end = file.fileno(), None if size is None else offset + size
            while offset != end:
                wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - offset)
                chunk = await self._read(fd, wanted, offset)
                if chunk:
                    yield chunk
                elif end is None:
                    return
                else:
                    raise StoreDamaged(f"{key} ends at {offset}, not at {end} bytes.")
                offset += len(chunk)

    async def head(self, key: str) -> ObjectStat:
        return await self._in_thread(lambda: self._files.stat(key))

    async def put(self, key: str, body: Body) -> None:
        limiter = self._quick if isinstance(body, bytes) else self._long
        await self._in_thread(lambda: self._files.put(key, body), limiter)

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._in_thread(lambda: self._files.create(key, body))

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        return await self._in_thread(lambda: self._files.replace(key, body, etag))

    async def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        async for stat in self._pump(walk(self._root, prefix, start_after)):
            yield stat

    def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        return self.list(prefix)

    async def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        async for name in self._pump(walk_folders(self._root, prefix)):
            yield name

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        return await self._in_thread(lambda: self._files.read_all(keys))

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        return await self._in_thread(lambda: self._files.sync(keys, witness), self._long)

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        return await self._in_thread(lambda: self._files.sizes(keys, witness))

    async def delete(self, key: str) -> None:
        await self._in_thread(lambda: self._files.remove(key))

    async def aclose(self) -> None:
        pass

    async def _read(self, fd: int, size: int, offset: int) -> bytes:
        def read() -> bytes:
            with writing(self._root, "reading"):
                return os.pread(fd, size, offset)

        return await self._in_thread(read)

    async def _pump(self, found: Iterator[_T]) -> AsyncGenerator[_T, None]:
        """Take from an iterator that blocks, a batch per thread hop."""

        def take() -> list[_T]:
            with writing(self._root, "listing"):
                return [*itertools.islice(found, _BATCH)]

        batch = await self._in_thread(take)
        if not batch:
            await self._in_thread(lambda: check_root(self._root))
        while batch:
            for item in batch:
                yield item
            batch = await self._in_thread(take)

    async def _in_thread(
        self, call: Callable[[], _T], limiter: CapacityLimiter | None = None
    ) -> _T:
        return await to_thread.run_sync(call, limiter=limiter or self._quick)
