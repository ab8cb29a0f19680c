"""A body on its way.

Owns: its pieces, how many of its bytes have not arrived, and putting off the end of patience as that number
falls. Does not own: how patient we are (``transport``), sending without a copy (``sendfile``).

Bytes that a socket took have not left: the kernel holds megabytes, which a slow line carries for minutes. So
what counts is what the other side has acknowledged; where the kernel does not tell, what it took.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Protocol

import aiohttp
import anyio
from aiohttp.abc import AbstractStreamWriter
from anyio import to_thread

from wherry.errors import CaptureError
from wherryd.stores.bandwidth import Bandwidth
from wherryd.stores.base import Body, FileBody, PackBody
from wherryd.stores.bodies import CHUNK_BYTES, is_in_memory, read_piece
from wherryd.stores.http.sendfile import conduit

#: In the time of the patience.
_LOOKS = 10
#: The end of a body, which no thread sends: the server answers once it has it, and aiohttp drops a connection
#: whose answer comes while it still writes, which it would until the thread's word has come.
_END_BYTES = 64 << 10
_SO_NWRITE = 0x1024  # <sys/socket.h> of macOS


class Readable(Protocol):
    """A body that is more than the bytes of files: with a frame around them, say."""

    @property
    def size(self) -> int:
        """Bytes of it."""
        ...

    def told(self, left: int) -> None:
        """So many of its bytes have left; a try that is repeated begins again at 0."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Read a piece; all pieces are read in order, from 0 on. Blocks. Raises ``CaptureError``."""
        ...


class Sending(aiohttp.Payload):
    """What aiohttp sends. Content-Length is the caller's to set."""

    _autoclose = True  # nothing stays open between two pieces

    def __init__(self, body: Body | Readable, bandwidth: Bandwidth) -> None:
        super().__init__(body)
        self._body = body
        self._bandwidth = bandwidth
        self.is_held = False
        """Whether it waits for its share of the bandwidth, and not for the server."""
        self._bytes = len(body) if isinstance(body, bytes) else body.size
        self._unwritten = self._bytes
        self._connection: asyncio.WriteTransport | None = None
        self.failure: CaptureError | None = None

    @property
    def left_bytes(self) -> int:
        """How many bytes are on this machine only."""
        connection = self._connection
        if connection is None or connection.is_closing():
            return self._unwritten
        return self._unwritten + connection.get_write_buffer_size() + _in_kernel(connection)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002  # the header says what the body has
    ) -> None:
        self._connection = writer.transport
        await self._send_by_conduit(writer)
        async for piece in self._pieces():
            self.is_held = True
            await self._bandwidth.spend(len(piece))
            self.is_held = False
            self._unwritten -= len(piece)
            await writer.write(piece)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError(f"a body is no text: {encoding}, {errors}")

    async def _send_by_conduit(self, writer: AbstractStreamWriter) -> None:
        """Send what needs no copy, all but the end, as long as there is no limit to keep."""
        end = self._bytes - _END_BYTES
        with conduit(writer, self._body, self._count_out) as way:
            while way and (offset := self._written) < end and self._bandwidth.rate is None:
                self._tell(offset)
                if not await way.send(offset, end - offset):
                    return

    @property
    def _written(self) -> int:
        return self._bytes - self._unwritten

    def _count_out(self, size: int) -> None:
        self._unwritten -= size

    async def _pieces(self) -> AsyncGenerator[memoryview, None]:
        for offset in range(self._written, self._bytes, CHUNK_BYTES):
            self._tell(offset)
            chunk = memoryview(await self._read(offset, min(CHUNK_BYTES, self._bytes - offset)))
            while chunk:
                size = self._bandwidth.piece_bytes
                yield chunk[:size]
                chunk = chunk[size:]

    def _tell(self, offset: int) -> None:
        if not isinstance(self._body, bytes):
            self._body.told(offset)

    async def _read(self, offset: int, size: int) -> bytes:
        body = self._body
        if isinstance(body, bytes):
            return body[offset : offset + size]
        try:
            if isinstance(body, FileBody | PackBody):
                if is_in_memory(body):
                    return read_piece(body, offset, size)
                return await to_thread.run_sync(read_piece, body, offset, size)
            return await to_thread.run_sync(body.read, offset, size)
        except CaptureError as exc:
            self.failure = exc
            raise


@contextmanager
def patience(silence_s: float, sending: Sending | None) -> Iterator[None]:
    """Wait as long as bytes leave, and ``silence_s`` after the last. Raises ``TimeoutError``."""
    with anyio.fail_after(silence_s) as scope:
        if sending is None:
            yield
            return
        watch = _Watch(silence_s, sending, scope)
        try:
            yield
        finally:
            watch.end()


class _Watch:
    """Looks again and again whether bytes have left."""

    def __init__(self, silence_s: float, sending: Sending, scope: anyio.CancelScope) -> None:
        self._silence_s = silence_s
        self._sending = sending
        self._scope = scope
        self._least = sending.left_bytes
        self._next = self._look_later()

    def end(self) -> None:
        self._next.cancel()

    def _look_later(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self._silence_s / _LOOKS, self._look)

    def _look(self) -> None:
        left = self._sending.left_bytes
        if left < self._least or self._sending.is_held:
            self._least = left
            self._scope.deadline = anyio.current_time() + self._silence_s
        self._next = self._look_later()


def _in_kernel(connection: asyncio.WriteTransport) -> int:
    """Bytes in the socket's queue that were not acknowledged (tcp(7), SIOCOUTQ)."""
    held = connection.get_extra_info("socket")
    try:
        if sys.platform == "darwin":
            return int(held.getsockopt(socket.SOL_SOCKET, _SO_NWRITE))
        return int.from_bytes(fcntl.ioctl(held, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # it does not tell, or was closed just now
        return 0
