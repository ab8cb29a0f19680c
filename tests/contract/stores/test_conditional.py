"""What every store does alike: writes that depend on what is there."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.contract.stores.conftest import MOTO, STORES
from wherryd.clock import SystemClock
from wherryd.stores.base import EtagMismatch, ObjectExists, ObjectStore, WriteConflict
from wherryd.stores.probe import probe

pytestmark = pytest.mark.parametrize("kind", [*STORES, MOTO], indirect=True)

_RACES = itertools.count()
Open = Callable[[], ObjectStore]
Write = Callable[[ObjectStore, bytes], Awaitable[object]]


async def _race(open_again: Open, racers: int, write: Write) -> list[bytes]:
    """Let many write at once through a few stores; the bodies of those who won."""
    stores = [open_again() for _ in range(4)]
    # no two races write the same bytes, whose ETag may be the same (S3's depends on the bytes alone)
    won, this_race = [], next(_RACES)

    async def run(number: int) -> None:
        body = b"racer %d in race %d" % (number, this_race)
        try:
            await write(stores[number % len(stores)], body)
            won.append(body)
        except (ObjectExists, EtagMismatch, WriteConflict):
            pass

    try:
        async with anyio.create_task_group() as group:
            for number in range(racers):
                group.start_soon(run, number)
    finally:
        for store in stores:
            await store.aclose()
    return won


async def test_a_create_replaces(store: ObjectStore) -> None:
    """``put_if_absent`` creates once, whoever tries again and with whatever bytes."""
    etag = await store.put_if_absent("versions/v0", b"first")
    assert etag == (await store.head("versions/v0")).etag
    for body in (b"first", b"second", b""):
        with pytest.raises(ObjectExists):
            await store.put_if_absent("versions/v0", body)
    assert (await store.get("versions/v0")).body == b"first"


async def test_a_replace_hits_another_version(store: ObjectStore) -> None:
    """``put_if_match`` replaces only what has the ETag that its caller read."""
    first = await store.put_if_absent("alias", b"one")
    second = await store.put_if_match("alias", b"two", first)
    assert second != first
    assert second == (await store.get("alias")).stat.etag
    with pytest.raises(EtagMismatch):
        await store.put_if_match("alias", b"three", first)
    assert (await store.get("alias")).body == b"two"
    await store.put_if_match("alias", b"three", second)
    assert (await store.get("alias")).body == b"three"


async def test_a_replace_creates(store: ObjectStore) -> None:
    """``put_if_match`` of a key that is not there, or not any more, is refused."""
    with pytest.raises(EtagMismatch):
        await store.put_if_match("folder/never", b"x", '"etag"')
    etag = await store.put_if_absent("was", b"x")
    await store.delete("was")
    with pytest.raises(EtagMismatch):
        await store.put_if_match("was", b"y", etag)
    assert [stat async for stat in store.list("")] == []


async def test_a_key_can_be_created_after_it_was_deleted(store: ObjectStore) -> None:
    """``put_if_absent`` looks at what is there, not at what was."""
    await store.put_if_absent("key", b"one")
    await store.delete("key")
    await store.put_if_absent("key", b"two")
    assert (await store.get("key")).body == b"two"


@pytest.mark.parametrize("racers", [2, 16, 50])
async def test_two_creates_win(store: ObjectStore, open_again: Open, racers: int) -> None:
    """Of racing creates of one key exactly one wins, and its bytes are there."""
    for round_ in range(1 if racers == 50 else 3):
        key = f"new-folder-{racers}-{round_}/deeper/v0"
        won = await _race(
            open_again, racers, lambda one, body, key=key: one.put_if_absent(key, body)
        )
        assert len(won) == 1
        assert (await store.get(key)).body == won[0]


@pytest.mark.parametrize("racers", [2, 16, 50])
async def test_two_replaces_win(store: ObjectStore, open_again: Open, racers: int) -> None:
    """Of racing replaces of one state exactly one wins, and its bytes are there."""
    etag = await store.put_if_absent("alias", b"start")
    for _ in range(1 if racers == 50 else 3):
        won = await _race(
            open_again, racers, lambda one, body, etag=etag: one.put_if_match("alias", body, etag)
        )
        assert len(won) == 1
        now = await store.get("alias")
        assert now.body == won[0]
        etag = now.stat.etag


async def test_a_replace_is_lost(store: ObjectStore, open_again: Open) -> None:
    """Writers that read, replace if it matches, and try again count without a gap."""
    await store.put_if_absent("counter", b"0")

    async def count(own: ObjectStore) -> None:
        for _ in range(5):
            while True:
                seen = await own.get("counter")
                try:
                    await own.put_if_match("counter", b"%d" % (int(seen.body) + 1), seen.stat.etag)
                    break
                except (EtagMismatch, WriteConflict):
                    continue
        await own.aclose()

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(count, open_again())
    assert (await store.get("counter")).body == b"20"


async def test_the_probe_refuses_a_good_store(store: ObjectStore) -> None:
    """A store that does what it must passes the probe, which leaves nothing behind."""
    await probe(store, SystemClock())
    assert [stat async for stat in store.list("")] == []
