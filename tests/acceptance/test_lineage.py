"""What was made of what, end to end: programs on several machines, and what a store tells of them."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

from tests.acceptance.conftest import Place
from tests.support.machine import machine
from tests.support.reading import Objects
from wherryd.clock import SystemClock
from wherryd.model import RunInfo, RunRecord
from wherryd.registry.objects import ObjectRegistry
from wherryd.registry.records import encode
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.opening import open_store
from wherryd.together import all_of

PREPARE = """
import wherry
with wherry.init(project="pets", id="prepare", job_type="prepare") as run:
    data = wherry.Artifact("data", "dataset")
    with data.new_file("x") as f: f.write("data")
    run.log_artifact(data)
"""
TRAIN = """
import wherry
with wherry.init(project="cats", id="train", job_type="train", config={"lr": 0.1}) as run:
    run.use_artifact("pets/data:latest").download("data")
    for step in range(3):
        model = wherry.Artifact("model", "model", metadata={"step": step})
        with model.new_file("weights") as f: f.write(str(step))
        run.log_artifact(model)
"""
EVALUATE = """
import wherry
with wherry.init(project="cats", id="evaluate", job_type="evaluate") as run:
    best = run.use_artifact("model:v1")
    again = wherry.Artifact("model", "model", metadata={"step": 2})
    with again.new_file("weights") as f: f.write("2")
    assert run.log_artifact(again).wait().version == "v2"
    report = wherry.Artifact("report", "report")
    with report.new_file("x") as f: f.write("good")
    run.log_artifact(report)
"""
LOOK = """
import json, wherry
api = wherry.Api({"project": "cats"})
model = api.artifact("model:v1")
train = api.run("train")
print(json.dumps({
    "logged_by": model.logged_by().id,
    "used_by": [run.id for run in model.used_by()],
    "users of data": [run.path for run in api.artifact("pets/data:v0").used_by()],
    "runs": [(run.id, run.state) for run in api.runs()],
    "logged": [each.name for each in train.logged_artifacts()],
    "used": [each.qualified_name for each in train.used_artifacts()],
    "config": train.config,
    "also": [each.name for each in api.run("evaluate").logged_artifacts()],
    "lineage": api.lineage("model:v1").as_dict(),
    "far": [each.label for each in api.lineage("report:v0").versions],
}))
"""


def _runs(objects: Objects, project: str) -> list[dict[str, object]]:
    return [json.loads(objects.get(key)) for key in objects.keys(f"{project}/runs/")]


def test_machine_does_not_know_what_another_did(tmp_path: Path, place: Place) -> None:
    """Three machines make one graph; a fourth reads it from the store alone, through both projects."""
    for number, program in enumerate((PREPARE, TRAIN, EVALUATE)):
        with machine(tmp_path / str(number), place.address, place.env) as one:
            one.run(program)
    with machine(tmp_path / "another", place.address, place.env) as another:
        told = json.loads(another.run(LOOK))
        tree = another.wherry("lineage", "cats/model:v1")
        dot = another.wherry("lineage", "cats/model:v1", "--dot")
    lineage = told.pop("lineage")
    assert told == {
        "logged_by": "train",
        "used_by": ["evaluate"],
        "users of data": [["cats", "train"]],
        "runs": [["evaluate", "finished"], ["train", "finished"]],
        "logged": ["model:v0", "model:v1", "model:v2"],
        "used": ["pets/data:v0"],
        "config": {"lr": 0.1},
        "also": ["report:v0", "model:v2"],
        "far": ["cats/report:v0", "cats/model:v1", "pets/data:v0"],
    }
    assert [version["steps"] for version in lineage["versions"]] == [0, -1, 1]
    assert tree.splitlines() == [
        "cats/model:v1  model  logged by run train (train)",
        "├─ made of",
        "│  └─ pets/data:v0  dataset  logged by run prepare (prepare)",
        "└─ used by",
        "   └─ run evaluate (evaluate)",
        "      └─ cats/report:v0  report",
    ]
    assert dot.startswith("digraph") and dot.count("->") == 5, dot


OFFLINE = """
import wherry
with wherry.init(project="cats", id="offline", mode="offline") as run:
    run.use_artifact("pets/data:v0")
"""


def test_offline_mode_forgets_what_was_used(tmp_path: Path, place: Place) -> None:
    """What a run used offline is in the store when it is synced, and not before."""
    with machine(tmp_path / "one", place.address, place.env) as one:
        one.run(PREPARE)
        one.run(OFFLINE)
        one.kill_daemon()
        assert _runs(place.objects, "cats") == []
        one.wherry("sync")
        one.wherry("drain")
    (told,) = _runs(place.objects, "cats")
    assert (told["used"], bool(told["ended"])) == (["pets/data:v0"], True)
    (there,) = [each for each in _runs(place.objects, "pets") if each["project"] == "cats"]
    assert there["used"] == ["pets/data:v0"]


KILLED = """
import os, signal, wherry
run = wherry.init(project="cats", id="killed", config={"a": 1})
run.use_artifact("pets/data:v0")
run.log_artifact(wherry.Artifact("model", "model"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_takes_what_was_used(tmp_path: Path, place: Place) -> None:
    """What a run used and is stays known though program and daemon are killed; it looks as if running."""
    with machine(tmp_path / "one", place.address, place.env) as one:
        one.run(PREPARE)
        one.start(KILLED).process.wait()
        one.kill_daemon()
        one.wherry("drain")
        told = json.loads(
            one.run(
                "import json, wherry\n"
                'run = wherry.Api({"project": "cats"}).run("killed")\n'
                "print(json.dumps([run.state, run.config, [a.name for a in run.used_artifacts()]]))"
            )
        )
    assert told == ["running", {"a": 1}, ["data:v0"]]


USE = """
import wherry
with wherry.init(project="pets", id="%s") as run:
    run.use_artifact("data:v0")
"""
ASK = """
import json, sys, wherry
data = wherry.Api({"project": "pets"}).artifact("data:v0")
print(json.dumps([run.id for run in data.used_by(fresh="fresh" in sys.argv)]))
"""
WAIT = """
import wherry
data = wherry.Api({"project": "pets"}).artifact("data:v0")
while "theirs" not in [run.id for run in data.used_by()]: pass
"""
_MANY = 2_000


async def _fill(place: Place) -> None:
    """Put records of so many runs that a look at them counts for a while."""
    credentials = StoreCredentials()
    credentials.hand_over(place.env)
    store = await asyncio.to_thread(open_store, place.address, credentials, SystemClock())
    runs = ObjectRegistry(store).runs
    for first in range(0, _MANY, 50):
        puts = []
        for number in range(first, first + 50):
            record = RunRecord(1, "pets", RunInfo(f"old-{number}"), "2026-11-23T14:00:00.000Z")
            put = partial(runs.put_record, "pets", record.run.id, "5" * 32, number, encode(record))
            puts.append(put)
        await all_of(*puts)
    await store.aclose()


def test_another_machines_run_stays_unseen(tmp_path: Path, place: Place) -> None:
    """In a large project, what a machine did itself is seen at once, also after a kill; another's soon.

    At once, too, where a fresh answer is asked for.
    """
    with (
        machine(tmp_path / "one", place.address, place.env) as one,
        machine(tmp_path / "another", place.address, place.env) as another,
    ):
        one.run(PREPARE)
        asyncio.run(_fill(place))
        assert json.loads(one.run(ASK)) == []
        one.run(USE % "mine")
        assert json.loads(one.run(ASK)) == ["mine"]
        one.kill_daemon()
        assert json.loads(one.run(ASK)) == ["mine"]
        another.run(USE % "fast")
        assert json.loads(one.run(ASK, "fresh")) == ["fast", "mine"]
        another.run(USE % "theirs")
        one.run(WAIT)
        tree = another.wherry("lineage", "pets/data:v0", "--fresh")
    assert tree.count("run ") == 4, tree
