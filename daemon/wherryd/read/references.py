"""The bytes of references, and whether they are still what was logged.

Owns: asking for some ahead in bounded memory, giving all in order, trying again what may go better, going on
in the middle of a large one. Does not own: what a server is asked (``references``), where files are written
(the client).
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
from wherryd.closing import closing
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


class Wanted(msgspec.Struct, frozen=True):
    """A reference that somebody wants to have."""

    path: str
    seen: Seen
    start: int = 0  # bytes that are there already, of an answer that was cut


class Piece(msgspec.Struct, frozen=True):
    """A piece of a reference."""

    path: str  # in its first piece
    start: int = 0  # likewise: where the bytes begin
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

    async def read(self, wanted: Sequence[Wanted], *, check_only: bool) -> None:
        """Send references in order; one that can't be had is told of, and the others go on."""
        await all_of(partial(self._read, wanted, check_only))  # for one plain error

    async def _read(self, wanted: Sequence[Wanted], check_only: bool) -> None:
        ahead = CHECKS_AHEAD if check_only else AHEAD
        sender, receiver = anyio.create_memory_object_stream[_Ahead](ahead - 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_ahead, wanted, check_only, tasks, sender)
            await self._send_in_order(receiver)

    async def _look_ahead(
        self,
        wanted: Sequence[Wanted],
        check_only: bool,
        tasks: TaskGroup,
        sender: MemoryObjectSendStream[_Ahead],
    ) -> None:
        async with sender:
            for each in wanted:
                ahead = _Ahead(each, check_only)
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
                await self._pause(error, failures)
        return await ask()

    async def _pause(self, error: ReferenceUnavailable, failures: int) -> None:
        pause_s = self._clock.random() * FIRST_S * 2**failures
        await self._clock.sleep(min(max(pause_s, error.retry_after_s or 0.0), LONGEST_S))

    async def _send_in_order(self, receiver: MemoryObjectReceiveStream[_Ahead]) -> None:
        async with receiver:
            async for ahead in receiver:
                if ahead.is_early:
                    await ahead.is_there.wait()
                    await self._send(
                        Piece(ahead.path, data=ahead.data, last=True, error=ahead.error)
                    )
                else:
                    await self._send_large(ahead)

    async def _send_large(self, ahead: _Ahead) -> None:
        failures = 0
        while True:
            tried_from = ahead.position
            try:
                await self._send_rest(ahead)
            except ReferenceFailed as error:
                await self._send(ahead.piece(last=True, error=error))
                return
            except ReferenceUnavailable as error:
                failures = 0 if ahead.position - tried_from >= SMALL_BYTES else failures
                failures += 1
                if failures == TRIES or not ahead.can_go_on:
                    await self._send(ahead.piece(last=True, error=error))
                    return
                await self._pause(error, failures - 1)
            else:
                await self._send(ahead.piece(last=True))
                return

    async def _send_rest(self, ahead: _Ahead) -> None:
        if ahead.position and ahead.position == ahead.seen.size:
            return  # cut after the last byte
        resolver = await self._resolvers.of(ahead.seen.uri)
        async with closing(resolver.open(ahead.seen, ahead.position)) as chunks:
            async for data in chunks:
                await self._send(ahead.piece(data))


class _Ahead:
    """A reference whose turn has not come."""

    def __init__(self, wanted: Wanted, check_only: bool) -> None:
        seen = wanted.seen
        self.path = wanted.path
        self.seen = seen
        self.check_only = check_only
        self.is_early = check_only or (seen.size is not None and seen.size <= SMALL_BYTES)
        #: Bytes that are there or were sent. What can't be told from another object begins anew.
        self.position = wanted.start if seen.is_told_apart and not self.is_early else 0
        self._begin: int | None = self.position  # None: its first piece was made
        self.is_there = anyio.Event()
        self.data = b""
        self.error: WherryError | None = None

    @property
    def can_go_on(self) -> bool:
        """Whether it can be asked for again, after some of it was sent."""
        return self.seen.is_told_apart or not self.position

    def piece(
        self, data: bytes = b"", *, last: bool = False, error: WherryError | None = None
    ) -> Piece:
        """The next piece of a large one."""
        begin, self._begin = self._begin, None
        self.position += len(data)
        path = "" if begin is None else self.path
        return Piece(path, start=begin or 0, data=data, last=last, error=error)
