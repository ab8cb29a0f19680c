"""Slow lines: patience lasts as long as bytes arrive."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import aiohttp
import anyio
import pytest

from tests.unit.stores.helpers import TestClock, put_once, slow_server
from wherryd.stores.bandwidth import Bandwidth
from wherryd.stores.base import Body, FileBody, OutcomeUnknown
from wherryd.stores.http import sendfile, sending, transport
from wherryd.stores.http.sending import Sending, patience

#: The kernel of whoever sends takes all of this at once, that of the server hardly any.
SIZE = 300_000


@pytest.fixture(params=["bytes", "file", "sendfile"])
def body(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Body:
    """The same body, all ways."""
    content = bytes(range(256)) * (SIZE // 256)
    if request.param == "bytes":
        return content
    if request.param == "sendfile":
        monkeypatch.setattr(sendfile, "LEAST_BYTES", 1)
    (tmp_path / "file").write_bytes(content)
    digest = hashlib.sha256(content).digest()
    return FileBody(path=str(tmp_path / "file"), offset=0, size=len(content), sha256=digest)


async def test_what_the_kernel_holds_has_arrived(body: Body) -> None:
    """Bytes count as left on this machine until the other side has them."""
    size = body.size if isinstance(body, FileBody) else len(body)
    async with slow_server() as server, aiohttp.ClientSession() as session:
        on_its_way = Sending(body, Bandwidth(TestClock()))
        assert on_its_way.left_bytes == size
        async with anyio.create_task_group() as group:
            headers = {"Content-Length": str(size)}
            group.start_soon(lambda: session.put(server.url, data=on_its_way, headers=headers))
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
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(put_once, server, body)
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
    async with slow_server() as server:
        with pytest.raises(OutcomeUnknown, match="nothing came"):
            await put_once(server, body)
