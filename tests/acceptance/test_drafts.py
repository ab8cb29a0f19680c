"""Runs that work together on one version: by processes, by machines, with kills."""

from __future__ import annotations

import itertools
import json
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place
from tests.soak import SOAK, rounds
from tests.support.machine import Machine
from tests.support.machine import machine as machine_of
from tests.support.reading import FolderObjects, files, records

# The page's last program, with processes in Ray's place.
PAGE = """
import multiprocessing, time
import wherry as wandb

artifact_type, artifact_name = "dataset", "parallel-artifact"
table_name, parts_path, num_parallel = "distributed_table", "parts", 5
group_name = "writer-group-{}".format(round(time.time()))

def train(i):
    with wandb.init(project="p", group=group_name) as run:
        artifact = wandb.Artifact(name=artifact_name, type=artifact_type)
        table = wandb.Table(columns=["a", "b", "c"], data=[[i, i * 2, 2**i]])
        artifact.add(table, "{}/table_{}".format(parts_path, i))
        run.upsert_artifact(artifact)

workers = [
    multiprocessing.get_context("fork").Process(target=train, args=(i,)) for i in range(num_parallel)
]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
    assert worker.exitcode == 0

with wandb.init(project="p", group=group_name) as run:
    artifact = wandb.Artifact(artifact_name, type=artifact_type)
    artifact.add(wandb.data_types.PartitionedTable(parts_path), table_name)
    run.finish_artifact(artifact)

there = wandb.Api().artifact("p/parallel-artifact:latest")
assert [row for _, row in there.get(table_name).iterrows()] == [[i, i * 2, 2**i] for i in range(5)]
assert [row for _, row in artifact.get(table_name).iterrows()] == [[i, i * 2, 2**i] for i in range(5)]
assert (artifact.version, there.distributed_id) == ("v0", None)
"""


@pytest.mark.soak
@pytest.mark.parametrize("_", range(rounds(1, 20)))
def test_the_program_of_the_page_loses_a_part(machine: Machine, _: int) -> None:
    """Five workers upsert a table each, a last run finishes: one version with all of them."""
    machine.run(PAGE)
    objects = FolderObjects(machine.home / "store")
    (record,) = records(objects, "p", "parallel-artifact")
    assert {path for path, _ in files(objects, "p", record)} == {
        "distributed_table.partitioned-table.json",
        *(f"parts/table_{i}.table.json" for i in range(5)),
    }


WRITER = """
import sys, time
import wherry

first, last, draft = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for n in range(first, last):
    with wherry.init(project="p", group=draft) as run:
        part = wherry.Artifact("set", type="dataset", metadata={f"by {n}": n})
        with part.new_file(f"part {n}") as file:
            file.write(str(n))
        with part.new_file("same for all") as file:
            file.write("the same")
        run.upsert_artifact(part)
    print(n, flush=True)
"""

FINISHER = """
import sys
import wherry

run = wherry.init(project="p", group=sys.argv[1])
whole = wherry.Artifact("set", type="dataset", description="whole", metadata={"n": 1})
print(run.finish_artifact(whole, aliases=["best"]).wait().version)
run.finish()
"""


def _finished(place: Place, draft: str, writers: int) -> dict[str, object]:
    (record,) = [each for each in records(place.objects, "p", "set") if len(each["request"]) == 64]
    there = dict(files(place.objects, "p", record))
    assert there == {f"part {n}": b"%d" % n for n in range(writers)} | {"same for all": b"the same"}
    assert record["metadata"] == {f"by {n}": n for n in range(writers)} | {"n": 1}
    (sealed,) = [key for key in place.objects.keys("p/drafts/") if key.endswith("/sealed.json")]
    parts = json.loads(place.objects.get(sealed))["parts"]
    assert len(parts) == len(set(parts)) == writers
    return record


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(1, 10)))
def test_kills_lose_or_double_a_part(tmp_path: Path, place: Place, seed: int) -> None:
    """Machines with one bucket upsert and finish, all of them, while their daemons are killed: one version,
    and every part in it once.
    """
    homes, each, chance = (4, 25, random.Random(seed)) if SOAK else (2, 6, random.Random(seed))
    with ExitStack() as stack:
        machines = [
            stack.enter_context(machine_of(tmp_path / f"m{n}", place.address, place.env))
            for n in range(homes)
        ]
        programs = [
            machine.start(WRITER, str(n * each), str((n + 1) * each), "g")
            for n, machine in enumerate(machines)
        ]
        for machine in itertools.chain(machines, chance.choices(machines, k=homes)):
            time.sleep(0.3 + chance.random())
            machine.kill_daemon()
        told = [program.wait_done().split() for program in programs]
        assert sum(map(len, told)) == homes * each
        finishers = [machine.start(FINISHER, "g") for machine in machines]
        time.sleep(chance.random())
        chance.choice(machines).kill_daemon()
        versions = {finisher.wait_done().strip() for finisher in finishers}
        assert versions == {"v0"}
    record = _finished(place, "g", homes * each)
    assert record["description"] == "whole"


LATE = """
import wherry

run = wherry.init(project="p", group="g")
none = wherry.init(project="p")
for call in (none.upsert_artifact, none.finish_artifact):
    try:
        call(wherry.Artifact("set", "dataset"))
    except TypeError as error:
        assert "group" in str(error)

def artifact(**files):
    made = wherry.Artifact("set", "dataset")
    for path, text in files.items():
        with made.new_file(path) as file:
            file.write(text)
    return made

part = run.upsert_artifact(artifact(a="1"))
part.wait()
try:
    part.version
except wherry.errors.ArtifactNotLoggedError as error:
    assert "draft" in str(error)
try:
    run.log_artifact(part)
except wherry.errors.ArtifactStateError as error:
    assert "before" in str(error)
assert (part.state, part.distributed_id) == ("PENDING", "g")
whole = run.finish_artifact(artifact(b="2")).wait()
assert sorted(whole.manifest.entries) == ["a", "b"]
assert whole.file_count == 2 and whole.size == 2
assert wherry.Api().artifact("p/set:latest").digest == whole.digest
run.finish()

epoch = wherry.init(project="p", group="g")
epoch.upsert_artifact(artifact(c="3"))
try:
    epoch.finish()
except wherry.errors.UpsertNotVisible as error:
    assert "finished" in str(error) and "distributed_id" in str(error)
    print("told")
again = wherry.init(project="p", group="g")
again.upsert_artifact(artifact(c="3"), distributed_id="g-2")
again.finish_artifact(artifact(), distributed_id="g-2").wait()
again.finish()
"""


@pytest.mark.parametrize("finish", ["wait", "detach"])
def test_a_writer_that_comes_too_late_is_told_nothing(machine: Machine, finish: str) -> None:
    """A second epoch under the same group fails at ``finish()``, in every mode, with what to do instead."""
    said = machine.run(LATE, env={"WHERRY_FINISH": finish})
    assert said.split() == ["told"]
    machine.wait_all_done()
    found = records(FolderObjects(machine.home / "store"), "p", "set")
    assert [record["entries"] for record in found] == [2, 1]


ORDERED = """
import wherry

run = wherry.init(project="p", group="g")
def log(call, n):
    made = wherry.Artifact("set", "dataset", metadata={"n": n})
    with made.new_file(f"file {n}") as file:
        file.write(str(n))
    return call(made)

log(run.log_artifact, 0)
log(run.upsert_artifact, 1)
finished = log(run.finish_artifact, 2)
log(run.log_artifact, 3)
run.finish()
assert finished.version == "v1"
"""


def test_a_finish_is_out_of_order(machine: Machine) -> None:
    """A finish has its place among what else is logged to its artifact, and waits for earlier upserts."""
    machine.run(ORDERED)
    found = records(FolderObjects(machine.home / "store"), "p", "set")
    assert [record["metadata"]["n"] for record in found] == [0, 2, 3]
    assert [record["entries"] for record in found] == [1, 2, 1]


EMPTY = """
import os, signal, wherry

run = wherry.init(project="p", group="g")
pid = os.fork()
if pid == 0:  # a writer that dies before its upsert
    part = wherry.Artifact("set", "dataset")
    with part.new_file("never") as file:
        file.write("never upserted")
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
first = run.finish_artifact(wherry.Artifact("set", "dataset")).wait()
again = run.finish_artifact(wherry.Artifact("set", "dataset")).wait()
other = run.finish_artifact(wherry.Artifact("set", "dataset"), distributed_id="h").wait()
assert [each.version for each in (first, again, other)] == ["v0", "v0", "v0"]
run.finish()
"""


def test_an_empty_draft_is_none(machine: Machine) -> None:
    """A draft without parts is a version without entries, and one of the same content is that version."""
    machine.run(EMPTY)
    (record,) = records(FolderObjects(machine.home / "store"), "p", "set")
    assert record["entries"] == 0


OFFLINE = """
import wherry

run = wherry.init(project="p", group="g", mode="offline")
for n in range(3):
    part = wherry.Artifact("set", "dataset")
    with part.new_file(str(n)) as file:
        file.write(str(n))
    run.upsert_artifact(part)
run.finish_artifact(wherry.Artifact("set", "dataset"))
run.finish()
"""


def test_offline_mode_loses_a_part(machine: Machine) -> None:
    """What was upserted and finished offline becomes one version when it is synced."""
    machine.run(OFFLINE)
    machine.wherry("sync")
    machine.wait_all_done()
    (record,) = records(FolderObjects(machine.home / "store"), "p", "set")
    assert record["entries"] == 3


MANY = """
import sys
import wherry

count = int(sys.argv[1])
for n in range(count):
    run = wherry.init(project="p", id=f"r{n}", group="many")
    part = wherry.Artifact("set", "dataset")
    with part.new_file(f"part {n:03}") as file:
        file.write(str(n))
    run.upsert_artifact(part)
run = wherry.init(project="p", group="many")
whole = run.finish_artifact(wherry.Artifact("set", "dataset")).wait(600)
assert whole.file_count == count
"""


def test_many_writers_lose_a_part(machine: Machine) -> None:
    """Five hundred runs upsert to one draft."""
    machine.run(MANY, "500" if SOAK else "60")
