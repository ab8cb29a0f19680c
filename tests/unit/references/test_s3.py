"""What S3 servers refuse, and what they say instead of an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from xml.sax.saxutils import escape

import pytest

from tests.support.http import Cut, Line, Scripted, answer, error, scripted
from tests.unit.stores.helpers import KEYS, TestClock
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherry.wire.object_uri import server_of
from wherryd.references.base import Found, Page, Seen, Target
from wherryd.references.s3 import S3Resolver
from wherryd.stores.credentials import CredentialSets

DENIED = error(403, "AccessDenied")
NO_CODE = answer(403)


class Asked:
    """A resolver and the server that it asks."""

    def __init__(self, server: Scripted, keys: Mapping[str, str]) -> None:
        self.server = server
        self.address = f"s3://bucket?endpoint_url={server.url}&region=us-east-1"
        sets = CredentialSets()
        sets.hand_over(self.address, keys)
        self.resolver = S3Resolver(TestClock(), sets)

    def target(self, key: str) -> Target:
        return Target(f"s3://bucket/{key}", self.address)

    async def look(self, key: str = "k") -> Found | None:
        return await self.resolver.look(self.target(key))

    async def list(self, after: str = "") -> Page:
        return await self.resolver.list(self.target("p/"), after)

    @property
    def lines(self) -> list[str]:
        """Method and target of each request."""
        return [f"{seen.method} {seen.target.partition('?')[0]}" for seen in self.server.seen]


@asynccontextmanager
async def asked(*script: Line, keys: Mapping[str, str] = KEYS) -> AsyncIterator[Asked]:
    async with scripted(*script) as server:
        made = Asked(server, keys)
        try:
            yield made
        finally:
            await made.resolver.aclose()


def item(key: str, version: str = "", *, is_latest: bool = True, etag: str = '"e"') -> str:
    more = f"<VersionId>{version}</VersionId>" if version else ""
    more += f"<IsLatest>{str(is_latest).lower()}</IsLatest>" if version else ""
    return f"<Key>{escape(key)}</Key><Size>1</Size><ETag>{escape(etag)}</ETag>{more}"


def objects(*keys: str, token: str = "") -> bytes:
    held = "".join(f"<Contents>{item(key)}</Contents>" for key in keys)
    return page(
        "ListBucketResult",
        held,
        f"<NextContinuationToken>{token}</NextContinuationToken>" if token else "",
    )


def versions(*items: str, following: str = "") -> bytes:
    held = "".join(f"<Version>{each}</Version>" for each in items)
    more = f"<NextKeyMarker>{following}</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>"
    return page("ListVersionsResult", held, more if following else "")


def page(name: str, held: str, more: str) -> bytes:
    is_more = str(bool(more)).lower()
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    body = f"<{name} {space}><IsTruncated>{is_more}</IsTruncated>{more}{held}</{name}>"
    return answer(200, body.encode())


def head(version: str = "", etag: str = '"e"', **more: str) -> bytes:
    more |= {"x_amz_version_id": version} if version else {}
    return answer(200, b"", ETag=etag, **more).replace(b"Content-Length: 0", b"Content-Length: 1")


# ── an object ────────────────────────────────────────────────────────────────────────────────────


async def test_denied_object_is_asked_for_again() -> None:
    """AccessDenied is final, and names what is missing."""
    async with asked(*[NO_CODE] * 4, DENIED, DENIED, DENIED, DENIED) as made:
        with pytest.raises(ReferenceFailed, match="refuses s3://bucket/k: AccessDenied") as caught:
            await made.look()
        assert "s3:GetObject" in str(caught.value)


async def test_right_to_list_is_not_enough() -> None:
    """Who may list a prefix alone is refused its name, and gets the listing."""
    script = (*[NO_CODE] * 4, DENIED, DENIED, objects("k/a"))
    async with asked(*script) as made:
        assert await made.look() is None
        assert "prefix=k%2F" in made.server.seen[-1].target
        assert "max-keys=1&" in made.server.seen[-1].target + "&"


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_bad_keys_are_final(code: str) -> None:
    """Keys that are no good may be followed by others."""
    async with asked(*[NO_CODE] * 4, error(403, code), DENIED) as made:
        with pytest.raises(ReferenceUnavailable, match=code) as caught:
            await made.look()
        assert "AWS_PROFILE" in str(caught.value)
        assert caught.value.host == f"127.0.0.1:{made.server.port}"


async def test_no_keys_are_final() -> None:
    """Without any credentials the bucket is asked without a signature, and others may come."""
    async with asked(NO_CODE, NO_CODE, DENIED, keys={}) as made:
        with pytest.raises(ReferenceUnavailable, match="and there are none"):
            await made.look()
        assert not any("authorization" in seen.headers for seen in made.server.seen)


async def test_open_bucket_is_asked_in_vain_each_time() -> None:
    """Where it takes no signature to be answered, the next question has none at first."""
    async with asked(NO_CODE, head(), head()) as made:
        assert await made.look()
        assert await made.look()
        assert ["authorization" in seen.headers for seen in made.server.seen] == [
            True,
            False,
            False,
        ]


@pytest.mark.parametrize(
    "said",
    [
        answer(503, Retry_After="7"),
        answer(500),
        answer(429, Retry_After="7"),
        None,
        answer(200),
        answer(200, b"", ETag='""'),
    ],
    ids=["slow-down", "broken", "too-many", "closed", "no-etag", "empty-etag"],
)
async def test_trouble_is_final(said: Line) -> None:
    """What time may mend is told with the host, and with the pause that it asks for."""
    async with asked(said, said) as made:
        with pytest.raises(ReferenceUnavailable) as caught:
            await made.look()
        assert caught.value.host == f"127.0.0.1:{made.server.port}"
        is_asked = isinstance(said, bytes) and b"Retry-After" in said
        assert caught.value.retry_after_s == (7.0 if is_asked else None)


async def test_unknown_host_is_any_trouble() -> None:
    """That there is no host of a name is told apart: three tries decide."""
    resolver = S3Resolver(TestClock(), CredentialSets())
    uri = "s3://bucket/k?endpoint_url=http://no-such-host.invalid&region=us-east-1"
    try:
        with pytest.raises(ReferenceUnavailable, match=r"no-such-host\.invalid") as caught:
            await resolver.look(Target(uri, server_of(uri, {})))
    finally:
        await resolver.aclose()
    assert caught.value.unknown_name
    assert caught.value.host == "no-such-host.invalid"


def test_bucket_on_aws_has_another_host() -> None:
    """Whom to leave alone: the bucket on AWS, a server elsewhere."""
    resolver = S3Resolver(TestClock(), CredentialSets())
    assert resolver.host(Target("s3://bucket/k", "s3://bucket?region=eu-west-1")) == "s3://bucket"
    elsewhere = Target("s3://bucket/k", "s3://bucket?endpoint_url=https://minio.example:9000")
    assert resolver.host(elsewhere) == "minio.example:9000"


async def test_pinned_version_is_a_prefix() -> None:
    """A pin that leads nowhere is an error, as is a delete marker; a 404 of no S3 server is not."""
    for code, status in (("NoSuchVersion", 404), ("NoSuchKey", 404), ("MethodNotAllowed", 405)):
        async with asked(answer(status), error(status, code)) as made:
            with pytest.raises(ReferenceFailed, match=r"k\?versionId=v1 is not there"):
                await made.look("k?versionId=v1")
    async with asked(answer(404), answer(404, b"<html>")) as made:
        with pytest.raises(ReferenceUnavailable):
            await made.look("k?versionId=v1")


async def test_requester_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says so pays for a bucket of which the requester pays: by what was handed over, or the daemon's."""
    for keys, own, pays in (
        (KEYS, "", None),
        ({**KEYS, "AWS_REQUEST_PAYER": "requester"}, "", "requester"),
        (KEYS, "requester", "requester"),
    ):
        monkeypatch.setenv("AWS_REQUEST_PAYER", own)
        async with asked(head(), keys=keys) as made:
            await made.look()
            assert made.server.seen[0].headers.get("x-amz-request-payer") == pays


# ── further checksums ────────────────────────────────────────────────────────────────────────────
MODE = "x-amz-checksum-mode"
CRC = {"x_amz_checksum_crc32": "NSRBwg=="}


@pytest.mark.parametrize(
    "refusals", [[NO_CODE, NO_CODE], [answer(400), answer(400)], [answer(501)]], ids=str
)
async def test_right_to_use_a_key_is_asked_for(refusals: list[bytes]) -> None:
    """An object whose checksums may not be seen, or can't be asked for, is recorded by its ETag."""
    async with asked(*refusals, head("v1", **CRC)) as made:
        found = await made.look()
        assert found == Found("s3://bucket/k", "k", "etag:e", 1, "v1", ("crc32:NSRBwg==",))
        modes = [seen.headers.get(MODE) for seen in made.server.seen]
        assert modes == ["ENABLED"] * len(refusals) + [None]


async def test_missing_object_is_asked_for_twice() -> None:
    """Where the first answer says all there is to say, no other question follows."""
    for said in (head(), answer(404)):
        async with asked(said) as made:
            await made.look()
            assert made.lines == ["HEAD /bucket/k"]


async def test_part_is_taken_for_the_whole() -> None:
    """A checksum that comes with one byte of an object, or of its parts, is not the object's."""
    part = answer(206, b"x", ETag='"e"', Content_Range="bytes 0-0/1", **CRC)
    for said in (
        (answer(405), part),
        (head(**CRC, x_amz_checksum_type="COMPOSITE"),),
        (head(x_amz_checksum_crc32="NSRBwg==-2"),),
    ):
        async with asked(*said) as made:
            found = await made.look()
            assert found
            assert found.sums == ()


async def test_prefix_asks_for_checksums() -> None:
    """What a listing leaves open is asked for without checksums: they may take further rights."""
    bare = page("ListBucketResult", f"<Contents>{item('p/a', etag='')}</Contents>", "")
    async with asked(bare, head(), head()) as made:
        assert [each.sums for each in (await made.list()).objects] == [()]
        assert not any(MODE in seen.headers for seen in made.server.seen)


# ── a listing ────────────────────────────────────────────────────────────────────────────────────


async def test_right_to_list_versions_is_asked_for() -> None:
    """Where versions may not be listed, or the server can't, the objects are listed all the same."""
    for refusals in ((DENIED, DENIED), (error(501, "NotImplemented"),), (objects("p/a"),)):
        async with asked(objects("p/a"), head("v1"), *refusals) as made:
            found = await made.list()
            assert [each.version for each in found.objects] == [None]
            assert made.server.script == []


async def test_right_to_look_is_asked_for() -> None:
    """Who may list and not look gets what a listing has."""
    async with asked(objects("p/a"), NO_CODE, NO_CODE, versions(item("p/a", "v1"))) as made:
        assert [each.version for each in (await made.list()).objects] == ["v1"]
    async with asked(objects("p/a"), NO_CODE, NO_CODE, DENIED, DENIED) as made:
        assert [each.digest for each in (await made.list()).objects] == ["etag:e"]


async def test_old_versions_are_all_read() -> None:
    """Pages of nothing but old versions are not gone through: the objects are asked for one by one."""
    old = versions(*(item("p/a", f"v{n}", is_latest=n == 0) for n in range(100)), following="p/a")
    async with asked(objects("p/a", "p/b", "p/c"), head("v0"), old, head("b1"), head("c1")) as made:
        found = (await made.list()).objects
        assert {each.path: each.version for each in found} in (
            {"a": "v0", "b": "b1", "c": "c1"},
            {"a": "v0", "b": "c1", "c": "b1"},  # they are asked for at once
        )
        assert len(made.server.seen) == 5


async def test_deleted_meanwhile_is_listed() -> None:
    """What is gone when it is asked for is no entry."""
    async with asked(
        objects("p/a", "p/b"), head("v0"), versions(item("p/b", "b")), answer(404)
    ) as made:
        assert [each.path for each in (await made.list()).objects] == ["b"]


async def test_listing_without_checksum_is_kept() -> None:
    """An object that a listing gives without ETag is asked for by itself."""
    bare = page("ListBucketResult", f"<Contents>{item('p/a', etag='')}</Contents>", "")
    async with asked(bare, head(), head(etag='"f"')) as made:
        assert [each.digest for each in (await made.list()).objects] == ["etag:f"]


async def test_old_token_ends_a_listing() -> None:
    """A server that has forgotten its token is asked for what comes after the last key."""
    async with asked(objects("p/a", token="t"), head()) as made:
        after = (await made.list()).after
        assert after
        made.server.script += [error(400, "InvalidArgument"), objects("p/b")]
        assert [each.path for each in (await made.list(after)).objects] == ["b"]
        assert "start-after=p%2Fa" in made.server.seen[-1].target
        assert "continuation-token" not in made.server.seen[-1].target


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"<html/>"),
        answer(200, b"nothing"),
        answer(404),
        page("ListBucketResult", "", " "),
    ],
    ids=["html", "text", "404", "no-token"],
)
async def test_what_is_no_listing_is_an_empty_one(said: Line) -> None:
    """What answers in the server's stead does not make a prefix empty, or cut it short."""
    async with asked(said) as made:
        with pytest.raises(ReferenceUnavailable):
            await made.list()


async def test_keys_are_not_decoded() -> None:
    """Keys are percent-decoded where the server says that they are encoded, and only there."""
    encoded = page(
        "ListBucketResult",
        "<EncodingType>url</EncodingType>" + f"<Contents>{item('p/a+b%2Bc%01')}</Contents>",
        "",
    )
    async with asked(encoded, head()) as made:
        assert [each.path for each in (await made.list()).objects] == ["a b+c\x01"]
    async with asked(objects("p/a+b%2Bc"), head()) as made:
        assert [each.path for each in (await made.list()).objects] == ["a+b%2Bc"]


async def test_key_that_reads_as_an_option_is_another() -> None:
    """A key that no URI can name is an error, not another object."""
    async with asked(objects("p/a?region=x"), head()) as made:
        with pytest.raises(ReferenceFailed, match="no URI leads to the key"):
            await made.list()


async def test_cut_body_is_whole() -> None:
    """Bytes that end too soon are not taken for the object."""
    cut = Cut(head().replace(b"Content-Length: 1", b"Content-Length: 3") + b"ab")
    async with asked(head(), cut) as made:
        found = await made.look()
        assert found
        seen = Seen(found.uri, made.address, found.digest, 3, None)
        with pytest.raises(ReferenceUnavailable):
            [chunk async for chunk in made.resolver.open(seen)]


async def test_change_between_listing_and_head_is_mixed() -> None:
    """An object that changes between a listing and its own HEAD is recorded as the HEAD tells it, whole."""
    held = f"<Contents>{item('p/a', etag='')}</Contents><Contents>{item('p/b')}</Contents>"
    listed = page("ListBucketResult", held, "")
    async with asked(listed, head(etag='"new"'), head(etag='"new"')) as made:
        page_ = await made.list()
    assert [each.digest for each in page_.objects] == ["etag:new", "etag:e"]


async def test_rest_is_asked_for_whole() -> None:
    """Of an answer that was cut only the rest is asked for."""
    rest = answer(206, b"789", ETag='"e"', Content_Range="bytes 7-9/10")
    async with asked(rest) as made:
        seen = Seen("s3://bucket/k", made.address, "etag:e", 10, None)
        assert b"".join([chunk async for chunk in made.resolver.open(seen, 7)]) == b"789"
        assert made.server.seen[0].headers["range"] == "bytes=7-"
