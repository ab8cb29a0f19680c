"""A far server: TCP passed on with a round trip's delay, some of its connections cut.

Owns: delay, cuts, and the process that does it, so that it takes no time from who is measured. Does not own:
what is said; it reads no HTTP, so that each program may speak as it likes.

Usage, by ``Far``: python -m benchmarks.network PORT ROUND_TRIP_S CUT, which prints the port that it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Self, cast

_HOST = "127.0.0.1"
#: How much of a direction may be on its way; beyond it the sender waits, as it would for a TCP window.
_WINDOW_BYTES = 8 << 20
#: A cut comes within so much of an exchange, or with the answer.
_CUT_WITHIN_BYTES = 8 << 20


class Far:
    """The server at a port, seen over a long way.

    Args:
        to: the server's port on loopback.
        round_trip_s: seconds to the server and back; a new connection costs one more.
        cut: the share of exchanges (a request and its answer) in which the connection ends; 0 to 1.
    """

    def __init__(self, to: int, round_trip_s: float, cut: float) -> None:
        self._arguments = [str(to), str(round_trip_s), str(cut)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.network", *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class _End(asyncio.Protocol):
    """One end of a connection; what arrives here leaves at ``other`` half a round trip later."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._due: deque[bytes] = deque()
        self._under_way_bytes = 0
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._due.append(data)
        self._under_way_bytes += len(data)
        if self._under_way_bytes > _WINDOW_BYTES and self.transport:
            self.transport.pause_reading()
        self._loop.call_later(self._delay_s, self._pass_on)

    def _pass_on(self) -> None:
        data = self._due.popleft()
        self._under_way_bytes -= len(data)
        if self._under_way_bytes <= _WINDOW_BYTES and self.transport:
            self.transport.resume_reading()
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self._loop.call_later(self._delay_s, self._end_other)
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._loop.call_later(self._delay_s, self._end_other)

    def _end_other(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.close()

    def cut(self) -> None:
        """End both ends at once."""
        for end in (self, self.other):
            if end and end.transport:
                end.transport.abort()


class _Near(_End):
    """The client's end, which throws the dice for each exchange."""

    def __init__(self, to: int, delay_s: float, cut: float) -> None:
        super().__init__(delay_s)
        self._to = to
        self._cut = cut
        self._left: int | None = None  # bytes to the cut, once the dice wants one
        self._waits = True  # for the first bytes of a request
        self._early: list[bytes] | None = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Reach the server; what came meanwhile follows. The handshake takes a round trip."""
        await asyncio.sleep(2 * self._delay_s)
        far = _Answers(self, self._delay_s)
        try:
            await self._loop.create_connection(lambda: far, _HOST, self._to)
        except OSError:
            self.cut()
            return
        self.other = far
        early, self._early = self._early, None
        for data in early or ():
            super().data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._waits:
            self._waits = False
            if random.random() < self._cut:
                self._left = random.randrange(_CUT_WITHIN_BYTES)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.cut()
                return
        if self._early is not None:
            self._early.append(data)
        else:
            super().data_received(data)

    def answered(self) -> bool:
        """Whether the answer may pass: the exchange ends here, or with a cut."""
        if self._left is not None:
            self.cut()
            return False
        self._waits = True
        return True


class _Answers(_End):
    """The server's end."""

    def __init__(self, near: _Near, delay_s: float) -> None:
        super().__init__(delay_s)
        self.other = near
        self._near = near

    def data_received(self, data: bytes) -> None:
        if self._near.answered():
            super().data_received(data)


async def _serve(to: int, round_trip_s: float, cut: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Near(to, round_trip_s / 2, cut), _HOST, 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
