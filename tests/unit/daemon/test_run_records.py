"""What runs do comes into the store in records of their own, however often the store fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import STORE, Bench
from wherry.errors import AccessRefused, BadURI, StoreUnavailable
from wherryd.commit.run_records import Recorder, Writable, make_record
from wherryd.doubts import Doubts
from wherryd.model import NoteKind, RunFacts, RunInfo, RunRecord
from wherryd.queue.base import Note, RunPlace
from wherryd.registry import records
from wherryd.stores.base import Object

ID = "7" * 32
RUN = RunInfo("r1", job_type="train")
PLACE = RunPlace(STORE, "cats", "cats", "r1")


def _used(version: str, place: RunPlace = PLACE) -> Note:
    return Note(place, RUN, NoteKind.USED, version)


def _facts(ended: str = "") -> Note:
    facts = RunFacts(RUN, started="2026-11-23T14:00:00.000Z", ended=ended, config={"a": 1})
    return Note(PLACE, RUN, NoteKind.FACTS, msgspec.json.encode(facts).decode(), bool(ended))


class Writing:
    """A recorder on a bench, and a store that fails as often as the test says."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.failures: list[Exception] = []

    async def for_writing(self, address: str) -> Writable:
        if self.failures:
            raise self.failures.pop()
        registry = await self.bench.opened.registry(address)
        return Writable(registry, (await registry.found(ID)).store)

    def recorder(self) -> Recorder:
        bench = self.bench
        return Recorder(bench.queue, self.for_writing, bench.news, bench.clock, Doubts())

    async def written(self, place: str = "cats") -> list[RunRecord]:
        """The records that are in the store, by their keys."""
        keys = [stat.key async for stat in self.bench.memory[STORE].list(f"{place}/runs/")]
        found = [await self.bench.memory[STORE].get(key) for key in keys]
        return [records.decode_run(each.stat.key, each.body) for each in found]

    async def until(self, holds: Callable[[], Awaitable[bool]], step_s: float = 1.0) -> None:
        """Let time pass until something holds."""
        with anyio.fail_after(20):
            while not await holds():
                self.bench.clock.advance(step_s)
                await anyio.sleep(0.002)

    async def is_idle(self) -> bool:
        return not await self.bench.queue.run_places()


@pytest.fixture
async def writing(bench: Bench) -> Writing:
    """A bench whose recorder runs."""
    made = Writing(bench)
    bench.start(made.recorder().run())
    return made


async def test_each_use_is_a_record(writing: Writing) -> None:
    """What a run does within two seconds goes into one record, with what the run is."""
    await writing.bench.queue.note_run([_facts(), _used("cats/pets:v0")])
    await writing.bench.queue.note_run([_used("cats/pets:v1"), _used("cats/pets:v0")])
    await writing.until(writing.is_idle)
    (record,) = await writing.written()
    assert record.used == ["cats/pets:v0", "cats/pets:v1"]
    assert (record.run, record.config, record.ended) == (RUN, {"a": 1}, "")
    await writing.bench.queue.note_run([_used("cats/pets:v1")])
    for _ in range(20):
        writing.bench.clock.advance(1.0)
        await anyio.lowlevel.checkpoint()
    assert len(await writing.written()) == 1


async def test_the_end_waits_for_more(writing: Writing) -> None:
    """That a run has ended is written at once, with all that was noted before."""
    await writing.bench.queue.note_run([_facts(), _used("cats/pets:v0")])
    await writing.bench.queue.note_run([_facts("2026-11-23T15:00:00.000Z")])
    await writing.until(writing.is_idle, step_s=0.0)
    (record,) = await writing.written()
    assert (record.used, record.ended) == (["cats/pets:v0"], "2026-11-23T15:00:00.000Z")


async def test_an_end_that_comes_while_notes_are_read_waits(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a run has ended is written at once as well where it is noted while others are read."""
    queue, news = writing.bench.queue, [_facts("2026-11-23T15:00:00.000Z")]
    open_notes = queue.open_notes

    async def read(*where: Any) -> list[tuple[int, Note]]:
        found = await open_notes(*where)
        while news:
            await queue.note_run([news.pop()])
            await anyio.wait_all_tasks_blocked()
        return found

    monkeypatch.setattr(queue, "open_notes", read)
    await queue.note_run([_facts(), _used("cats/pets:v0")])
    await writing.until(writing.is_idle, step_s=0.0)
    (record,) = await writing.written()
    assert (record.used, record.ended) == (["cats/pets:v0"], "2026-11-23T15:00:00.000Z")


async def test_a_store_that_fails_loses_a_record(writing: Writing) -> None:
    """A store that fails is tried again after pauses; nothing is lost, and other stores wait for nothing."""
    writing.failures = [StoreUnavailable("down")] * 3
    await writing.bench.queue.note_run([_used("cats/pets:v0")])
    await writing.until(writing.is_idle)
    assert not writing.failures
    assert [record.used for record in await writing.written()] == [["cats/pets:v0"]]


async def test_a_store_that_can_not_be_is_tried_for_ever(writing: Writing) -> None:
    """What is noted for a store that there can't be is dropped."""
    writing.failures = [BadURI("no such scheme")]
    await writing.bench.queue.note_run([_used("cats/pets:v0")])
    await writing.until(writing.is_idle)
    assert await writing.written() == []


async def test_a_clock_that_was_set_back_holds_up_a_record(writing: Writing) -> None:
    """A note from the future is written down at once."""
    await writing.bench.queue.note_run([_used("cats/pets:v0")])
    writing.bench.clock.advance(-100_000.0)
    await writing.until(writing.is_idle, step_s=0.1)
    assert len(await writing.written()) == 1


async def test_a_kill_makes_two_records_of_one(bench: Bench) -> None:
    """A record that was kept is sent again by the next start, under its number."""
    await bench.queue.note_run([_used("cats/pets:v0")])
    ((number, note),) = await bench.queue.open_notes(STORE, "cats", 10)
    body = records.encode(make_record(PLACE, [note], 0.0))
    kept = await bench.queue.keep_run_record(PLACE, body, [number])
    writing = Writing(bench)
    registry = (await writing.for_writing(STORE)).registry
    home = await bench.queue.home_id()
    await registry.runs.put_record("cats", "r1", home, kept, body)
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    assert len(await writing.written()) == 1


async def test_a_copied_home_overwrites_a_record(bench: Bench) -> None:
    """Where a copy of this home has used the number, the record gets another one."""
    writing = Writing(bench)
    registry = (await writing.for_writing(STORE)).registry
    home = await bench.queue.home_id()
    for number in (1, 2):
        other = records.encode(make_record(PLACE, [_used(f"cats/other:v{number}")], 0.0))
        await registry.runs.put_record("cats", "r1", home, number, other)
    await bench.queue.note_run([_used("cats/pets:v0")])
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    used = sorted(value for record in await writing.written() for value in record.used)
    assert used == ["cats/other:v1", "cats/other:v2", "cats/pets:v0"]


class Refusing(MemoryStore):
    """Lets nobody write below one project."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if key.startswith("pets/"):
            raise AccessRefused("you may not write here")
        return await super().put_if_absent(key, body)


async def test_a_project_that_can_not_be_written_holds_up_others(bench: Bench) -> None:
    """That a run used another project's version is told there if it may be; it stands in its own anyway."""
    bench.stores[STORE] = bench.memory[STORE] = Refusing(bench.clock, STORE)
    there = msgspec.structs.replace(PLACE, place="pets")
    await bench.queue.note_run([_used("pets/data:v0", there)])
    await bench.queue.note_run([_used("pets/data:v0"), _facts("2026-11-23T15:00:00.000Z")])
    writing = Writing(bench)
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    assert [record.used for record in await writing.written()] == [["pets/data:v0"]]
    assert await writing.written("pets") == []


async def test_an_own_project_that_can_not_be_written_is_given_up(bench: Bench) -> None:
    """What a run did below its own project is tried until it can be written; others wait for nothing."""
    bench.stores[STORE] = bench.memory[STORE] = Refusing(bench.clock, STORE)
    there = RunPlace(STORE, "pets", "pets", "r2")
    await bench.queue.note_run([_used("pets/data:v0", there)])
    await bench.queue.note_run([_used("cats/data:v0")])
    writing = Writing(bench)
    recorder = writing.recorder()
    bench.start(recorder.run())

    async def is_written() -> bool:
        return bool(await writing.written() and recorder.why_waiting)

    await writing.until(is_written)
    assert await bench.queue.is_run_open(STORE, "pets", "r2")
    assert recorder.why_waiting.startswith("you may not write here")
    bench.stores[STORE] = bench.memory[STORE] = MemoryStore(bench.clock, STORE)
    await bench.opened.aclose()
    recorder.nudge(STORE)
    await writing.until(writing.is_idle)
    assert len(await writing.written("pets")) == 1


class Exchanging(MemoryStore):
    """Another store lies there for the time of one put."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self.other = MemoryStore(bench.clock, STORE)
        self.is_away = True

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if "/runs/" in key and self.is_away:
            return await self.other.put_if_absent(key, body)
        return await super().put_if_absent(key, body)

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        if self.is_away and list(keys) == ["wherry.json"]:
            self.is_away = False
            return await self.other.get_all(keys)
        return await super().get_all(keys)


async def test_a_record_in_another_store_counts(bench: Bench) -> None:
    """A record counts as written when the store is seen to be the one that is known; else it is put again."""
    exchanging = Exchanging(bench)
    bench.stores[STORE] = bench.memory[STORE] = exchanging
    await bench.queue.note_run([_used("cats/data:v0")])
    writing = Writing(bench)
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    assert not exchanging.is_away
    assert [record.used for record in await writing.written()] == [["cats/data:v0"]]
