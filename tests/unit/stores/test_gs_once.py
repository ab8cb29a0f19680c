"""Each request to Google goes out once: counted at the server."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.http import answer
from tests.unit.stores.test_gs_refusals import emulated, resource
from wherry.errors import StoreUnavailable
from wherryd.stores.base import FileBody, ObjectStore, OutcomeUnknown
from wherryd.stores.gs.store import GsStore

Write = Callable[[ObjectStore], Awaitable[object]]
WRITES: dict[str, Write] = {
    "put_if_absent": lambda store: store.put_if_absent("v1", b"record"),
    "put_if_match": lambda store: store.put_if_match("alias", b"alias", "7"),
    "put": lambda store: store.put("blob", b"bytes"),
    "put of much": lambda store: store.put("blob", bytes(3 << 20)),
    "delete": lambda store: store.delete("blob"),
}
READS: dict[str, Write] = {
    "get": lambda store: store.get("key"),
    "head": lambda store: store.head("key"),
    "list": lambda store: anext(aiter(store.list("p/"))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_write_is_sent_twice(write: Write) -> None:
    """A write on a kept connection that drops is sent once and has an unknown outcome."""
    async with emulated(resource(), None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(OutcomeUnknown):
            await write(store)
    assert [seen.reused for seen in server.seen] == [False, True]


async def test_a_file_is_sent_twice(tmp_path: Path) -> None:
    """The same for a body that is a file, which aiohttp could read again."""
    (tmp_path / "file").write_bytes(b"bytes")
    sha256 = hashlib.sha256(b"bytes").digest()
    body = FileBody(path=str(tmp_path / "file"), offset=0, size=5, sha256=sha256)
    async with emulated(resource(), None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(OutcomeUnknown):
            await store.put("blob", body)
    assert [seen.reused for seen in server.seen] == [False, True]


async def test_a_part_is_sent_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of a session that gets no answer is followed by the question how far the session is."""
    monkeypatch.setattr("wherryd.stores.gs.store.SINGLE_PUT_BYTES", 1)
    (tmp_path / "file").write_bytes(b"bytes")
    sha256 = hashlib.sha256(b"bytes").digest()
    body = FileBody(path=str(tmp_path / "file"), offset=0, size=5, sha256=sha256)
    begun = answer(200, Location="http://elsewhere/upload/storage/v1/b/bucket/o?upload_id=u")
    script = (resource(), begun, None, answer(308), resource())
    async with emulated(*script) as (store, server):
        await store.put("before", b"x")
        await store.put("blob", body)
    ranges = [seen.headers.get("content-range") for seen in server.seen[2:]]
    assert ranges == ["bytes 0-4/5", "bytes */5", "bytes 0-4/5"]
    assert {seen.target for seen in server.seen[2:]} == {
        "/upload/storage/v1/b/bucket/o?upload_id=u"
    }


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_dropped_read_has_an_unknown_outcome(read: Write) -> None:
    """A read without an answer is ``StoreUnavailable``: it can be repeated by whoever wants."""
    async with emulated(resource(), None) as (store, server):
        await store.put("before", b"x")
        with pytest.raises(StoreUnavailable) as raised:
            await read(store)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert len(server.seen) == 2


async def test_a_write_that_never_went_out_may_have_happened() -> None:
    """Where no connection could be made, a write has certainly not happened."""
    async with emulated() as (store, server):
        await server.close()
        with pytest.raises(StoreUnavailable) as raised:
            await store.put_if_absent("v1", b"record")
    assert not isinstance(raised.value, OutcomeUnknown)
    assert isinstance(store, GsStore)
