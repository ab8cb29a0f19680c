"""Versions read a page at a time, and counted: what is read of the store for that."""

from __future__ import annotations

import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock
from tests.unit.daemon.stored import version_record
from wherryd.model import Alias, Tombstone
from wherryd.read.versions import TOMBSTONE_BYTES, Counted, Versions, find_artifact, list_artifacts
from wherryd.registry.objects import ObjectRegistry
from wherryd.registry.records import encode
from wherryd.stores.base import Object

LONG = "a note that makes a record larger than any tombstone is, whoever has written it"
COUNT = 100


class Counting(MemoryStore):
    """Notes which versions' objects are read."""

    def __init__(self) -> None:
        super().__init__(HandClock())
        self.read: list[int] = []

    async def get(self, key: str) -> Object:
        if "/versions/" in key:
            self.read.append(int(key.rpartition("/v")[2].partition(".")[0]))
        return await super().get(key)


@pytest.fixture
def store() -> Counting:
    """A store that notes what is read."""
    return Counting()


@pytest.fixture
async def registry(store: Counting) -> ObjectRegistry:
    """Its registry, with v0 to v99 of cats/model; of each ten the first is deleted."""
    registry = ObjectRegistry(store)
    await registry.claim_type("cats", "model", "kind")
    for number in range(COUNT):
        await registry.create_version("cats", "model", number, encode(version_record(number, LONG)))
        if number % 10 == 0:
            await _delete(registry, number)
    store.read.clear()
    return registry


async def _delete(registry: ObjectRegistry, number: int) -> None:
    stored = await registry.read_version("cats", "model", number)
    assert stored is not None
    await registry.bury_version("cats", "model", number, _tombstone(number), stored.etag)


def _tombstone(number: int, request: str = "r" * 36) -> Tombstone:
    digest = f"sha256:{'0' * 64}"
    return Tombstone(1, number, request, digest, digest, "2026-11-24T08:30:00.000Z")


async def _page(
    registry: ObjectRegistry, before: int | None, limit: int | None
) -> list[tuple[int, list[str]]]:
    found = Versions(registry, "cats", "model").newest_first(before, limit)
    return [(each.record.version, each.aliases) async for each in found]


async def test_page_reads_all_versions(registry: ObjectRegistry, store: Counting) -> None:
    """Of a hundred versions a page of five reads five."""
    assert await _page(registry, None, 5) == [
        (99, ["latest"]),
        *((n, []) for n in range(98, 94, -1)),
    ]
    assert sorted(store.read) == [95, 96, 97, 98, 99]


async def test_next_page_reads_the_first(registry: ObjectRegistry, store: Counting) -> None:
    """A page that begins below a number reads none above, but the newest: which is latest is looked for."""
    assert await _page(registry, 40, 3) == [(39, []), (38, []), (37, [])]
    assert sorted(store.read) == [37, 38, 39, 99]


async def test_page_ends_at_tombstones(registry: ObjectRegistry) -> None:
    """What is deleted takes no place in a page, and a page is short only where the list ends."""
    assert [number for number, _ in await _page(registry, 32, 3)] == [31, 29, 28]
    assert [number for number, _ in await _page(registry, 3, 3)] == [2, 1]
    assert await _page(registry, 1, 3) == []


async def test_many_tombstones_are_read_one_by_one(
    registry: ObjectRegistry, store: Counting
) -> None:
    """A page goes past a row of tombstones and gives no more than was asked for."""
    for number in range(50, 98):
        if number % 10:
            await _delete(registry, number)
    assert [number for number, _ in await _page(registry, None, 4)] == [99, 98, 49, 48]


async def test_pages_miss_or_repeat_a_version(registry: ObjectRegistry) -> None:
    """Page by page comes what comes at once, whatever the pages' size."""
    whole = await _page(registry, None, None)
    assert len(whole) == 90
    for size in (1, 7, 16, 17, 89, 90, 91):
        found, before = list[tuple[int, list[str]]](), None
        while page := await _page(registry, before, size):
            found += page
            before = page[-1][0]
        assert found == whole


async def test_deleted_newest_version_keeps_latest(registry: ObjectRegistry) -> None:
    """Where what was on the page before is deleted meanwhile, the next version is latest."""
    await _delete(registry, 99)
    assert await _page(registry, 99, 1) == [(98, ["latest"])]


# ── counting ───────────────────────────────────────────────────────────────────────────────────
async def test_count_is_wrong_or_reads_all(registry: ObjectRegistry, store: Counting) -> None:
    """Deleted versions do not count, and only what is as small as a tombstone is read for it."""
    versions = Versions(registry, "cats", "model")
    assert await versions.count() == Counted(90, ["latest"])
    assert sorted(store.read) == list(range(0, COUNT, 10))
    assert (await versions.count(before=12)).versions == 10


async def test_small_record_is_taken_for_a_tombstone(registry: ObjectRegistry) -> None:
    """A record that is as small as a tombstone counts."""
    small = encode(version_record(COUNT)).replace(b'"request-100"', b'"r"')
    small = small.replace(b'"metadata":{"step":100}', b'"metadata":{}')
    assert len(small) <= TOMBSTONE_BYTES
    await registry.create_version("cats", "model", COUNT, small)
    assert (await Versions(registry, "cats", "model").count()).versions == 91


def test_tombstone_is_large() -> None:
    """No tombstone is larger than what is taken for a record, whatever number and id it bears."""
    assert len(encode(_tombstone(99_999_999, "r" * 64))) <= TOMBSTONE_BYTES


async def test_alias_of_a_deleted_version_is_told(registry: ObjectRegistry) -> None:
    """An artifact's aliases are those that name a version now."""
    for alias, number in (("best", 7), ("dead", 10), ("gone", None)):
        written = Alias(format=1, alias=alias, version=number, highest=99, write="w")
        await registry.write_alias("cats", "model", written, None)
    assert (await Versions(registry, "cats", "model").count()).aliases == ["best", "latest"]


# ── artifacts ──────────────────────────────────────────────────────────────────────────────────
async def test_many_artifacts_are_lost(registry: ObjectRegistry) -> None:
    """More artifacts than are looked at at once all come, by name, and each can be found by its own."""
    names = [f"a{number:02}" for number in range(40)]
    for name in names:
        await registry.claim_type("cats", name, "kind" if name < "a35" else "other")
    listed = [each.name async for each in list_artifacts(registry, "cats")]
    assert listed == [*names, "model"]
    assert [each.name async for each in list_artifacts(registry, "cats", "other")] == names[35:]
    found = await find_artifact(registry, "cats", "model", "kind")
    assert found is not None
    assert (found.type, found.latest) == ("kind", 99)
    assert await find_artifact(registry, "cats", "model", "other") is None
    assert await find_artifact(registry, "cats", "nothing") is None
