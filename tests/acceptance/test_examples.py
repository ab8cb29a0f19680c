"""The examples that need nothing but Wherry; the others stand with what they need (Ray, the trainers)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import Place
from tests.support.machine import Machine
from tests.support.machine import machine as machine_of
from tests.support.reading import files, records

_EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(machine: Machine, *command: str | Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=machine.work,
        env={**machine.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_processes_lose_a_checkpoint(tmp_path: Path, place: Place) -> None:
    """Four processes log side by side: each checkpoint is a version, in order, and the best is found."""
    with machine_of(tmp_path / "machine", place.address, place.env) as machine:
        said = _run(machine, sys.executable, _EXAMPLES / "many_processes.py", "g")
        assert said.startswith("rate-1e-1:v4 is the best: loss 0.0")
        shown = machine.wherry("show", "examples/rate-1e-1:best-rate", "--json")
    assert json.loads(shown)["version"] == "v4"
    for name in ("rate-1e-1", "rate-1e-2", "rate-1e-3", "rate-1e-4"):
        found = records(place.objects, "examples", name)
        assert [record["metadata"]["epoch"] for record in found] == list(range(5))
        assert {record["run"]["group"] for record in found} == {"g"}
        slopes = [
            json.loads(dict(files(place.objects, "examples", record))["model.json"])["slope"]
            for record in found
        ]
        assert len(set(slopes)) == 5


def test_shell_fetches_another_version(tmp_path: Path, place: Place) -> None:
    """Commands alone log three checkpoints out of one file, and fetch the one that was named."""
    with machine_of(tmp_path / "machine", place.address, place.env) as machine:
        said = _run(machine, "sh", _EXAMPLES / "command_line.sh")
    lines = said.splitlines()
    assert lines[-1] == "step 2"
    assert "fetched" in lines[-2]
    found = records(place.objects, "examples", "shell-model")
    assert [record["metadata"] for record in found] == [{"step": step} for step in (1, 2, 3)]
    for record in found:
        (body,) = dict(files(place.objects, "examples", record)).values()
        assert body.startswith(b"step %d\n" % record["metadata"]["step"])


def test_example_is_run_nowhere() -> None:
    """Each example is named in a test that runs it."""
    tests = Path(__file__).parents[1].rglob("*.py")
    named = "\n".join(path.read_text() for path in tests)
    examples = [path.name for path in _EXAMPLES.iterdir() if path.is_file()]
    assert len(examples) > 5
    assert [name for name in examples if f"{name}" not in named] == []
