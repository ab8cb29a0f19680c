"""Offline: all is queued, nothing is sent, ``wherry sync`` sends it in order. Disabled: nothing at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import FolderObjects, files, records
from tests.support.troubles import CASES, check, outcomes

LOG = """
import os, sys
import wherry

def log(run, name="model", type="model", **metadata):
    artifact = wherry.Artifact(name, type=type, metadata=metadata)
    with artifact.new_file("weights") as f:
        f.write(f"weights {metadata}")
    return run.log_artifact(artifact)
"""

OFFLINE = {"WHERRY_MODE": "offline"}


def steps(on: Machine, name: str = "model") -> list[int]:
    """What arrived, in order, all bytes checked."""
    objects = FolderObjects(on.home / "store")
    found = records(objects, "p", name)
    for record in found:
        assert list(files(objects, "p", record))
    return [record["metadata"]["step"] for record in found]


def synced(on: Machine, *args: str) -> dict[str, Any]:
    """What ``wherry sync`` tells."""
    found = json.loads(on.wherry("sync", "--json", *args))
    assert isinstance(found, dict)
    return found


def test_offline_asks_for_what_is_not_there(machine: Machine) -> None:
    """What needs a committed version raises ``Offline`` at once; nothing is waited for, nothing is sent."""
    found = outcomes(
        machine.run(
            LOG
            + CASES
            + """
with wherry.init(project="p", mode="offline") as run:
    a = log(run, step=0)
    @case
    def wait(): a.wait()
    @case
    def wait_a_moment(): a.wait(timeout=60)
    @case
    def version(): a.version
    @case
    def use_name(): run.use_artifact("model:latest")
    @case
    def use_object(): run.use_artifact(a)
    @case
    def use_unlogged():
        b = wherry.Artifact("unlogged", type="model")
        run.use_artifact(b)
    @case
    def download(): a.download()
    @case
    def known(): return a.name, a.type, a.state, a.metadata, sorted(a.manifest.entries)
    @case
    def again(): log(run, step=1)
tell()
"""
        )
    )
    offline = ("wait", "wait_a_moment", "version", "use_name", "use_object", "download")
    check(
        found,
        {
            **dict.fromkeys(offline, ("Offline", "wherry sync")),
            "use_unlogged": ("Offline", "wherry sync"),
            "known": ("", "{'step': 0}, ['weights'])"),
            "again": ("", ""),
        },
    )
    assert FolderObjects(machine.home / "store").keys("") == []
    counts = json.loads(machine.wherry("status", "--json"))["counts"]
    assert counts["held"] == 3
    assert counts["done"] == counts["accepted"] == 0


def test_sync_reorders(machine: Machine) -> None:
    """Held requests keep their order among themselves, over kills; those sent before come before."""
    offline = LOG + "with wherry.init(project='p') as run:\n  for i in map(int, sys.argv[1:]): "
    machine.run(offline + "log(run, step=i)", "0", "1", env=OFFLINE)
    machine.run(offline + "log(run, step=i); log(run, 'other', step=i)", "2", "3", env=OFFLINE)
    machine.kill_daemon()
    machine.run(offline + "log(run, step=i).wait(60)", "10")  # takes its place now
    machine.run(offline + "log(run, step=i)", "4", env=OFFLINE)
    assert steps(machine) == [10]
    machine.kill_daemon()
    told = synced(machine)
    assert told["synced"] == 7
    assert [each["version"] for each in told["committed"]] == [
        *("v1", "v2", "v3", "v0", "v4", "v1", "v5"),
    ]
    assert steps(machine) == [10, 0, 1, 2, 3, 4]
    assert steps(machine, "other") == [2, 3]
    assert synced(machine)["synced"] == 0
    machine.run(offline + "log(run, step=i)", "11")
    assert steps(machine)[-1] == 11


def test_sync_killed_in_the_middle_logs_twice(machine: Machine) -> None:
    """A daemon killed while it syncs goes on: each held request becomes one version, in order."""
    machine.run(
        LOG + "with wherry.init(project='p') as run:\n  for i in range(40): log(run, step=i)",
        env=OFFLINE,
    )
    syncing = subprocess.Popen(
        [sys.executable, "-m", "wherry.cli", "sync"],
        cwd=machine.work,
        env=machine.env,
        stdout=subprocess.DEVNULL,
    )
    versions = machine.home / "store" / "p" / "artifacts" / "model" / "versions"
    for count in (3, 15):
        wait_until(lambda count=count: len(list(versions.glob("v*.json"))) >= count)
        machine.kill_daemon()
    assert syncing.wait(60) == 0
    assert steps(machine) == list(range(40))


def test_bad_held_request_stops_the_sync(machine: Machine) -> None:
    """One that fails stops no other: sync goes on, sums up, and its exit code is 1."""
    machine.run(LOG + "with wherry.init(project='p') as run: log(run, 'taken', step=0)")
    machine.run(
        LOG
        + """
with wherry.init(project="p") as run:
    log(run, step=0)
    with open("data", "w") as f: f.write("one")
    bad = wherry.Artifact("model", type="model", metadata={"step": 1})
    bad.add_file("data", policy="immutable")
    run.log_artifact(bad)
    log(run, step=2)
    os.unlink("data")
    with open("data", "w") as f: f.write("another file: the link holds")
    worse = wherry.Artifact("model", type="model", metadata={"step": 3})
    worse.add_file("data", policy="immutable")
    run.log_artifact(worse)
    log(run, step=4)
with open("data", "a") as f: f.write("changed")
""",
        env=OFFLINE,
    )
    done = subprocess.run(
        [sys.executable, "-m", "wherry.cli", "sync", "--json"],
        cwd=machine.work,
        env=machine.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (len(told["committed"]), len(told["failed"]), told["left"]) == (4, 1, [])
    assert told["failed"][0]["error"] == "FileChanged"
    assert steps(machine) == [0, 1, 2, 4]


@pytest.mark.parametrize("store", ["missing", "there"])
def test_sync_without_a_store_loses_them(tmp_path: Path, store: str) -> None:
    """What is synced while the store is away waits for it, and keeps its order."""
    root = tmp_path / "store"
    if store == "there":
        root.mkdir()
    with machine(tmp_path / "m", f"file://{root}") as on:
        program = (
            LOG + "with wherry.init(project='p') as run:\n  for i in range(3): log(run, step=i)"
        )
        on.run(program, env=OFFLINE)
        assert synced(on, "--no-wait")["synced"] == 3
        if store == "missing":
            wait_until(lambda: "StoreMissing" in on.wherry("status", "--json"))
            root.mkdir()
        on.wait_all_done()
        found = records(FolderObjects(root), "p", "model")
        assert [record["metadata"]["step"] for record in found] == [0, 1, 2]


# ── disabled ───────────────────────────────────────────────────────────────────────────────────
DISABLED = """
with open("x", "w") as f: f.write("x")
with wherry.init(project="p", mode=sys.argv[1] or None) as run:
    a = wherry.Artifact("a", type="model", metadata={"x": 1})
    a.add_file("x")
    a.add_dir(".", name="all")
    with a.new_file("new.txt") as f: f.write("new")
    with a.new_file("new.bin", mode="wb") as f: f.write(b"new")
    a.add_reference("file://" + os.path.abspath("x"), name="ref")
    assert run.log_artifact(a, aliases=["best"]) is a
    assert a.wait() is a
    assert isinstance(a.version, str) and isinstance(a.name, str)
    run.log_artifact("x", name="y", type="model").wait()
    used = run.use_artifact("a:latest")
    run.use_artifact(a)
    wherry.log_artifact(wherry.Artifact("b", type="model"))
    run.log({"loss": 1.0})
    assert run.id and run.project
wherry.finish()
assert not os.path.exists(os.environ["WHERRY_HOME"]), os.listdir(os.environ["WHERRY_HOME"])
print("done")
"""


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_disabled_run_does_something(machine: Machine, by: str) -> None:
    """In disabled mode every call of a program works and none does anything: no home, no daemon."""
    env = {"WHERRY_MODE": "disabled"} if by == "environment" else {}
    mode = "disabled" if by == "argument" else ""
    # the module's own calls have no run's mode; the environment is theirs
    source = LOG + DISABLED
    assert machine.run(source, mode, env=env) == "done\n"
    assert machine.daemon_pid() is None
    assert not machine.home.exists()
