"""What a server of Google's JSON API shows."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator
from itertools import count

import pytest

from tests.support.servers import FakeGcs, free_ports
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherry.wire.object_uri import server_of
from wherryd.clock import SystemClock
from wherryd.references.base import Found, Seen, Target
from wherryd.references.gs import GsResolver
from wherryd.references.session import Session
from wherryd.stores.credentials import CredentialSets

_BUCKETS = count()
STRANGE = ("a b", "a+b", "a%20b", "a%", "ä€😀", "a?b", "a#b", "a&b=c", "~!'()*", "a//b")


def crc32c(body: bytes) -> str:
    """The digest of an object, bit by bit (RFC 3720 section 12.1; Google writes it big-endian)."""
    value = 0xFFFFFFFF
    for byte in body:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return f"crc32c:{base64.b64encode((value ^ 0xFFFFFFFF).to_bytes(4, 'big')).decode()}"


OLD = crc32c(b"old")


class Place:
    """A bucket of the test's own, and what resolves references to it."""

    def __init__(self, server: FakeGcs, *, versions: bool = False) -> None:
        self.server = server
        self.name = f"refs-{os.getpid()}-{next(_BUCKETS)}"
        server.make_bucket(self.name, versions=versions)
        self.resolver = self.resolver_of(1000)

    def resolver_of(self, page: int) -> GsResolver:
        return GsResolver(SystemClock(), CredentialSets(), Session(), page)

    def target(self, key: str, bucket: str = "") -> Target:
        uri = f"gs://{bucket or self.name}/{key}"
        environ = {"STORAGE_EMULATOR_HOST": self.server.endpoint.removeprefix("http://")}
        return Target(uri, server_of(uri, environ))

    def put(self, key: str, body: bytes = b"x") -> str:
        return self.server.put(self.name, key, body)

    def seen(self, found: Found) -> Seen:
        server = self.target("").server
        return Seen(found.uri, server, found.digest, found.size, found.version)


@pytest.fixture
async def place(gcs: FakeGcs) -> AsyncIterator[Place]:
    made = Place(gcs)
    yield made
    await made.resolver.aclose()


@pytest.fixture
async def versioned(gcs: FakeGcs) -> AsyncIterator[Place]:
    made = Place(gcs, versions=True)
    yield made
    await made.resolver.aclose()


async def listed(resolver: GsResolver, target: Target) -> list[Found]:
    """All pages."""
    found: list[Found] = []
    after: str | None = ""
    while after is not None:
        page = await resolver.list(target, after)
        found += page.objects
        after = page.after
    return found


async def paths(resolver: GsResolver, target: Target) -> list[str]:
    return [found.path for found in await listed(resolver, target)]


async def content(resolver: GsResolver, seen: Seen, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in resolver.open(seen, start)])


async def test_object_is_described_otherwise(place: Place) -> None:
    """An object's CRC32C, size and generation are recorded, and its MD5; by a listing as well."""
    generation = place.put("models/m.h5", b"old")
    target, sums = place.target("models/m.h5"), (f"md5:{hashlib.md5(b'old').hexdigest()}",)
    found = Found(target.uri, "m.h5", OLD, 3, generation, sums)
    assert await place.resolver.look(target) == found
    assert await listed(place.resolver, place.target("models")) == [found]
    assert place.resolver.host(target) == f"127.0.0.1:{place.server.port}"
    assert place.resolver.host(Target("gs://b/x", "gs://b")) == "gs://b"


async def test_prefix_is_an_object(place: Place) -> None:
    """None is answered for a prefix; for one that ends in a slash, and for the whole bucket, unasked."""
    place.put("images/cat.png")
    for key in ("images", "images/", "", "nothing"):
        assert await place.resolver.look(place.target(key)) is None


async def test_prefixes_match_by_letters(place: Place) -> None:
    """``data`` is not ``database/``; folders' markers are no entries, empty objects are."""
    for key in ("data/a", "data/deep/b", "database/c", "data.csv", "data", "data/deep/"):
        place.put(key, b"" if key.endswith("/") else b"x")
    place.put("data/empty", b"")
    assert await paths(place.resolver, place.target("data")) == ["a", "deep/b", "empty"]
    assert await paths(place.resolver, place.target("data/")) == ["a", "deep/b", "empty"]
    assert await paths(place.resolver, place.target("dat")) == []
    assert len(await paths(place.resolver, place.target(""))) == 6
    (empty,) = [
        each for each in await listed(place.resolver, place.target("data")) if not each.size
    ]
    assert empty.digest == crc32c(b"")


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
async def test_strange_names_are_listed_otherwise(place: Place, page: int) -> None:
    """Names with spaces and signs come once each, with URIs that lead to them."""
    for name in STRANGE:
        place.put(f"odd/{name}", name.encode())
    resolver = place.resolver_of(page)
    found = await listed(resolver, place.target("odd"))
    assert sorted(each.path for each in found) == sorted(STRANGE)
    for each in found:
        alone = await resolver.look(Target(each.uri, place.target("").server))
        assert alone is not None
        assert alone.version == each.version
        assert await content(resolver, place.seen(each)) == each.path.encode()
    await resolver.aclose()


async def test_pages_lose_objects(place: Place) -> None:
    """A prefix of more objects than a page is complete, and goes on in another process."""
    for number in range(1_003):
        place.put(f"big/{number:05}")
    first = await place.resolver.list(place.target("big"), "")
    assert first.after
    other = place.resolver_of(1000)
    rest = await other.list(place.target("big"), first.after)
    await other.aclose()
    assert rest.after is None
    assert [each.path for each in (*first.objects, *rest.objects)] == [
        f"{number:05}" for number in range(1_003)
    ]


async def test_pinned_generation_is_another(versioned: Place) -> None:
    """``#generation`` gives that one, and fails where there is none."""
    old = versioned.put("m", b"old")
    versioned.put("m", b"newer")
    found = await versioned.resolver.look(versioned.target(f"m#{old}"))
    assert found is not None
    assert (found.digest, found.version, found.path) == (OLD, old, "m")
    with pytest.raises(ReferenceFailed, match="m#123 is not there"):
        await versioned.resolver.look(versioned.target("m#123"))
    with pytest.raises(ReferenceFailed, match="pins a generation of a prefix"):
        await versioned.resolver.list(versioned.target("m/#123"), "")


async def test_new_generation_is_read(versioned: Place) -> None:
    """The recorded generation is read, whatever came after it."""
    versioned.put("m", b"old")
    found = await versioned.resolver.look(versioned.target("m"))
    assert found is not None
    versioned.put("m", b"newer")
    await versioned.resolver.check(versioned.seen(found))
    assert await content(versioned.resolver, versioned.seen(found)) == b"old"


async def test_change_is_not_named(place: Place) -> None:
    """Where no generations are kept, the same bytes pass, other ones or none do not."""
    place.put("m", b"old")
    found = await place.resolver.look(place.target("m"))
    assert found is not None
    seen = place.seen(found)
    place.put("m", b"old")
    await place.resolver.check(seen)
    assert await content(place.resolver, seen) == b"old"
    place.put("m", b"new")
    for ask in (place.resolver.check(seen), content(place.resolver, seen)):
        with pytest.raises(ReferenceFailed, match=re.escape(f"its checksum was {OLD} and is ")):
            await ask
    place.server.delete(place.name, "m")
    for ask in (place.resolver.check(seen), content(place.resolver, seen)):
        with pytest.raises(ReferenceFailed, match="was there when it was logged, and is gone"):
            await ask


async def test_rest_begins_elsewhere(place: Place) -> None:
    """The rest of an answer that was cut is that of the same object; of another one it is refused."""
    place.put("m", b"0123456789")
    found = await place.resolver.look(place.target("m"))
    assert found is not None
    assert await content(place.resolver, place.seen(found), 7) == b"789"
    place.put("m", b"other bytes")
    with pytest.raises(ReferenceFailed, match="its checksum was"):
        await content(place.resolver, place.seen(found), 7)


async def test_missing_bucket_is_an_empty_one(place: Place) -> None:
    """A bucket that is not there fails, for the prefix that an object's name may be."""
    target = place.target("x", bucket="no-such-bucket")
    assert await place.resolver.look(target) is None
    with pytest.raises(ReferenceFailed, match="the bucket of gs://no-such-bucket/x is not there"):
        await place.resolver.list(target, "")


async def test_server_that_is_down_is_final() -> None:
    """A server that is not there may come back."""
    resolver = GsResolver(SystemClock(), CredentialSets(), Session())
    port = free_ports(1)[0]
    target = Target("gs://bucket/m", f"gs://bucket?endpoint_url=http://127.0.0.1:{port}")
    with pytest.raises(ReferenceUnavailable, match="gives no answer for gs://bucket/m") as caught:
        await resolver.look(target)
    assert caught.value.host == f"127.0.0.1:{port}"
    await resolver.aclose()
