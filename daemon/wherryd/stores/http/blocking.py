"""Bodies that are large, received by threads: each reads its own connection into one buffer, again and again.

Owns: those connections, which are the standard library's (``http.client``), and that a task that is cancelled
waits for none. Does not own: which requests go so, what is signed, limits, errors' words (``transport``).

Measured, with 2 GiB in ranges of 8 MiB from a server on the same machine: a quarter to a third less CPU than
through the loop, which makes new memory for whatever a socket has; and with TLS the work is spread over the
cores.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from multidict import CIMultiDict

from wherryd.stores.base import Sink

#: At once, each with a thread; more wait.
LINES = 16
#: Stays in a core's cache between the socket and whoever takes it; with 1 MiB a third more CPU.
_BUFFER_BYTES = 256 << 10

_T = TypeVar("_T")


class Unreachable(OSError):
    """No connection was made."""


class Lines:
    """Connections to the servers of one store.

    Args:
        connect_s: how long making one may take.
        kept_s: how long one is kept that nobody uses.
    """

    def __init__(self, connect_s: float, kept_s: float) -> None:
        self._connect_s = connect_s
        self._kept_s = kept_s
        self.threads = anyio.CapacityLimiter(LINES)
        self._free = defaultdict[str, list[_Line]](list)

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        trusted: ssl.SSLContext | bool,
        silence_s: float,
    ) -> Received:
        """Send a GET; return the answer, whose body is unread, and which the caller closes.

        Args:
            url: percent-encoded.
            headers: all of them.
            trusted: by whom certificates may be signed, for https.
            silence_s: how long nothing may come.

        Raises ``OSError``, ``Unreachable`` where no connection was made, and ``http.client.HTTPException``,
        also while the body is received.
        """
        *server, target = url.split("/", 3)
        line = await self._line("/".join(server), trusted)
        received = Received(line, self)
        try:
            await received.ask(f"/{target}", headers, silence_s)
        except BaseException:
            line.close()
            raise
        return received

    def keep(self, line: _Line) -> None:
        """A connection can carry another request."""
        self._free[line.server].append(line)
        line.uses += 1
        asyncio.get_running_loop().call_later(self._kept_s, self._drop, line, line.uses)

    def close(self) -> None:
        """Give back the connections that are kept."""
        for lines in self._free.values():
            for line in lines:
                line.close()
        self._free.clear()

    async def _line(self, server: str, trusted: ssl.SSLContext | bool) -> _Line:
        if free := self._free[server]:
            return free.pop()
        made = _Line(server, trusted, self._connect_s)
        try:
            await to_thread.run_sync(made.connect, limiter=self.threads, abandon_on_cancel=True)
        except BaseException:
            made.close()
            raise
        return made

    def _drop(self, line: _Line, uses: int) -> None:
        """Close a connection, if it was not used since."""
        if line.uses == uses and line in self._free[line.server]:
            self._free[line.server].remove(line)
            line.close()


class Received:
    """An answer. Its head is here, its body as far as it is asked for. A context manager that closes it."""

    def __init__(self, line: _Line, lines: Lines) -> None:
        self._line = line
        self._lines = lines
        self._response: http.client.HTTPResponse | None = None
        self._is_broken = False
        self.status = 0
        self.headers: Mapping[str, str] = {}  # whatever their case

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        response = self._response
        is_over = response is not None and response.isclosed() and not response.will_close
        if is_over and not self._is_broken:
            self._lines.keep(self._line)
        else:
            self._line.close()

    async def ask(self, target: str, headers: Mapping[str, str], silence_s: float) -> None:
        """Send the request, and wait for the answer's head."""
        response = await self._in_thread(lambda: self._line.ask(target, headers, silence_s))
        self._response = response
        self.status = response.status
        self.headers = CIMultiDict(response.headers.items())

    async def read(self, most: int) -> bytes:
        """Some of the body; b"": there is no more."""
        piece = bytearray()
        await self.pour(most, piece.extend)
        return bytes(piece)

    async def pour(self, most: int | None, sink: Sink) -> None:
        """Give ``most`` bytes of the body, or all, to ``sink``.

        It is called in a thread, with pieces in order, in a buffer that is used again once it returns; what
        it raises passes.
        """
        await self._in_thread(lambda: self._pour(most, sink))

    def _pour(self, most: int | None, sink: Sink) -> None:
        assert self._response
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while most is None or most > 0:
            count = self._response.readinto(buffer if most is None else buffer[:most])
            if not count:
                self._check_whole()
                return
            sink(buffer[:count])
            most = None if most is None else most - count

    def _check_whole(self) -> None:
        """At its end: http.client itself calls a body whole that ends before its length."""
        assert self._response
        if self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        """Make a call that waits for the connection; where the task is cancelled, that is shut down first."""
        is_over = False

        def run() -> _T | Exception:
            try:
                return call()
            except Exception as error:  # noqa: BLE001  # raised again, as it is and in no group
                return error

        async def end_with_the_task() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                if not is_over:
                    self._is_broken = True
                    self._line.interrupt()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_with_the_task)
            outcome = await to_thread.run_sync(run, limiter=self._lines.threads)
            is_over = True
            tasks.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if isinstance(outcome, Exception):
            self._is_broken = True
            raise outcome
        return outcome


class _Line:
    """One connection. All but the constructor, ``interrupt`` and ``close`` blocks."""

    def __init__(self, server: str, trusted: ssl.SSLContext | bool, connect_s: float) -> None:
        parts = urlsplit(server)
        host, port = parts.hostname or "", parts.port
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=connect_s, context=trusted)
            if isinstance(trusted, ssl.SSLContext)
            else http.client.HTTPConnection(host, port, timeout=connect_s)
        )
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._is_unwanted = False
        self.server = server
        self.uses = 0

    def connect(self) -> None:
        """Make it; where nobody waits for it any more, it is closed at once. Raises ``Unreachable``."""
        try:
            self._connection.connect()
        except OSError as error:
            raise Unreachable(f"{self.server} can't be reached: {error}") from error
        self._socket = self._connection.sock
        if self._is_unwanted:
            self._connection.close()

    def ask(
        self, target: str, headers: Mapping[str, str], silence_s: float
    ) -> http.client.HTTPResponse:
        """Send a request, and wait for the answer's head."""
        assert self._socket
        self._socket.settimeout(silence_s)
        self._connection.request("GET", target, headers=dict(headers))
        response = self._response = self._connection.getresponse()
        if response.length is None and not response.chunked:  # its head may have been cut off, too
            raise http.client.HTTPException("the answer does not tell how long it is")
        return response

    def interrupt(self) -> None:
        """Have whatever waits for it wait no more."""
        if self._socket:
            with suppress(OSError):  # it is closed
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of TLS, too

    def close(self) -> None:
        """Close it."""
        self._is_unwanted = True
        if self._response:  # holds the socket, where the server wants to close it
            self._response.close()
        self._connection.close()
