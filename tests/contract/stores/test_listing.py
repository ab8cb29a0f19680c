"""What every store does alike: listing in the order of whole keys."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.soak import rounds
from wherryd.stores.base import ObjectStore

_ROUNDS = count()


def _in_order(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=str.encode)


async def _fill(store: ObjectStore, prefix: str, keys: set[str]) -> None:
    for key in keys:
        await store.put(prefix + key, b"x")


async def _listed(store: ObjectStore, prefix: str, start_after: str = "") -> list[str]:
    return [stat.key async for stat in store.list(prefix, start_after)]


async def _scanned(store: ObjectStore, prefix: str) -> list[str]:
    return _in_order([stat.key async for stat in store.scan(prefix)])


NASTY = {"a/x", "a-b", "a.b", "a0", "a/y/z", "a-c/d", "a b", "A/x", "b", "ä", "a%2F", "a/-", "~"}


async def test_a_folder_is_listed_by_its_name(store: ObjectStore) -> None:
    """``a/x`` comes after ``a-b``: keys compare as whole strings, by their bytes."""
    await _fill(store, "p/", NASTY)
    assert await _listed(store, "p/") == [f"p/{key}" for key in _in_order(NASTY)]
    assert await _listed(store, "") == [f"p/{key}" for key in _in_order(NASTY)]


async def test_a_scan_lists_what_a_listing_does_not(store: ObjectStore) -> None:
    """A scan gives what a listing gives, each object once, with the same size and ETag."""
    await _fill(store, "p/", NASTY)
    await _fill(store, "", {"p.txt", "pp/x"})
    scanned = [stat async for stat in store.scan("p/")]
    listed = [stat async for stat in store.list("p/")]
    assert sorted(scanned, key=lambda stat: stat.key.encode()) == listed
    assert await _scanned(store, "") == _in_order([*(f"p/{key}" for key in NASTY), "p.txt", "pp/x"])
    assert await _scanned(store, "nothing/") == []


async def test_a_prefix_matches_half_a_segment(store: ObjectStore) -> None:
    """A prefix is whole segments: ``data/`` has nothing of ``database/``."""
    await _fill(store, "", {"data/x", "database/x", "data.txt", "dat/x"})
    assert await _listed(store, "data/") == ["data/x"]
    assert await _listed(store, "nothing/") == []
    assert await _listed(store, "data/x/") == []


async def test_start_after_leaves_a_key_out(store: ObjectStore) -> None:
    """From every key, and from between keys, exactly the later ones are listed."""
    await _fill(store, "p/", NASTY)
    keys = [f"p/{key}" for key in _in_order(NASTY)]
    for start in [*keys, "p/a", "p/a/", "p/a/x/", "p/a-", "p/a-c", "p/b0", "o/x", "q/x", "p/zz"]:
        wanted = [key for key in keys if key.encode() > start.encode()]
        assert await _listed(store, "p/", start) == wanted, start


async def test_versions_are_listed_from_a_number_on(store: ObjectStore) -> None:
    """The registry's own listing: records after the last one known, tombstones and edits beside."""
    names = {f"v{number:08d}.json" for number in range(25)} | {"v00000003.edit.json"}
    await _fill(store, "cats/artifacts/model/versions/", names)
    prefix = "cats/artifacts/model/versions/"
    for number in (0, 9, 10, 19, 24):
        start = f"{prefix}v{number:08d}.json"
        wanted = [prefix + name for name in _in_order(names) if prefix + name > start]
        assert await _listed(store, prefix, start) == wanted


async def test_folders_come_in_another_order(store: ObjectStore) -> None:
    """Folders come in the order of the keys below them, each once, and objects are no folders."""
    await _fill(store, "p/", NASTY)
    assert [name async for name in store.list_folders("p/")] == ["A", "a-c", "a"]
    assert [name async for name in store.list_folders("p/a/")] == ["y"]
    assert [name async for name in store.list_folders("")] == ["p"]
    assert [name async for name in store.list_folders("nothing/")] == []


SEGMENT = st.text(alphabet="ab0-./ %+é~&é😀", min_size=1, max_size=4).map(
    lambda text: text.replace("/", "!")
)
KEY = st.lists(SEGMENT.filter(lambda text: text not in (".", "..")), min_size=1, max_size=3).map(
    "/".join
)


def _without_clashes(keys: set[str]) -> set[str]:
    """A key that is another's folder can't be had in a folder."""
    return {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}


@settings(  # of real servers, each example takes a second
    max_examples=rounds(30, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keys=st.sets(KEY, max_size=12).map(_without_clashes), start=KEY)
async def test_any_keys_in_any_order(store: ObjectStore, keys: set[str], start: str) -> None:
    """Whatever the keys, a listing is those after the start, in order of their bytes."""
    prefix = f"round-{next(_ROUNDS)}/"
    await _fill(store, prefix, keys)
    wanted = [prefix + key for key in _in_order(keys)]
    assert await _listed(store, prefix) == wanted
    assert await _scanned(store, prefix) == wanted
    after = [key for key in wanted if key.encode() > (prefix + start).encode()]
    assert await _listed(store, prefix, prefix + start) == after
    folders = _in_order({key.partition("/")[0] + "/" for key in keys if "/" in key})
    assert [f"{name}/" async for name in store.list_folders(prefix)] == folders


async def test_a_long_listing_has_a_seam(store: ObjectStore, kind: str) -> None:
    """More objects than a page holds are listed each once."""
    if kind == "memory":
        pytest.skip("has no pages")
    keys = {f"{number:04d}" for number in range(1_100)}
    await _fill(store, "many/", keys)
    assert await _listed(store, "many/") == [f"many/{key}" for key in _in_order(keys)]
    assert len(await _listed(store, "many/", "many/0099")) == 1_000
    assert await _scanned(store, "many/") == [f"many/{key}" for key in _in_order(keys)]
