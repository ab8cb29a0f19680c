"""Changes to a version that is there: what stays is neither fetched nor sent, and nobody's is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place
from tests.soak import rounds
from tests.support.hunting import Hunt, Pace
from tests.support.machine import Machine, machine
from tests.support.machine import machine as machine_of
from tests.support.reading import files, manifest, records

LOG = """
from pathlib import Path
import wherry

Path("seen.csv").write_text("a,b")
run = wherry.init(project="p")
made = wherry.Artifact("data", "dataset", description="first", metadata={"n": 0})
for n in range(20):
    with made.new_file(f"small/{n:02}") as file:
        file.write(f"small {n}")
with made.new_file("large.bin", mode="wb") as file:
    file.write(b"large" * 500_000)
made.add_reference(Path("seen.csv").absolute().as_uri())
run.log_artifact(made).wait(60)
"""
SMALL = {f"small/{n:02}": f"small {n}".encode() for n in range(20)}
LARGE = {"large.bin": b"large" * 500_000}


@pytest.fixture
def on(tmp_path: Path, place: Place) -> Iterator[Machine]:
    """A machine, ended with the test; what it sends is counted in its store."""
    with machine(tmp_path / "machine", place.address, place.env) as made:
        yield made


def held(place: Place, name: str, version: int) -> dict[str, bytes]:
    """What a version holds, but for references."""
    return dict(files(place.objects, "p", records(place.objects, "p", name)[version]))


def bodies(place: Place) -> set[str]:
    """The objects in the store that hold files' bytes."""
    return {key for key in place.objects.keys("p/") if "/blobs/" in key or "/packs/" in key}


# ── new_draft ──────────────────────────────────────────────────────────────────────────────────
DRAFT = """
import json
from pathlib import Path
import wherry

run = wherry.init(project="p")
found = wherry.Api().artifact("p/data:v0")
draft = found.new_draft()
assert (draft.name, draft.type, draft.state) == ("data", "dataset", "PENDING")
assert (draft.description, draft.metadata) == ("first", {"n": 0})
assert draft.digest == found.digest and draft.size == found.size
assert list(draft.manifest.entries) == list(found.manifest.entries)
assert draft.get_entry("seen.csv").ref == found.get_entry("seen.csv").ref

draft.remove("small/03")
draft.remove(draft.get_entry("small/04"))
Path("changed").write_text("changed")
draft.add_file("changed", "small/00", overwrite=True)
Path("same").write_text("small 1")
draft.add_file("same", "small/01")
try:
    draft.add_file("changed", "small/02")
except wherry.errors.PathTaken:
    pass
else:
    raise AssertionError
with draft.new_file("new/one") as file:
    file.write("one")
draft.metadata["n"] = 1
folder = Path(draft.download("all"))
assert (folder / "small/00").read_text() == "changed" and not (folder / "small/03").exists()
assert (folder / "small/01").read_text() == "small 1" and (folder / "seen.csv").read_text() == "a,b"
assert Path(draft.get_entry("small/05").download("one")).read_text() == "small 5"
assert "small/03" not in draft.manifest.entries and len(draft.files()) == 21 == draft.file_count
told, size = draft.digest, draft.size
run.log_artifact(draft).wait(60)
assert (draft.version, draft.digest, draft.size) == ("v1", told, size)
assert wherry.Api().artifact("p/data:v1").digest == told
assert not found.incremental and not draft.incremental
"""


@pytest.mark.xdist_group("seaweed")
def test_a_draft_of_a_version_is_sent_whole(on: Machine, place: Place) -> None:
    """All but what was changed is the version's, at the bytes that the store has; nothing else is sent."""
    on.run(LOG)
    there = bodies(place)
    on.run(DRAFT)
    expected = SMALL | LARGE | {"small/00": b"changed", "new/one": b"one"}
    del expected["small/03"], expected["small/04"]
    assert held(place, "data", 1) == expected
    first, second = records(place.objects, "p", "data")
    assert (second["description"], second["metadata"]) == ("first", {"n": 1})
    lines = {line["path"]: line for line in manifest(place.objects, "p", second)}
    before = {line["path"]: line for line in manifest(place.objects, "p", first)}
    kept = lines.keys() & before.keys() - {"small/00"}
    assert len(kept) == 19 and all(lines[path] == before[path] for path in kept)
    assert len(bodies(place) - there) == 1  # a pack of the two that are new


UNCHANGED = """
import wherry
run = wherry.init(project="p")
draft = run.use_artifact("data:v0").new_draft()
print(run.log_artifact(draft).wait(60).version)
draft = wherry.Api().artifact("p/data:v0").new_draft()
draft.remove("small")
logged = run.log_artifact(draft)
print(logged.wait(60).version, logged.file_count)
again = logged.new_draft()
again.remove("large.bin")
print(run.log_artifact(again).wait(60).version)
other = wherry.Api().artifact("p/data:v0").new_draft()
print(run.log_artifact(other).wait(60).version)
"""


def test_an_unchanged_draft_is_a_version_of_its_own(machine: Machine) -> None:
    """A draft with nothing changed is the version that it was made of while that is the highest."""
    machine.run(LOG)
    assert machine.run(UNCHANGED).splitlines() == ["v0", "v1 2", "v2", "v3"]


ELSEWHERE = """
import wherry
draft = wherry.Api().artifact("p/data:v0").new_draft()
run = wherry.init(project="other")
try:
    run.log_artifact(draft)
except wherry.errors.UsageError as error:
    print(error)
for call in (run.upsert_artifact, run.finish_artifact):
    try:
        call(draft, distributed_id="d")
    except wherry.errors.UsageError as error:
        print(error)
draft.remove("large.bin")
print(wherry.init(project="p").log_artifact(draft).wait(60).version)
"""


def test_a_draft_is_logged_to_another_project(machine: Machine) -> None:
    """What is neither fetched nor sent can't be in another project, and is no part of a distributed draft;
    the same Artifact can be logged where it belongs.
    """
    machine.run(LOG)
    *refused, version = machine.run(ELSEWHERE).splitlines()
    assert version == "v1"
    assert "draft of v0 in project 'p'" in refused[0] and "can't be upserted" in "".join(refused)


HOLE = """
import sys, wherry
run = wherry.init(project="p")
draft = wherry.Api().artifact("p/data:v0").new_draft() if sys.argv[1] == "draft" else (
    wherry.Artifact("data", "dataset", incremental=True))
with draft.new_file("more") as file:
    file.write("more")
try:
    run.log_artifact(draft).wait(60)
except wherry.errors.StoreDamaged as error:
    print(error)
"""
WHOLE = """
import wherry
run = wherry.init(project="p")
made = wherry.Artifact("data", "dataset")
with made.new_file("whole") as file:
    file.write("whole")
print(run.log_artifact(made).wait(60).version)
"""


@pytest.mark.xdist_group("seaweed")
@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        *itertools.product(("blobs", "packs"), ("draft", "incremental")),
        ("manifests", "incremental"),
    ],
)
def test_a_base_with_a_hole_becomes_a_version(
    on: Machine, place: Place, lost: str, kind: str
) -> None:
    """Where the store has lost something of the base, changes to it fail, tell it, and take no number."""
    on.run(LOG)
    for key in [key for key in place.objects.keys("p/") if f"/{lost}/" in key]:
        place.objects.remove(key)
    told = on.run(HOLE, kind)
    assert f"/{lost}/" in told and "v0, which this changes" in told
    assert on.run(WHOLE).split() == ["v1"]


# ── incremental ────────────────────────────────────────────────────────────────────────────────
CHANGE = """
import wherry
run = wherry.init(project="p")

def change(remove=(), **files):
    made = wherry.Artifact("log", "dataset", metadata={"last": sorted(files)}, incremental=True)
    for path in remove:
        made.remove(path)
    for path, text in files.items():
        with made.new_file(path.replace("_", "/")) as file:
            file.write(text)
    return run.log_artifact(made)

first = change(a="a", dir_x="x", dir_y="y")
assert first.incremental and first.wait(60).file_count == 3
assert change(b="b").wait(60).version == "v1"
third = change(["dir", "not there"], b="b2", c="c")
third.wait(60)
assert sorted(third.manifest.entries) == ["a", "b", "c"] and third.size == 4
assert third.digest == wherry.Api().artifact("p/log:v2").digest
assert change(b="b2", c="c").wait(60).version == "v2"
wherry.Api().artifact("p/log:v2").delete(delete_aliases=True)
print(change(d="d").wait(60).version)
made = wherry.Artifact("log", "dataset", incremental=True)
with made.new_file("a/below") as file:
    file.write("no")
try:
    run.log_artifact(made).wait(60)
except wherry.errors.PathTaken as error:
    print(error)
made = wherry.Artifact("log", "dataset", incremental=True)
made.remove("a")
with made.new_file("a/below") as file:
    file.write("yes")
print(run.log_artifact(made).wait(60).version)
"""


@pytest.mark.xdist_group("seaweed")
def test_changes_are_applied_to_something_else(on: Machine, place: Place) -> None:
    """An incremental version has what the highest version that is not deleted had, without what it removes
    and with what it adds; metadata is its own; where that changes nothing, it is that version.
    """
    version, refused, *_, last = on.run(CHANGE).splitlines()
    assert (version, last) == ("v3", "v4")
    assert "'a/below', which this adds, would lie below 'a', a file of" in refused
    assert held(place, "log", 0) == {"a": b"a", "dir/x": b"x", "dir/y": b"y"}
    assert held(place, "log", 1) == held(place, "log", 0) | {"b": b"b"}
    assert held(place, "log", 3) == held(place, "log", 1) | {"d": b"d"}
    assert held(place, "log", 4) == {
        "a/below": b"yes",
        **{path: data for path, data in held(place, "log", 3).items() if path != "a"},
    }
    assert not [file for file in (on.home / "cache").rglob("*") if file.is_file()]
    found = records(place.objects, "p", "log")
    assert [each.get("metadata") for each in found][3] == {"last": ["d"]}


ADD = (
    """
import sys, time, wherry
who, logs, pace = sys.argv[1], int(sys.argv[2]), sys.argv[3]
"""
    + Pace.WAIT
    + """
with wherry.init(project="p") as run:
    for n in range(logs):
        wait_turn(n)
        made = wherry.Artifact("set", "dataset", metadata={"who": who, "n": n}, incremental=True)
        for path in (f"{who}/{n}", f"last of {who}"):
            with made.new_file(path) as file:
                file.write(f"{who} {n}")
        if n:
            made.remove(f"{who}/{n - 1}")
        run.log_artifact(made)
"""
)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(1, 10)))
def test_machines_lose_what_others_added(tmp_path: Path, place: Place, seed: int) -> None:
    """Two machines add to one artifact at once while their daemons are killed: each version is the one
    before it with one machine's change, and none is lost, doubled or reordered.
    """
    logs, kills = rounds(12, 60), rounds(3, 12)
    pace = Pace(tmp_path / "pace", logs)
    with (
        machine_of(tmp_path / "one", place.address, place.env) as one,
        machine_of(tmp_path / "two", place.address, place.env) as two,
    ):
        machines = [one, two]
        programs = [
            each.start(ADD, who, str(logs), str(pace.file), env={"WHERRY_FINISH": "detach"})
            for each, who in ((one, "one"), (two, "two"))
        ]
        Hunt(machines, pace, 1).run(kills)
        pace.let(pace.left)
        for program in programs:
            program.wait_done()
        for each in machines:
            each.wait_all_done()
    found = records(place.objects, "p", "set")
    assert len(found) == 2 * logs
    there: dict[str, bytes] = {}
    for record in found:
        who, n = record["metadata"]["who"], record["metadata"]["n"]
        there.pop(f"{who}/{n - 1}", None)
        there |= dict.fromkeys((f"{who}/{n}", f"last of {who}"), f"{who} {n}".encode())
        assert dict(files(place.objects, "p", record)) == there
    for who in ("one", "two"):
        assert [each["metadata"]["n"] for each in found if each["metadata"]["who"] == who] == [
            *range(logs)
        ]
    writers = [each["metadata"]["who"] for each in found]
    assert any(before != after for before, after in itertools.pairwise(writers))
