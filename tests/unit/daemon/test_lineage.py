"""What was made of what is found in an index that is brought up to its store, and may go at any time."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.unit.daemon.lineages import Lab, fields
from wherry.errors import NotFoundError
from wherryd.lineage.graph import Edge, Graph, RunKey, Version, trace
from wherryd.lineage.runs import find_run, merged, users_of
from wherryd.model import RunInfo, RunRecord, Tombstone

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
async def lab(tmp_path: Path) -> Lab:
    """A machine, and a store that has nothing yet."""
    made = Lab(tmp_path)
    await made.registry.found("1" * 32)
    return made


def _steps(graph: Graph) -> dict[str, int]:
    return {str(node.version): node.steps for node in graph.versions}


def _edges(graph: Graph) -> set[tuple[str, str, str]]:
    return {
        (edge.run.run_id, "used" if edge.used else "logged", str(edge.version))
        for edge in graph.edges
    }


async def test_a_source_is_not_found(lab: Lab) -> None:
    """Sources of sources, and what was made of what was made, with the runs between them."""
    await lab.log("cats/raw:v0", "r0")
    await lab.log("cats/data:v0", "r1", ["cats/raw:v0"])
    await lab.log("cats/model:v0", "r2", ["cats/data:v0"])
    await lab.log("cats/report:v0", "r3", ["cats/model:v0", "cats/data:v0"])
    graph = await lab.trace("cats/data:v0")
    assert _steps(graph) == {
        "cats/data:v0": 0,
        "cats/raw:v0": -1,
        "cats/model:v0": 1,
        "cats/report:v0": 1,
    }
    assert _edges(graph) == {
        ("r0", "logged", "cats/raw:v0"),
        ("r1", "used", "cats/raw:v0"),
        ("r1", "logged", "cats/data:v0"),
        ("r2", "used", "cats/data:v0"),
        ("r2", "logged", "cats/model:v0"),
        ("r3", "used", "cats/data:v0"),
        ("r3", "used", "cats/model:v0"),
        ("r3", "logged", "cats/report:v0"),
    }
    sources = {str(node.version): sorted(map(str, node.sources)) for node in graph.versions}
    assert sources["cats/report:v0"] == ["cats/data:v0", "cats/model:v0"]
    assert not graph.truncated


async def test_what_lies_beyond_the_depth_is_told(lab: Lab) -> None:
    """A walk ends where it was told to, and says that there is more."""
    await lab.log("cats/a:v0", "r0")
    for number, (made, source) in enumerate(["ba", "cb", "dc"]):
        await lab.log(f"cats/{made}:v0", f"r{number + 1}", [f"cats/{source}:v0"])
    near = await lab.trace("cats/b:v0", 1)
    assert _steps(near) == {"cats/b:v0": 0, "cats/a:v0": -1, "cats/c:v0": 1}
    assert near.truncated
    far = await lab.trace("cats/b:v0", 2)
    assert len(far.versions) == 4 and not far.truncated


async def test_a_run_makes_what_it_was_made_of(lab: Lab) -> None:
    """A run that logged what it used is its user only; one that uses what it made is its maker only."""
    await lab.log("cats/data:v0", "r0")
    await lab.log("cats/data:v1", "r0", ["cats/data:v0"])
    await lab.tell("r1", used=["cats/data:v1"], logged=["cats/data:v1"])
    await lab.tell("r2", logged=["cats/data:v1"])
    await lab.tell("r0", used=["cats/data:v0", "cats/data:v1"])
    edges = _edges(await lab.trace("cats/data:v1"))
    assert edges == {
        ("r0", "logged", "cats/data:v0"),
        ("r0", "logged", "cats/data:v1"),
        ("r1", "used", "cats/data:v1"),
        ("r2", "logged", "cats/data:v1"),
    }


async def test_a_writer_of_a_draft_is_forgotten(lab: Lab) -> None:
    """The runs that have a part in a draft have logged its version."""
    await lab.log("cats/table:v0", "finisher", request="d" * 64)
    await lab.tell("writer", drafts=["d" * 64])
    assert ("writer", "logged", "cats/table:v0") in _edges(await lab.trace("cats/table:v0"))
    (run,) = await lab.tracer.runs("memory:", "cats", ["writer"], "", rebuild=False)
    assert run.logged == ["cats/table:v0"]


async def test_another_project_goes_unread(lab: Lab) -> None:
    """A walk goes through all projects that it leads to, and a run is known by its own one."""
    await lab.log("cats/data:v0", "same")
    await lab.log("dogs/model:v0", "same", ["cats/data:v0"])
    await lab.tell("same", "dogs", used=["cats/data:v0"])
    await lab.tell("same", "dogs", place="cats", used=["cats/data:v0"])
    graph = await lab.trace("dogs/model:v0")
    assert _steps(graph) == {"dogs/model:v0": 0, "cats/data:v0": -1}
    assert set(graph.edges) == {
        Edge(Version("dogs", "model", 0), RunKey("dogs", "same"), used=False),
        Edge(Version("cats", "data", 0), RunKey("dogs", "same"), used=True),
        Edge(Version("cats", "data", 0), RunKey("cats", "same"), used=False),
    }
    users = await lab.trace("cats/data:v0")
    assert Edge(Version("cats", "data", 0), RunKey("dogs", "same"), used=True) in users.edges
    (run,) = await lab.tracer.runs("memory:", "cats", [], "", rebuild=False)
    assert (run.logged, run.used) == (["cats/data:v0"], [])


async def test_what_others_made_is_found_the_second_time_only(lab: Lab) -> None:
    """What a run of another project made of a version is found at the first question."""
    await lab.log("cats/data:v0", "maker")
    await lab.log("dogs/model:v0", "trains", ["cats/data:v0"])
    await lab.tell("trains", "dogs", place="cats", used=["cats/data:v0"])
    assert _steps(await lab.trace("cats/data:v0")) == {"cats/data:v0": 0, "dogs/model:v0": 1}


async def test_a_record_of_a_newer_wherry_hides_others(lab: Lab) -> None:
    """A version whose record can't be read is in no answer, and in the way of none."""
    for number in range(20):
        await lab.log(f"cats/data:v{number}", f"r{number}")
    for number, body in ((20, b'{"format":2}'), (21, b"not JSON")):
        await lab.registry.create_version("cats", "data", number, body)
    await lab.log("cats/model:v0", "r", ["cats/data:v20", "cats/data:v3"])
    graph = await lab.trace("cats/model:v0")
    assert {str(node.version): node.type for node in graph.versions} == {
        "cats/model:v0": "model",
        "cats/data:v20": "",
        "cats/data:v3": "data",
    }
    assert len(await lab.tracer.runs("memory:", "cats", [], "", rebuild=False)) == 21
    with pytest.raises(NotFoundError, match="can't be read"):
        await lab.trace("cats/data:v20")


async def test_questions_meet_an_index_that_is_made_anew(lab: Lab) -> None:
    """Questions at once, some of which have all read anew, all have the same answer."""
    await lab.log("cats/data:v0", "r0")
    await lab.log("cats/model:v0", "r1", ["cats/data:v0"])
    answers: list[int] = []

    async def ask(number: int) -> None:
        graph = await lab.trace("cats/data:v0", rebuild=number % 2 == 0)
        answers.append(len(graph.versions))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(ask, number)
    assert answers == [2] * 10


async def test_damage_that_a_question_meets_is_told(lab: Lab, tmp_path: Path) -> None:
    """An index that turns out damaged in the middle of a question is made anew, and asked once more."""
    for number in range(200):
        await lab.log(f"cats/data:v{number}", f"r{number}")
    await lab.trace("cats/data:v7")
    (index,) = (tmp_path / "lineage").glob("*.db")
    await lab.tracer.aclose()
    body = bytearray(index.read_bytes())
    body[len(body) // 2 :] = b"\xff" * (len(body) - len(body) // 2)
    index.write_bytes(body)
    assert _steps(await lab.trace("cats/data:v7")) == {"cats/data:v7": 0}


async def test_a_version_is_missing(lab: Lab) -> None:
    """What was deleted, or never there, is said to be; only the version asked for has to be there."""
    await lab.log("cats/data:v0", "r0")
    await lab.log("cats/model:v0", "r1", ["cats/data:v0", "cats/gone:v7", "no name"])
    stored = await lab.registry.read_version("cats", "data", 0)
    assert stored is not None
    tombstone = Tombstone(1, 0, "q", DIGEST, DIGEST, "2026-11-24T00:00:00.000Z")
    await lab.registry.bury_version("cats", "data", 0, tombstone, stored.etag)
    graph = await lab.trace("cats/model:v0")
    there = {str(node.version): (node.type, node.deleted) for node in graph.versions}
    assert there == {
        "cats/model:v0": ("model", False),
        "cats/data:v0": ("", True),
        "cats/gone:v7": ("", False),
    }
    with pytest.raises(NotFoundError, match="no cats/model:v1"):
        await lab.trace("cats/model:v1")


async def test_all_is_read_again(lab: Lab) -> None:
    """Only what came since, or is another object now, is read; all of it where that is asked for."""
    for number in range(40):
        await lab.log(f"cats/model:v{number}", "r", [f"cats/model:v{number - 1}"] if number else ())
    await lab.tell("r", used=["cats/data:v0"])
    graph = await lab.trace("cats/model:v0")
    assert len(graph.versions) == 40
    assert len(lab.store.read) == 41
    lab.store.read.clear()
    await lab.log("cats/model:v40", "r", ["cats/model:v39"])
    stored = await lab.registry.read_version("cats", "model", 3)
    assert stored is not None
    tombstone = Tombstone(1, 3, "q", DIGEST, DIGEST, "2026-11-24T00:00:00.000Z")
    await lab.registry.bury_version("cats", "model", 3, tombstone, stored.etag)
    lab.store.read.clear()
    graph = await lab.trace("cats/model:v40")
    assert sorted(key[-14:] for key in lab.store.read) == ["v00000003.json", "v00000040.json"]
    assert len(graph.versions) == 38  # v3 names its source no more
    lab.store.read.clear()
    await lab.trace("cats/model:v0", rebuild=True)
    assert len(lab.store.read) == 42


async def test_what_was_emptied_is_still_there(lab: Lab) -> None:
    """Records that are in the store no more are in no answer."""
    await lab.log("cats/data:v0", "r0")
    await lab.log("cats/model:v0", "r1", ["cats/data:v0"])
    await lab.tell("r2", used=["cats/data:v0"])
    assert len((await lab.trace("cats/data:v0")).runs) == 3
    async for stat in lab.store.list("cats/"):
        if "/data/" not in stat.key:
            await lab.store.delete(stat.key)
    graph = await lab.trace("cats/data:v0")
    assert _steps(graph) == {"cats/data:v0": 0}
    assert [run.facts.run.id for run in graph.runs] == ["r0"]


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
async def test_a_damaged_index_gives_an_error(lab: Lab, tmp_path: Path, damage: bytes) -> None:
    """An index that is damaged, or of another form, is made anew."""
    await lab.log("cats/data:v0", "r0")
    await lab.trace("cats/data:v0")
    await lab.tracer.aclose()
    (index,) = (tmp_path / "lineage").glob("*.db")
    index.write_bytes(damage)
    assert _steps(await lab.trace("cats/data:v0")) == {"cats/data:v0": 0}


async def test_an_empty_store_is_an_error(tmp_path: Path) -> None:
    """Where there is no store yet there are no runs, and no versions."""
    lab = Lab(tmp_path)
    assert await lab.tracer.runs("memory:", "cats", [], "", rebuild=False) == []
    with pytest.raises(NotFoundError):
        await lab.trace("cats/data:v0")


async def test_there_are_more_than_can_be_told(lab: Lab) -> None:
    """A walk that finds too much says that there is more."""
    await lab.log("cats/data:v0", "r0")
    for number in range(10):
        await lab.log(f"cats/model:v{number}", f"r{number + 1}", ["cats/data:v0"])
    await lab.trace("cats/data:v0")
    (index,) = lab.tracer._indexes.values()
    graph = await index.run(partial(trace, start=Version("cats", "data", 0), most=5))
    assert len(graph.versions) == 5 and graph.truncated


async def test_a_question_reads_the_whole_index(lab: Lab) -> None:
    """What a run did, and who used a version, costs the same among hundreds of versions as among few."""
    steps: list[int] = []
    for count in (10, 300):
        for number in range(len(steps) and 10, count):
            label = f"cats/m:v{number}"
            await lab.log(label, f"r{number}", [f"cats/m:v{number - 1}"] if number else [])
        await lab.tell("r5", used=["cats/data:v0"])
        await lab.trace("cats/m:v0", 1)
        (index,) = lab.tracer._indexes.values()
        steps.append(await index.run(_steps_of_questions))
    assert steps[1] < 2 * steps[0], steps


def _steps_of_questions(db: sqlite3.Connection) -> int:
    """How many steps of SQLite's machine, in tens, some questions take."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 10)
    find_run(db, "cats", "r5")
    users_of(db, "cats/m:v4")
    trace(db, Version("cats", "m", 5), 1)
    db.set_progress_handler(None, 10)
    return steps


async def test_a_user_is_passed_over(lab: Lab) -> None:
    """Who used a version says so itself, or by what it made of it; also the one that made it, and others'."""
    await lab.log("cats/data:v0", "maker")
    await lab.log("cats/model:v0", "by its input", ["cats/data:v0"])
    await lab.tell("maker", used=["cats/data:v0"])
    await lab.tell("only", used=["cats/data:v0"], started="2026-11-23T15:00:00.000Z")
    await lab.tell("abroad", "dogs", place="cats", used=["cats/data:v0"])
    await lab.tell("abroad", "dogs", config={"a": 1}, started="2026-11-23T13:00:00.000Z")
    users = await lab.tracer.users("memory:", Version("cats", "data", 0))
    assert [run.facts.run.id for run in users] == ["only", "maker", "by its input", "abroad"]
    assert users[-1].facts.config == {"a": 1}
    assert await lab.tracer.users("memory:", Version("cats", "data", 1)) == []


async def test_runs_are_in_disorder(lab: Lab) -> None:
    """Runs are those that logged or used something, the last that began first; by their group, or ids."""
    await lab.log("cats/data:v0", "old")
    await lab.log("cats/data:v1", "old")
    await lab.tell("new", started="2026-11-23T15:00:00.000Z", used=["cats/data:v1"])
    runs = await lab.tracer.runs("memory:", "cats", [], "", rebuild=False)
    assert [run.facts.run.id for run in runs] == ["new", "old"]
    assert [run.used for run in runs] == [["cats/data:v1"], []]
    assert runs[1].logged == ["cats/data:v0", "cats/data:v1"]
    (chosen,) = await lab.tracer.runs("memory:", "cats", ["old"], "", rebuild=False)
    assert chosen == runs[1]
    assert await lab.tracer.runs("memory:", "cats", [], "g", rebuild=False) == []


def test_facts_are_mixed() -> None:
    """A run is what its latest record says that has the facts, all of them; others say only who it is."""

    def record(written: str, **said: object) -> RunRecord:
        plain = RunRecord(1, "cats", RunInfo("r", name=said.pop("name", None)), written)  # type: ignore[arg-type]
        return RunRecord(**{**fields(plain), **said})  # type: ignore[arg-type]

    first = record("1", started="s", notes="n", config={"a": 1})
    ended = record("3", started="s", ended="e", exit_code=1, name="x")
    used = record("4", used=["cats/data:v0"])
    facts = merged([ended, used, first], [RunInfo("r")])
    assert (facts.run.name, facts.ended, facts.exit_code) == ("x", "e", 1)
    assert (facts.notes, facts.config) == (None, {})
    assert merged([used], [RunInfo("r", group="g")]).run == RunInfo("r")
    assert merged([], [RunInfo("r", group="g")]).run.group == "g"
