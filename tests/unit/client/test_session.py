"""The session's folder: who holds it, and what a sweep may take."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from tests.unit.client.test_adding import content
from wherry import session
from wherry.wire import places

#: More than stays in memory.
SPOOLED = bytes(20_000)


def is_held(folder: Path) -> bool:
    """Whether a process holds the session, as a sweep finds out."""
    lock = os.open(folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def sessions(home: Path) -> list[Path]:
    return sorted((home / places.SESSIONS).iterdir())


def test_artifact_without_captures_makes_a_session(home: Path) -> None:
    """Nothing is made on the disk before something is captured."""
    wherry.Artifact("name", type="type")
    assert not (home / places.SPOOL).exists()


def test_artifacts_share_a_folder(home: Path, tmp_path: Path) -> None:
    """All artifacts of a process lie in one session, each in a folder of its own; all private."""
    (tmp_path / "f").write_bytes(SPOOLED)
    artifacts = [wherry.Artifact("name", type="type") for _ in range(3)]
    for artifact in artifacts:
        artifact.add_file("f")
    (folder,) = sessions(home)
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 3
    assert is_held(folder)
    for path in (home / places.SPOOL).rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def _start(code: str, home: Path, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "WHERRY_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


_CAPTURE = """
import os, subprocess, sys, wherry
open("f", "wb").write(bytes(20_000))
wherry.Artifact("name", "type").add_file("f")
"""


def test_forked_child_loses_the_session(home: Path, tmp_path: Path) -> None:
    """A forked child holds the session after its parent was killed."""
    code = (
        _CAPTURE
        + """
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
os.write(1, b"x")
os.kill(os.getpid(), 9)
"""
    )
    parent = _start(code, home, tmp_path)
    assert parent.stdin and parent.stdout and parent.stdout.read(1) == b"x"
    parent.wait()
    (folder,) = sessions(home)
    assert is_held(folder)
    with parent.stdout:
        parent.stdin.close()
        assert parent.stdout.read() == b""  # the child has ended too
    assert not is_held(folder)


def test_executed_program_keeps_the_session(home: Path, tmp_path: Path) -> None:
    """A program that the process started does not hold the session after its end."""
    code = (
        _CAPTURE
        + """
reads = "import os, sys; os.write(1, b'x'); sys.stdin.read()"
subprocess.Popen([sys.executable, "-c", reads], close_fds=False)
os._exit(0)
"""
    )
    parent = _start(code, home, tmp_path)
    # By the program itself: execve(2) lets who started it go on before it closes descriptors.
    assert parent.stdin and parent.stdout and parent.stdout.read(1) == b"x"
    parent.wait()
    (folder,) = sessions(home)
    assert not is_held(folder)
    with parent.stdout:
        parent.stdin.close()
        assert parent.stdout.read() == b""


@pytest.mark.parametrize("place", ["_FOLDER_MADE", "_FILE_MADE"])
def test_sweep_between_two_steps_breaks_the_session(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A session that is swept while it is made is made once more."""
    swept: list[Path] = []

    def sweep() -> None:
        if not swept:
            swept.extend(sessions(home))
            shutil.rmtree(swept[0])

    monkeypatch.setattr(session, place, sweep)
    (tmp_path / "f").write_bytes(SPOOLED)
    artifact = wherry.Artifact("name", type="type")
    artifact.add_file("f")
    (folder,) = sessions(home)
    assert folder != swept[0]
    assert is_held(folder)


def test_swept_session_is_used_on(home: Path, tmp_path: Path) -> None:
    """Where the session was swept, the next artifact goes into a new one."""
    (tmp_path / "f").write_bytes(SPOOLED)
    wherry.Artifact("name", type="type").add_file("f")
    shutil.rmtree(home)
    artifact = wherry.Artifact("name", type="type")
    artifact.add_file("f")
    assert content(artifact, "f") == SPOOLED
    (folder,) = sessions(home)
    assert is_held(folder)


def test_dropped_artifacts_fill_the_spool(home: Path, tmp_path: Path) -> None:
    """What an artifact captured that was dropped unlogged goes when the next one captures."""
    (tmp_path / "f").write_bytes(SPOOLED)
    artifact = wherry.Artifact("name", type="type")
    for _ in range(5):
        artifact = wherry.Artifact("name", type="type")
        artifact.add_file("f")
    (folder,) = sessions(home)
    assert len([path for path in folder.iterdir() if path.is_dir()]) <= 2
    assert content(artifact, "f") == SPOOLED
