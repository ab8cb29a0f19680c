"""A program killed anywhere between its first capture and the daemon's answer."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.client.recorder import Recorder
from wherry.wire import places

Program = Callable[..., subprocess.CompletedProcess[str]]

# Where the client can be ended, and how many requests the daemon then has.
PLACES = {
    "session.folder.made": 0,
    "session.lock.made": 0,
    "session.lock.taken": 0,
    "capture.folder.made": 0,
    "capture.file.made": 0,
    "capture.file.made@2": 0,
    "capture.copy.middle": 0,
    "capture.pack.before-write": 0,
    "capture.pack.written": 0,
    "log.sync.before": 0,
    "log.call.before": 0,
    "log.entries.before": 0,
    "log.end.before": 0,
    "log.call.answered": 1,
}

_PROGRAM = """
import wherry
from wherry import copying
copying._reflink = lambda *_: False  # whatever disk this runs on, a copy is one
for name in ("small", "other"):
    with open(name, "wb") as file:
        file.write(name.encode())
with open("big", "wb") as file:
    file.write(b"big" * 1_000_000)
run = wherry.init(project="p", settings={"finish": "detach"})
artifact = wherry.Artifact("name", "type")
artifact.add_file("small")
artifact.add_file("big")
artifact.add_file("other")
artifact.add_file("big", name="again")
artifact.add_file("big", name="linked", policy="immutable")
run.log_artifact(artifact)
"""


@pytest.mark.parametrize("place", PLACES)
def test_killed_program_leaves_half_a_request(
    program: Program, recorder: Recorder, home: Path, place: str
) -> None:
    """A killed program's request is whole or not there; its session is free to be swept, and the
    next program is not hindered.
    """
    killed = program(_PROGRAM, check=False, WHERRY_FAILPOINT=place, WHERRY_DURABILITY="power")
    assert killed.returncode == -9, killed.stderr
    assert len(recorder.logged) == PLACES[place]
    for session in (home / places.SESSIONS).iterdir():
        _check_free(session)
    program(_PROGRAM)
    assert len(recorder.logged) == PLACES[place] + 1
    read = recorder.read
    assert recorder.logged[-1].paths == ["again", "big", "linked", "other", "small"]
    assert read["again"] == read["big"] == read["linked"] == b"big" * 1_000_000
    assert (read["small"], read["other"]) == (b"small", b"other")


def _check_free(session: Path) -> None:
    """A sweep takes the lock, or the folder where there is nothing in it yet."""
    try:
        lock = os.open(session / "lock", os.O_RDWR)
    except FileNotFoundError:
        session.rmdir()
        return
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_a_place_is_not_tested(program: Program) -> None:
    """Every place that the client declares is in the table above."""
    done = program(
        "import wherry; wherry.Run; from wherry.wire.failpoints import DECLARED; print(*DECLARED)"
    )
    ours = {
        name for name in done.stdout.split() if name.split(".")[0] in ("session", "capture", "log")
    }
    assert ours == {place.partition("@")[0] for place in PLACES}
