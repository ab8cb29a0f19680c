"""What a server's answer means to each verb."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from tests.support.http import answer, error
from tests.unit.stores.helpers import store_at
from wherry.errors import FileChanged, StoreDamaged, StoreMissing, StoreUnavailable, StoreUnfit
from wherryd.stores.base import (
    EtagMismatch,
    FileBody,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    OutcomeUnknown,
    WriteConflict,
)

Verb = Callable[[ObjectStore], Awaitable[object]]


async def _get(store: ObjectStore) -> object:
    return await store.get("key")


async def _list(store: ObjectStore) -> object:
    return [stat async for stat in store.list("p/")]


async def _put(store: ObjectStore) -> object:
    return await store.put("key", b"x")


async def _create(store: ObjectStore) -> object:
    return await store.put_if_absent("key", b"x")


async def _replace(store: ObjectStore) -> object:
    return await store.put_if_match("key", b"x", '"e"')


async def _delete(store: ObjectStore) -> object:
    return await store.delete("key")


MEANINGS: list[tuple[Verb, int, str, type[Exception]]] = [
    (_get, 404, "NoSuchKey", ObjectMissing),
    (_get, 404, "NoSuchBucket", StoreMissing),
    (_get, 500, "InternalError", StoreUnavailable),
    (_get, 503, "SlowDown", StoreUnavailable),
    (_get, 429, "TooManyRequests", StoreUnavailable),
    (_get, 400, "InvalidRequest", StoreUnfit),
    (_list, 404, "NoSuchBucket", StoreMissing),
    (_list, 503, "SlowDown", StoreUnavailable),
    (_put, 404, "NoSuchBucket", StoreMissing),
    (_put, 500, "InternalError", OutcomeUnknown),
    (_put, 503, "SlowDown", OutcomeUnknown),
    (_put, 429, "TooManyRequests", OutcomeUnknown),
    (_put, 400, "RequestTimeout", OutcomeUnknown),
    (_put, 400, "BadDigest", StoreUnavailable),
    (_put, 501, "NotImplemented", StoreUnfit),
    (_put, 302, "Found", StoreMissing),
    (_create, 412, "PreconditionFailed", ObjectExists),
    (_create, 409, "ConditionalRequestConflict", WriteConflict),
    (_create, 404, "NoSuchBucket", StoreMissing),
    (_create, 503, "SlowDown", OutcomeUnknown),
    (_create, 501, "NotImplemented", StoreUnfit),
    (_replace, 412, "PreconditionFailed", EtagMismatch),
    (_replace, 409, "ConditionalRequestConflict", WriteConflict),
    (_replace, 404, "NoSuchKey", EtagMismatch),
    (_replace, 404, "NoSuchBucket", StoreMissing),
    (_replace, 500, "InternalError", OutcomeUnknown),
    (_delete, 404, "NoSuchBucket", StoreMissing),
    (_delete, 503, "SlowDown", OutcomeUnknown),
]


@pytest.mark.parametrize(
    ("verb", "status", "code", "meant"), MEANINGS, ids=[f"{m[0].__name__}-{m[2]}" for m in MEANINGS]
)
async def test_an_answer_is_misread(
    verb: Verb, status: int, code: str, meant: type[Exception]
) -> None:
    """Each status and code has one meaning, and none is met by sending again."""
    async with store_at(error(status, code)) as (store, server):
        with pytest.raises(meant):
            await verb(store)
    assert len(server.seen) == 1


async def test_a_page_that_is_no_listing_breaks_the_store() -> None:
    """What a proxy says in HTML is an error of the moment."""
    async with store_at(answer(200, b"<html><p>Please log in</html>")) as (store, _):
        with pytest.raises(StoreUnavailable):
            await _list(store)
    async with store_at(answer(503, b"<html><p>Bad gateway</html>")) as (store, _):
        with pytest.raises(StoreUnavailable):
            await _list(store)


async def test_deleting_what_is_gone_fails() -> None:
    """Servers that say 404 to a delete have deleted it."""
    async with store_at(error(404, "NoSuchKey")) as (store, _):
        await store.delete("key")


async def test_a_store_without_ranges_gives_wrong_bytes() -> None:
    """A whole object in answer to a range is refused, unless it starts where the range does."""
    async with store_at() as (store, server):
        server.otherwise = answer(200, b"0123456789")
        with pytest.raises(StoreUnfit):
            await anext(aiter(store.stream("key", 3, 2)))
        assert [chunk async for chunk in store.stream("key", 0, 2)] == [b"01"]


async def test_a_range_beyond_the_end_is_no_damage() -> None:
    """416 is the end of an object where no size was asked for, and damage where one was."""
    async with store_at() as (store, server):
        server.otherwise = error(416, "InvalidRange")
        assert [chunk async for chunk in store.stream("key", 10)] == []
        with pytest.raises(StoreDamaged):
            await anext(aiter(store.stream("key", 10, 1)))


async def test_a_damaged_body_passes_for_a_changed_file(tmp_path: Path) -> None:
    """If the checksum does not fit, the file is hashed again: it changed, or the network did it."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    good = FileBody(path=str(path), offset=0, size=5, sha256=hashlib.sha256(b"bytes").digest())
    bad = msgspec.structs.replace(good, sha256=hashlib.sha256(b"other").digest())
    async with store_at() as (store, server):
        server.otherwise = error(400, "XAmzContentSHA256Mismatch")
        with pytest.raises(StoreUnavailable):
            await store.put("key", good)
        with pytest.raises(FileChanged):
            await store.put("key", bad)


async def test_a_body_goes_without_its_checksum() -> None:
    """Every body's SHA-256 is signed, and stands in a header that servers check."""
    async with store_at() as (store, server):
        await _put(store)
        await _create(store)
        await _replace(store)
    digest = hashlib.sha256(b"x").digest()
    for seen in server.seen:
        assert seen.headers["x-amz-content-sha256"] == digest.hex()
        assert (
            seen.headers["x-amz-checksum-sha256"] == "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="
        )
        assert "x-amz-checksum-sha256" in seen.headers["authorization"]


async def test_a_key_is_encoded_twice_or_never() -> None:
    """A key stands percent-encoded once in the request line, whatever it holds."""
    async with store_at() as (store, server):
        for key in ("a b", "a+b", "a%20b", "é/e\u0301", "a/b~c-d_e.f", "?#&="):
            await store.put(key, b"x")
    assert [seen.target.removeprefix("/bucket/") for seen in server.seen] == [
        "a%20b",
        "a%2Bb",
        "a%2520b",
        "%C3%A9/e%CC%81",
        "a/b~c-d_e.f",
        "%3F%23%26%3D",
    ]
