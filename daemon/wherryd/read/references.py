"""The bytes of references, and whether they are still what was logged.

Owns: asking for some ahead in bounded memory, giving all in order, trying again what may go better. Does
not own: what a server is asked (``references``), where files are written (the client).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from wherry.errors import ReferenceFailed, ReferenceUnavailable, WherryError
from wherryd.clock import Clock
from wherryd.read.closing import closing
from wherryd.references.base import Seen
from wherryd.references.table import Resolvers
from wherryd.together import all_of

#: References up to this size are read ahead, whole.
SMALL_BYTES = 1 << 20
AHEAD = 16
#: Checks have no bytes to hold.
CHECKS_AHEAD = 48
TRIES = 4
FIRST_S = 0.5
#: The longest pause that a server can ask for while somebody waits.
LONGEST_S = 10.0


class Piece(msgspec.Struct, frozen=True):
    """A piece of a reference."""

    path: str  # in its first piece
    data: bytes = b""
    last: bool = False
    error: WherryError | None = None  # it can't be had; nothing more comes of it


Send = Callable[[Piece], Awaitable[None]]


class ReferenceReader:
    """Reads references.

    Args:
        send: takes the pieces in order; what it waits, the reading waits.
    """

    def __init__(self, resolvers: Resolvers, clock: Clock, send: Send) -> None:
        self._resolvers = resolvers
        self._clock = clock
        self._send = send

    async def read(self, wanted: Sequence[tuple[str, Seen]], *, check_only: bool) -> None:
        """Send (path, reference) in order; one that can't be had is told of, and the others go on."""
        await all_of(partial(self._read, wanted, check_only))  # for one plain error

    async def _read(self, wanted: Sequence[tuple[str, Seen]], check_only: bool) -> None:
        ahead = CHECKS_AHEAD if check_only else AHEAD
        sender, receiver = anyio.create_memory_object_stream[_Ahead](ahead - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_ahead, wanted, check_only, tasks, sender)
            await self._send_in_order(receiver)

    async def _look_ahead(
        self,
        wanted: Sequence[tuple[str, Seen]],
        check_only: bool,
        tasks: TaskGroup,
        sender: MemoryObjectSendStream[_Ahead],
    ) -> None:
        async with sender:
            for path, seen in wanted:
                ahead = _Ahead(path, seen, check_only)
                await sender.send(ahead)
                if ahead.is_early:
                    tasks.start_soon(self._fetch, ahead)

    async def _fetch(self, ahead: _Ahead) -> None:
        try:
            ahead.data = await self._patiently(partial(self._check_or_read, ahead))
        except (ReferenceFailed, ReferenceUnavailable) as error:
            ahead.error = error
        ahead.is_there.set()

    async def _check_or_read(self, ahead: _Ahead) -> bytes:
        resolver = await self._resolvers.of(ahead.seen.uri)
        if ahead.check_only:
            await resolver.check(ahead.seen)
            return b""
        async with closing(resolver.open(ahead.seen)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def _patiently(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        for failures in range(TRIES - 1):
            try:
                return await ask()
            except ReferenceUnavailable as error:
                pause_s = self._clock.random() * FIRST_S * 2**failures
                await self._clock.sleep(min(max(pause_s, error.retry_after_s or 0.0), LONGEST_S))
        return await ask()

    async def _send_in_order(self, receiver: MemoryObjectReceiveStream[_Ahead]) -> None:
        async with receiver:
            async for ahead in receiver:
                if ahead.is_early:
                    await ahead.is_there.wait()
                    await self._send(Piece(ahead.path, ahead.data, last=True, error=ahead.error))
                else:
                    await self._send_large(ahead)

    async def _send_large(self, ahead: _Ahead) -> None:
        path = ahead.path
        try:
            resolver = await self._resolvers.of(ahead.seen.uri)
            async with closing(resolver.open(ahead.seen)) as chunks:
                async for data in chunks:
                    await self._send(Piece(path, data))
                    path = ""
        except (ReferenceFailed, ReferenceUnavailable) as error:
            await self._send(Piece(path, last=True, error=error))
        else:
            await self._send(Piece(path, last=True))


class _Ahead:
    """A reference whose turn has not come."""

    def __init__(self, path: str, seen: Seen, check_only: bool) -> None:
        self.path = path
        self.seen = seen
        self.check_only = check_only
        self.is_early = check_only or (seen.size is not None and seen.size <= SMALL_BYTES)
        self.is_there = anyio.Event()
        self.data = b""
        self.error: WherryError | None = None
