"""The one policy by which a store's short faults are met: try again a few times, after random pauses.

Owns: what is repeated, how often, and the pauses; telling whoever began the call (``watched``), also of what
is repeated deep inside a store. Does not own: long faults (the stages wait for those, and show why), or
conditional puts, which are never repeated below the commit.

Pauses have full jitter: each is random between 0 and a bound that doubles (AWS Architecture Blog,
"Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

import msgspec

from wherry.errors import StoreError, StoreUnavailable
from wherryd.clock import Clock
from wherryd.closing import closing
from wherryd.stores.base import (
    Body,
    Found,
    Object,
    ObjectStat,
    ObjectStore,
    Sink,
    Sizes,
    StepsFailed,
    UploadStat,
)

_T = TypeVar("_T")


class Policy(msgspec.Struct, frozen=True):
    """How often, and how long between."""

    tries: int = 4
    first_s: float = 0.2  # bound of the first pause
    longest_s: float = 5.0

    def bound_s(self, failed: int) -> float:
        """The longest that the pause after this many failures may be."""
        return float(min(self.longest_s, self.first_s * 2 ** (failed - 1)))


PATIENT = Policy(tries=9, first_s=0.5, longest_s=15.0)
"""For a step whose failure costs all that went before it, as a big file's part: half a minute."""


class Retried(msgspec.Struct, frozen=True):
    """One repetition, for whoever watches."""

    what: str  # verb and key
    error: StoreError
    failed: int  # how many tries have failed
    pause_s: float


class Watcher(Protocol):
    """Somebody for whom calls are made, a request say."""

    async def wait_again(self, retried: Retried) -> None:
        """A call has failed: let its pause pass, or as much of it as is needed."""
        ...

    async def recovered(self) -> None:
        """A call that had failed went well."""
        ...


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have all that is repeated in here, and in tasks that are started in here, told to ``watcher``."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


Told = Callable[[Retried], None]


def _tell_nobody(_: Retried) -> None:
    pass


class Retry:
    """Repeat what failed with ``StoreUnavailable`` (``OutcomeUnknown`` among them), but for ``StepsFailed``.

    Args:
        clock: gives pauses and chance.
        policy: how often.
        told: called before each pause.
    """

    def __init__(self, clock: Clock, policy: Policy, told: Told = _tell_nobody) -> None:
        self._clock = clock
        self._policy = policy
        self._told = told

    async def run(self, what: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call that is safe to repeat; raise its last error.

        Args:
            what: verb and key, for whoever watches.
            call: makes one try.
        """
        failed = 0
        while True:
            try:
                answer = await call()
            except StepsFailed:
                raise  # each step has had its tries
            except StoreUnavailable as exc:
                failed += 1
                await self.pause(what, exc, failed)
                continue
            if failed and (watcher := _watcher.get()):
                await watcher.recovered()
            return answer

    async def pause(self, what: str, error: StoreUnavailable, failed: int) -> None:
        """Let the pause after ``failed`` tries pass; raise ``error`` if there is no try left.

        Nor is there one if the server wants to be left alone for longer: such waits are the stages'.
        """
        if failed >= self._policy.tries or error.retry_after_s > self._policy.longest_s:
            raise error
        pause_s = error.retry_after_s + self._clock.random() * self._policy.bound_s(failed)
        retried = Retried(what=what, error=error, failed=failed, pause_s=pause_s)
        self._told(retried)
        if watcher := _watcher.get():
            await watcher.wait_again(retried)
        else:
            await self._clock.sleep(pause_s)


class RetryingStore:
    """A store around a store: reads, plain puts and deletes are repeated, conditional puts never.

    Args:
        inner: the store.
        clock: gives pauses and chance.
        policy: how often.
        told: called before each pause.
    """

    def __init__(
        self,
        inner: ObjectStore,
        clock: Clock,
        policy: Policy | None = None,
        told: Told = _tell_nobody,
    ) -> None:
        self._inner = inner
        self._retry = Retry(clock, policy or Policy(), told)

    @property
    def address(self) -> str:
        return self._inner.address

    async def get(self, key: str) -> Object:
        return await self._retry.run(f"get {key}", lambda: self._inner.get(key))

    def stream(
        self, key: str, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Go on where a stream broke off: who reads checks the digest, so no two objects can mix."""
        given = 0

        def begin() -> AsyncIterator[bytes]:
            left = None if size is None else size - given
            return self._inner.stream(key, offset + given, left)

        def note(chunk: bytes) -> None:
            nonlocal given
            given += len(chunk)

        return self._resumed(f"stream {key}", begin, note)

    async def stream_to(self, key: str, offset: int, size: int | None, sink: Sink) -> None:
        """Go on where it broke off, as ``stream``."""
        given, failed = 0, 0

        def note(piece: memoryview) -> None:
            nonlocal given, failed
            sink(piece)
            given += len(piece)
            failed = 0

        while True:
            left = None if size is None else size - given
            try:
                await self._inner.stream_to(key, offset + given, left, note)
            except StoreUnavailable as exc:
                failed += 1
                await self._retry.pause(f"stream {key}", exc, failed)
            else:
                return

    async def head(self, key: str) -> ObjectStat:
        return await self._retry.run(f"head {key}", lambda: self._inner.head(key))

    async def put(self, key: str, body: Body) -> None:
        await self._retry.run(f"put {key}", lambda: self._inner.put(key, body))

    async def put_if_absent(self, key: str, body: bytes) -> str:
        return await self._inner.put_if_absent(key, body)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        return await self._inner.put_if_match(key, body, etag)

    def list(self, prefix: str, start_after: str = "") -> AsyncGenerator[ObjectStat, None]:
        """Go on after the last object that a broken listing gave."""
        last = start_after

        def note(stat: ObjectStat) -> None:
            nonlocal last
            last = stat.key

        return self._resumed(f"list {prefix}", lambda: self._inner.list(prefix, last), note)

    def scan(self, prefix: str) -> AsyncGenerator[ObjectStat, None]:
        """Begin a broken listing again, passing over what it gave: it has no order to go on in."""
        given: set[str] = set()

        async def begin() -> AsyncGenerator[ObjectStat, None]:
            async with closing(self._inner.scan(prefix)) as stats:
                async for stat in stats:
                    if stat.key not in given:
                        yield stat

        return self._resumed(f"list {prefix}", begin, lambda stat: given.add(stat.key))

    def list_folders(self, prefix: str) -> AsyncGenerator[str, None]:
        """Begin a broken listing again, passing over what it gave."""
        last = b""

        async def begin() -> AsyncGenerator[str, None]:
            async with closing(self._inner.list_folders(prefix)) as names:
                async for name in names:
                    if f"{name}/".encode() > last:
                        yield name

        def note(name: str) -> None:
            nonlocal last
            last = f"{name}/".encode()

        return self._resumed(f"list {prefix}", begin, note)

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        what = f"get {keys[-1]}" if keys else "get"
        return await self._retry.run(what, lambda: self._inner.get_all(keys))

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        return await self._retry.run("sync", lambda: self._inner.sync(keys, witness))

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        what = f"look at {len(keys)} objects"
        return await self._retry.run(what, lambda: self._inner.sizes(keys, witness))

    async def delete(self, key: str) -> None:
        await self._retry.run(f"delete {key}", lambda: self._inner.delete(key))

    async def give_up(self, key: str, upload: str) -> None:
        await self._retry.run(f"give up {key}", lambda: self._inner.give_up(key, upload))

    async def list_uploads(self, prefix: str) -> AsyncGenerator[UploadStat, None]:
        async for stat in self._inner.list_uploads(prefix):
            yield stat

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _resumed(
        self, what: str, begin: Callable[[], AsyncIterator[_T]], note: Callable[[_T], None]
    ) -> AsyncGenerator[_T, None]:
        """Pass on what ``begin`` gives; begin again, from what was noted, where it breaks off."""
        failed = 0
        while True:
            try:
                async with closing(begin()) as items:
                    async for item in items:
                        failed = 0
                        note(item)
                        yield item
                return
            except StoreUnavailable as exc:
                failed += 1
                await self._retry.pause(what, exc, failed)
