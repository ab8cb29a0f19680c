"""What every registry over an object store must do with the records of runs, against each kind of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.stored import version_record
from tests.unit.registry import example
from wherryd.clock import SystemClock
from wherryd.registry import layout, records
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import ObjectStore
from wherryd.stores.folder import FolderStore

BODY = records.encode(example.RUN_RECORD)
HOME = example.RUN_HOME


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store."""
    if request.param == "memory":
        return MemoryStore(SystemClock())
    (tmp_path / "store").mkdir()
    return FolderStore(str(tmp_path / "store"), SystemClock())


async def test_a_record_is_put_in_place_of_another(store: ObjectStore) -> None:
    """The same record may be put again; another one of that number is refused, and stays what it is."""
    registry = ObjectRegistry(store)
    await registry.found("1" * 32)
    assert await registry.runs.put_record("cats", "q3", HOME, 4, BODY)
    assert await registry.runs.put_record("cats", "q3", HOME, 4, BODY)
    assert not await registry.runs.put_record("cats", "q3", HOME, 4, b"{}\n")
    key = layout.run_key("cats", "q3", HOME, 4)
    assert await registry.runs.read_records([key]) == [example.RUN_RECORD]


async def test_a_damaged_record_hides_others(store: ObjectStore) -> None:
    """All runs of a project are listed, or one; what can't be read, or is gone, is None."""
    runs = ObjectRegistry(store).runs
    await runs.put_record("cats", "q3", HOME, 1, BODY)
    await runs.put_record("cats", "q4", HOME, 2, b'{"format":1}\n')
    await runs.put_record("dogs", "q3", HOME, 3, BODY)
    listed = [each.key async for each in runs.list_records("cats")]
    assert listed == [layout.run_key("cats", run, HOME, n) for run, n in (("q3", 1), ("q4", 2))]
    assert [each.key async for each in runs.list_records("cats", "q4")] == listed[1:]
    gone = layout.run_key("cats", "q5", HOME, 5)
    assert await runs.read_records([*listed, gone]) == [example.RUN_RECORD, None, None]


async def test_a_tombstone_looks_like_what_it_replaced(store: ObjectStore) -> None:
    """All versions of a project are in one listing, where other bytes have another stamp."""
    registry = ObjectRegistry(store)
    for name, number in (("b", 0), ("a", 0), ("a", 1)):
        record = records.encode(version_record(number))
        await registry.create_version("cats", name, number, record)
    await registry.claim_type("cats", "a", "model")
    listed = [each async for each in registry.list_all_versions("cats")]
    assert [(each.name, each.version) for each in listed] == [("a", 0), ("a", 1), ("b", 0)]
    stored = await registry.read_version("cats", "a", 1)
    assert stored is not None
    await registry.bury_version("cats", "a", 1, example.TOMBSTONE, stored.etag)
    again = [each async for each in registry.list_all_versions("cats")]
    assert [one == other for one, other in zip(listed, again, strict=True)] == [True, False, True]
