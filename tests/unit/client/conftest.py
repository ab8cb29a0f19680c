"""What the client's tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.client.recorder import Recorder
from wherry import active, connection, recent, room, session


@pytest.fixture
def recorder(home: Path) -> Iterator[Recorder]:
    """Give a daemon that writes down what it is told."""
    with Recorder(home) as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Leave nothing active for the next test, and let relative paths lie in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    yield
    for run in active.all_runs():
        active.leave(run)
    for each in vars(connection)["_connections"].values():
        each.close()
    vars(recent)["_last"].clear()
    held = vars(session)["_sessions"]
    while held:
        os.close(held.popitem()[1].lock)
    rooms = vars(room)["_rooms"]
    while rooms:
        rooms.popitem()[1].file.close()


@pytest.fixture
def program(home: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program in this home; its standard streams come back as text."""

    def run(
        code: str, *, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
            env={**os.environ, "WHERRY_HOME": str(home), **environment},
        )
        if check and done.returncode:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run
