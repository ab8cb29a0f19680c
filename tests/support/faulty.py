"""A store around a store whose network fails on purpose."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import TypeVar

import anyio

from wherry.errors import StoreUnavailable
from wherryd.stores.base import (
    Body,
    Found,
    Object,
    ObjectStat,
    ObjectStore,
    OutcomeUnknown,
    Sizes,
    UploadStat,
    WriteConflict,
)
from wherryd.stores.chunks import InChunks

_T = TypeVar("_T")


class Fault(Enum):
    """What happens to one call."""

    LOSE_ANSWER = auto()  # it acts, and nobody hears of it
    LOSE_REQUEST = auto()  # it never arrives, and nobody hears of it
    CONFLICT = auto()  # 409
    UNAVAILABLE = auto()  # 503 before it acts
    HOLD = auto()  # it waits for ``FaultyStore.release``


class FaultyStore(InChunks):
    """Does what the inner store does, but for the calls that have a fault planned.

    Args:
        inner: the store that acts.

    Plan faults by verb: ``store.plan("put_if_absent", Fault.LOSE_ANSWER, Fault.CONFLICT)`` is for the
    next two calls of that verb. ``calls`` counts the calls of each verb.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._planned: dict[str, deque[Fault]] = {}
        self._released = anyio.Event()
        self.calls: Counter[str] = Counter()

    def plan(self, verb: str, *faults: Fault) -> None:
        """Give the next calls of a verb these faults, one each."""
        self._planned.setdefault(verb, deque()).extend(faults)

    def release(self) -> None:
        """Let the calls that are held go on."""
        self._released.set()
        self._released = anyio.Event()

    @property
    def address(self) -> str:
        return self._inner.address

    async def get(self, key: str) -> Object:
        return await self._call("get", lambda: self._inner.get(key))

    async def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """A fault breaks the stream off after its first chunk."""
        fault = self._next("stream")
        async for chunk in self._inner.stream(key, offset, size):
            yield chunk[: max(1, len(chunk) // 2)] if fault else chunk
            if fault:
                raise StoreUnavailable("broken off")

    async def head(self, key: str) -> ObjectStat:
        return await self._call("head", lambda: self._inner.head(key))

    async def put(self, key: str, body: Body) -> None:
        await self._call("put", lambda: self._inner.put(key, body), writes=True)

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._call(
            "put_if_absent", lambda: self._inner.put_if_absent(key, body), writes=True
        )

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        return await self._call(
            "put_if_match", lambda: self._inner.put_if_match(key, body, etag), writes=True
        )

    def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        """A fault breaks the listing off after its first object."""
        return self._listed("list", self._inner.list(prefix, start_after))

    def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """A fault breaks the listing off after its first object."""
        return self._listed("scan", self._inner.scan(prefix))

    def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        """A fault breaks the listing off after its first name."""
        return self._listed("list_folders", self._inner.list_folders(prefix))

    async def _listed(self, verb: str, items: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
        fault = self._next(verb)
        async for item in items:
            yield item
            if fault:
                raise StoreUnavailable("broken off")

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        return await self._call("get_all", lambda: self._inner.get_all(keys))

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        return await self._call("sync", lambda: self._inner.sync(keys, witness))

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        return await self._call("sizes", lambda: self._inner.sizes(keys, witness))

    async def delete(self, key: str) -> None:
        await self._call("delete", lambda: self._inner.delete(key), writes=True)

    async def give_up(self, key: str, upload: str) -> None:
        await self._call("give_up", lambda: self._inner.give_up(key, upload), writes=True)

    async def list_uploads(self, prefix: str) -> AsyncGenerator[UploadStat, None]:
        async for stat in self._inner.list_uploads(prefix):
            yield stat

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _next(self, verb: str) -> Fault | None:
        self.calls[verb] += 1
        planned = self._planned.get(verb)
        return planned.popleft() if planned else None

    async def _call(
        self, verb: str, call: Callable[[], Awaitable[_T]], *, writes: bool = False
    ) -> _T:
        lost = OutcomeUnknown if writes else StoreUnavailable
        match self._next(verb):
            case Fault.LOSE_ANSWER:
                await call()
                raise lost("the answer was lost")
            case Fault.LOSE_REQUEST:
                raise lost("the request was lost")
            case Fault.CONFLICT:
                raise WriteConflict("409")
            case Fault.UNAVAILABLE:
                raise StoreUnavailable("503")
            case Fault.HOLD:
                await self._released.wait()
        return await call()
