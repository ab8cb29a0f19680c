"""A large project is not looked at for each question, and no answer is older than it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.daemon.bench import HandClock
from tests.unit.daemon.lineages import Lab
from wherry.errors import NotFoundError, StoreUnavailable
from wherryd.lineage import looks
from wherryd.lineage.looks import Look, begin, lasts_s
from wherryd.model import Tombstone
from wherryd.registry.base import Since

DIGEST = "sha256:" + "a" * 64
#: So long a look counts in these tests.
LASTS_S = 20.0


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A machine that has looked at a project, as if that were a large one, and asks nothing of it for now."""
    monkeypatch.setattr(looks, "lasts_s", lambda _: LASTS_S)
    made = Lab(tmp_path / "one")
    await made.registry.found("1" * 32)
    await made.log("cats/data:v0", "maker")
    await made.tell("maker", started="2026-11-23T13:00:00.000Z")
    await made.trace("cats/data:v0")
    made.store.listed.clear()
    return made


@pytest.fixture
def another(lab: Lab, tmp_path: Path) -> Lab:
    """Another machine with the same store."""
    return Lab(tmp_path / "another", lab.store, "6" * 32)


async def test_another_machines_run_is_never_seen(lab: Lab, another: Lab) -> None:
    """What another machine has put is in an answer when the look counts no more."""
    await another.tell("theirs", used=["cats/data:v0"])
    await another.log("cats/model:v0", "theirs", ["cats/data:v0"])
    assert await lab.users("cats/data:v0") == []
    lab.clock.advance(LASTS_S - 1)
    assert len((await lab.trace("cats/data:v0")).versions) == 1
    assert lab.store.listed == []
    lab.clock.advance(1)
    assert await lab.users("cats/data:v0") == ["theirs"]
    assert lab.store.listed == ["cats/artifacts/", "cats/runs/"]
    assert len((await lab.trace("cats/data:v0")).versions) == 2


async def test_a_fresh_answer_is_an_old_one(lab: Lab, another: Lab) -> None:
    """Whoever asks for it has the store looked at, by each kind of question."""
    await another.tell("first", used=["cats/data:v0"])
    assert await lab.users("cats/data:v0", fresh=True) == ["first"]
    await another.tell("second", used=["cats/data:v0"])
    (_, *rest) = (await lab.trace("cats/data:v0", fresh=True)).runs
    assert len(rest) == 2
    await another.tell("third", used=["cats/data:v0"])
    runs = await lab.tracer.runs("memory:", "cats", [], "", rebuild=False, fresh=True)
    assert len(runs) == 4


async def test_what_this_machine_put_is_listed_for(lab: Lab) -> None:
    """What this daemon has put is in the next answer, without a listing, and is read once."""
    await lab.log("cats/model:v0", "mine", ["cats/data:v0"])
    await lab.tell("mine", used=["cats/data:v0"], config={"a": 1})
    lab.store.read.clear()
    graph = await lab.trace("cats/data:v0")
    assert [str(node.version) for node in graph.versions] == ["cats/data:v0", "cats/model:v0"]
    assert await lab.users("cats/data:v0") == ["mine"]
    stored = await lab.registry.read_version("cats", "model", 0)
    assert stored is not None
    assert len(lab.store.read) == 2
    tombstone = Tombstone(1, 0, "q", DIGEST, DIGEST, "2026-11-24T00:00:00.000Z")
    await lab.registry.bury_version("cats", "model", 0, tombstone, stored.etag)
    assert len((await lab.trace("cats/data:v0")).versions) == 1
    assert lab.store.listed == []
    lab.store.read.clear()
    await lab.trace("cats/data:v0", fresh=True)
    assert lab.store.read == []  # a listing shows what was read


async def test_a_lost_answer_hides_a_put(lab: Lab) -> None:
    """A put of which nobody knows whether it was made is read, whichever it was."""
    lab.store.loses_answers = True
    with pytest.raises(StoreUnavailable):
        await lab.tell("mine", used=["cats/data:v0"])
    lab.store.loses_answers = False
    assert await lab.users("cats/data:v0") == ["mine"]
    assert lab.store.listed == []


async def test_what_is_not_known_is_said_not_to_be(lab: Lab, another: Lab) -> None:
    """That something is not there is never told without a look."""
    await another.log("cats/model:v0", "theirs", ["cats/data:v0"])
    assert (await lab.trace("cats/model:v0")).versions[0].type == "model"
    await another.log("cats/model:v1", "theirs")
    await another.tell("user", used=["cats/model:v1"])
    assert await lab.users("cats/model:v1") == ["user"]
    await another.tell("late")
    (late,) = await lab.tracer.runs("memory:", "cats", ["late"], "", rebuild=False)
    assert late.facts.run.id == "late"
    await another.log("cats/model:v2", "by its version")
    (found,) = await lab.tracer.runs("memory:", "cats", ["by its version"], "", rebuild=False)
    assert found.logged == ["cats/model:v2"]
    with pytest.raises(NotFoundError):
        await lab.trace("cats/model:v3")


async def test_a_run_that_ended_looks_as_if_running(lab: Lab, another: Lab) -> None:
    """A run that is asked for by its id is as it is now; only its own records are listed for that."""
    await another.tell(
        "maker", started="2026-11-23T13:00:00.000Z", ended="2026-11-23T15:00:00.000Z"
    )
    (run,) = await lab.tracer.runs("memory:", "cats", ["maker"], "", rebuild=False)
    assert run.facts.ended == "2026-11-23T15:00:00.000Z"
    assert lab.store.listed == ["cats/runs/maker/"]


async def test_a_failed_look_counts(lab: Lab, another: Lab) -> None:
    """A look, or a reading of what was put, that fails is made again for the next question."""
    await lab.tell("mine", used=["cats/data:v0"])
    lab.store.is_away = True
    with pytest.raises(StoreUnavailable):
        await lab.users("cats/data:v0")
    lab.store.is_away = False
    assert await lab.users("cats/data:v0") == ["mine"]
    assert lab.store.listed == []
    await another.tell("theirs", used=["cats/data:v0"])
    lab.store.is_away = True
    with pytest.raises(StoreUnavailable):
        await lab.users("cats/data:v0", fresh=True)
    lab.store.is_away = False
    assert await lab.users("cats/data:v0") == ["mine", "theirs"]


@pytest.mark.parametrize("damage", [b"", b"no database"])
async def test_a_look_outlives_its_index(lab: Lab, tmp_path: Path, damage: bytes) -> None:
    """What an index has lost, by damage or because it was removed, is looked for."""
    await lab.tell("mine", used=["cats/data:v0"])
    await lab.log("cats/model:v0", "mine", ["cats/data:v0"])
    await lab.trace("cats/data:v0")
    (found,) = lab.tracer._indexes.values()
    await found.aclose()
    (index,) = (tmp_path / "one" / "lineage").glob("*.db")
    index.write_bytes(damage)
    runs = await lab.tracer.runs("memory:", "cats", [], "", rebuild=False)
    assert sorted(run.facts.run.id for run in runs) == ["maker", "mine"]


async def test_an_index_is_removed_under_a_daemon(lab: Lab, another: Lab, tmp_path: Path) -> None:
    """While a daemon has it open, a removed index goes on to answer, and to learn."""
    for file in (tmp_path / "one" / "lineage").iterdir():
        file.unlink()
    await lab.tell("mine", used=["cats/data:v0"])
    await another.tell("theirs", used=["cats/data:v0"])
    assert await lab.users("cats/data:v0") == ["mine"]
    assert await lab.users("cats/data:v0", fresh=True) == ["mine", "theirs"]


async def test_a_store_that_was_put_back_keeps_its_future(lab: Lab, another: Lab) -> None:
    """What a store has lost is in no answer once it is looked at; what took its place is."""
    await lab.tell("mine", used=["cats/data:v0"])
    await lab.log("cats/model:v0", "mine", ["cats/data:v0"])
    await lab.trace("cats/data:v0")
    await lab.log("cats/model:v1", "mine", ["cats/data:v0"])  # gone before anybody asks
    for stat in [stat async for stat in lab.store.list("cats/")]:
        if "model" in stat.key or "mine" in stat.key:
            await lab.store.delete(stat.key)
    await another.log("cats/model:v0", "theirs")
    names = [str(node.version) for node in (await lab.trace("cats/data:v0")).versions]
    assert names == ["cats/data:v0", "cats/model:v0"]
    lab.clock.advance(LASTS_S)
    assert len((await lab.trace("cats/data:v0")).versions) == 1
    (made,) = (await lab.trace("cats/model:v0")).runs
    assert made.facts.run.id == "theirs"


async def test_too_much_was_put_to_be_read(lab: Lab) -> None:
    """Of more than a thousand puts a listing tells; none is missed."""
    for number in range(1_001):
        await lab.log(f"cats/model:v{number}", "mine", ["cats/data:v0"])
    assert len((await lab.trace("cats/data:v0")).versions) == 1_002
    assert lab.store.listed == ["cats/artifacts/", "cats/runs/"]


async def test_a_second_index_takes_what_the_first_one_needs(lab: Lab) -> None:
    """Where a look at another store of that address has begun since, the first one counts no more."""
    lab.registry.follow("cats")
    await lab.tell("mine", used=["cats/data:v0"])
    assert await lab.users("cats/data:v0") == ["mine"]
    assert lab.store.listed == ["cats/artifacts/", "cats/runs/"]


class _TwoClocks(HandClock):
    """A wall clock that is not the other one."""

    wall = 5_000.0

    def now(self) -> float:
        return self.wall


@pytest.mark.parametrize(("wall_s", "other_s"), [(30, 30), (30, 0), (-30, 0), (5, 30)])
def test_a_clock_that_jumps_makes_a_look_last(wall_s: float, other_s: float) -> None:
    """A machine that slept, or whose clock was set, looks again."""
    clock = _TwoClocks()
    look = Look(begin(clock), 10_000, Since())
    clock.wall += 9
    clock.advance(9)
    assert look.counts(clock)
    clock.wall += wall_s - 9
    clock.advance(max(0, other_s - 9))
    assert not look.counts(clock)


def test_an_answer_may_be_older_than_a_minute() -> None:
    """A look at few records counts for its own question; else a second a thousand, a minute at most."""
    assert [lasts_s(count) for count in (0, 1_999, 2_000, 20_000, 10**9)] == [0, 0, 2, 20, 60]


async def test_a_small_project_is_looked_at_once(tmp_path: Path) -> None:
    """Where looking is cheap, each question looks."""
    lab = Lab(tmp_path / "one")
    await lab.registry.found("1" * 32)
    another = Lab(tmp_path / "another", lab.store, "6" * 32)
    await another.log("cats/data:v0", "maker")
    for number in range(3):
        assert len(await lab.users("cats/data:v0")) == number
        await another.tell(f"user {number}", used=["cats/data:v0"])


async def test_the_first_of_two_thousand_is_too_few(tmp_path: Path) -> None:
    """A real look at two thousand records counts for two seconds."""
    lab = Lab(tmp_path / "one")
    await lab.registry.found("1" * 32)
    another = Lab(tmp_path / "another", lab.store, "6" * 32)
    for number in range(2_000):
        await another.log(f"cats/data:v{number}", "maker")
    assert await lab.users("cats/data:v0") == []
    await another.tell("theirs", used=["cats/data:v0"])
    assert await lab.users("cats/data:v0") == []
    lab.clock.advance(2)
    assert await lab.users("cats/data:v0") == ["theirs"]
