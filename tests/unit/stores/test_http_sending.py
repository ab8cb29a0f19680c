"""Slow lines: patience lasts as long as bytes arrive."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest

from tests.unit.stores.helpers import KEYS, TestClock
from wherryd.stores.bandwidth import Bandwidth
from wherryd.stores.base import Body, FileBody, OutcomeUnknown
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.http import sending, transport
from wherryd.stores.http.sending import Sending, patience
from wherryd.stores.s3.store import S3Store

#: The kernel of whoever sends takes all of this at once, that of the server hardly any.
SIZE = 300_000


class _SlowServer:
    """Takes bytes of a request's body only when told to."""

    def __init__(self) -> None:
        self.port = 0
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self._came = anyio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.reader, self.writer = reader, writer
        self._came.set()

    async def take(self, size: int) -> None:
        """Read so many bytes of the body."""
        await self._came.wait()
        assert self.reader
        await self.reader.readexactly(size)

    def answer(self) -> None:
        """Say that all is well."""
        assert self.writer
        self.writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')


@asynccontextmanager
async def _slow() -> AsyncIterator[_SlowServer]:
    """A server whose kernel buffers next to nothing."""
    told = _SlowServer()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(told.serve, sock=listening, limit=4096)
        told.port = listening.getsockname()[1]
        try:
            yield told
        finally:
            server.close()
            if told.writer:
                told.writer.close()


@asynccontextmanager
async def _store(server: _SlowServer) -> AsyncIterator[S3Store]:
    credentials = StoreCredentials()
    credentials.hand_over(KEYS)
    address = f"s3://bucket?endpoint_url=http://127.0.0.1:{server.port}&region=r"
    store = S3Store(address, credentials, TestClock())
    yield store
    await store.aclose()


@pytest.fixture(params=["bytes", "file"])
def body(request: pytest.FixtureRequest, tmp_path: Path) -> Body:
    """The same body, both ways."""
    content = bytes(range(256)) * (SIZE // 256)
    if request.param == "bytes":
        return content
    (tmp_path / "file").write_bytes(content)
    digest = hashlib.sha256(content).digest()
    return FileBody(path=str(tmp_path / "file"), offset=0, size=len(content), sha256=digest)


async def test_what_the_kernel_holds_has_arrived(body: Body) -> None:
    """Bytes count as left on this machine until the other side has them."""
    size = body.size if isinstance(body, FileBody) else len(body)
    async with _slow() as server, aiohttp.ClientSession() as session:
        on_its_way = Sending(body, Bandwidth(TestClock()))
        assert on_its_way.left_bytes == size
        async with anyio.create_task_group() as group:
            headers = {"Content-Length": str(size)}
            url = f"http://127.0.0.1:{server.port}"
            group.start_soon(lambda: session.put(url, data=on_its_way, headers=headers))
            await server.take(1000)
            while on_its_way._unwritten:
                await anyio.lowlevel.checkpoint()
            assert size // 2 < on_its_way.left_bytes < size
            await server.take(size - 1000)
            while on_its_way.left_bytes:
                await anyio.lowlevel.checkpoint()
            server.answer()


class _Leaving(Sending):
    """As if a few bytes left between each two looks, so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__(b"", Bandwidth(TestClock()))
        self.looks, self.looked = looks, 0

    @property
    def left_bytes(self) -> int:
        self.looked += 1
        return max(0, self.looks - self.looked)


async def test_patience_ends_while_bytes_leave() -> None:
    """As long as each look finds fewer bytes left, there is patience; and then for a while more."""
    leaving = _Leaving(5 * sending._LOOKS)
    with pytest.raises(TimeoutError), patience(0.1, leaving):
        await anyio.sleep_forever()
    assert leaving.looked >= leaving.looks


async def test_patience_ends_while_the_share_is_awaited() -> None:
    """Who waits for a share of the bandwidth is not given up, however long that takes."""
    held = Sending(b"x" * 100, Bandwidth(TestClock()))
    held.is_held = True
    with patience(0.1, held):
        await anyio.sleep(0.5)
    held.is_held = False
    with pytest.raises(TimeoutError), patience(0.1, held):
        await anyio.sleep_forever()


async def test_a_slow_line_gets_nothing_through(
    body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that takes many times the patience to arrive arrives, if some of it always does."""
    looks, look = asyncio.Semaphore(0), sending._Watch._look

    def looked(watch: sending._Watch) -> None:
        look(watch)
        looks.release()

    monkeypatch.setattr(sending._Watch, "_look", looked)
    monkeypatch.setattr(transport, "_SILENCE_S", 0.2)
    size = body.size if isinstance(body, FileBody) else len(body)
    pieces = 6 * sending._LOOKS  # six times the patience
    async with _slow() as server, _store(server) as store, anyio.create_task_group() as group:
        group.start_soon(store.put, "key", body)
        for _ in range(pieces):
            await looks.acquire()  # the line carries a piece from look to look
            await server.take(size // pieces)
        await server.take(size % pieces)
        server.answer()


async def test_a_line_that_is_cut_is_waited_for(
    body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no byte arrives any more, the request is given up, whatever the kernel took."""
    monkeypatch.setattr(transport, "_SILENCE_S", 0.2)
    async with _slow() as server, _store(server) as store:
        with pytest.raises(OutcomeUnknown, match="nothing came"):
            await store.put("key", body)
