"""What a real S3 server shows: a bucket that keeps versions, one that does not, and rights."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Iterable
from itertools import count

import pytest

from tests.support.fixtures import BUCKET
from tests.support.servers import Seaweed, free_ports
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherry.wire.object_uri import server_of
from wherryd.clock import SystemClock
from wherryd.references.base import Found, Seen, Target
from wherryd.references.s3 import S3Resolver
from wherryd.stores.credentials import CredentialSets

_PREFIXES = count()
STRANGE = (
    "a b",
    "a+b",
    "a%20b",
    "a%",
    "ä€😀",
    "a?b",
    "a#b",
    "a&b=c",
    "tab\tx",
    "\x01",
    "~!'()*",
)


class Place:
    """A prefix of the test's own in a bucket, and what resolves references to it."""

    def __init__(self, server: Seaweed, name: str) -> None:
        self.server = server
        self.name = name
        self.root = f"{os.getpid()}-{next(_PREFIXES)}"
        self.environ = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1"}
        self.resolver = self.resolver_for(server.reader)

    def resolver_for(self, keys: dict[str, str], page: int = 1000) -> S3Resolver:
        """A resolver of a daemon that got these credentials."""
        sets = CredentialSets()
        sets.hand_over(self.target("").server, keys)
        return S3Resolver(SystemClock(), sets, page)

    def target(self, key: str) -> Target:
        """What a client means by a key."""
        uri = f"s3://{self.name}/{self.root}/{key}"
        return Target(uri, server_of(uri, self.environ))

    def put(self, key: str, body: bytes = b"x", **more: str) -> str:
        """Write an object; its version id."""
        return self.server.put(self.name, f"{self.root}/{key}", body, **more)

    def fill(self, keys: Iterable[str]) -> None:
        """Write many objects; each holds its key."""
        self.server.fill(self.name, {f"{self.root}/{key}": key.encode() for key in keys})

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.server.delete(self.name, f"{self.root}/{key}")

    def seen(self, found: Found) -> Seen:
        """What a version would record."""
        server = self.target("").server
        return Seen(found.uri, server, found.digest, found.size, found.version)


async def listed(resolver: S3Resolver, target: Target) -> list[Found]:
    """All pages."""
    found: list[Found] = []
    after: str | None = ""
    while after is not None:
        page = await resolver.list(target, after)
        found += page.objects
        after = page.after
    return found


async def paths(resolver: S3Resolver, target: Target) -> list[str]:
    """The paths of all pages, each of which comes once."""
    return sorted(found.path for found in await listed(resolver, target))


async def content(resolver: S3Resolver, seen: Seen, start: int = 0) -> bytes:
    """The bytes that a reader gets."""
    return b"".join([chunk async for chunk in resolver.open(seen, start)])


def etag(body: bytes) -> str:
    """The digest of a small object."""
    return f"etag:{hashlib.md5(body).hexdigest()}"


def crc32(body: bytes) -> str:
    """The checksum that botocore uploads an object with unless it is told otherwise."""
    return f"crc32:{base64.b64encode(zlib.crc32(body).to_bytes(4, 'big')).decode()}"


@pytest.fixture
async def plain(seaweed: Seaweed) -> AsyncIterator[Place]:
    """In a bucket that keeps no versions."""
    place = Place(seaweed, BUCKET)
    yield place
    await place.resolver.aclose()


@pytest.fixture(scope="session")
def versions_bucket(seaweed: Seaweed) -> str:
    """A bucket that keeps versions."""
    name = "wherry-versions"
    seaweed.make_bucket(name)
    seaweed.keep_versions(name)
    return name


@pytest.fixture
async def versioned(seaweed: Seaweed, versions_bucket: str) -> AsyncIterator[Place]:
    """In a bucket that keeps versions."""
    place = Place(seaweed, versions_bucket)
    yield place
    await place.resolver.aclose()


@pytest.fixture(params=["plain", "versioned"])
def place(request: pytest.FixtureRequest) -> Place:
    """Either."""
    found: Place = request.getfixturevalue(request.param)
    return found


async def test_object_is_described_otherwise(plain: Place) -> None:
    """An object's ETag and size are recorded, and no version where the bucket keeps none."""
    plain.put("models/model.h5", b"weights")
    target = plain.target("models/model.h5")
    found = await plain.resolver.look(target)
    assert found == Found(target.uri, "model.h5", etag(b"weights"), 7, sums=(crc32(b"weights"),))


async def test_own_checksum_is_left_out(place: Place) -> None:
    """Beside the ETag there is the checksum that the object was uploaded with; a listing has none."""
    body = b"weights"
    wanted = {
        "SHA256": f"sha256:{hashlib.sha256(body).hexdigest()}",
        "SHA1": f"sha1:{hashlib.sha1(body).hexdigest()}",
        "CRC32": crc32(body),
    }
    for algorithm in wanted:
        place.put(f"p/{algorithm}", body, ChecksumAlgorithm=algorithm)
    for algorithm, sum_ in wanted.items():
        found = await place.resolver.look(place.target(f"p/{algorithm}"))
        assert found is not None
        assert (found.digest, found.sums) == (etag(body), (sum_,))
    below = await listed(place.resolver, place.target("p"))
    assert [(each.digest, each.sums) for each in below] == [(etag(body), ())] * 3


async def test_parts_have_the_objects_checksum(plain: Place) -> None:
    """Of an upload in parts, a checksum of all bytes is recorded, one of the parts' checksums is not."""
    parts = (b"x" * (5 << 20), b"the rest")
    for kind, sums in (("FULL_OBJECT", (crc32(b"".join(parts)),)), ("COMPOSITE", ())):
        plain.server.put_in_parts(plain.name, f"{plain.root}/{kind}", parts, kind)
        found = await plain.resolver.look(plain.target(kind))
        assert found is not None
        assert (found.size, found.sums) == (5 * 2**20 + 8, sums)


async def test_version_is_not_recorded(versioned: Place) -> None:
    """Where the bucket keeps versions, the latest one's id is recorded."""
    versioned.put("model.h5", b"old")
    latest = versioned.put("model.h5", b"newer")
    found = await versioned.resolver.look(versioned.target("model.h5"))
    assert found is not None
    assert (found.version, found.digest, found.size) == (latest, etag(b"newer"), 5)


async def test_prefix_is_an_object(place: Place) -> None:
    """None is answered for a prefix; for one that ends in a slash, and for the whole bucket, unasked."""
    place.put("images/cat.png")
    for key in ("images", "images/", "", "nothing"):
        assert await place.resolver.look(place.target(key)) is None
    bucket = f"s3://{place.name}"
    assert await place.resolver.look(Target(bucket, server_of(bucket, place.environ))) is None


async def test_prefixes_match_by_letters(place: Place) -> None:
    """``data`` is not ``database/``."""
    for key in ("data/a", "data/deep/b", "database/c", "data.csv", "data", "other"):
        place.put(key)
    assert await paths(place.resolver, place.target("data")) == ["a", "deep/b"]
    assert await paths(place.resolver, place.target("data/")) == ["a", "deep/b"]
    assert await paths(place.resolver, place.target("dat")) == []
    assert len(await paths(place.resolver, place.target(""))) == 6


async def test_markers_are_entries(place: Place) -> None:
    """A folder that a console made is no entry; an empty object is."""
    for key in ("images/", "images/deep/", "images/empty"):
        place.put(key, b"")
    place.put("images/cat.png", b"meow")
    found = {each.path: each for each in await listed(place.resolver, place.target("images"))}
    assert sorted(found) == ["cat.png", "empty"]
    assert (found["empty"].digest, found["empty"].size) == (etag(b""), 0)


async def test_object_has_two_digests(place: Place) -> None:
    """An object reads the same referenced by itself and through a prefix."""
    for key in ("a/1", "a/2 empty"):
        place.put(key, b"" if "empty" in key else b"one")
    for found in await listed(place.resolver, place.target("a")):
        alone = await place.resolver.look(place.target(f"a/{found.path}"))
        assert alone is not None
        assert (alone.digest, alone.size, alone.version) == (
            found.digest,
            found.size,
            found.version,
        )


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
async def test_strange_keys_are_listed_otherwise(place: Place, page: int) -> None:
    """Keys with spaces, signs and control characters come once each, with URIs that lead to them."""
    keys = [f"odd/{name}" for name in STRANGE]
    place.fill(keys)
    resolver = place.resolver_for(place.server.reader, page)
    found = await listed(resolver, place.target("odd"))
    assert sorted(each.path for each in found) == sorted(key.removeprefix("odd/") for key in keys)
    for each in found:
        assert await content(resolver, place.seen(each)) == f"odd/{each.path}".encode()
    await resolver.aclose()


@pytest.mark.parametrize("page", [1, 2, 3, 5])
async def test_objects_are_left_out_between_pages(place: Place, page: int) -> None:
    """Folders beside names that begin alike: whatever order the server has, each key comes once."""
    keys = ["a", "a/x", "a-b", "a.b", "a.b/y", "a/y/z", "a0", "b/a", "b/a/c", "b/a-", "c"]
    place.fill([f"p/{key}" for key in keys if key not in ("a", "a.b", "b/a")])
    resolver = place.resolver_for(place.server.reader, page)
    wanted = sorted(key for key in keys if key not in ("a", "a.b", "b/a"))
    assert await paths(resolver, place.target("p")) == wanted
    await resolver.aclose()


async def test_pages_lose_objects(place: Place) -> None:
    """A prefix of more objects than a page is complete, each with its version where there is one."""
    keys = [f"big/{number // 100:03}/{number:05}" for number in range(1_150)]
    place.fill(keys)
    found = await listed(place.resolver, place.target("big"))
    assert sorted(f"big/{each.path}" for each in found) == keys
    assert len({each.version for each in found}) in (1, len(keys))


async def test_listing_begins_anew(place: Place) -> None:
    """The cursor is all that it takes to go on."""
    place.fill([f"n/{number}" for number in range(9)])
    first = place.resolver_for(place.server.reader, page=4)
    page = await first.list(place.target("n"), "")
    await first.aclose()
    assert page.after
    second = place.resolver_for(place.server.reader, page=100)
    rest = await second.list(place.target("n"), page.after)
    await second.aclose()
    assert rest.after is None
    every = [each.path for each in [*page.objects, *rest.objects]]
    assert sorted(every) == [str(number) for number in range(9)]


async def test_old_versions_count(versioned: Place) -> None:
    """Old versions and deleted objects are no entries."""
    for number in range(40):
        latest = versioned.put("p/often", str(number).encode())
    versioned.put("p/gone")
    versioned.delete("p/gone")
    versioned.put("p/once")
    for page in (1, 7, 1000):
        resolver = versioned.resolver_for(versioned.server.reader, page)
        found = {each.path: each for each in await listed(resolver, versioned.target("p"))}
        assert sorted(found) == ["often", "once"]
        assert (found["often"].version, found["often"].digest) == (latest, etag(b"39"))
        await resolver.aclose()
    assert await versioned.resolver.look(versioned.target("p/gone")) is None


async def test_late_versioning_spoils_a_listing(seaweed: Seaweed) -> None:
    """Objects from before versioning was turned on have no version id; those after have one."""
    seaweed.make_bucket("wherry-late-versions")
    place = Place(seaweed, "wherry-late-versions")
    place.put("p/0-empty", b"")
    place.put("p/1-old", b"old")
    seaweed.keep_versions(place.name)
    latest = place.put("p/2-new", b"new")
    found = await listed(place.resolver, place.target("p"))
    await place.resolver.aclose()
    assert [each.version for each in found] == [None, None, latest]
    assert [each.digest for each in found] == [etag(b""), etag(b"old"), etag(b"new")]


async def test_pinned_version_is_another(versioned: Place) -> None:
    """``?versionId=`` gives that version, and fails where there is none."""
    old = versioned.put("m", b"old")
    versioned.put("m", b"newer")
    found = await versioned.resolver.look(versioned.target(f"m?versionId={old}"))
    assert found is not None
    assert (found.digest, found.version, found.path) == (etag(b"old"), old, "m")
    for key in (f"m?versionId={old[:-4]}0000", f"nothing?versionId={old}"):
        with pytest.raises(ReferenceFailed, match="is not there"):
            await versioned.resolver.look(versioned.target(key))
    with pytest.raises(ReferenceFailed, match="pins a version of a prefix"):
        await versioned.resolver.list(versioned.target(f"m/?versionId={old}"), "")


async def test_pin_is_passed_over(plain: Place) -> None:
    """A server that keeps no versions gives the object instead: that is not what was pinned."""
    plain.put("m")
    with pytest.raises(ReferenceFailed, match="is not there"):
        await plain.resolver.look(plain.target("m?versionId=6714b64be8e2572964a5e2aca88cc13d"))


async def test_new_version_is_read(versioned: Place) -> None:
    """The recorded version is read, whatever came after it."""
    versioned.put("m", b"old" * 1_000_000)
    found = await versioned.resolver.look(versioned.target("m"))
    assert found is not None
    versioned.put("m", b"newer")
    versioned.delete("m")
    await versioned.resolver.check(versioned.seen(found))
    assert await content(versioned.resolver, versioned.seen(found)) == b"old" * 1_000_000


async def test_change_is_not_named(plain: Place) -> None:
    """Without versions, other bytes or none are an error before the first byte."""
    plain.put("m", b"old")
    found = await plain.resolver.look(plain.target("m"))
    assert found is not None
    seen = plain.seen(found)
    await plain.resolver.check(seen)
    assert await content(plain.resolver, seen) == b"old"
    plain.put("m", b"new")
    for ask in (plain.resolver.check(seen), content(plain.resolver, seen)):
        with pytest.raises(ReferenceFailed, match=f"its ETag was {etag(b'old')} and is "):
            await ask
    plain.delete("m")
    for ask in (plain.resolver.check(seen), content(plain.resolver, seen)):
        with pytest.raises(ReferenceFailed, match="was there when it was logged, and is gone"):
            await ask


async def test_rest_begins_elsewhere(place: Place) -> None:
    """The rest of an answer that was cut is that of the same object; of another one it is refused."""
    place.put("m", b"0123456789")
    found = await place.resolver.look(place.target("m"))
    assert found is not None
    assert await content(place.resolver, place.seen(found), 7) == b"789"
    place.put("m", b"other bytes")
    if found.version:
        assert await content(place.resolver, place.seen(found), 7) == b"789"
        return
    with pytest.raises(ReferenceFailed, match="its ETag was"):
        await content(place.resolver, place.seen(found), 7)


async def test_entries_lose_options(plain: Place) -> None:
    """What the URI says of its server stands in each entry's URI."""
    plain.put("p/x")
    uri = f"s3://{plain.name}/{plain.root}/p?endpoint_url={plain.server.endpoint}&region=us-east-1"
    found = await listed(plain.resolver, Target(uri, server_of(uri, {})))
    assert [each.uri for each in found] == [uri.replace("/p?", "/p/x?")]


async def test_missing_bucket_is_an_empty_one(seaweed: Seaweed) -> None:
    """A bucket that is not there fails, for the prefix that an object's name may be."""
    nowhere = Place(seaweed, "no-such-bucket")
    assert await nowhere.resolver.look(nowhere.target("x")) is None
    with pytest.raises(
        ReferenceFailed, match=r"the bucket of s3://no-such-bucket/.*/x is not there"
    ):
        await nowhere.resolver.list(nowhere.target("x"), "")
    await nowhere.resolver.aclose()


@pytest.mark.parametrize("wrong", ["key", "secret", "none"])
async def test_bad_credentials_are_final(plain: Place, wrong: str) -> None:
    """Unknown keys, wrong secrets and no keys at all may be followed by good ones."""
    plain.put("m")
    name = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "none": ""}[wrong]
    keys = {**plain.server.reader, name: "wrong"} if name else {}
    resolver = plain.resolver_for(keys)
    said = {
        "key": "InvalidAccessKeyId",
        "secret": "SignatureDoesNotMatch",
        "none": "there are none",
    }
    for ask in (resolver.look(plain.target("m")), resolver.list(plain.target("m"), "")):
        with pytest.raises(ReferenceUnavailable, match=said[wrong]) as caught:
            await ask
        assert caught.value.host == f"127.0.0.1:{plain.server.port}"
    await resolver.aclose()


async def test_open_bucket_wants_credentials(seaweed: Seaweed) -> None:
    """Without credentials, or with such as the server does not know, an open bucket can be read."""
    seaweed.make_bucket(seaweed.open_bucket)
    place = Place(seaweed, seaweed.open_bucket)
    place.put("p/m", b"open")
    wrong = {**seaweed.reader, "AWS_ACCESS_KEY_ID": "nobody"}
    for keys in ({}, wrong):
        resolver = place.resolver_for(keys)
        found = await resolver.look(place.target("p/m"))
        assert found is not None
        assert await paths(resolver, place.target("p")) == ["m"]
        assert await content(resolver, place.seen(found)) == b"open"
        await resolver.aclose()
    await place.resolver.aclose()


async def test_server_that_is_down_is_final(seaweed: Seaweed) -> None:
    """A server that is not there may come back."""
    place = Place(seaweed, "bucket")
    place.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ReferenceUnavailable, match=r"gives no answer for s3://bucket/.*/m"):
        await place.resolver.look(place.target("m"))
    await place.resolver.aclose()
