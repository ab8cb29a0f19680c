"""Bodies that go from a file into a connection without a copy: all is as it is for those that are copied."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web
from anyio import to_thread

from tests.support.http import CERTIFICATE, answer, scripted
from tests.unit.stores.helpers import SlowServer, TestClock, put_once, slow_server
from wherry.errors import FileChanged
from wherryd.stores.bandwidth import MOST_BYTES as PIECE_BYTES
from wherryd.stores.bandwidth import Bandwidth
from wherryd.stores.base import FileBody, OutcomeUnknown, PackBody
from wherryd.stores.http import sendfile
from wherryd.stores.http.sending import _END_BYTES as END
from wherryd.stores.http.sending import Sending
from wherryd.stores.http.transport import Request, Transport
from wherryd.stores.traffic import Traffic

MIB = 1 << 20
#: More than both kernels hold.
SIZE = 12 * MIB + 4_099
BEFORE, BEHIND = 4_097, 10

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only sends files so")


@pytest.fixture
def content() -> bytes:
    """What has to arrive."""
    return os.urandom(SIZE)


@pytest.fixture
def body(content: bytes, tmp_path: Path) -> FileBody:
    """It, with bytes of others before and behind it in its file."""
    file = tmp_path / "file"
    file.write_bytes(bytes(BEFORE) + content + bytes(BEHIND))
    return FileBody(path=str(file), offset=BEFORE, size=SIZE, sha256=b"")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each call of the kernel has sent."""
    counts: list[int] = []
    really = os.sendfile

    def counted(to: int, file: int, offset: int, size: int) -> int:
        counts.append(0)
        counts[-1] = really(to, file, offset, size)
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", counted)
    return counts


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> anyio.Event:
    """Set when the socket takes no more for now; the first wait ends for nothing, as any wait may."""
    event, really = anyio.Event(), anyio.wait_writable
    waits = itertools.count()

    async def wait(held: socket.socket) -> None:
        if next(waits):
            event.set()
            await really(held)

    monkeypatch.setattr(anyio, "wait_writable", wait)
    return event


def _part(body: FileBody, offset: int, size: int) -> FileBody:
    return msgspec.structs.replace(body, offset=body.offset + offset, size=size)


def _held() -> tuple[int, int]:
    """How many descriptors are open, and how many the loop looks at."""
    watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    return len(os.listdir("/proc/self/fd")), len(watched)


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


# ── what arrives ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("offset", "size"), [(0, MIB), (1, MIB + 1), (4_095, 9 * MIB + 4_097)])
async def test_other_bytes_arrive(
    offset: int, size: int, body: FileBody, content: bytes, sent: list[int]
) -> None:
    """Of whatever stretch of a file, each byte arrives once, and no other."""
    async with scripted() as server:
        await put_once(server, _part(body, offset, size))
    assert server.seen[0].body == content[offset : offset + size]
    assert sum(sent) == size - END


async def test_a_connection_is_of_no_use_afterwards(
    body: FileBody, content: bytes, sent: list[int]
) -> None:
    """The next request goes over the same connection, with or without a body of this kind."""
    transport = Transport(Traffic(TestClock()))
    async with scripted() as server:
        for each in (body, _part(body, 0, MIB), b"little", b""):
            size = str(each.size if isinstance(each, FileBody) else len(each))
            request = Request("PUT", f"{server.url}/key", {"Content-Length": size}, each)
            async with transport.send(request) as arrival:
                assert arrival.response.status == 200
    await transport.aclose()
    assert [seen.body for seen in server.seen] == [content, content[:MIB], b"little", b""]
    assert [seen.reused for seen in server.seen] == [False, True, True, True]
    assert sum(sent) == SIZE + MIB - 2 * END


async def test_a_quick_answer_costs_the_connection(
    body: FileBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that comes before the thread's word that all is sent leaves the connection as it is."""
    answered, really = threading.Event(), os.sendfile

    def slowly(to: int, file: int, offset: int, size: int) -> int:
        sent = really(to, file, offset, size)
        answered.wait(0.3)  # in vain: the server does not have all
        return sent

    monkeypatch.setattr(os, "sendfile", slowly)
    transport, headers = Transport(Traffic(TestClock())), {"Content-Length": str(MIB)}
    async with scripted() as server:
        for _ in range(2):
            request = Request("PUT", f"{server.url}/key", headers, _part(body, 0, MIB))
            async with transport.send(request):
                answered.set()
    await transport.aclose()
    assert [seen.reused for seen in server.seen] == [False, True]


async def test_a_body_overtakes_its_head(body: FileBody, content: bytes, sent: list[int]) -> None:
    """A head that the socket does not take at once leaves before the body all the same."""
    arrived = bytearray()
    reads = anyio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        while not arrived.endswith(content[-100:]):
            arrived.extend(await reader.read(MIB))
        writer.write(answer(200))
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = anyio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession() as session, anyio.create_task_group() as group:
        sending = Sending(body, Bandwidth(TestClock()))
        headers = {"Content-Length": str(SIZE), "X-Long": "x" * SIZE}
        group.start_soon(lambda: session.put(url, data=sending, headers=headers))
        await _until(lambda: bool((way := sending._connection) and way.get_write_buffer_size()))
        reads.set()
    server.close()
    await ended.wait()
    assert arrived.partition(b"\r\n\r\n")[2] == content
    assert sum(sent) == SIZE - END


@pytest.mark.parametrize("size", [3 * MIB, SIZE])
async def test_progress_is_not_told(size: int, body: FileBody, sent: list[int]) -> None:
    """How many bytes have left is told on and on, and from 0 on by each try."""
    told: list[int] = []
    body = msgspec.structs.replace(_part(body, 0, size), told=told.append)
    async with scripted() as server:
        for _ in range(2):
            told.clear()
            await put_once(server, body)
            assert told[0] == 0
            assert told == sorted(told)
            assert 0 < told[-1] < size
    assert sum(sent) == 2 * (size - END)


# ── nobody waits for anybody ─────────────────────────────────────────────────────────────────────
async def test_a_slow_server_holds_a_thread(
    body: FileBody, content: bytes, sent: list[int], full: anyio.Event
) -> None:
    """While a server takes nothing, no thread waits for it; what it takes later arrives."""
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(put_once, server, body)
        await full.wait()
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert await server.take(SIZE) == content
        server.answer()
    assert sum(sent) == SIZE - END


async def test_a_slow_disk_uses_up_the_patience(
    body: FileBody, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that the socket has taken count as such while the disk is still waited for by the next."""
    goes_on, really = threading.Event(), os.sendfile

    def slowly(to: int, file: int, offset: int, size: int) -> int:
        assert not sent or goes_on.wait(20)
        return really(to, file, offset, size)

    monkeypatch.setattr(os, "sendfile", slowly)
    sending = Sending(body, Bandwidth(TestClock()))
    headers = {"Content-Length": str(SIZE)}
    async with (
        scripted() as server,
        aiohttp.ClientSession() as session,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: session.put(server.url, data=sending, headers=headers))
        await _until(lambda: sending._unwritten < SIZE)
        goes_on.set()
    assert sum(sent) == SIZE - END


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_an_early_answer_is_not_seen(
    hangs_up: bool, body: FileBody, sent: list[int], full: anyio.Event
) -> None:
    """What a server says before it has the body is heard, whether or not it then hangs up."""

    async def refuse(server: SlowServer) -> None:
        await full.wait()
        server.answer(answer(503, b"slow down"))
        if hangs_up:
            assert server.writer
            server.writer.transport.abort()

    transport, before = Transport(Traffic(TestClock())), _held()
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(refuse, server)
        request = Request("PUT", f"{server.url}/key", {"Content-Length": str(SIZE)}, body)
        async with transport.send(request) as arrival:
            assert arrival.response.status == 503
            assert await arrival.response.read() == b"slow down"
    await transport.aclose()
    await _until(lambda: _held() == before)
    assert 0 < sum(sent) < SIZE


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["is shorter", "is gone"])
async def test_a_changed_file_is_the_networks_fault(
    how: str, body: FileBody, sent: list[int], full: anyio.Event
) -> None:
    """A file that ends too early, or is gone, while it is sent has changed."""

    async def change(server: SlowServer) -> None:
        await full.wait()
        if how == "is shorter":
            os.truncate(body.path, BEFORE + SIZE - 1)
        else:
            Path(body.path).unlink()
        with suppress(asyncio.IncompleteReadError):
            await server.take(SIZE)

    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(change, server)
        with pytest.raises(FileChanged, match=how):
            await put_once(server, body)
    assert 0 < sum(sent) < SIZE


@pytest.mark.parametrize("how", ["reset", "ended"])
async def test_a_cut_connection_is_a_refusal(
    how: str, body: FileBody, sent: list[int], full: anyio.Event
) -> None:
    """Nothing is known of a request whose connection is cut or ended by the server in the body's middle."""

    async def cut(server: SlowServer) -> None:
        await full.wait()
        assert server.writer
        if how == "reset":
            server.writer.transport.abort()  # with bytes unread
        else:
            server.writer.write_eof()

    before = _held()
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(cut, server)
        with pytest.raises(OutcomeUnknown):
            await put_once(server, body)
    await _until(lambda: _held() == before)
    assert 0 < sum(sent) < SIZE


async def test_a_cancelled_request_leaves_a_descriptor(body: FileBody, full: anyio.Event) -> None:
    """Who is cancelled while the socket is full leaves nothing open and nothing watched."""
    before = _held()
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(put_once, server, body)
        await full.wait()
        assert _held() > before
        group.cancel_scope.cancel()
    await _until(lambda: _held() == before)


@pytest.mark.parametrize("where", ["before", "inside"])
async def test_a_thread_sends_to_somebody_else(
    where: str, body: FileBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is left behind has the connection's socket for itself, or nothing any more."""
    arrived, goes_on = threading.Event(), threading.Event()
    seen: list[int] = []
    really, really_sent = sendfile.Conduit._send, os.sendfile

    def wait() -> None:
        arrived.set()
        assert goes_on.wait(20)

    def before(conduit: sendfile.Conduit, offset: int, size: int) -> int | None:
        wait()
        return really(conduit, offset, size)

    def inside(to: int, file: int, offset: int, size: int) -> int:
        seen.append(os.fstat(to).st_ino)
        if where == "inside":
            wait()
        seen.append(os.fstat(to).st_ino)
        return really_sent(to, file, offset, size)

    monkeypatch.setattr(os, "sendfile", inside)
    if where == "before":
        monkeypatch.setattr(sendfile.Conduit, "_send", before)
    held = _held()
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(put_once, server, body)
        await _until(arrived.is_set)
        group.cancel_scope.cancel()
    others = [socket.socket() for _ in range(10)]  # which take the numbers that are free
    goes_on.set()
    await _until(lambda: _held()[0] == held[0] + len(others))
    for other in others:
        other.close()
    await _until(lambda: _held() == held)
    assert len(set(seen)) == (1 if where == "inside" else 0)


async def test_bytes_leave_after_the_end(body: FileBody, sent: list[int]) -> None:
    """Over a connection that was closed on this side nothing is sent, whoever still holds a descriptor."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    connection, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    conduit = sendfile.Conduit(body, connection, lambda _: None)
    connection.close()
    assert not await conduit.send(0, SIZE)
    conduit.close()
    theirs.close()
    assert not sent


# ── the usual way ────────────────────────────────────────────────────────────────────────────────
async def test_bytes_go_around_tls(
    body: FileBody, content: bytes, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has to be encrypted is read, and encrypted."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(CERTIFICATE))
    async with scripted(scheme="https") as server:
        await put_once(server, body)
    assert server.seen[0].body == content
    assert not sent


async def test_bytes_go_between_chunks(body: FileBody, content: bytes, sent: list[int]) -> None:
    """A body that is sent in chunks (RFC 9112, section 7.1) is written as aiohttp writes it."""
    whole: list[bytes] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        whole.append(await request.content.read())
        return web.Response()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(web.Server(serve), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sending = Sending(body, Bandwidth(TestClock()))
    async with aiohttp.ClientSession() as session, session.put(url, data=sending) as response:
        assert response.status == 200
    server.close()
    assert whole == [content]
    assert not sent


async def test_what_is_no_file_is_opened(
    body: FileBody, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes in memory, and little ones, go the usual way."""
    monkeypatch.setattr(sendfile.Conduit, "send", None)
    memory = msgspec.structs.replace(body, path="", offset=0, data=content)
    async with scripted() as server:
        await put_once(server, memory)
        await put_once(server, _part(body, 0, sendfile.LEAST_BYTES - 1))
    assert [len(seen.body) for seen in server.seen] == [SIZE, sendfile.LEAST_BYTES - 1]


@pytest.mark.parametrize("stretches", [1, 2])
async def test_a_pack_of_many_stretches_is_one(
    stretches: int, body: FileBody, content: bytes, sent: list[int]
) -> None:
    """A pack goes without a copy where its files lie back to back in one; else it is read."""
    halves = _part(body, 0, 2 * MIB), _part(body, 2 * MIB, SIZE - 2 * MIB)
    lying = (body,) if stretches == 1 else halves[::-1]
    pack = PackBody(files=halves, size=SIZE, sha256=b"", stretches=lying)
    async with scripted() as server:
        await put_once(server, pack)
    wanted = content if stretches == 1 else content[2 * MIB :] + content[: 2 * MIB]
    assert server.seen[0].body == wanted
    assert sum(sent) == (SIZE - END if stretches == 1 else 0)


async def test_too_many_open_files_fail_the_request(
    body: FileBody, content: bytes, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no second descriptor of the socket is to be had, the body is read."""

    def fail(_: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "dup", fail)
    async with scripted() as server:
        await put_once(server, body)
    assert server.seen[0].body == content
    assert not sent


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_file_system_without_it_sends_nothing(
    calls: int, body: FileBody, content: bytes, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel can't, or can no longer, the rest is read."""
    really = os.sendfile

    def fail(to: int, file: int, offset: int, size: int) -> int:
        if len(sent) >= calls:
            raise OSError(errno.EINVAL, "Invalid argument")
        return really(to, file, offset, size)

    monkeypatch.setattr(os, "sendfile", fail)
    async with scripted() as server:
        await put_once(server, body)
    assert server.seen[0].body == content
    assert len(sent) == calls


# ── the share of the bandwidth ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("is_set", ["before", "meanwhile"])
async def test_a_limit_holds_for_copies_only(
    is_set: str, body: FileBody, content: bytes, sent: list[int], full: anyio.Event
) -> None:
    """What leaves under a limit leaves at its rate, also where that is set while a body is sent."""
    clock, rate = TestClock(), 100_000
    traffic = Traffic(clock)
    if is_set == "before":
        traffic.bandwidth.rate = rate
    async with slow_server() as server, anyio.create_task_group() as group:
        group.start_soon(put_once, server, body, traffic)
        if is_set == "meanwhile":
            await full.wait()
            traffic.bandwidth.rate = rate
        assert await server.take(SIZE) == content
        server.answer()
    assert (sum(sent) > 0) == (is_set == "meanwhile")
    assert SIZE - sum(sent) > MIB
    assert sum(clock.slept) == pytest.approx((SIZE - sum(sent)) / rate, abs=2 * PIECE_BYTES / rate)
