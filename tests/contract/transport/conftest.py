"""Stock grpcio servers as processes of their own: grpcio in the tests' process would not let it fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("server.py")


class Server:
    """A server process."""

    def __init__(self, socket: Path, *options: str) -> None:
        self.socket = socket
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(socket), *options], stdout=subprocess.PIPE
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"

    def leave(self) -> None:
        """Ask it to go as a server should."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.wait_gone()

    def wait_gone(self) -> None:
        """Wait for its end."""
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Share one server among the tests that do it no harm."""
    made = Server(tmp_path_factory.mktemp("server") / "s")
    yield made
    made.kill()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that may be ended."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        started.append(Server(tmp_path / "s", *options))
        return started[-1]

    yield start
    for made in started:
        made.kill()


@pytest.fixture
def daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """Let clients start the server as a daemon in the test's home; gives the pids that were started."""
    home.mkdir(mode=0o700)
    monkeypatch.setenv("WHERRY_DAEMON", f"{sys.executable} {SERVER}")

    def pids() -> list[int]:
        file = home / "pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    yield pids
    for pid in pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
