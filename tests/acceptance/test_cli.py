"""The command line, end to end: real commands, a real daemon, a real store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Place
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import files, records


def _json(on: Machine, *args: str) -> Any:
    return json.loads(on.wherry(*args, "--json"))


@contextmanager
def _started(on: Machine, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; it is killed at the block's end if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wherry.cli", *args],
        cwd=on.work,
        env=on.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _fails(on: Machine, *args: str) -> str:
    """Run a command that fails; what it said on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "wherry.cli", *args],
        cwd=on.work,
        env=on.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_round_trip_breaks(tmp_path: Path, place: Place) -> None:
    """put, ls, show and get agree with each other and with what lies in the store."""
    with machine(tmp_path / "m", place.address, place.env) as on:
        (on.work / "model.pt").write_bytes(b"weights")
        (on.work / "eval" / "deep").mkdir(parents=True)
        (on.work / "eval" / "a.json").write_text("{}")
        (on.work / "eval" / "deep" / "ü b.txt").write_bytes(b"")
        step = ("--metadata", '{"step": 7}', "-d", "the best one")
        first = _json(on, "put", "model.pt", "-n", "cats/model", "-t", "model", "-a", "best", *step)
        second = _json(on, "put", "eval", "--name", "cats/model", "--type", "model")
        assert (first["version"], second["version"]) == ("v0", "v1")
        assert {first["state"], second["state"]} == {"done"}

        assert _json(on, "ls", "--project", "cats") == [
            {"project": "cats", "name": "model", "type": "model", "latest": "v1"}
        ]
        assert [each["version"] for each in _json(on, "ls", "cats/model")] == ["v1", "v0"]
        shown = _json(on, "show", "cats/model:best")
        assert (shown["version"], shown["metadata"]) == ("v0", {"step": 7})
        assert (shown["description"], shown["aliases"]) == ("the best one", ["best"])

        got = _json(on, "get", "cats/model", "--root", "out")
        assert (got["version"], got["entries"], got["path"]) == ("v1", 2, str(on.work / "out"))
        kept = records(place.objects, "cats", "model")
        assert [record["request"] for record in kept] == [first["request"], second["request"]]
        for path, body in files(place.objects, "cats", kept[1]):
            assert (on.work / "out" / path).read_bytes() == body
        in_store = [path for path, _ in files(place.objects, "cats", kept[1])]
        assert [each["path"] for each in _json(on, "show", "cats/model:v1")["files"]] == in_store


def test_queue_and_status_disagree(machine: Machine) -> None:
    """Requests that offline mode holds are seen by queue and status, and sent by sync, in order."""
    machine.env["WHERRY_MODE"] = "offline"
    for step in range(3):
        (machine.work / "x").write_text(str(step))
        assert _json(machine, "put", "x")["state"] == "held"
    queued, status = _json(machine, "queue"), _json(machine, "status")
    assert status["requests"] == queued
    assert status["counts"]["held"] == 3
    assert status["daemon"] == {**_json(machine, "daemon", "status")}
    synced = _json(machine, "sync")
    assert [each["version"] for each in synced["committed"]] == ["v0", "v1", "v2"]
    assert _json(machine, "queue") == []
    done = _json(machine, "queue", "--state", "done")
    assert [each["request"] for each in done] == [each["request"] for each in queued]


def test_failed_request_haunts_status(machine: Machine) -> None:
    """A failure shows with its reason, can be retried, and is put away by acknowledge."""
    (machine.work / "x").write_text("one")
    log = f"""
        import os, wherry
        with wherry.init(project="cats", mode="offline") as run:
            artifact = wherry.Artifact("x", "dataset")
            artifact.add_file("{machine.work}/x", policy="immutable")
            run.log_artifact(artifact)
        with open("{machine.work}/x", "a") as opened:
            opened.write("two")
    """
    machine.run(log)
    assert "changed" in _fails(machine, "sync")
    (failed,) = _json(machine, "status")["requests"]
    assert (failed["state"], failed["error"]) == ("failed", "FileChanged")
    assert "changed" in machine.wherry("status")
    short = failed["request"][-8:]
    assert _json(machine, "retry", short)["count"] == 1
    _fails(machine, "wait", short)
    assert _json(machine, "acknowledge", short) == {"count": 1, "left_out": []}
    assert _json(machine, "status")["requests"] == []


def test_cancelled_request_arrives(machine: Machine) -> None:
    """A held request can be taken back, and is not sent any more."""
    machine.env["WHERRY_MODE"] = "offline"
    (machine.work / "x").write_text("one")
    put = _json(machine, "put", "x")
    assert _json(machine, "cancel", put["request"])["count"] == 1
    assert _json(machine, "sync")["synced"] == 0
    assert _json(machine, "cancel", put["request"])["count"] == 0  # twice is no error
    assert _json(machine, "ls") == []


def test_broken_store_is_not_named(tmp_path: Path) -> None:
    """What a store refuses waits, named as such; drain gives up in time and doctor finds it."""
    store = tmp_path / "store"
    store.write_text("no folder")
    with machine(tmp_path / "m", f"file://{store}") as on:
        (on.work / "x").write_text("one")
        put = _json(on, "put", "x", "--no-wait")
        assert "the daemon goes on" in _fails(on, "wait", put["request"], "--timeout", "1s")
        assert put["request"] in _fails(on, "drain", "--timeout", "1s")

        def reason() -> str:
            (shown,) = _json(on, "status")["requests"]
            return shown["reason"] or ""

        wait_until(reason)
        assert str(store) in reason()
        assert "waiting for the store" in on.wherry("status")
        assert str(store) in json.dumps(json.loads(_doctor(on))["problems"])
        store.unlink()
        store.mkdir()
        on.wherry("retry", "--all")
        on.wherry("drain", "--timeout", "30s")
        assert [each["version"] for each in _json(on, "ls", "x")] == ["v0"]


def _doctor(on: Machine) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wherry.cli", "doctor", "--json"],
        cwd=on.work,
        env=on.env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_healthy_machine_is_ill(machine: Machine) -> None:
    """doctor finds nothing on a machine where nothing is wrong."""
    found = _json(machine, "doctor")
    assert found["problems"] == []
    assert found["store"]["readable"] is True


#: The command, which says in a line of its own what it is told.
TOLD = """
import sys
from wherry.cli import main, progress

note = progress._Lines.note
def told(self, state):
    print(state.state, flush=True)
    note(self, state)
progress._Lines.note = told
sys.exit(main())
"""


def test_killed_daemon_keeps_the_command_waiting(tmp_path: Path) -> None:
    """A waiting command meets the next daemon when the one that it asked is killed."""
    store = tmp_path / "store"
    store.write_text("no folder")
    with machine(tmp_path / "m", f"file://{store}") as on:
        (on.work / "x").write_text("one")
        request = _json(on, "put", "x", "--no-wait")["request"]
        waiting = on.start(TOLD, "wait", request)
        assert waiting.wait_line() in ("accepted", "prepared")
        assert on.kill_daemon()
        store.unlink()
        store.mkdir()
        on.wherry("retry", "--all")
        assert waiting.wait_done(60).splitlines()[-2:] == ["done", "uncategorized/x:v0"]


def test_interrupt_loses_the_request(tmp_path: Path) -> None:
    """Ctrl-C ends a waiting put with exit code 1; what was logged goes on in the daemon."""
    store = tmp_path / "store"
    store.write_text("no folder")
    with machine(tmp_path / "m", f"file://{store}") as on:
        (on.work / "x").write_text("one")
        with _started(on, "put", "x") as putting:
            wait_until(lambda: len(_json(on, "queue")) == 1)
            putting.send_signal(signal.SIGINT)
            _, err = putting.communicate(timeout=30)
        assert putting.returncode == 1, err
        assert "goes on" in err and "Traceback" not in err
        store.unlink()
        store.mkdir()
        on.wherry("retry", "--all")
        on.wherry("drain", "--timeout", "30s")
        assert [each["version"] for each in _json(on, "ls", "x")] == ["v0"]


def test_daemon_does_not_obey(machine: Machine) -> None:
    """start starts it, status sees it, stop returns when it is gone, and nothing is lost by that."""
    assert _json(machine, "daemon", "status")["running"] is False
    started = _json(machine, "daemon", "start")
    assert _json(machine, "daemon", "start")["pid"] == started["pid"]
    assert "ready" in machine.wherry("daemon", "logs")
    assert str(started["pid"]) in machine.wherry("daemon", "stop")
    assert machine.daemon_pid() is None
    assert _json(machine, "daemon", "status")["running"] is False
    (machine.work / "x").write_text("one")
    assert _json(machine, "put", "x")["version"] == "v0"


@pytest.mark.parametrize("mode", ["disabled"])
def test_disabled_mode_does_something(machine: Machine, mode: str) -> None:
    """In disabled mode put does nothing, and says so."""
    machine.env["WHERRY_MODE"] = mode
    (machine.work / "x").write_text("one")
    assert machine.wherry("put", "x") == ""
    assert not (machine.home / "queue.db").exists()
