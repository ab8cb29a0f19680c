"""A queue that is damaged, or that another program holds, as users meet it."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess, LoggedArtifact, Session
from tests.support.machine import wait_until
from wherry.errors import QueueError
from wherry.wire import places


@pytest.fixture
def daemon(home: Path) -> Iterator[DaemonProcess]:
    """A home's daemon, not started yet, that makes rounds every second."""
    home.mkdir(0o700)
    (home / "config.toml").write_text("idle_timeout_s = 4\n")
    process = DaemonProcess(home)
    yield process
    process.kill()


def _log_offline(daemon: DaemonProcess, name: str = "model") -> LoggedArtifact:
    session = Session(daemon.home)
    artifact = session.artifact(name, offline=True).add("x", b"captured")
    with daemon.caller() as caller:
        artifact.log(caller)
    session.close()
    return artifact


def _damage(home: Path) -> None:
    with (home / places.QUEUE).open("r+b") as file:
        file.write(b"not a database at all" * 10)


def _wherry(*args: str) -> str:
    command = [sys.executable, "-m", "wherry.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _captured(artifact: LoggedArtifact) -> list[bytes]:
    return [file.read_bytes() for file in artifact.folder.glob("*")]


def _let_sweep(daemon: DaemonProcess) -> None:
    """A first sweep is made before the first round is over, and each round binds the socket again."""
    socket = daemon.home / places.SOCKET
    for _ in range(2):
        socket.unlink()
        wait_until(socket.exists)


# ── damaged ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("place", ["", "queue.damaged.database-moved", "queue.damaged.all-moved"])
def test_captured_bytes_of_a_damaged_queue_are_swept(daemon: DaemonProcess, place: str) -> None:
    """What the requests of a damaged queue captured stays while that lies there, whatever is killed."""
    lost = _log_offline(daemon.start())
    daemon.kill()
    manifest = daemon.home / places.SPOOL / "manifests" / "1.zst"
    manifest.write_bytes(b"made")
    _damage(daemon.home)
    if place:
        killed = DaemonProcess(daemon.home, {"WHERRY_FAILPOINT": place}).start(wait=False)
        assert killed.wait() == -9
    daemon.start()
    _let_sweep(daemon)
    assert _captured(lost) == [b"captured"]
    assert manifest.exists()


def test_a_damaged_queue_is_kept_for_ever(daemon: DaemonProcess) -> None:
    """When the user has removed it, what nobody needs any more is swept at the next start."""
    lost = _log_offline(daemon.start())
    daemon.kill()
    _damage(daemon.home)
    daemon.start()
    daemon.terminate()
    for file in daemon.home.glob("queue.db.damaged-*"):
        file.unlink()
    daemon.start()
    wait_until(lambda: not lost.folder.exists())


def test_nobody_hears_of_a_damaged_queue(daemon: DaemonProcess) -> None:
    """status and doctor say that it was set aside, where, and that its requests are not done."""
    _log_offline(daemon.start())
    daemon.kill()
    assert json.loads(_wherry("status", "--json"))["set_aside"] == []
    _wherry("daemon", "stop")
    _damage(daemon.home)
    told = json.loads(_wherry("status", "--json"))
    (aside,) = daemon.home.glob("queue.db.damaged-*Z")
    assert told["set_aside"] == [str(aside)]
    status = _wherry("status")
    assert str(aside) in status and "not sent" in status
    doctor = _wherry("doctor", "--json")
    assert f"set aside as {aside}" in doctor
    _wherry("daemon", "stop")


# ── held by another program ────────────────────────────────────────────────────────────────────
@contextmanager
def _held(home: Path, mode: str) -> Iterator[None]:
    with closing(sqlite3.connect(home / places.QUEUE, isolation_level=None)) as other:
        other.execute(f"PRAGMA locking_mode = {mode}")
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize("mode", ["NORMAL", "EXCLUSIVE"])
def test_a_locked_queue_leaves_a_daemon_behind(daemon: DaemonProcess, mode: str) -> None:
    """A daemon that can't open its queue ends with exit code 1 and the reason in its log."""
    daemon.start()
    daemon.kill()
    with _held(daemon.home, mode):
        daemon.start(wait=False)
        assert daemon.wait() == 1
    assert "another program holds" in daemon.log()
    assert "Traceback" not in daemon.log()


def test_the_client_waits_for_a_daemon_that_can_not_start(daemon: DaemonProcess) -> None:
    """A program that logs meanwhile hears the reason at once."""
    daemon.start()
    daemon.kill()
    log = "import wherry; wherry.init(project='p').log_artifact(wherry.Artifact('a', 'b'))"
    with _held(daemon.home, "NORMAL"):
        ended = subprocess.run(
            [sys.executable, "-c", log],
            capture_output=True,
            text=True,
            check=False,
            timeout=45,
            cwd=daemon.home.parent,
            env={**os.environ},
        )
    assert ended.returncode == 1
    assert "ended with exit code 1" in ended.stderr
    assert "another program holds" in ended.stderr


_LOGS_TWICE = """
import wherry
run = wherry.init(project="p")
artifact = wherry.Artifact("a", "t")
with artifact.new_file("x") as file: file.write("1" * 3_000)
try:
    run.log_artifact(artifact)
except wherry.errors.QueueLocked as error:
    print(repr(str(error)), flush=True)
input()
print(run.log_artifact(artifact).wait().version, flush=True)
"""


def test_a_call_waits_for_a_locked_queue_in_silence(daemon: DaemonProcess) -> None:
    """Logging says who holds the queue and how to find out more, so do ``status`` and ``doctor``;
    afterwards the same artifact is logged, once.
    """
    daemon.start()
    command = [sys.executable, "-c", _LOGS_TWICE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=daemon.home.parent
    ) as program:
        assert program.stdin and program.stdout
        with _held(daemon.home, "NORMAL"):
            told = program.stdout.readline()
            assert "queue.db; this call waited 20 s" in told and "fuser -v" in told
            assert "queue.db" in json.loads(_wherry("status", "--json"))["locked"]
            status = _wherry("status")
            assert "Nothing can be logged now" in status and "fuser -v" in status
            assert "Nothing can be logged now" in _wherry("doctor")
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "v0\n"
    assert program.returncode == 0
    assert json.loads(_wherry("status", "--json"))["locked"] == ""
    _wherry("daemon", "stop")


def test_status_hangs_on_a_locked_queue(daemon: DaemonProcess) -> None:
    """While another program writes to the queue, status answers, and what is logged waits for it."""
    _log_offline(daemon.start())
    session = Session(daemon.home)
    artifact = session.artifact("later").add("x", b"1")
    with _held(daemon.home, "NORMAL"):
        assert json.loads(_wherry("status", "--json"))["counts"]["held"] == 1
    with daemon.caller() as caller:
        artifact.log(caller)
    assert daemon.wait_done([artifact.id])[artifact.id].state == "done"


# ── on a disk that fails ───────────────────────────────────────────────────────────────────────
@contextmanager
def _failing(daemon: DaemonProcess) -> Iterator[None]:
    """The queue's log can't grow for a while, as on a disk that fails: SQLite says "disk I/O error"."""
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    size = (daemon.home / f"{places.QUEUE}-wal").stat().st_size
    assert size > 2 * (daemon.home / places.LOG).stat().st_size, "no room for what the daemon says"
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, most))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (most, most))


def test_a_disk_error_is_a_broken_daemon(daemon: DaemonProcess) -> None:
    """Who logs while the disk fails hears of it, nothing is half-queued, and the same call works when
    the disk does again, with the same daemon and in its place in line.
    """
    session = Session(daemon.start().home)
    first, second, third = (session.artifact().add("x", b"%d" % n) for n in range(3))
    with daemon.caller() as caller:
        first.log(caller)
        with _failing(daemon), pytest.raises(QueueError):
            second.log(caller)
        third.log(caller)
        second.log(caller)
        first.log(caller)
    logged = [first, third, second]
    done = daemon.wait_done([each.id for each in logged])
    assert [done[each.id].version for each in logged] == [0, 1, 2]
    assert "Traceback" not in daemon.log()


def test_a_disk_error_cuts_the_leaving_short(daemon: DaemonProcess) -> None:
    """SIGTERM while the queue can't be written: the daemon leaves as ever, and says what it left."""
    _log_offline(daemon.start())
    with _failing(daemon):
        assert daemon.terminate() == 0
    assert "left to the next start" in daemon.log()
    assert "event=ended" in daemon.log()
    assert "Traceback" not in daemon.log()
