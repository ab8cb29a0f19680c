"""From a file into a connection, without a copy through this program (sendfile(2)).

Owns: which bodies can go so over which connections, and that neither the loop waits for the disk nor a thread
for the network. Does not own: how much is sent and when, and what is wrong where bytes can't go so: the usual
way (``sending``) goes on from there, and meets it again if it matters.

Not ``loop.sendfile``: it stops reading, and an answer that comes before the body's end would not be seen.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from anyio import to_thread

from wherry.errors import CaptureError
from wherryd.stores.base import FileBody, PackBody
from wherryd.stores.bodies import CHUNK_BYTES, opened

#: Measured: smaller bodies cost as much as they do the usual way.
LEAST_BYTES = 1 << 20
#: For one visit to a thread: as much as a socket takes at once. Measured: with 1 MiB a third more CPU or so.
MOST_BYTES = 4 << 20


@contextmanager
def conduit(
    writer: AbstractStreamWriter, body: object, took: Callable[[int], None]
) -> Iterator[Conduit | None]:
    """Give the conduit for a request's body; None: it can't go so.

    Args:
        writer: aiohttp's, whose headers are written.
        body: what it is to write.
        took: told, in a thread, of so many more bytes that the socket has taken.
    """
    made = _conduit(writer, body, took)
    if made is None:
        yield None
        return
    try:
        writer.send_headers()
        yield made
    finally:
        made.close()


class Conduit:
    """From a file into a connection.

    It has a descriptor of its own of the connection's socket, since the connection may close its own, whose
    number is then another's, when a thread is about to use it. A task that is cancelled does not wait for its
    thread, so that the last to use the descriptor closes it.
    """

    def __init__(
        self, file: FileBody, connection: asyncio.WriteTransport, took: Callable[[int], None]
    ) -> None:
        self._file = file
        self._connection = connection
        self._took = took
        self._socket: socket.socket = connection.get_extra_info("socket").dup()
        self._is_full = False
        self._use = threading.Lock()  # which nobody waits for
        self._is_over = False

    async def send(self, offset: int, size: int) -> bool:
        """Send some of so many bytes from ``offset`` of the file's on; False: no more can go so."""
        most = min(MOST_BYTES, size)
        sent: int | None = 0
        while sent == 0:
            await self._wait_room()
            if self._connection.is_closing():
                return False
            sent = await to_thread.run_sync(self._send, offset, most)
            self._is_full = sent is not None and sent < most
        return sent is not None

    def close(self) -> None:
        """Close the descriptor, or have the thread do so that uses it just now."""
        self._is_over = True
        if self._use.acquire(blocking=False):  # and never given back
            self._socket.close()

    async def _wait_room(self) -> None:
        """Wait until the socket takes something, and the connection has written what it holds itself."""
        while self._is_full or self._connection.get_write_buffer_size():
            await anyio.wait_writable(self._socket)
            self._is_full = False

    def _send(self, offset: int, size: int) -> int | None:
        if not self._use.acquire(blocking=False):
            return None
        try:
            return self._push(offset, size)
        finally:
            self._use.release()
            if self._is_over:
                self.close()

    def _push(self, offset: int, size: int) -> int | None:
        """Send what the socket takes at once, and wait for the disk only; None: no more can go so."""
        sent, start = 0, self._file.offset + offset
        try:
            with opened(self._file) as fd:
                while sent < size:
                    piece = min(CHUNK_BYTES, size - sent)
                    count = os.sendfile(self._socket.fileno(), fd, start + sent, piece)
                    if not count:
                        break
                    sent += count
                    self._took(count)
        except BlockingIOError:
            return sent
        except (CaptureError, OSError):
            pass
        return sent or None


def _conduit(
    writer: AbstractStreamWriter, body: object, took: Callable[[int], None]
) -> Conduit | None:
    file, connection = _file_of(body), writer.transport
    if file is None or connection is None or sys.platform != "linux":
        return None
    is_plain = isinstance(writer, StreamWriter) and not writer.chunked
    if not is_plain or connection.get_extra_info("ssl_object") is not None:
        return None
    try:
        return Conduit(file, connection, took)
    except OSError:  # it was closed just now, or too many files are open
        return None


def _file_of(body: object) -> FileBody | None:
    """The one stretch of a file that a body is, where it is one and worth it."""
    if isinstance(body, PackBody) and len(body.stretches) == 1:
        body = body.stretches[0]
    if isinstance(body, FileBody) and body.path and body.size >= LEAST_BYTES:
        return body
    return None
