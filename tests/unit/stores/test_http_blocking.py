"""What threads receive: each its own connection, and none of them for longer than somebody wants it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.support.http import CERTIFICATE, Cut, Scripted, answer, error, scripted
from tests.unit.stores.helpers import KEYS, TestClock, store_at
from wherry.errors import AccessRefused, StoreUnavailable
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.http import transport
from wherryd.stores.s3.store import S3Store
from wherryd.stores.traffic import DOWN_AFTER, Traffic

BODY = bytes(range(256)) * 4096  # 1 MiB


@asynccontextmanager
async def _store(scheme: str, *script: object) -> AsyncIterator[tuple[S3Store, Scripted]]:
    credentials = StoreCredentials()
    credentials.hand_over(KEYS)
    async with scripted(*script, scheme=scheme) as server:  # type: ignore[arg-type]
        address = f"s3://bucket?endpoint_url={server.url}&region=r"
        store = S3Store(address, credentials, TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()


async def _pour(store: S3Store, offset: int = 0, size: int | None = None) -> bytes:
    found = bytearray()
    await store.stream_to("key", offset, size, found.extend)
    return bytes(found)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_each_range_has_a_connection_of_its_own(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose answer has come whole carries the next request, which is signed and named right."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(CERTIFICATE))
    async with _store(scheme, answer(200, BODY), answer(206, BODY[5:900_005])) as (store, server):
        assert await _pour(store) == BODY
        assert await _pour(store, 5, 900_000) == BODY[5:900_005]
    first, second = server.seen
    assert [first.reused, second.reused] == [False, True]
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=5-900004"
    for seen in server.seen:
        assert (seen.method, seen.target) == ("GET", "/bucket/key")
        assert seen.headers["host"] == f"127.0.0.1:{server.port}"
        assert "Credential=AKIAGOOD/" in seen.headers["authorization"]


async def test_a_stranger_is_trusted() -> None:
    """A server whose certificate nobody trusts gets no request."""
    async with _store("https", answer(200, BODY)) as (store, server):
        with pytest.raises(StoreUnavailable, match=r"can't be reached.*certificate"):
            await _pour(store)
    assert server.seen == []


async def test_unused_connections_are_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is closed when nobody has used it for a while: the server might close it just now."""
    monkeypatch.setattr(transport, "_KEPT_S", 0.1)
    async with store_at(answer(200, BODY), answer(200, BODY)) as (store, server):
        await _pour(store)
        lines = store._sender._transport._lines
        assert [len(free) for free in lines._free.values()] == [1]
        await anyio.sleep(0.3)
        assert [len(free) for free in lines._free.values()] == [0]
        await _pour(store)
    assert [seen.reused for seen in server.seen] == [False, False]


CUT = {
    "within the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal",
    "before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhal",
    "between chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n",
    "within the head": b"HTTP/1.1 200 OK\r\nContent-Len",
    "no HTTP": b"nonsense\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("said", CUT.values(), ids=CUT.keys())
async def test_what_is_cut_off_passes_for_damage(said: bytes) -> None:
    """An answer that breaks off is the network's fault, and no object that is too short."""
    async with store_at(Cut(said), Cut(said)) as (store, _):
        with pytest.raises(StoreUnavailable):
            await _pour(store)
        with pytest.raises(StoreUnavailable):
            await _pour(store, 0, 9)


@pytest.mark.parametrize("said", [..., b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"])
async def test_silence_is_waited_for(said: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing, or no more, is given up; and others are asked meanwhile."""
    monkeypatch.setattr(transport, "_SILENCE_S", 0.2)
    async with store_at(said) as (store, _):
        with pytest.raises(StoreUnavailable):
            await _pour(store)


@pytest.mark.parametrize("said", [..., b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"])
async def test_a_cancelled_call_waits_for_the_server(said: object) -> None:
    """Whoever is cancelled goes at once, though the server be silent; its sink is left alone."""
    found = list[bytes]()
    async with store_at(said) as (store, server):
        begin = time.monotonic()
        with anyio.move_on_after(0.3):
            await store.stream_to("key", 0, None, lambda piece: found.append(bytes(piece)))
        assert time.monotonic() - begin < 5  # of 30 that it would be silent
        assert len(server.seen) == 1
        assert await _pour_again(store, server) == BODY
    assert b"".join(found) in (b"", b"hal")


async def _pour_again(store: S3Store, server: Scripted) -> bytes:
    server.script = [answer(200, BODY)]
    return await _pour(store)


async def test_refusals_are_met_otherwise() -> None:
    """What a server refuses is an error as everywhere, with its words; so is a server that is too busy."""
    async with store_at(error(403, "AccessDenied"), error(503, "SlowDown")) as (store, _):
        with pytest.raises(AccessRefused, match="said so"):
            await _pour(store)
        with pytest.raises(StoreUnavailable, match="too much to do"):
            await _pour(store)


async def test_a_dead_server_is_asked_on_and_on() -> None:
    """A server that can't be reached counts as down, and is left alone, as with all other requests."""
    clock, credentials = TestClock(), StoreCredentials()
    credentials.hand_over(KEYS)
    async with scripted() as server:
        url = server.url
    address = f"s3://bucket?endpoint_url={url}&region=r"
    store = S3Store(address, credentials, clock, traffic=Traffic(clock))
    for _ in range(DOWN_AFTER):
        clock.time += 1
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            await _pour(store)
    with pytest.raises(StoreUnavailable, match="is down"):
        await _pour(store)
    await store.aclose()


async def test_a_proxy_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a proxy, it is asked."""
    async with scripted() as proxy:
        proxy.otherwise = answer(200, BODY)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        async with scripted() as server:
            credentials = StoreCredentials()
            credentials.hand_over(KEYS)
            address = "s3://bucket?endpoint_url=http://s3.example.test&region=r"
            store = S3Store(address, credentials, TestClock())
            assert await _pour(store) == BODY
            await store.aclose()
        assert server.seen == []
    assert proxy.seen[0].target == "http://s3.example.test/bucket/key"
