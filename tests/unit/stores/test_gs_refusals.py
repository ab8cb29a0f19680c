"""What Google refuses, whose tokens are tried, and what comes instead of an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from tests.support.http import Line, Scripted, answer, scripted
from tests.unit.stores.helpers import TestClock
from wherry.errors import (
    AccessRefused,
    StoreDamaged,
    StoreMissing,
    StoreUnavailable,
    StoreUnfit,
)
from wherryd.stores.base import (
    EtagMismatch,
    ObjectExists,
    ObjectMissing,
    OutcomeUnknown,
    WriteConflict,
)
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.gs import place
from wherryd.stores.gs.identity import GoogleIdentity
from wherryd.stores.gs.store import GsStore
from wherryd.stores.retry import RetryingStore
from wherryd.stores.traffic import FIRST, Traffic

Tokens = Mapping[str, list[str]]
"""By what a client handed over, "" for the daemon's own: one token after the other."""


def resource(**more: str) -> bytes:
    """An object, as Google describes it."""
    told = {
        "name": "k",
        "size": "1",
        "generation": "7",
        "timeCreated": "2026-11-29T00:31:22.123Z",
        **more,
    }
    return answer(200, json.dumps(told).encode())


def refused(status: int, message: str = "no", reason: str = "why", **headers: str) -> bytes:
    """An error, in Google's form."""
    told = {"code": status, "message": message, "errors": [{"reason": reason}]}
    return answer(status, json.dumps({"error": told}).encode(), **headers)


@asynccontextmanager
async def google(
    monkeypatch: pytest.MonkeyPatch,
    tokens: Tokens,
    *script: Line,
    traffic: Traffic | None = None,
    **more: str,
) -> AsyncIterator[tuple[GsStore, Scripted]]:
    """A store of Google's own, to which a client has handed "a.json"."""
    left = {name: list(each) for name, each in tokens.items()}

    def of(identity: GoogleIdentity) -> list[str]:
        values = identity.credentials.values or {}
        return left.get(values.get("GOOGLE_APPLICATION_CREDENTIALS", ""), [])

    async def token(identity: GoogleIdentity) -> str | None:
        return of(identity)[0] if of(identity) else None

    async def other_token(identity: GoogleIdentity, refused: str) -> str | None:
        of(identity)[:] = [each for each in of(identity) if each != refused]
        return await token(identity)

    monkeypatch.setattr(GoogleIdentity, "token", token)
    monkeypatch.setattr(GoogleIdentity, "other_token", other_token)
    credentials = StoreCredentials()
    credentials.hand_over({"GOOGLE_APPLICATION_CREDENTIALS": "a.json", **more})
    async with scripted(*script) as server:
        monkeypatch.setattr(place, "GOOGLE", server.url)
        store = GsStore("gs://bucket/p", credentials, TestClock(), traffic=traffic)
        try:
            yield store, server
        finally:
            await store.aclose()


@asynccontextmanager
async def emulated(*script: Line) -> AsyncIterator[tuple[GsStore, Scripted]]:
    """A store at an emulator."""
    async with scripted(*script) as server:
        store = GsStore(f"gs://bucket/p?endpoint_url={server.url}", None, TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()


def shown(server: Scripted) -> list[str | None]:
    """The tokens that were shown."""
    return [seen.headers.get("authorization") for seen in server.seen]


# ── whose token ────────────────────────────────────────────────────────────────────────────────
async def test_sets_are_tried_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer token of a set, then the daemon's own; what worked comes first next. Nobody is anonymous."""
    tokens = {"a.json": ["old", "new"], "": ["own"]}
    script = (refused(401), refused(403), resource(), resource())
    async with google(monkeypatch, tokens, *script) as (store, server):
        await store.head("k")
        await store.head("k")
        wanted = ["Bearer old", "Bearer new", "Bearer own"]
        assert shown(server)[:3] == wanted


async def test_all_sets_are_refused_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no set will do, the error names each with what the server said, and what helps."""
    script = (refused(403, "x@y does not have storage.objects.get access."),)
    async with google(monkeypatch, {"a.json": ["A"]}, *script) as (store, _):
        with pytest.raises(AccessRefused) as raised:
            await store.head("k")
    said = str(raised.value)
    assert "x@y does not have storage.objects.get access" in said
    assert "the daemon's own credentials: they lead to no token" in said
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said
    assert "Bearer" not in said


async def test_write_is_sent_again_that_was_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional write goes out once more only where the server has refused it."""
    async with google(monkeypatch, {"a.json": ["A", "B"]}, refused(503)) as (store, server):
        with pytest.raises(OutcomeUnknown):
            await store.put_if_absent("k", b"x")
        assert shown(server) == ["Bearer A"]


async def test_emulator_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator gets no credentials; one that wants some refuses."""
    async with emulated(resource(), refused(401, "Login Required")) as (store, server):
        await store.head("k")
        with pytest.raises(AccessRefused, match="no credentials: 401 Login Required"):
            await store.head("k")
        assert shown(server) == [None, None]


async def test_nobody_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project that is to pay goes with the credentials it came with; where none is, that is said."""
    tokens = {"a.json": ["A"], "": ["own"]}
    no = refused(400, "Bucket is a requester pays bucket but no user project provided.")
    async with google(monkeypatch, tokens, no, no, GS_USER_PROJECT="p:1") as (store, server):
        with pytest.raises(AccessRefused, match="GS_USER_PROJECT"):
            await store.head("k")
        queries = [seen.target.partition("?")[2].split("&") for seen in server.seen]
    assert "userProject=p%3A1" in queries[0]
    assert not any("userProject" in each for each in queries[1])


# ── how much is asked ──────────────────────────────────────────────────────────────────────────
OFTEN = [
    refused(403, "slower", "rateLimitExceeded"),
    refused(403, "slower", "userRateLimitExceeded"),
    refused(403, "slower", "quotaExceeded"),
    refused(429, "slower", "rateLimitExceeded"),
]


@pytest.mark.parametrize("often", OFTEN, ids=["rate", "user", "quota", "429"])
async def test_a_usage_limit_passes_for_a_refusal(
    monkeypatch: pytest.MonkeyPatch, often: bytes
) -> None:
    """Who asks too often tries again after a pause, with the same token, and asks less at once."""
    clock, tokens = TestClock(), {"a.json": ["A", "B"], "": ["own"]}
    script, traffic = (often, often, resource(crc32c="qTxfkw==")), Traffic(clock)
    async with google(monkeypatch, tokens, *script, traffic=traffic) as (store, server):
        await RetryingStore(store, clock).put("k", b"x")
        assert shown(server) == ["Bearer A"] * 3
        assert traffic.host(server.url).limit.now < FIRST
    assert len(clock.slept) == 2


async def test_a_refusal_passes_for_a_usage_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not do a thing is as welcome as before with others."""
    traffic = Traffic(TestClock())
    async with google(monkeypatch, {"a.json": ["A"]}, refused(403), traffic=traffic) as (
        store,
        server,
    ):
        with pytest.raises(AccessRefused):
            await store.head("k")
        assert traffic.host(server.url).limit.now == FIRST


async def test_a_usage_limit_is_told_as_a_broken_store() -> None:
    """The error says that the store has too much to do, in its own words."""
    for often in OFTEN:
        async with emulated(often) as (store, _):
            with pytest.raises(StoreUnavailable, match=r"too much to do\. GET k: 4.. .*slower\.$"):
                await store.head("k")


# ── what an answer means ───────────────────────────────────────────────────────────────────────
NO_BUCKET = refused(404, "The specified bucket does not exist.", "notFound")
LOGIN = answer(200, b"<html>log in</html>")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (refused(404, "No such object: bucket/p/k", "notFound"), ObjectMissing),
        (NO_BUCKET, StoreMissing),
        (answer(404, b"<html>no backend</html>"), StoreUnavailable),
        (answer(404), StoreUnavailable),
        (answer(400, b"<html>"), StoreUnavailable),
        (answer(302, Location="http://login/"), StoreUnavailable),
        (LOGIN, StoreUnavailable),
        (answer(200, b'{"name": "k"}'), StoreUnavailable),
        (resource(timeCreated=""), StoreUnavailable),
        (refused(403, "slower", "rateLimitExceeded"), StoreUnavailable),
        (refused(403, "no"), AccessRefused),
        (refused(401, "no"), AccessRefused),
        (refused(408), StoreUnavailable),
        (refused(429), StoreUnavailable),
        (refused(500), StoreUnavailable),
        (refused(503), StoreUnavailable),
        (refused(501), StoreUnfit),
        (refused(400, "bad"), StoreUnfit),
        (None, StoreUnavailable),
    ],
)
async def test_refused_look_means_something_else(said: Line, kind: type[Exception]) -> None:
    """What a server answers to a question, and what is made of it."""
    async with emulated(said) as (store, _):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - its type is what is asked
            await store.head("k")
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("said", "absent", "match"),
    [
        (refused(412, "no", "conditionNotMet"), ObjectExists, EtagMismatch),
        (answer(412, b"<html>"), OutcomeUnknown, OutcomeUnknown),
        (refused(409, "no", "conflict"), WriteConflict, WriteConflict),
        (NO_BUCKET, StoreMissing, StoreMissing),
        (answer(404, b"<html>"), OutcomeUnknown, OutcomeUnknown),
        (refused(403, "slower", "userRateLimitExceeded"), OutcomeUnknown, OutcomeUnknown),
        (refused(429), OutcomeUnknown, OutcomeUnknown),
        (refused(503), OutcomeUnknown, OutcomeUnknown),
        (LOGIN, OutcomeUnknown, OutcomeUnknown),
        (None, OutcomeUnknown, OutcomeUnknown),
        (refused(501), StoreUnfit, StoreUnfit),
    ],
)
async def test_refused_write_means_something_else(
    said: Line, absent: type[Exception], match: type[Exception]
) -> None:
    """What a server answers to a conditional write: only its own word settles it."""
    async with emulated(said, said) as (store, server):
        with pytest.raises(Exception) as first:  # noqa: PT011 - its type is what is asked
            await store.put_if_absent("k", b"x")
        with pytest.raises(Exception) as second:  # noqa: PT011
            await store.put_if_match("k", b"x", "7")
        conditions = [seen.target.partition("ifGenerationMatch=")[2] for seen in server.seen]
    assert (type(first.value), type(second.value)) == (absent, match)
    assert conditions == ["0", "7"]


@pytest.mark.parametrize("etag", ["0", "", '"etag"', "-1", "1.5"])
async def test_replace_creates(etag: str) -> None:
    """An ETag that no generation is matches nothing; least of all 0, which would create."""
    async with emulated() as (store, server):
        with pytest.raises(EtagMismatch):
            await store.put_if_match("k", b"x", etag)
        assert not server.seen


async def test_spoilt_body_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that the server finds to be others are sent again later; those that it kept are removed, unless
    somebody may have read them as a record.
    """
    no = refused(400, 'Provided CRC32C "a==" doesn\'t match calculated CRC32C "b==".', "invalid")
    async with emulated(no, no) as (store, server):
        for write in (store.put("k", b"x"), store.put_if_absent("k", b"x")):
            with pytest.raises(StoreUnavailable, match="other bytes arrived"):
                await write
    async with emulated(resource(crc32c="AAAAAA=="), answer(204)) as (store, server):
        with pytest.raises(OutcomeUnknown, match="other bytes arrived"):
            await store.put("k", b"x")
        assert [seen.method for seen in server.seen] == ["POST", "DELETE"]
        assert server.seen[1].target == "/storage/v1/b/bucket/o/p%2Fk?ifGenerationMatch=7"


async def test_missing_bytes_are_no_word_on_the_object() -> None:
    """A plain 404 to an object's bytes is settled by asking what it is."""
    gone = refused(404, "No such object", "notFound")
    async with emulated(answer(404, b"Not Found"), gone) as (store, server):
        with pytest.raises(ObjectMissing):
            await store.get("k")
        assert ["alt=media" in seen.target for seen in server.seen] == [True, False]
    async with emulated(answer(404, b"Not Found"), resource()) as (store, _):
        with pytest.raises(StoreUnavailable):
            await store.get("k")
    plain = answer(404, b"No such object: bucket/p/k", X_GUploader_UploadID="u")
    async with emulated(plain) as (store, _):
        with pytest.raises(ObjectMissing):
            await store.get("k")
    async with emulated(answer(200, b"<html>")) as (store, _):
        with pytest.raises(StoreUnavailable, match="no generation"):
            await store.get("k")


async def test_short_stream_is_whole() -> None:
    """A stream that ends before its range does is damaged, and a whole object is no part of it."""
    async with emulated(answer(206, b"ab", X_Goog_Generation="1")) as (store, _):
        with pytest.raises(StoreDamaged):
            async for _ in store.stream("k", 3, 4):
                pass
    async with emulated(answer(200, b"abcd", X_Goog_Generation="1")) as (store, _):
        with pytest.raises(StoreUnfit):
            async for _ in store.stream("k", 3, 1):
                pass


async def test_listing_goes_in_circles() -> None:
    """A server that gives the same page again and again is not asked for ever."""
    page = answer(200, json.dumps({"items": [], "nextPageToken": "t"}).encode())
    async with emulated(page, page, page) as (store, server):
        with pytest.raises(StoreUnfit):
            async for _ in store.list(""):
                pass
        assert len(server.seen) == 2


async def test_new_object_is_kept_by_caches() -> None:
    """An object is described with its checksum, and as one that no cache may keep."""
    async with emulated(resource()) as (store, server):
        await store.put("k", b"123456789")
    body = server.seen[0].body
    told = json.loads(body.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
    assert told == {"name": "p/k", "crc32c": "4waSgw==", "cacheControl": "no-store"}
    assert b"\r\n\r\n123456789\r\n--" in body
