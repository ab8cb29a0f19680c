"""What only a real S3 server can show: signatures, rights, buckets, and uploads that were given up."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.stores.buckets import KEY, check_kill, check_pages, every_verb
from tests.soak import rounds
from tests.support.fixtures import BUCKET
from tests.support.servers import Seaweed, free_ports
from wherry.errors import AccessRefused, FileChanged, StoreMissing, StoreUnavailable
from wherry.wire.failpoints import DECLARED
from wherryd.clock import SystemClock
from wherryd.stores.base import FileBody, ObjectMissing
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.parts import SINGLE_PUT_BYTES
from wherryd.stores.s3.answers import Call, is_missing
from wherryd.stores.s3.store import S3Store

_ROUNDS = count()


def _store(address: str, values: dict[str, str], page: int | None = None) -> S3Store:
    credentials = StoreCredentials()
    credentials.hand_over(values)
    return S3Store(address, credentials, SystemClock(), page=page)


@pytest.fixture
def address(seaweed: Seaweed) -> str:
    """A prefix of the test's own."""
    return seaweed.address(BUCKET, f"s3/{os.getpid()}-{next(_ROUNDS)}")


async def test_a_wrong_secret_is_taken(seaweed: Seaweed, address: str) -> None:
    """The server checks signatures: with a wrong secret every verb is refused."""
    wrong = {**seaweed.credentials, "AWS_SECRET_ACCESS_KEY": "wrong"}
    assert set(await every_verb(_store(address, wrong), '"e"')) == {AccessRefused}


async def test_a_missing_right_is_another_error(seaweed: Seaweed, address: str) -> None:
    """Who may only read is refused each write."""
    met = await every_verb(_store(address, seaweed.reader), '"e"')
    assert met[2:] == [AccessRefused] * 4
    assert AccessRefused not in met[:2]


async def test_a_missing_bucket_is_another_error(seaweed: Seaweed) -> None:
    """A bucket that is not there is missing, and not made.

    SeaweedFS says 403 or 412 to writes, as who may make buckets would make this one: a contact begins by
    reading.
    """
    for _ in range(2):
        met = await every_verb(
            _store(seaweed.address("no-such-bucket"), seaweed.credentials), '"e"'
        )
        assert met[:2] == [StoreMissing] * 2
        assert None not in met


async def test_a_missing_key_costs_two_requests(seaweed: Seaweed, address: str) -> None:
    """A real server's 404 to HEAD bears its sign, and is believed without another question."""
    store = _store(address, seaweed.credentials)
    call = Call(method="HEAD", key="nowhere")
    assert is_missing(call, await store._sender.send(call))
    with pytest.raises(ObjectMissing):
        await store.head("nowhere")
    await store.aclose()


async def test_a_failed_upload_leaves_parts(
    seaweed: Seaweed, address: str, file_body: Callable[..., FileBody]
) -> None:
    """An upload that fails is given up: the server has no parts of it."""
    store = _store(address, seaweed.credentials)
    body = file_body(bytes(SINGLE_PUT_BYTES + 1))
    with pytest.raises(FileChanged):
        await store.put("k", FileBody(body.path, body.offset, body.size, bytes(32)))
    uploads = Call(method="GET", key=None, query={"uploads": ""})
    answer = await store._sender.send(uploads)
    key = f"{address.partition('?')[0].split('/', 3)[3]}/k"
    assert answer.is_good and f"<Key>{key}</Key>".encode() not in answer.body
    assert [stat async for stat in store.list("")] == []
    await store.aclose()


async def test_a_stopped_server_is_an_unknown_error(seaweed: Seaweed) -> None:
    """Where nobody listens, reads and writes alike are ``StoreUnavailable``."""
    address = f"s3://bucket?endpoint_url=http://127.0.0.1:{free_ports(1)[0]}"
    met = await every_verb(_store(address, seaweed.credentials), '"e"')
    assert set(met) == {StoreUnavailable}


PLACES = sorted(name for name in DECLARED if name.startswith("stores.s3."))


@pytest.mark.parametrize("place", PLACES)
async def test_a_kill_leaves_half_an_object(
    place: str, seaweed: Seaweed, address: str, file_body: Callable[..., FileBody]
) -> None:
    """After a kill at any step the object is whole or not there, and doing it again is safe."""
    await check_kill(
        place,
        address,
        lambda: _store(address, seaweed.credentials),
        file_body,
        seaweed.credentials,
    )


@settings(  # of real servers, each example takes a second
    max_examples=rounds(30, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keys=st.sets(KEY, max_size=10), start=KEY, page=st.integers(1, 3))
async def test_a_page_ends_in_the_wrong_place(
    seaweed: Seaweed, address: str, keys: set[str], start: str, page: int
) -> None:
    """A real server's pages, as small as they can be, make one listing in order."""
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    store = _store(f"{address.replace('?', f'/{next(_ROUNDS)}?')}", seaweed.credentials, page)
    await check_pages(store, keys, start)
    await store.aclose()
