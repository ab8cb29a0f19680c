"""``wherry daemon …``: asking who runs starts nobody, and stop waits for the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon
from wherry.cli import daemon as command
from wherry.connection import Connection
from wherry.wire import PROTOCOL, VERSION, places


def test_question_starts_a_daemon(
    home: Path, as_json: Callable[..., Any], monkeypatch: Any
) -> None:
    """status says that none runs, and starts none."""
    monkeypatch.setenv("WHERRY_DAEMON", "/bin/false")
    assert as_json("daemon", "status") == {
        "running": False,
        "pid": None,
        "version": None,
        "protocol": None,
        "home": str(home),
        "socket": str(home / "daemon.sock"),
        "draining": False,
        "busy": False,
    }


def test_running_daemon_is_not_seen(
    daemon: FakeDaemon, home: Path, as_json: Callable[..., Any]
) -> None:
    """status says who runs."""
    assert as_json("daemon", "status") == {
        "running": True,
        "pid": os.getpid(),
        "version": VERSION,
        "protocol": PROTOCOL,
        "home": str(home),
        "socket": str(home / "daemon.sock"),
        "draining": False,
        "busy": False,
    }


def test_second_daemon_is_started(daemon: FakeDaemon, wherry: Wherry, monkeypatch: Any) -> None:
    """start leaves a running daemon alone."""
    monkeypatch.setenv("WHERRY_DAEMON", "/bin/false")
    assert wherry("daemon", "start").stdout.startswith("already running")


def test_start_fails_silently(wherry: Wherry, monkeypatch: Any) -> None:
    """A daemon that can't start is an error that shows what it said."""
    monkeypatch.setenv("WHERRY_DAEMON", f"{sys.executable} -c 'raise SystemExit(\"no luck\")'")
    assert "no luck" in wherry("daemon", "start", exit_code=1).stderr


def test_stop_of_nobody_fails(wherry: Wherry) -> None:
    """Where none runs there is nothing to stop, and that is fine."""
    assert wherry("daemon", "stop").stdout == "no daemon runs\n"


def test_busy_daemon_is_stopped(daemon: FakeDaemon, wherry: Wherry) -> None:
    """With --if-idle a daemon that has work goes on, and the exit code is 1."""
    daemon.busy = True
    assert "has work" in wherry("daemon", "stop", "--if-idle", exit_code=1).stderr


def test_stop_returns_before_the_end(daemon: FakeDaemon, wherry: Wherry, monkeypatch: Any) -> None:
    """stop returns when the socket is closed and the process is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    hello = daemon.hello
    monkeypatch.setattr(daemon, "hello", lambda sent: _with_pid(hello(sent), process.pid))
    ending = threading.Thread(target=_end, args=(daemon, process))
    daemon.on_shutdown = ending.start
    assert wherry("daemon", "stop").stdout == f"stopped (pid {process.pid})\n"
    assert process.stdin is not None
    assert process.stdin.closed  # without it the process would run
    ending.join()


def _with_pid(reply: Any, pid: int) -> Any:
    reply.pid = pid
    return reply


def _end(daemon: FakeDaemon, process: subprocess.Popen[bytes]) -> None:
    daemon.stop(grace_s=5)  # the one that asks it to end has its answer
    process.communicate(b"\n")


def test_stop_waits_for_ever(daemon: FakeDaemon, wherry: Wherry) -> None:
    """A daemon that does not end is told of, with the way that loses nothing."""
    shown = wherry("daemon", "stop", "--timeout", "0.2s", exit_code=1)
    assert f"kill -9 {os.getpid()}" in shown.stderr


def test_ended_daemon_is_waited_for() -> None:
    """A process has ended although nobody has waited for it: a container's first may never do that."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert command._is_alive(process.pid)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not command._is_alive(process.pid)
    process.wait()
    assert not command._is_alive(process.pid)


def test_deaf_daemon_can_not_be_ended(
    home: Path, wherry: Wherry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that does not answer is named by its pid, so that it can be ended all the same."""
    monkeypatch.setattr("wherry.greeting._HELLO_S", 0.1)
    home.mkdir(mode=0o700)
    (home / places.INSTANCE_LOCK).write_text("4711\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / places.SOCKET))
        listening.listen()
        assert "`kill 4711`" in wherry("daemon", "stop", exit_code=1).stderr


def test_leaving_daemon_is_an_error(home: Path, as_json: Callable[..., Any]) -> None:
    """A daemon that ends while it is asked runs no more, and is no reason to fail."""
    home.mkdir(mode=0o700)
    path = home / places.SOCKET
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        leaving = threading.Thread(target=_leave, args=(listening, path))
        leaving.start()
        assert as_json("daemon", "status")["running"] is False
        leaving.join()


def _leave(listening: socket.socket, path: Path) -> None:
    asked, _ = listening.accept()
    path.unlink()
    asked.close()


def test_stopped_daemon_had_work(
    daemon: FakeDaemon, wherry: Wherry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ends by itself before it is asked to has no work that it goes on with."""
    monkeypatch.setattr(command, "_is_alive", lambda _: False)
    shut_down = Connection.shut_down

    def too_late(asked: Connection, why: str, *, if_idle: bool = False) -> bool:
        daemon.stop()
        return shut_down(asked, why, if_idle=if_idle)

    monkeypatch.setattr(Connection, "shut_down", too_late)
    assert wherry("daemon", "stop").stdout == f"stopped (pid {os.getpid()})\n"


@pytest.mark.parametrize("count", [0, 1, 3, 5000])
@pytest.mark.parametrize("end", ["", "\n"])
def test_log_ends_are_cut(
    home: Path, as_json: Callable[..., Any], monkeypatch: Any, count: int, end: str
) -> None:
    """The last lines are shown whole, however long the log is and wherever it is read."""
    monkeypatch.setattr(command, "_CHUNK_BYTES", 7)
    home.mkdir(mode=0o700)
    lines = [f"line {number} – ü" for number in range(1000)]
    (home / places.LOG).write_text("\n".join(lines) + end)
    shown = as_json("daemon", "logs", "--lines", str(count))
    assert shown == {"file": str(home / places.LOG), "lines": lines[-count:] if count else []}


def test_missing_log_is_a_traceback(home: Path, wherry: Wherry) -> None:
    """Where no daemon was ever started there is no log, and that is told."""
    assert "no log" in wherry("daemon", "logs", exit_code=1).stderr


def test_followed_log_stands_still(home: Path) -> None:
    """What is written later is shown, from the start again where the log was begun anew."""
    home.mkdir(mode=0o700)
    log = home / places.LOG
    log.write_text("old\n")
    written = command._written_from(log, log.stat().st_size)
    with log.open("a") as opened:
        opened.write("one\n")
    assert next(written) == "one\n"
    log.write_text("new\n")
    assert next(written) == "new\n"
