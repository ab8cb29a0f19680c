"""A machine of its own for one test: a home, training programs as processes, a daemon to kill.

Nothing here looks inside Wherry: programs are real processes with ``import wherry``, the daemon is
found by the pid in its lock file, and what arrived is read from the store by ``reading``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.soak import SOAK
from tests.support.disks import SmallDisk

#: The full numbers take as long as they take.
_PATIENCE_S = 1800.0 if SOAK else 120.0


class Machine:
    """One home and what runs on it.

    Args:
        root: an empty folder; the home is ``root/home``, programs work in ``root/work``.
        store: the store's address; the home's own folder by default.
        env: more environment for programs and daemon.
    """

    def __init__(self, root: Path, store: str = "", env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.home = root / "home"
        self.work = root / "work"
        self.work.mkdir(parents=True)
        self.store = store or f"file://{self.home}/store"
        kept = {
            key: os.environ[key]
            for key in ("PATH", "HOME", "LANG", "PYTHONPATH")
            if key in os.environ
        }
        self.env = {
            **kept,
            "WHERRY_HOME": str(self.home),
            "WHERRY_STORE": self.store,
            "WHERRY_HOME_LASTS": "yes",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        #: What every command of this machine begins with.
        self.prefix: list[str] = []
        self._programs: list[subprocess.Popen[str]] = []

    def live_on(self, disk: SmallDisk) -> None:
        """Let programs and daemon run where that disk is the home."""
        self.prefix, self.home = disk.prefix, disk.outside

    def start(self, source: str, *args: str, env: Mapping[str, str] | None = None) -> Program:
        """Start a program in a process of its own."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-c", textwrap.dedent(source), *args],
            cwd=self.work,
            env={**self.env, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._programs.append(process)
        return Program(process)

    def run(self, source: str, *args: str, env: Mapping[str, str] | None = None) -> str:
        """Run a program to its end and return what it printed; a failure is the test's."""
        return self.start(source, *args, env=env).wait_done()

    def wherry(self, *args: str, check: bool = True, timeout_s: float = 60) -> str:
        """Run the command line; return what it printed."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "wherry.cli", *args],
            cwd=self.work,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"wherry {args} exited {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return done.stdout

    def daemon_pid(self) -> int | None:
        """The pid of the daemon that runs for this home, None where there is none."""
        lock = self.home / "daemon.lock"
        try:
            pid = int(lock.read_text().split()[0])
            return pid if _has_open(pid, lock.stat()) else None
        except (OSError, ValueError, IndexError):
            return None

    def is_answered(self) -> bool:
        """Whether somebody listens at the home's socket."""
        with socket.socket(socket.AF_UNIX) as asked:
            return asked.connect_ex(str(self.home / "daemon.sock")) == 0

    def kill_daemon(self) -> bool:
        """End the daemon by SIGKILL; False where there was none."""
        pid = self.daemon_pid()
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def wait_all_done(self, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until nothing is left to do."""
        self.wherry("drain", "--timeout", f"{timeout_s:.0f}s", timeout_s=timeout_s + 30)

    def close(self) -> None:
        """End what this test started."""
        for process in self._programs:
            if process.poll() is None:
                process.kill()
            process.communicate()
        pid = self.daemon_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: self.daemon_pid() is None, 10)


class Program:
    """A program that runs on a machine."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_done(self, timeout_s: float = _PATIENCE_S) -> str:
        """Wait for its end; what it printed. A failure is the test's."""
        out, err = self.process.communicate(timeout=timeout_s)
        if self.process.returncode != 0:
            raise AssertionError(f"the program exited {self.process.returncode}:\n{out}\n{err}")
        return out

    def wait_line(self) -> str:
        """Its next line; "" at its end."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has a file open; the number of one that was killed may be another's by now."""
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it may be closed meanwhile
            if os.path.samestat(opened.stat(), file):
                return True
    return False


@contextmanager
def machine(root: Path, store: str = "", env: Mapping[str, str] | None = None) -> Iterator[Machine]:
    """A machine that leaves no process behind."""
    made = Machine(root, store, env)
    try:
        yield made
    finally:
        made.close()


def wait_until(holds: object, timeout_s: float = 30, poll_s: float = 0.02) -> None:
    """Return when ``holds()`` is true, asked each ``poll_s``; fail the test after ``timeout_s``."""
    assert callable(holds)
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {holds}")
        time.sleep(poll_s)
