"""What ``tests/support/machine.py`` promises: it ends its own daemon, and nobody else."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from tests.support.machine import Machine


def test_a_stranger_is_taken_for_the_daemon(tmp_path: Path) -> None:
    """The number that a killed daemon left names no daemon, whoever has it now."""
    machine = Machine(tmp_path / "machine")
    machine.home.mkdir()
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        (machine.home / "daemon.lock").write_text(f"{stranger.pid}\n")
        assert machine.daemon_pid() is None
        assert not machine.kill_daemon()
        machine.close()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_daemon_is_not_found(tmp_path: Path) -> None:
    """Who is named in the lock and holds it is the daemon."""
    machine = Machine(tmp_path / "machine")
    machine.home.mkdir()
    with (machine.home / "daemon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        assert machine.daemon_pid() == os.getpid()
    assert machine.daemon_pid() is None
