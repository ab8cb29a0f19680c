"""What only a server of Google's API can show: a bucket that is missing, kills, pages.

The emulator (fake-gcs-server 1.54) shows what it does by itself; what it does not do, the tests' own server
shows. The tests at the end say which is which.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.stores.buckets import KEY, check_kill, check_pages, every_verb
from tests.soak import rounds
from tests.support.google import Google
from tests.support.servers import FakeGcs
from tests.unit.stores.helpers import MemoryLedger
from wherry.errors import AccessRefused, StoreMissing, StoreUnavailable
from wherry.wire.failpoints import DECLARED
from wherryd.clock import SystemClock
from wherryd.stores.base import FileBody, ObjectMissing, OutcomeUnknown
from wherryd.stores.crc32c import crc32c, written
from wherryd.stores.gs.answers import Call, created
from wherryd.stores.gs.bodies import upload
from wherryd.stores.gs.store import GsStore

_BUCKETS = count()


@pytest.fixture(params=["gs", "google"])
def address(request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own, on each server."""
    name = f"gs-{os.getpid()}-{next(_BUCKETS)}"
    if request.param == "google":
        google: Google = request.getfixturevalue("google")
        return google.address(name, "some/prefix")
    gcs: FakeGcs = request.getfixturevalue("gcs")
    gcs.make_bucket(name)
    return gcs.address(name, "some/prefix")


async def test_a_missing_bucket_is_another_error(google: Google, gcs: FakeGcs) -> None:
    """A bucket that is not there is missing; the emulator says of its objects only that they are."""
    met = await every_verb(_store(f"gs://no-bucket?endpoint_url={google.endpoint}"), "7")
    assert met == [StoreMissing] * 6
    met = await every_verb(_store(gcs.address("no-bucket")), "7")
    assert met[1:5] == [StoreMissing] * 4 and met[0] is not None


async def test_a_stopped_server_is_an_unknown_error() -> None:
    """Where nobody listens, reads and writes alike are ``StoreUnavailable``."""
    met = await every_verb(_store("gs://bucket?endpoint_url=http://127.0.0.1:9"), "7")
    assert set(met) == {StoreUnavailable}


async def test_a_server_that_wants_a_token_is_taken() -> None:
    """Without credentials every verb is refused."""
    with Google() as server:
        server.tokens = {"good"}
        assert set(await every_verb(_store(server.address("bucket")), "7")) == {AccessRefused}


PLACES = sorted(name for name in DECLARED if name.startswith("stores.gs."))


@pytest.mark.parametrize("place", PLACES)
async def test_a_kill_leaves_half_an_object(
    place: str, address: str, file_body: Callable[..., FileBody]
) -> None:
    """After a kill at any step the object is whole or not there, and doing it again is safe."""
    await check_kill(place, address, lambda: _store(address), file_body, {})


@settings(  # of real servers, each example takes a second
    max_examples=rounds(30, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keys=st.sets(KEY, max_size=10), start=KEY, page=st.integers(1, 3))
async def test_a_page_ends_in_the_wrong_place(
    google: Google, keys: set[str], start: str, page: int
) -> None:
    """Pages as small as they can be make one listing in order, of objects and of folders."""
    store = _store(google.address(f"pages-{next(_BUCKETS)}", "p"), page)
    await check_pages(store, keys, start)
    folders = sorted({f"{key.partition('/')[0]}/" for key in keys if "/" in key}, key=str.encode)
    assert [f"{name}/" async for name in store.list_folders("")] == folders
    await store.aclose()


async def test_the_emulator_has_learnt_something(gcs: FakeGcs) -> None:
    """The emulator looks at no checksum, and takes the question how far a session is for its end.

    If this fails, it has: the tests that need the tests' own server for it may use the emulator.
    """
    name = f"gs-{os.getpid()}-{next(_BUCKETS)}"
    gcs.make_bucket(name)
    store = _store(gcs.address(name))
    sender = store._sender
    call = upload("", "k", b"bytes", bytes(4), {}, SystemClock())
    made = created(call, await sender.send(call))
    assert made.crc32c == written(crc32c(b"bytes")) != written(bytes(4))
    begin = Call(
        method="POST",
        key="s",
        query={"uploadType": "resumable"},
        body=b'{"name": "s"}',
        headers={"Content-Type": "application/json"},
        is_upload=True,
    )
    location = (await sender.send(begin)).headers["Location"]
    session = location.removeprefix(gcs.endpoint)
    asked = Call(method="PUT", key="s", headers={"Content-Range": "bytes */9"}, session=session)
    assert (await sender.send(asked)).status == 200
    assert (await store.head("s")).size == 0
    await store.aclose()


async def test_a_session_that_the_emulator_ends_counts(
    gcs: FakeGcs, file_body: Callable[..., FileBody]
) -> None:
    """A server that takes the question how far a session is for its end makes an object of half the bytes: it
    does not stay, and the file goes up anew.
    """
    name = f"gs-{os.getpid()}-{next(_BUCKETS)}"
    gcs.make_bucket(name)
    store, ledger = _store(gcs.address(name)), MemoryLedger()
    noting = ledger.note_part

    async def kill(*_: object) -> None:
        raise KeyboardInterrupt

    body = msgspec.structs.replace(file_body(os.urandom(17 << 20)), ledger=ledger)
    ledger.note_part = kill  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await store.put("k", body)
    ledger.note_part = noting  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown, match="other bytes arrived"):
        await store.put("k", body)
    with pytest.raises(ObjectMissing):
        await store.head("k")
    await store.put("k", body)
    assert b"".join([piece async for piece in store.stream("k")]) == Path(body.path).read_bytes()
    await store.aclose()


def _store(address: str, page: int | None = None) -> GsStore:
    return GsStore(address, None, SystemClock(), page=page)
