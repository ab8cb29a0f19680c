"""What runs do comes into the store in records of their own, however often the store fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.unit.daemon.bench import STORE, Bench
from wherry.errors import BadURI, StoreUnavailable
from wherryd.commit.run_records import GATHER_S, Recorder, make_record
from wherryd.model import NoteKind, RunFacts, RunInfo, RunRecord
from wherryd.queue.base import Note, RunPlace
from wherryd.registry import records
from wherryd.registry.base import Registry

RUN = RunInfo("r1", job_type="train")
PLACE = RunPlace(STORE, "cats", "cats", "r1")


def _used(version: str, place: RunPlace = PLACE) -> Note:
    return Note(place, RUN, NoteKind.USED, version)


def _facts(ended: str = "") -> Note:
    facts = RunFacts(RUN, started="2026-11-23T14:00:00.000Z", ended=ended, config={"a": 1})
    return Note(PLACE, RUN, NoteKind.FACTS, msgspec.json.encode(facts).decode())


class Writing:
    """A recorder on a bench, and a store that fails as often as the test says."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.failures: list[Exception] = []
        self.asked = 0

    async def for_writing(self, address: str) -> Registry:
        self.asked += 1
        if self.failures:
            raise self.failures.pop()
        return await self.bench.opened.registry(address)

    def recorder(self) -> Recorder:
        bench = self.bench
        return Recorder(bench.queue, self.for_writing, bench.news, bench.clock)

    async def written(self) -> list[RunRecord]:
        """The records that are in the store, by their keys."""
        keys = [stat.key async for stat in self.bench.memory[STORE].list("cats/runs/")]
        found = [await self.bench.memory[STORE].get(key) for key in keys]
        return [records.decode_run(each.stat.key, each.body) for each in found]

    async def until(self, holds: Callable[[], Awaitable[bool]], step_s: float = 1.0) -> None:
        """Let time pass until something holds."""
        with anyio.fail_after(20):
            while not await holds():
                self.bench.clock.advance(step_s)
                await anyio.sleep(0.002)

    async def is_idle(self) -> bool:
        return not (await self.bench.queue.run_records() or await self.bench.queue.open_notes())


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
    ((number, note),) = await bench.queue.open_notes()
    body = records.encode(make_record(PLACE, [note], 0.0))
    kept = await bench.queue.keep_run_record(PLACE, body, [number])
    writing = Writing(bench)
    registry = await writing.for_writing(STORE)
    home = await bench.queue.home_id()
    await registry.runs.put_record("cats", "r1", home, kept, body)
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    assert len(await writing.written()) == 1


async def test_a_copied_home_overwrites_a_record(bench: Bench) -> None:
    """Where a copy of this home has used the number, the record gets another one."""
    writing = Writing(bench)
    registry = await writing.for_writing(STORE)
    home = await bench.queue.home_id()
    for number in (1, 2):
        other = records.encode(make_record(PLACE, [_used(f"cats/other:v{number}")], 0.0))
        await registry.runs.put_record("cats", "r1", home, number, other)
    await bench.queue.note_run([_used("cats/pets:v0")])
    bench.start(writing.recorder().run())
    await writing.until(writing.is_idle)
    used = sorted(value for record in await writing.written() for value in record.used)
    assert used == ["cats/other:v1", "cats/other:v2", "cats/pets:v0"]


def test_what_follows_at_once_has_time() -> None:
    """The time within which things go into one record is short enough to wait for."""
    assert 0 < GATHER_S <= 5
