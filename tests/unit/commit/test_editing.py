"""What users say of versions: it counts at once, and nothing that somebody else said is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import digest
from tests.unit.daemon.stored import version_record
from wherry.errors import NotFoundError, StoreDamaged, UsageError
from wherryd.clock import SystemClock
from wherryd.commit.editing import Changes, Editor
from wherryd.model import Lane, Tombstone
from wherryd.read.versions import FoundVersion, Versions
from wherryd.registry.objects import ObjectRegistry
from wherryd.registry.records import encode

LANE = Lane("memory:", "cats", "model")


class Racing(MemoryStore):
    """Lets somebody else come before a conditional write, as often as a test says."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.before: list[Callable[[], Awaitable[object]]] = []

    async def put_if_absent(self, key: str, body: bytes) -> str:
        await self._let_others()
        return await super().put_if_absent(key, body)

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        await self._let_others()
        return await super().put_if_match(key, body, etag)

    async def _let_others(self) -> None:
        await anyio.lowlevel.checkpoint()  # as on any network, others come between
        if self.before:
            await self.before.pop()()


@pytest.fixture
def store() -> Racing:
    """A store in memory."""
    return Racing()


@pytest.fixture
async def registry(store: Racing) -> ObjectRegistry:
    """Its registry, with v0 to v2 of an artifact."""
    registry = ObjectRegistry(store)
    await registry.claim_type("cats", "model", "kind")
    for number in range(3):
        await _log(registry, number)
    return registry


@pytest.fixture
def editor(registry: ObjectRegistry) -> Editor:
    """Of that artifact."""
    return Editor(LANE, registry, SystemClock())


async def _log(registry: ObjectRegistry, number: int) -> None:
    record = version_record(number, "as logged")
    await registry.create_version("cats", "model", number, encode(record))


async def _found(registry: ObjectRegistry, version: str) -> FoundVersion:
    return await Versions(registry, "cats", "model").get(version)


async def test_what_was_not_changed_is_lost(editor: Editor, registry: ObjectRegistry) -> None:
    """What is saved replaces what it names, and nothing else; the record stays as it is."""
    before = await registry.read_version("cats", "model", 1)
    await editor.change(1, Changes(metadata={"good": True}))
    await editor.change(1, Changes(description=(None,), tags=["t"]))
    found = await _found(registry, "v1")
    record = found.record
    assert (record.description, record.metadata, record.tags) == (None, {"good": True}, ["t"])
    assert found.edited
    assert await registry.read_version("cats", "model", 1) == before
    assert (await _found(registry, "v0")).record.description == "as logged"
    listed = [each async for each in Versions(registry, "cats", "model").newest_first()]
    assert [each.record.metadata for each in listed] == [{"step": 2}, {"good": True}, {"step": 0}]
    assert [bool(each.edited) for each in listed] == [False, True, False]


async def test_who_comes_second_undoes_the_first(
    editor: Editor, registry: ObjectRegistry, store: Racing
) -> None:
    """Of two that save other things of a version at once, both are kept."""
    other = Editor(LANE, registry, SystemClock())
    store.before = [lambda: other.change(1, Changes(tags=["other"]))]
    await editor.change(1, Changes(metadata={"mine": 1}))
    store.before = [lambda: other.change(1, Changes(description=("theirs",)))]
    await editor.change(1, Changes(metadata={"mine": 2}))
    record = (await _found(registry, "v1")).record
    assert (record.description, record.metadata, record.tags) == ("theirs", {"mine": 2}, ["other"])


async def test_an_alias_is_at_two_versions(editor: Editor, registry: ObjectRegistry) -> None:
    """An alias moves at once, and is raised to the highest number, so that no log takes it back."""
    await editor.change(0, Changes(add_aliases=["best", "prod"]))
    await editor.change(1, Changes(add_aliases=["best"]))
    assert (await _found(registry, "best")).record.version == 1
    assert (await _found(registry, "v0")).aliases == ["prod"]
    stored = await registry.read_alias("cats", "model", "best")
    assert stored is not None and stored.alias.highest == 2


async def test_an_alias_is_taken_from_another_version(
    editor: Editor, registry: ObjectRegistry, store: Racing
) -> None:
    """An alias that is elsewhere by now is not taken away."""
    await editor.change(0, Changes(add_aliases=["best"]))
    await editor.change(1, Changes(remove_aliases=["best", "never"]))
    assert (await _found(registry, "best")).record.version == 0
    other = Editor(LANE, registry, SystemClock())
    store.before = [lambda: other.move("best", 2)]
    await editor.change(0, Changes(remove_aliases=["best"]))
    assert (await _found(registry, "best")).record.version == 2
    await editor.change(2, Changes(remove_aliases=["best"]))
    with pytest.raises(NotFoundError):
        await _found(registry, "best")


async def test_a_version_with_aliases_is_deleted(editor: Editor, registry: ObjectRegistry) -> None:
    """A version that is called something is deleted only where that is said, too."""
    await editor.change(2, Changes(add_aliases=["best"], tags=["t"]))
    with pytest.raises(UsageError, match="best"):
        await editor.delete(2, with_aliases=False)
    await editor.delete(2, with_aliases=True)
    stored = await registry.read_version("cats", "model", 2)
    assert stored is not None and isinstance(stored.record, Tombstone)
    assert (stored.record.request, stored.record.content) == ("request-2", digest(b"content"))
    await editor.delete(2, with_aliases=False)  # done twice it is done
    assert (await _found(registry, "latest")).record.version == 1
    for gone in ("v2", "best"):
        with pytest.raises(NotFoundError):
            await _found(registry, gone)


@pytest.mark.parametrize("number", [3, 2])
async def test_what_is_not_there_is_changed(
    editor: Editor, registry: ObjectRegistry, number: int
) -> None:
    """There is nothing to change of a version that is deleted, or never was."""
    await editor.delete(2, with_aliases=True)
    for changes in (Changes(tags=["t"]), Changes(add_aliases=["best"])):
        with pytest.raises(NotFoundError, match=f"v{number}"):
            await editor.change(number, changes)
    with pytest.raises(NotFoundError):
        await editor.delete(3, with_aliases=True)
    assert await registry.read_edit("cats", "model", number) is None
    assert await registry.list_aliases("cats", "model") == []


async def test_many_at_once_lose_a_move(registry: ObjectRegistry) -> None:
    """Ten users who each give an alias of their own, and all one in common, all get theirs."""

    async def user(number: int) -> None:
        own = Editor(LANE, registry, SystemClock())
        await own.change(number % 3, Changes(add_aliases=[f"a{number}", "common"]))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(user, number)
    aliases = {each.alias: each for each in await registry.list_aliases("cats", "model")}
    assert {name: each.version for name, each in aliases.items() if name != "common"} == {
        f"a{number}": number % 3 for number in range(10)
    }
    assert msgspec.structs.asdict(aliases["common"])["highest"] == 2
    assert len({each.write for each in aliases.values()}) == 11


async def test_a_damaged_edit_hides_versions(
    editor: Editor, registry: ObjectRegistry, store: Racing
) -> None:
    """What was saved and can't be read is an error where that version is asked for, with what to do."""
    await editor.change(1, Changes(tags=["t"]))
    await store.put("cats/artifacts/model/versions/v00000001.edit.json", b"{}")
    with pytest.raises(StoreDamaged) as caught:
        await _found(registry, "v1")
    assert caught.value.hint is not None and "Remove" in caught.value.hint
    listed = [
        each.record.version async for each in Versions(registry, "cats", "model").newest_first()
    ]
    assert listed == [2, 1, 0]


async def test_a_delete_races(editor: Editor, registry: ObjectRegistry, store: Racing) -> None:
    """Of two that delete a version both have deleted it."""
    other = Editor(LANE, registry, SystemClock())
    store.before = [lambda: other.delete(1, with_aliases=False)]
    await editor.delete(1, with_aliases=False)
    stored = await registry.read_version("cats", "model", 1)
    assert stored is not None and isinstance(stored.record, Tombstone)
