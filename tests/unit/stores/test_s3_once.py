"""Each request goes out once: counted at the server."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.support.http import Cut, answer, scripted
from tests.unit.stores.helpers import store_at
from wherry.errors import StoreUnavailable
from wherryd.stores.base import FileBody, ObjectStore, OutcomeUnknown
from wherryd.stores.http import transport

STORED = answer(200, ETag='"e"')
Write = Callable[[ObjectStore], Awaitable[object]]

WRITES: dict[str, Write] = {
    "put_if_absent": lambda store: store.put_if_absent("v1", b"record"),
    "put_if_match": lambda store: store.put_if_match("alias", b"alias", '"e"'),
    "put": lambda store: store.put("blob", b"bytes"),
    "put of much": lambda store: store.put("blob", bytes(3 << 20)),
    "delete": lambda store: store.delete("blob"),
}
READS: dict[str, Write] = {
    "get": lambda store: store.get("key"),
    "head": lambda store: store.head("key"),
    "list": lambda store: anext(aiter(store.list("p/"))),  # type: ignore[arg-type]
}


async def test_aiohttp_no_longer_repeats_puts_by_itself() -> None:
    """The trap is there: of two PUTs aiohttp makes three, when a kept connection drops.

    If this fails, aiohttp has mended it, and the middleware in ``transport`` may go.
    """
    async with scripted(answer(200), None) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.put(server.url, data=b"x"):
                pass
    assert [seen.reused for seen in server.seen] == [False, True, False]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_write_is_sent_twice(write: Write) -> None:
    """A write on a kept connection that drops is sent once and has an unknown outcome."""
    async with store_at(STORED, None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(OutcomeUnknown):
            await write(store)
    assert [seen.reused for seen in server.seen] == [False, True]


async def test_a_file_is_sent_twice(tmp_path: Path) -> None:
    """The same for a body that is a file, which aiohttp could read again."""
    (tmp_path / "file").write_bytes(b"bytes")
    sha256 = hashlib.sha256(b"bytes").digest()
    body = FileBody(path=str(tmp_path / "file"), offset=0, size=5, sha256=sha256)
    async with store_at(STORED, None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(OutcomeUnknown):
            await store.put("blob", body)
    assert [seen.reused for seen in server.seen] == [False, True]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_dropped_read_has_an_unknown_outcome(read: Write) -> None:
    """A read without an answer is ``StoreUnavailable``: it can be repeated by whoever wants."""
    async with store_at(STORED, None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(StoreUnavailable) as raised:
            await read(store)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert len(server.seen) == 2


async def test_a_write_that_never_went_out_may_have_happened() -> None:
    """Where no connection could be made, a write has certainly not happened."""
    async with store_at() as (store, server):
        await server.close()
        with pytest.raises(StoreUnavailable) as raised:
            await store.put_if_absent("v1", b"record")
    assert not isinstance(raised.value, OutcomeUnknown)


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", b"HTTP/1.1 2", b"nonsense\r\n\r\n"],
    ids=["half a body", "half a line", "no HTTP"],
)
async def test_half_an_answer_counts_as_one(said: bytes) -> None:
    """An answer that breaks off is none."""
    async with store_at(Cut(said)) as (store, _):
        with pytest.raises(OutcomeUnknown):
            await store.put_if_absent("v1", b"record")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_silence_lasts_for_ever(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the request and says nothing is given up; the outcome is unknown."""
    monkeypatch.setattr(transport, "_SILENCE_S", 0.2)
    async with store_at(...) as (store, server):
        with pytest.raises(OutcomeUnknown, match="nothing came"):
            await write(store)
    assert len(server.seen) == 1


async def test_a_silent_download_lasts_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that stops coming is given up."""
    monkeypatch.setattr(transport, "_SILENCE_S", 0.2)
    async with store_at() as (store, server):
        server.otherwise = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"
        with pytest.raises(StoreUnavailable):
            await store.get("key")
        stream = store.stream("key")
        assert await anext(stream) == b"hal"
        with pytest.raises(StoreUnavailable):
            await anext(stream)
