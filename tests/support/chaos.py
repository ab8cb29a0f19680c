"""A bad network between a daemon and a store: an HTTP proxy that does to requests what networks do.

It understands as much of HTTP/1.1 (RFC 9112) as S3 clients and servers here use: bodies with a
Content-Length, answers with one or in chunks. It counts what met a fault, and the bodies' bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from tests.support.servers import HOST

_CHUNK_BYTES = 1 << 16


def _refusal(first: str, code: str, message: str, *lines: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    head = [f"HTTP/1.1 {first}", "x-amz-request-id: chaos", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", body]).encode()


class Fault(StrEnum):
    """What happens to one request."""

    DELAY = "delay"  # it and its answer take a random while longer
    CUT = "cut"  # the connection ends in the middle of it
    RESET = "reset"  # the connection is reset before it gets anywhere
    BLACKHOLE = "blackhole"  # nobody answers, and nobody hangs up until ``Chaos.hang_up``
    BUSY = "busy"  # 503 SlowDown with Retry-After
    TOO_OFTEN = "too often"  # 429 likewise
    EXPIRED = "expired"  # the keys' token is not good any more
    LOST = "lost"  # the server acts, and its answer does not come back
    TRUNCATED = "truncated"  # the server acts, and half of its answer comes back
    TWICE = "twice"  # the server gets it twice


#: What is said in the server's stead, which hears nothing of it.
_SAID = {
    Fault.BUSY: _refusal(
        "503 Slow Down", "SlowDown", "Please reduce your request rate.", "Retry-After: 1"
    ),
    Fault.TOO_OFTEN: _refusal(
        "429 Too Many", "TooManyRequests", "Too many requests.", "Retry-After: 40"
    ),
    Fault.EXPIRED: _refusal("400 Bad", "ExpiredToken", "The provided token has expired."),
}


@dataclass
class _Head:
    """The first lines of a message."""

    raw: bytes
    first: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return int(self.fields.get("content-length", 0))


class Chaos:
    """Passes HTTP on to a port, with faults; in a thread of its own.

    Args:
        to: the server's port.
        odds: how likely each fault meets a request.
        seed: of the dice.
        delay_s: the longest delay.
        wanted: only requests in whose first line this regular expression is found meet faults.
        most: requests at once; more get ``Fault.BUSY``. None: any number.
    """

    def __init__(
        self,
        to: int,
        odds: Mapping[Fault, float] | None = None,
        seed: int = 0,
        delay_s: float = 0.05,
        wanted: str = "",
        most: int | None = None,
    ) -> None:
        self._to = to
        self.odds = dict(odds or {})
        self._chance = random.Random(seed)
        self._delay_s = delay_s
        self._wanted = wanted
        self.most = most
        self._under_way = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = socket.create_server((HOST, 0), backlog=256)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        #: Bytes of requests' bodies that were passed on, each as often as it was.
        self.body_bytes = 0
        #: First lines of all requests.
        self.asked: list[str] = []
        #: How many requests met each fault.
        self.met: Counter[Fault] = Counter()
        #: First lines of requests whose answers did not come back, though the server acted.
        self.unanswered: list[str] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._stop = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def hang_up(self) -> None:
        """Close connections on which nobody answers, from now on at once."""
        self._loop.call_soon_threadsafe(self._hung_up.set)

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, sock=self._listening, limit=1 << 20)
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled at the end of the test: asyncio's streams log what a handler lets pass.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                async with _connected(self._to) as far:
                    while await self._pass_one(reader, writer, far):
                        pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        head = await _read_head(reader)
        if head is None:
            return False
        self.asked.append(head.first)
        self._under_way += 1
        try:
            return await self._pass(head, reader, writer, far)
        finally:
            self._under_way -= 1

    async def _pass(
        self,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        fault = self._choose(head)
        if fault:
            self.met[fault] += 1
        match fault:
            case Fault.RESET | Fault.BLACKHOLE | Fault.BUSY | Fault.TOO_OFTEN | Fault.EXPIRED:
                return await self._refuse(fault, head, reader, writer)
            case Fault.CUT:
                await self._pass_body(head, reader, far[1], self._chance.randint(0, head.length))
                return False
            case Fault.TWICE:
                return await self._pass_twice(head, reader, writer, far)
            case Fault.DELAY:
                await asyncio.sleep(self._chance.random() * self._delay_s)
        await self._pass_body(head, reader, far[1], head.length)
        answer, body = await _read_answer(far[0], head)
        said = answer.raw + body
        if fault is Fault.DELAY:
            await asyncio.sleep(self._chance.random() * self._delay_s)
        elif fault:
            self.unanswered.append(head.first)
            said = said[: len(said) // 2] if fault is Fault.TRUNCATED else b""
        writer.write(said)
        await writer.drain()
        return fault in (None, Fault.DELAY) and answer.fields.get("connection", "") != "close"

    async def _refuse(
        self,
        fault: Fault,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Let the server hear nothing of it."""
        if fault is Fault.RESET:
            _reset(writer)
            return False
        if fault is Fault.BLACKHOLE:
            await self._hung_up.wait()
            return False
        await reader.readexactly(head.length)
        writer.write(_SAID[fault])
        await writer.drain()
        return True

    async def _pass_twice(
        self,
        head: _Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Deliver it, and once more on another connection; one of both answers comes back."""
        body = await reader.readexactly(head.length)
        answers = []
        async with _connected(self._to) as other:
            for at_reader, at_writer in (far, other):
                at_writer.write(head.raw + body)
                self.body_bytes += len(body)
                answers.append(await _read_answer(at_reader, head))
        answer, said = self._chance.choice(answers)
        writer.write(answer.raw + said)
        await writer.drain()
        return True

    def _choose(self, head: _Head) -> Fault | None:
        if self.most is not None and self._under_way > self.most:
            return Fault.BUSY
        if not re.search(self._wanted, head.first):
            return None
        dice = self._chance.random()
        for fault, odds in self.odds.items():
            dice -= odds
            if dice < 0:
                return fault
        return None

    async def _pass_body(
        self, head: _Head, reader: asyncio.StreamReader, to: asyncio.StreamWriter, count: int
    ) -> None:
        to.write(head.raw)
        while count:
            data = await reader.read(min(_CHUNK_BYTES, count))
            if not data:
                raise asyncio.IncompleteReadError(b"", count)
            count -= len(data)
            to.write(data)
            self.body_bytes += len(data)
            await to.drain()
        await to.drain()


@contextlib.asynccontextmanager
async def _connected(port: int):  # type: ignore[no-untyped-def]
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return _Head(raw, first, {name.lower(): value.strip() for name, _, value in pairs})


async def _read_answer(reader: asyncio.StreamReader, asked: _Head) -> tuple[_Head, bytes]:
    while True:
        head = await _read_head(reader)
        if head is None:
            raise asyncio.IncompleteReadError(b"", None)
        status = int(head.first.split()[1])
        if status >= 200:
            break
    if asked.first.startswith("HEAD ") or status in (204, 304):
        return head, b""
    if "chunked" in head.fields.get("transfer-encoding", ""):
        return head, await _read_chunks(reader)
    return head, await reader.readexactly(head.length)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if not size:
            return body


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
