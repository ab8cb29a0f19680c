"""Calls at the wrong moment and wrong types: an error of a named class, and no number is taken."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.machine import Machine, machine
from tests.support.reading import FolderObjects, records
from tests.support.troubles import CASES, check, outcomes

STATES = """
with open("x", "w") as f: f.write("x")
run = wherry.init(project="p")
def log(name, type="model", to=run, **metadata):
    return to.log_artifact(wherry.Artifact(name, type=type, metadata=metadata))

a = wherry.Artifact("mine", type="model")
@case
def version_before_log(): a.version
@case
def wait_before_log(): a.wait()
@case
def poll():
    b = run.log_artifact(wherry.Artifact("polled", type="model"))
    while True:
        try: return b.wait(0).version
        except errors.WaitTimeoutError: pass
@case
def download_before_log(): a.download()
a.add_file("x")
run.log_artifact(a)
a.wait(60)
CHANGES = {
    "add_file": lambda: a.add_file("x", name="z"), "add_dir": lambda: a.add_dir("."),
    "new_file": lambda: a.new_file("z").__enter__(), "remove": lambda: a.remove("x"),
    "add_reference": lambda: a.add_reference("file://" + os.path.abspath("x"), name="z"),
}
for name, change in CHANGES.items():
    change.__name__ = name + "_after_log"
    case(change)
@case
def finalized():
    early = wherry.Artifact("early", type="model")
    early.finalize()
    early.add_file("x")

@case
def type_known_here(): log("mine", type="dataset")
@case
def use_wrong_type(): run.use_artifact("mine:latest", type="dataset")
@case
def use_nothing(): run.use_artifact("nothing:latest")
@case
def use_no_version(): run.use_artifact("mine:v7")
@case
def use_no_alias(): run.use_artifact("mine:best")
@case
def use_no_project(): run.use_artifact("elsewhere/mine:v0")
@case
def use_bad_name(): run.use_artifact("a:b:c")
@case
def use_empty(): run.use_artifact("")
@case
def api_nothing(): wherry.Api().artifact("p/nothing:latest")
@case
def no_entry(): run.use_artifact("mine:latest").get_entry("y")
@case
def download_on_a_file(): run.use_artifact("mine:latest").download(root="x")

other = wherry.init(project="p")
before = a.version
again = other.log_artifact(a, aliases=["again"])
again.wait(60)
@case
def twice(): return again.version, a.version, run.use_artifact("mine:again").version
other.finish()
@case
def log_after_finish(): log("late", to=other)
log("mine", step=1).wait(60)
run.finish()
tell()
"""

STATES_WANTED = {
    "version_before_log": ("ArtifactNotLoggedError", "wait()"),
    "wait_before_log": ("ArtifactNotLoggedError", "log_artifact"),
    "poll": ("", "'v0'"),
    "download_before_log": ("ArtifactNotLoggedError", ""),
    **{
        f"{call}_after_log": ("ArtifactFinalizedError", "mine")
        for call in ("add_file", "add_dir", "new_file", "remove", "add_reference")
    },
    "finalized": ("ArtifactFinalizedError", "early"),
    "type_known_here": ("TypeTaken", "dataset"),
    "use_wrong_type": ("ValueError", "dataset"),
    "use_nothing": ("NotFoundError", "nothing"),
    "use_no_version": ("NotFoundError", "v7"),
    "use_no_alias": ("NotFoundError", "best"),
    "use_no_project": ("NotFoundError", "elsewhere"),
    "use_bad_name": ("BadName", "b:c"),
    "use_empty": ("ValueError", ""),
    "api_nothing": ("NotFoundError", "nothing"),
    "no_entry": ("FileNotFoundError", "y"),
    "download_on_a_file": ("DownloadError", "x"),
    "twice": ("", "('v0', 'v0', 'v0')"),
    "log_after_finish": ("ArtifactStateError", "finished"),
}


def test_wrong_moment_is_taken(machine: Machine) -> None:
    """Calls that come too early, too late or for the wrong thing are refused by name; the rest goes on."""
    found = outcomes(machine.run(CASES + STATES))
    check(found, STATES_WANTED)
    kept = records(FolderObjects(machine.home / "store"), "p", "mine")
    assert [record["metadata"] for record in kept] == [{}, {"step": 1}]
    assert {record["type"] for record in kept} == {"model"}


def test_type_of_another_home_takes_a_number(tmp_path: Path) -> None:
    """A name that another home gave another type fails that request alone, without a number."""
    store = tmp_path / "store"
    store.mkdir()
    source = """
        import sys, wherry
        with wherry.init(project="p") as run:
            for step, type_ in enumerate(sys.argv[1:]):
                a = wherry.Artifact("shared", type=type_, metadata={"step": step})
                run.log_artifact(a)
                try:
                    print(a.wait(60).version)
                except wherry.errors.WherryError as error:
                    print(type(error).__name__, isinstance(error, ValueError))
    """
    with machine(tmp_path / "a", f"file://{store}") as a:
        assert a.run(source, "model") == "v0\n"
    with machine(tmp_path / "b", f"file://{store}") as b:
        program = b.start(source, "dataset", "model", "dataset")
        out, err = program.process.communicate(timeout=60)
        assert out.splitlines()[0] == "TypeTaken True"
        assert out.splitlines()[1] == "v1"
        # by now this home knows the type
        assert program.process.returncode == 1
        assert "TypeTaken" in err.splitlines()[-2] + err.splitlines()[-1]
        (failed,) = json.loads(b.wherry("status", "--json"))["requests"]
        assert (failed["state"], failed["error"]) == ("failed", "TypeTaken")
        assert "model" in failed["reason"] and "dataset" in failed["reason"]
    assert len(records(FolderObjects(store), "p", "shared")) == 2


def test_same_content_gets_another_number(machine: Machine) -> None:
    """What equals the highest version is that version, over kills; any other difference is a new one."""
    source = """
        import sys, wherry
        with wherry.init(project="p") as run:
            for step, x, description in ((0, 1, None), (0, 1, None), (0, 1.0, None), (0, 1, "d"), (1, 1, "d")):
                a = wherry.Artifact("same", "model", description=description, metadata={"x": x})
                with a.new_file("x") as f: f.write(str(step))
                print(run.log_artifact(a, aliases=[f"a{step}"]).wait(60).version)
            print(run.use_artifact("same:a0").version, run.use_artifact("same:a1").version)
    """
    assert machine.run(source).split() == ["v0", "v0", "v0", "v1", "v2", "v1", "v2"]
    machine.kill_daemon()
    assert machine.run(source).split()[-4:] == ["v4", "v5", "v4", "v5"]
    assert len(records(FolderObjects(machine.home / "store"), "p", "same")) == 6
