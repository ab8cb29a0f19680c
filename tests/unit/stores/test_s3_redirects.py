"""A bucket that is elsewhere: in another region, or on another server of the same people."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import Early, Line, Scripted, Seen, answer, error, scripted
from tests.unit.stores.helpers import KEYS, TestClock, store_at
from wherry.errors import StoreMissing
from wherry.wire.address import split_store
from wherryd.stores.base import FileBody, ObjectExists
from wherryd.stores.credentials import OWN, StoreCredentials
from wherryd.stores.s3.answers import Answer
from wherryd.stores.s3.place import find_place, follow
from wherryd.stores.s3.store import S3Store

REGION = {"x_amz_bucket_region": "eu-central-1"}
GOOD = answer(200, ETag='"e"')


def temporary(endpoint: str, location: str = "") -> bytes:
    """As AWS says that a new bucket is somewhere else."""
    headers = {"Location": location} if location else {}
    return error(307, "TemporaryRedirect", f"<Endpoint>{endpoint}</Endpoint>", **headers)


def asked(server: Scripted) -> list[tuple[str, str, str]]:
    """Method, region and host of each request."""
    return [
        (seen.method, _region(seen), seen.headers["host"].partition(":")[0]) for seen in server.seen
    ]


def _region(seen: Seen) -> str:
    return seen.headers["authorization"].split("/")[2]


# ── the region ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("redirect", [answer(301), answer(307), error(301, "PermanentRedirect")])
@pytest.mark.parametrize(
    "told", [answer(200, **REGION), answer(403, **REGION), answer(301, **REGION)]
)
async def test_a_redirect_without_a_region_is_the_end(redirect: bytes, told: bytes) -> None:
    """The bucket's server is asked for the region, once; what it does not give, it tells all the same."""
    async with store_at(redirect, told) as (store, server):
        await store.put_if_absent("key", b"x")
        await store.put("other", b"x")
    assert [(method, region) for method, region, _ in asked(server)] == [
        ("PUT", "us-east-1"),
        ("HEAD", "us-east-1"),
        ("PUT", "eu-central-1"),
        ("PUT", "eu-central-1"),
    ]
    assert server.seen[1].target == "/bucket/"
    assert [seen.headers.get("if-none-match") for seen in server.seen] == ["*", None, "*", None]


async def test_a_redirect_drowns_in_the_body(tmp_path: Path) -> None:
    """A server that does not read the body of what it redirects, and hangs up, is heard all the same."""
    file = tmp_path / "file"
    file.write_bytes(bytes(12_000_000))
    digest = hashlib.sha256(file.read_bytes()).digest()
    redirect = Early(answer(307, **REGION))
    async with store_at(redirect) as (store, server):
        await store.put("key", FileBody(str(file), 0, 12_000_000, digest))
    assert [_region(seen) for seen in server.seen] == ["us-east-1", "eu-central-1"]
    assert len(server.seen[1].body) == 12_000_000


# ── the server ─────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
async def far(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """A store at s3.test, which stands for this machine, as does all below it, and evil.test."""
    resolve = socket.getaddrinfo

    def resolve_here(host: str, *args: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host.endswith(".test") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    credentials = StoreCredentials()
    credentials.hand_over({**KEYS, "AWS_SESSION_TOKEN": "hush-token"})
    async with scripted() as server:
        address = f"s3://bucket?endpoint_url=http://s3.test:{server.port}&region=us-east-1"
        store = S3Store(address, credentials, TestClock())
        yield store, server
        await store.aclose()


def moved(host: str, to_key: str = "/key") -> Line:
    """A redirect by its location."""

    def said(seen: Seen) -> bytes:
        port = seen.headers["host"].partition(":")[2]
        return temporary(f"{host}:{port}", f"http://{host}:{port}{to_key}?rk=e2c69a31")

    return said


def named(host: str) -> Line:
    """A redirect by its endpoint alone."""
    return lambda seen: temporary(f"{host}:{seen.headers['host'].partition(':')[2]}")


@pytest.mark.parametrize("redirect", [moved, named])
@pytest.mark.parametrize(
    ("host", "target"), [("bucket.eu.s3.test", "/key"), ("eu.s3.test", "/bucket/key")]
)
async def test_a_new_bucket_is_not_there_yet(
    far: tuple[S3Store, Scripted], tmp_path: Path, redirect: Any, host: str, target: str
) -> None:
    """A redirect to a server below the endpoint's is followed with the whole request, signed for that server;
    the next request begins where it did before.
    """
    store, server = far
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    server.script = [redirect(host), answer(200), GOOD, redirect(host), answer(200), GOOD]
    await store.put_if_absent("key", b"x")
    digest = hashlib.sha256(file.read_bytes()).digest()
    await store.put("key", FileBody(str(file), 0, 100_000, digest))
    here, there = "s3.test", host
    assert [(method, at) for method, _, at in asked(server)] == [
        ("PUT", here),
        ("HEAD", here),
        ("PUT", there),
        ("PUT", here),
        ("HEAD", here),
        ("PUT", there),
    ]
    first, again = server.seen[0], server.seen[2]
    assert (again.target, again.body) == (target, b"x")
    assert again.headers["if-none-match"] == "*"
    assert again.headers["authorization"] != first.headers["authorization"]
    assert len(server.seen[5].body) == 100_000


async def test_a_redirect_hides_what_is_there(far: tuple[S3Store, Scripted]) -> None:
    """What the other server says of a condition is the answer."""
    store, server = far
    server.script = [moved("bucket.eu.s3.test"), answer(200), error(412, "PreconditionFailed")]
    with pytest.raises(ObjectExists):
        await store.put_if_absent("key", b"x")


ELSEWHERE = ["evil.test", "s3.test.evil.test", "evils3.test", "bucket.evil.test", "s3.test"]


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_a_token_goes_where_a_redirect_leads(
    far: tuple[S3Store, Scripted], host: str
) -> None:
    """Nothing is sent to a server of others, nor again to the same; the error says where, and what to set."""
    store, server = far
    server.script = [moved(host), answer(200)]
    with pytest.raises(StoreMissing) as raised:
        await store.put("key", b"x")
    assert [(method, at) for method, _, at in asked(server)] == [
        ("PUT", "s3.test"),
        ("HEAD", "s3.test"),
    ]
    said = str(raised.value)
    assert (
        f"The bucket is elsewhere, at http://{host}:{server.port}, it is said. PUT key: 307" in said
    )
    assert "?region=" in said and "?endpoint_url=" in said and "e2c69a31" not in said


async def test_a_redirect_leads_in_circles(far: tuple[S3Store, Scripted]) -> None:
    """The other server's redirect is not followed."""
    store, server = far
    server.script = [moved("a.s3.test"), answer(200), moved("b.s3.test")]
    with pytest.raises(StoreMissing):
        await store.put("key", b"x")
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("location", "endpoint", "server"),
    [
        ("https://u:hush@h:9/k?X-Amz-Signature=hush", "e", "https://h:9"),
        ("", "h:9", "//h:9"),
        ("/k", "", ""),
        ("http://[h/k", "", ""),
        ("", "", ""),
    ],
)
def test_a_redirect_tells_a_secret(location: str, endpoint: str, server: str) -> None:
    """Of where it leads only the server is kept, if there is one."""
    answer = Answer(status=307, headers={"Location": location}, endpoint=endpoint)
    assert answer.elsewhere == server


FOLLOWED = {
    ("s3://cats?region=us-east-1", "http://cats.s3-eu-west-1.amazonaws.com"): (
        "https://cats.s3-eu-west-1.amazonaws.com",
        "eu-west-1",
    ),
    ("s3://cats?region=us-east-1", "//cats.s3-gztb4pa9sq.amazonaws.com"): (
        "https://cats.s3-gztb4pa9sq.amazonaws.com",
        "us-east-1",
    ),
    ("s3://a.b?region=us-east-1", "//s3.eu-west-1.amazonaws.com"): (
        "https://s3.eu-west-1.amazonaws.com/a.b",
        "eu-west-1",
    ),
    ("s3://cats?endpoint_url=https://h:9/s3", "//x.h:9"): ("https://x.h:9/s3/cats", "us-east-1"),
}
NOT_FOLLOWED = [
    ("s3://cats?region=us-east-1", "//cats.s3-eu-west-1.amazonaws.com.evil.org"),
    ("s3://cats?region=us-east-1", "//dogs.s3-eu-west-1.amazonaws.com"),
    ("s3://cats?region=us-east-1", "//ec2-1-2-3-4.compute.amazonaws.com"),
    ("s3://cats?region=us-east-1", "//cats.s3.cn-north-1.amazonaws.com.cn"),
    ("s3://cats?region=us-east-1", "//cats.s3-eu-west-1.amazonaws.com:8080"),
    ("s3://cats?endpoint_url=https://h:9", "//x.h:10"),
    ("s3://cats?endpoint_url=https://h:9", "//x.h"),
    ("s3://cats?endpoint_url=https://h", "//evil.org\\.h"),
    ("s3://cats?endpoint_url=https://h", "//evil.org%2f.h"),
    ("s3://cats?endpoint_url=https://h", "//[::1]"),
    ("s3://cats?endpoint_url=https://[::1]:9", "//[::2]:9"),
    ("s3://cats?endpoint_url=https://10.0.0.1", "//10.0.0.2"),
    ("s3://cats?endpoint_url=https://h", "//h:x"),
    ("s3://cats?endpoint_url=https://h", ""),
]


@pytest.mark.parametrize(("address", "server"), FOLLOWED)
async def test_a_server_of_the_same_people_is_a_strangers(address: str, server: str) -> None:
    """Below the endpoint's host, or AWS's for S3 with this bucket: followed, by the endpoint's scheme."""
    place = follow(await find_place(split_store(address), OWN), server)
    assert place is not None
    assert (place.base, place.region) == FOLLOWED[address, server]


@pytest.mark.parametrize(("address", "server"), NOT_FOLLOWED)
async def test_a_stranger_passes_for_the_same_people(address: str, server: str) -> None:
    """Another domain, bucket, partition or port, or a name that is none: not followed."""
    assert follow(await find_place(split_store(address), OWN), server) is None
