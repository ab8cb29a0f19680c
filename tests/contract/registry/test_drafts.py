"""What the drafts of every registry over an object store must do, against each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.memory import MemoryStore
from tests.unit.registry import example
from wherry.errors import StoreChanged, StoreDamaged, StoreUnavailable
from wherryd.clock import SystemClock
from wherryd.model import Manifest
from wherryd.registry import layout, records
from wherryd.registry.drafts import ObjectDrafts
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import ObjectStat, ObjectStore
from wherryd.stores.folder import FolderStore

MANIFEST = Manifest(example.digest(b"m"), example.digest(b"d"), 4, 837)
PART = records.encode(example.part(MANIFEST))
MARK = records.encode(example.SEALING)
SEALED = records.encode(example.sealed(MANIFEST))
STORE = "7b1f0c52a9e94f0f8d3c6a1e2b4d5f60"
PLACE = "cats", example.DRAFT


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store."""
    if request.param == "memory":
        return MemoryStore(SystemClock())
    (tmp_path / "store").mkdir()
    return FolderStore(str(tmp_path / "store"), SystemClock())


@pytest.fixture
async def drafts(store: ObjectStore) -> ObjectDrafts:
    """Its drafts, when it has its id."""
    registry = ObjectRegistry(store)
    await registry.found(STORE)
    return registry.drafts


async def test_a_draft_shows_what_is_not_there(drafts: ObjectDrafts) -> None:
    """What was put is seen, in the order in which a draft comes about; putting it twice changes nothing."""
    seen = await drafts.look(*PLACE, STORE, example.PART_ID)
    assert (seen.has_part, seen.is_sealing, seen.sealed, seen.conflict) == (False, False, None, "")
    assert await drafts.put_part(*PLACE, example.PART_ID, PART)
    assert not await drafts.put_part(*PLACE, example.PART_ID, PART)
    seen = await drafts.look(*PLACE, STORE, example.PART_ID)
    assert seen.has_part and not seen.is_sealing
    for _ in range(2):
        await drafts.begin_sealing(*PLACE, MARK)
    seen = await drafts.look(*PLACE, STORE, "another")
    assert (seen.has_part, seen.is_sealing, seen.sealing) == (False, True, example.FINISH_ID)
    other = msgspec.structs.replace(example.SEALING, request="other", reason="two files differ")
    await drafts.put_conflict(*PLACE, records.encode(other))
    assert (await drafts.look(*PLACE, STORE)).conflict == "two files differ"
    await drafts.put_sealed(*PLACE, SEALED)
    second = msgspec.structs.replace(example.sealed(MANIFEST), parts=[], start=7)
    await drafts.put_sealed(*PLACE, records.encode(second))
    seen = await drafts.look(*PLACE, STORE)
    assert (seen.sealed, seen.conflict) == (example.sealed(MANIFEST), "")


async def test_a_list_lacks_a_part(drafts: ObjectDrafts) -> None:
    """All parts are listed, and read."""
    ids = [f"0193e0c3-0d20-7aa1-b3c4-{n:012}" for n in range(40)]
    for id_ in ids:
        part = msgspec.structs.replace(example.part(MANIFEST), request=id_)
        await drafts.put_part(*PLACE, id_, records.encode(part))
    await drafts.begin_sealing(*PLACE, MARK)
    assert await drafts.list_parts(*PLACE) == ids
    read = await drafts.read_parts(*PLACE, ids, STORE)
    assert [part.request for part in read] == ids


async def test_a_list_of_another_store_counts(drafts: ObjectDrafts) -> None:
    """A listing that does not show ``sealing.json`` is no listing of this draft."""
    await drafts.put_part(*PLACE, example.PART_ID, PART)
    with pytest.raises(StoreUnavailable, match=r"sealing\.json"):
        await drafts.list_parts(*PLACE)


async def test_another_store_is_not_told(drafts: ObjectDrafts) -> None:
    """What is read is in the store that was asked for, or ``StoreChanged`` says so."""
    with pytest.raises(StoreChanged):
        await drafts.look(*PLACE, "another")
    with pytest.raises(StoreChanged):
        await drafts.read_parts(*PLACE, [example.PART_ID], "another")


async def test_a_damaged_object_counts(drafts: ObjectDrafts, store: ObjectStore) -> None:
    """A part that is another's, or gone, and a damaged ``sealed.json`` are errors; a mark counts as it is."""
    await drafts.put_part(*PLACE, "other", PART)
    with pytest.raises(StoreDamaged, match="it is the part of"):
        await drafts.read_parts(*PLACE, ["other"], STORE)
    with pytest.raises(StoreDamaged, match="is gone"):
        await drafts.read_parts(*PLACE, ["never"], STORE)
    await drafts.begin_sealing(*PLACE, b"no JSON")
    assert (await drafts.look(*PLACE, STORE)).is_sealing
    await store.put(layout.sealed_key(*PLACE), b"{}")
    with pytest.raises(StoreDamaged):
        await drafts.look(*PLACE, STORE)


class Flickering(MemoryStore):
    """Another store lies at the address while parts are listed."""

    def list(self, prefix: str, start_after: str = "") -> AsyncIterator[ObjectStat]:
        return super().list("nowhere/", start_after)


async def test_a_flicker_loses_all_parts() -> None:
    """A listing that shows an empty store seals no empty draft."""
    store = Flickering(SystemClock())
    registry = ObjectRegistry(store)
    await registry.found(STORE)
    await registry.drafts.put_part(*PLACE, example.PART_ID, PART)
    await registry.drafts.begin_sealing(*PLACE, MARK)
    with pytest.raises(StoreUnavailable):
        await registry.drafts.list_parts(*PLACE)
