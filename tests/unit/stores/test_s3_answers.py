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
from wherryd.public import public_name
from wherryd.stores.base import (
    EtagMismatch,
    FileBody,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    OutcomeUnknown,
    StepsFailed,
    WriteConflict,
)
from wherryd.stores.http.answers import wait_s

Verb = Callable[[ObjectStore], Awaitable[object]]


async def _get(store: ObjectStore) -> object:
    return await store.get("key")


async def _head(store: ObjectStore) -> object:
    return await store.head("key")


async def _pour(store: ObjectStore) -> object:
    return await store.stream_to("key", 0, None, list[memoryview]().append)


async def _stream(store: ObjectStore) -> object:
    return [chunk async for chunk in store.stream("key")]


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
    (_get, 409, "OperationAborted", StoreUnavailable),
    (_list, 409, "OperationAborted", StoreUnavailable),
    (_list, 404, "NoSuchKey", StoreUnavailable),
    (_put, 409, "OperationAborted", OutcomeUnknown),
    (_put, 404, "NoSuchKey", OutcomeUnknown),
    (_create, 409, "OperationAborted", WriteConflict),
    (_create, 400, "XAmzContentSHA256Mismatch", StoreUnavailable),
    (_replace, 400, "BadDigest", StoreUnavailable),
    (_delete, 409, "OperationAborted", OutcomeUnknown),
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
        with pytest.raises(meant) as raised:
            await verb(store)
    assert type(raised.value) is meant
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (error(503, "SlowDown"), "The store has too much to do. PUT key: 503 SlowDown said so."),
        (error(503, "SlowDownWrite"), "The store has too much to do. PUT key: "),
        (error(429, "TooManyRequests"), "The store has too much to do. PUT key: 429 "),
        (answer(429), "The store has too much to do. PUT key: 429."),
        (error(500, "InternalError"), "The store fails. PUT key: 500 InternalError said so."),
        (answer(503), "The store fails. PUT key: 503."),
    ],
)
async def test_a_busy_store_passes_for_a_broken_one(said: bytes, told: str) -> None:
    """The error says whether the store fails or wants fewer requests."""
    async with store_at(said) as (store, _):
        with pytest.raises(OutcomeUnknown) as raised:
            await store.put("key", b"x")
    assert str(raised.value).startswith(told)


INGRESS = answer(404, b"404 page not found\n")


@pytest.mark.parametrize("verb", [_get, _stream, _pour, _list])
async def test_a_proxys_404_reads_as_missing(verb: Verb) -> None:
    """Only the store can say that an object is not there; any other 404 is an error of the moment."""
    for said in (INGRESS, answer(404), answer(404, b"<html><p>not found</p></html>")):
        async with store_at(said) as (store, server):
            with pytest.raises(StoreUnavailable, match="is no store"):
                await verb(store)
        assert len(server.seen) == 1


@pytest.mark.parametrize("verb", [_put, _create, _replace, _delete])
async def test_a_proxys_404_passes_for_the_stores(verb: Verb) -> None:
    """What a write met that a proxy answered with 404 is not known."""
    async with store_at(INGRESS) as (store, server):
        with pytest.raises(OutcomeUnknown, match="is no store"):
            await verb(store)
    assert len(server.seen) == 1


async def test_nobody_can_name_an_unknown_outcome() -> None:
    """To users, a write without an answer is a store that does not answer."""
    assert public_name(OutcomeUnknown("")) == public_name(StepsFailed("")) == "StoreUnavailable"


async def test_a_bodiless_404_is_believed() -> None:
    """A 404 to HEAD counts if it bears the store's request id; else GET is asked, whose answer has a code."""
    async with store_at(answer(404, x_amz_request_id="tx1")) as (store, server):
        with pytest.raises(ObjectMissing):
            await _head(store)
        assert len(server.seen) == 1
        server.script = [answer(404), error(404, "NoSuchKey")]
        with pytest.raises(ObjectMissing):
            await _head(store)
        server.script = [answer(404), INGRESS]
        with pytest.raises(StoreUnavailable):
            await _head(store)
        server.script = [answer(404), answer(206, b"x", ETag='"e"')]
        with pytest.raises(StoreUnavailable):
            await _head(store)
    assert [seen.method for seen in server.seen] == ["HEAD", *["HEAD", "GET"] * 3]
    assert server.seen[-1].headers["range"] == "bytes=0-0"


@pytest.mark.parametrize("verb", [_get, _head])
async def test_a_log_in_page_is_an_object(verb: Verb) -> None:
    """What is read has an ETag; without one it is not the store that answered."""
    body = b"" if verb is _head else b"<html><p>Please log in</p></html>"
    async with store_at(answer(200, body)) as (store, _):
        with pytest.raises(StoreUnavailable, match="no ETag"):
            await verb(store)


@pytest.mark.parametrize("verb", [_put, _create, _replace])
async def test_a_log_in_page_stores_bytes(verb: Verb) -> None:
    """A write that is answered without an ETag may not have happened."""
    for body in (b"<html><p>Please log in</p></html>", b"<Error><Code>SlowDown</Code></Error>"):
        async with store_at(answer(200, body)) as (store, server):
            with pytest.raises(OutcomeUnknown, match="no ETag"):
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


@pytest.mark.parametrize("tag", ["html", "Error", "ListAllMyBucketsResult"])
async def test_a_page_of_something_else_is_an_empty_listing(tag: str) -> None:
    """XML that is well formed and no listing lists nothing, not even that there is nothing."""
    async with store_at(answer(200, f"<{tag}><p>Please log in</p></{tag}>".encode())) as (store, _):
        with pytest.raises(StoreUnavailable, match=f"<{tag}>"):
            await _list(store)


def _listed(*fields: str, more: str = "false") -> bytes:
    contents = "".join(f"<Contents>{text}</Contents>" for text in fields)
    page = f"<ListBucketResult>{contents}<IsTruncated>{more}</IsTruncated></ListBucketResult>"
    return answer(200, page.encode())


_TIME = "<LastModified>2026-11-23T18:28:48Z</LastModified>"


async def test_a_listing_is_cut_short_without_a_word() -> None:
    """A server that says there is more, and not how to ask for it, is no store for us."""
    page = _listed(f"<Key>p/a</Key><Size>1</Size>{_TIME}", more="true")
    async with store_at(page) as (store, _):
        with pytest.raises(StoreUnfit, match="first page"):
            await _list(store)


@pytest.mark.parametrize("fields", ["<Size>1</Size>", "<Size>1</Size><LastModified/>", _TIME])
async def test_a_listing_without_times_is_a_defect_of_ours(fields: str) -> None:
    """A server that lists objects without size or time is named as the one that does."""
    async with store_at(_listed(f"<Key>p/a</Key>{fields}")) as (store, _):
        with pytest.raises(StoreUnfit, match="p/a"):
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
        found = bytearray()
        with pytest.raises(StoreUnfit):
            await store.stream_to("key", 3, 2, found.extend)
        await store.stream_to("key", 0, 2, found.extend)
        assert found == b"01"


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


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "999"}, 60),
        ({"Retry-After": "soon"}, 0),
        (
            {
                "Retry-After": "Sun, 29 Nov 2026 03:00:20 GMT",
                "Date": "Sun, 29 Nov 2026 03:00:00 GMT",
            },
            20,
        ),
        ({"Retry-After": "Sun, 29 Nov 2026 03:00:20 GMT"}, 0),
    ],
)
def test_a_servers_wish_is_misread(said: dict[str, str], seconds: float) -> None:
    """Seconds, or a date by the server's own clock; a minute at most."""
    assert wait_s(said) == seconds


@pytest.mark.parametrize(
    ("said", "may_arrive"), [(error(500, "InternalError"), False), (answer(502), True)]
)
async def test_a_gateways_word_is_taken_for_the_stores(said: bytes, may_arrive: bool) -> None:
    """What the store itself has failed is over; what a gateway says of it may still be going on."""
    async with store_at(said) as (store, _):
        with pytest.raises(OutcomeUnknown) as met:
            await store.put("k", b"x")
    assert met.value.may_arrive is may_arrive
