"""Starting, leaving, being idle, losing the socket: the daemon as a process."""

from __future__ import annotations

import os
import queue
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.faults.gate import Gate
from tests.support.daemon import (
    Caller,
    DaemonEnded,
    DaemonProcess,
    LoggedArtifact,
    Session,
    read_store,
)
from tests.support.fixtures import BUCKET
from tests.support.servers import Seaweed
from wherry import errors
from wherry.wire import wherry_pb2 as pb


@pytest.fixture
def daemon(home: Path) -> Iterator[DaemonProcess]:
    """A daemon that is not started yet."""
    daemon = DaemonProcess(home)
    yield daemon
    daemon.kill()


def _configure(daemon: DaemonProcess, text: str) -> None:
    daemon.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (daemon.home / "config.toml").write_text(text)


def _wait_until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


def _is_draining(caller: Caller) -> bool:
    return cast("pb.HelloReply", caller.call("Hello", pb.HelloRequest())).draining


# ── leaving ────────────────────────────────────────────────────────────────────────────────────
def test_sigterm_is_a_crash(daemon: DaemonProcess) -> None:
    """SIGTERM ends the daemon with exit code 0; its socket and the pid in its lock are gone."""
    daemon.start()
    assert daemon.terminate() == 0
    assert not (daemon.home / "daemon.sock").exists()
    assert (daemon.home / "daemon.lock").read_text() == ""
    daemon.start()


def test_sigint_ends_the_others_daemon(daemon: DaemonProcess) -> None:
    """Ctrl-C and a closed terminal leave the daemon as it is, as one job's end is not the others'."""
    daemon.start()
    daemon.signal(signal.SIGINT)
    daemon.signal(signal.SIGHUP)
    daemon.wait_ready()
    assert daemon.terminate() == 0


def test_ctrl_c_is_ignored_in_the_foreground(home: Path) -> None:
    """A daemon that was told to stay ends on Ctrl-C."""
    with DaemonProcess(home, arguments=["--stay"]) as daemon:
        daemon.signal(signal.SIGINT)
        assert daemon.wait() == 0


def test_leaving_daemon_takes_requests(daemon: DaemonProcess) -> None:
    """A leaving daemon says so, refuses new requests by DaemonLeaving, and ends what waits for them."""
    daemon.start()
    session = Session(daemon.home)
    held = session.artifact("held", offline=True).add("x", b"1")
    with daemon.caller() as caller, daemon.caller() as waiter:
        held.log(caller)
        wait = waiter.stream("Wait", pb.WaitRequest(request_ids=[held.id]))
        next(wait)
        slow = _SlowLog(daemon, session)
        _shut_down(caller)
        with pytest.raises(errors.DaemonLeaving):
            list(wait)
        with pytest.raises(errors.DaemonLeaving):
            session.artifact().add("x", b"1").log(caller)
        assert _is_draining(caller)
        slow.end()
    assert slow.reply is not None
    assert daemon.wait() == 0
    with daemon.start().caller() as caller:
        assert _state_of(daemon, slow.artifact.id) == "done"
    assert len(read_store(daemon.home, "cats", "slow")) == 1


class _SlowLog:
    """A stream under way, which keeps a leaving daemon for a while."""

    def __init__(self, daemon: DaemonProcess, session: Session) -> None:
        self.artifact = session.artifact("slow").add("x", b"1")
        self.reply: pb.LogReply | None = None
        self._caller = daemon.caller()
        self._under_way, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._log)
        self._thread.start()
        assert self._under_way.wait(10)

    def end(self) -> None:
        """Send the rest; return when the answer is there."""
        self._go_on.set()
        self._thread.join(20)
        self._caller.close()

    def _messages(self) -> Iterator[pb.LogMessage]:
        for message in self.artifact.messages():
            if message.WhichOneof("part") == "end":
                # gRPC has asked for the next message, so the ones before are on their way
                self._under_way.set()
                self._go_on.wait(20)
            yield message

    def _log(self) -> None:
        self.reply = cast("pb.LogReply", self._caller.send("Log", self._messages()))


class _OpenStream:
    """A stream of requests that waits for its next one."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._caller = daemon.caller()
        self._requests = queue.SimpleQueue[pb.LogWhole | None]()
        self._answers = self._caller.exchange("LogMany", iter(self._requests.get, None), None)

    def log(self, artifact: LoggedArtifact) -> pb.LogReply:
        """Log one; the answer is the promise."""
        (message,) = artifact.whole()
        self._requests.put(message.whole)
        return cast("pb.LogReply", next(self._answers))

    def close(self) -> None:
        """Hang up."""
        self._requests.put(None)
        self._caller.close()


def test_open_stream_keeps_a_leaving_daemon(daemon: DaemonProcess) -> None:
    """A stream that waits for its next request does not hold up the daemon's end; what is sent on it while
    the daemon leaves is refused by DaemonLeaving.
    """
    session = Session(daemon.start().home)
    streams = [_OpenStream(daemon) for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.log(session.artifact(f"a{number}").add("x", b"1"))
    slow = _SlowLog(daemon, session)
    with daemon.caller() as caller:
        _shut_down(caller)
        with pytest.raises(errors.DaemonLeaving):
            streams[0].log(session.artifact("late").add("x", b"1"))
    slow.end()
    began = time.monotonic()
    assert daemon.wait() == 0
    assert time.monotonic() - began < 5
    for stream in streams:
        stream.close()
    assert "Traceback" not in daemon.log()


def _shut_down(caller: Caller, *, if_idle: bool = False) -> bool:
    request = pb.ShutdownRequest(why="a test", if_idle=if_idle)
    return cast("pb.ShutdownReply", caller.call("Shutdown", request)).accepted


def _state_of(daemon: DaemonProcess, id_: str) -> str:
    return daemon.wait_done([id_])[id_].state


def test_busy_daemon_is_shut_down_as_idle(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Asked to leave if it is idle, the daemon stays while it has work; held requests are not work."""
    daemon.start()
    session = Session(daemon.home)
    gone = f"file://{tmp_path}/not-mounted/store"
    with daemon.caller() as caller:
        session.artifact("waits", store=gone).add("x", b"1").log(caller)
        assert not _shut_down(caller, if_idle=True)
        caller.call("Cancel", pb.SelectRequest(all=True))
        session.artifact("held", offline=True).add("x", b"1").log(caller)
        assert _shut_down(caller, if_idle=True)
    assert daemon.wait() == 0


def test_request_that_comes_in_is_no_work(daemon: DaemonProcess) -> None:
    """Asked to leave if it is idle, the daemon stays for a request that is still coming in."""
    session = Session(daemon.start().home)
    with daemon.caller() as caller:
        slow = _SlowLog(daemon, session)
        _wait_until(lambda: cast("pb.HelloReply", caller.call("Hello", pb.HelloRequest())).busy)
        assert not _shut_down(caller, if_idle=True)
        slow.end()
    assert slow.reply is not None
    assert _state_of(daemon, slow.artifact.id) == "done"


def test_unfinished_work_is_lost_at_the_end(daemon: DaemonProcess, tmp_path: Path) -> None:
    """What waits for its store when the daemon leaves is done by the next one."""
    daemon.start()
    session = Session(daemon.home)
    store = tmp_path / "later" / "store"
    artifact = session.artifact(store=f"file://{store}").add("x", b"1")
    with daemon.caller() as caller:
        artifact.log(caller)
        stream = caller.stream("Wait", pb.WaitRequest(request_ids=[artifact.id], every_s=0.05))
        reason = next(state for state in stream if cast("pb.RequestState", state).error)
        assert cast("pb.RequestState", reason).error == "StoreMissing"
        assert cast("pb.RequestState", reason).next_try
    assert daemon.terminate() == 0
    store.mkdir(parents=True)
    daemon.start()
    assert _state_of(daemon, artifact.id) == "done"


#: Reads for hashing take this much longer than they do; a file of each is noted.
_SLOW_READS = """
import os, time
from pathlib import Path
_preadv = os.preadv
def slow(descriptor, buffers, offset):
    Path(os.environ["NOTED"]).touch()
    time.sleep(0.05)
    return _preadv(descriptor, buffers, offset)
os.preadv = slow
"""
#: The contract: a daemon leaves within 10 s; and what a machine takes that does other things as well.
_LEAVES_S = 12.0


def test_work_under_way_keeps_a_leaving_daemon(home: Path, seaweed: Seaweed) -> None:
    """SIGTERM while a file is hashed that takes half a minute, and another goes up to a store that has
    fallen silent: it has ended with exit code 0 within 10 s, and the next one does both.
    """
    home.mkdir(mode=0o700)
    (home.parent / "sitecustomize.py").write_text(_SLOW_READS)
    noted = home.parent / "reads"
    slow = {"PYTHONPATH": str(home.parent), "NOTED": str(noted)}
    session = Session(home)
    with Gate(seaweed.port) as gate:
        address = seaweed.address(BUCKET, f"leave/{gate.port}")
        address = address.replace(seaweed.endpoint, f"http://127.0.0.1:{gate.port}")
        first = DaemonProcess(home, {**seaweed.credentials, **slow}).start()
        sent = session.artifact("sent", store=address).add("x", random.Random(1).randbytes(5 << 20))
        with first.caller() as caller:
            before = session.artifact("before", store=address).add("x", b"1")
            before.log(caller)
            assert _state_of(first, before.id) == "done"
            gate.close()
            sent.log(caller)
            assert gate.awaited.wait(30), "nothing goes up"
            noted.unlink()
            hashed = session.artifact("hashed").add("x", b"")
            _grow(hashed, "x", 256 << 20)
            hashed.log(caller)
        _wait_until(noted.exists)
        assert first.terminate(_LEAVES_S) == 0
        assert not read_store(home, "cats", "hashed"), "it was done before the end"
        gate.open()
        with DaemonProcess(home, seaweed.credentials) as second:
            done = second.wait_done([sent.id, hashed.id], timeout_s=60)
            assert {state.state for state in done.values()} == {"done"}


def _grow(artifact: LoggedArtifact, path: str, size: int) -> None:
    """Make an entry's file sparse and as large as ``size`` bytes."""
    entry = artifact.entries[path]
    os.truncate(artifact.folder / entry.captured.file, size)
    entry.size = size


#: A start that never comes to the end of the stray manifests.
_SWEEPS_FOR_EVER = """
import sys
class Slow:
    def find_spec(self, name, *_):
        if name == "wherryd.app":
            sys.meta_path.remove(self)
            import anyio
            from wherryd.capture.freeing import Freer
            async def sweep(self):
                await anyio.sleep_forever()
            Freer.sweep_manifests = sweep
sys.meta_path.insert(0, Slow())
"""


def test_a_long_sweep_at_the_start_is_deaf(home: Path) -> None:
    """While stray manifests are swept, what is prepared goes on, and SIGTERM is heard."""
    later = home.parent / "later"
    with DaemonProcess(home) as first:
        session = Session(home)
        prepared = session.artifact(store=f"file://{later}").add("x", b"1")
        with first.caller() as caller:
            prepared.log(caller)
            stream = caller.stream("Wait", pb.WaitRequest(request_ids=[prepared.id], every_s=0.05))
            assert next(state for state in stream if state.error).state == "prepared"
    later.mkdir()
    (home.parent / "sitecustomize.py").write_text(_SWEEPS_FOR_EVER)
    with DaemonProcess(home, {"PYTHONPATH": str(home.parent)}) as sweeping:
        assert _state_of(sweeping, prepared.id) == "done"
        assert sweeping.terminate() == 0


# ── being idle ─────────────────────────────────────────────────────────────────────────────────
def test_idle_daemon_stays_for_ever(daemon: DaemonProcess) -> None:
    """Without client, work or timed retry it ends by itself; what offline mode holds is no work."""
    _configure(daemon, "idle_timeout_s = 0.4\n")
    daemon.start()
    session = Session(daemon.home)
    with daemon.caller() as caller:
        session.artifact("held", offline=True).add("x", b"1").log(caller)
    session.close()
    assert daemon.wait() == 0
    assert 'why="idle for' in daemon.log()


def test_open_stream_is_a_client(daemon: DaemonProcess) -> None:
    """A stream that waits for its next request does not keep a daemon that has nothing to do."""
    _configure(daemon, "idle_timeout_s = 0.4\n")
    session = Session(daemon.start().home)
    stream = _OpenStream(daemon)
    stream.log(session.artifact().add("x", b"1"))
    session.close()
    assert daemon.wait() == 0
    stream.close()


def test_busy_daemon_ends_by_itself(daemon: DaemonProcess, tmp_path: Path) -> None:
    """A timed retry keeps it, and so does a process that holds a session."""
    _configure(daemon, "idle_timeout_s = 0.2\n")
    daemon.start()
    session = Session(daemon.home)
    with daemon.caller() as caller:
        store = f"file://{tmp_path}/not-mounted/store"
        session.artifact(store=store).add("x", b"1").log(caller)
        session.close()
    alive = Session(daemon.home)
    _wait_rounds(daemon, 8)
    with daemon.caller() as caller:
        caller.call("Cancel", pb.SelectRequest(all=True))
    _wait_rounds(daemon, 8)
    alive.close()
    assert daemon.wait() == 0


def _wait_rounds(daemon: DaemonProcess, count: int) -> None:
    """Let the daemon make rounds: each finds the socket gone and binds it again."""
    for _ in range(count):
        (daemon.home / "daemon.sock").unlink()
        _wait_until((daemon.home / "daemon.sock").exists)


# ── the socket ─────────────────────────────────────────────────────────────────────────────────
def test_reaped_socket_cuts_the_daemon_off(daemon: DaemonProcess) -> None:
    """A socket whose file is gone is made again; who was connected goes on."""
    _configure(daemon, "idle_timeout_s = 4\n")  # a round every second
    daemon.start()
    with daemon.caller() as before:
        _is_draining(before)
        (daemon.home / "daemon.sock").unlink()
        _wait_until((daemon.home / "daemon.sock").exists)
        daemon.wait_ready()
        assert not _is_draining(before)
        assert stat.S_IMODE((daemon.home / "daemon.sock").stat().st_mode) == 0o600
    assert daemon.terminate() == 0
    assert not (daemon.home / "daemon.sock").exists()


def test_reaped_folder_of_the_socket_ends_the_daemon(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the socket lies outside the home and its folder goes, as at log-out, the daemon answers where
    clients look for it then; what it was asked before stays.
    """
    runtime, deep = home.parent / "run", home / ("deep" * 25)
    runtime.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    daemon = DaemonProcess(deep)
    _configure(daemon, "idle_timeout_s = 4\n")  # a round every second
    try:
        daemon.start()
        session = Session(deep)
        gone = session.artifact(store=f"file://{home.parent}/not-mounted/store").add("x", b"1")
        with daemon.caller() as caller:
            gone.log(caller)
        assert daemon.socket.parent == runtime
        shutil.rmtree(runtime)
        daemon.wait_ready()
        assert daemon.socket.parent != runtime
        status = daemon.call("Status", pb.StatusRequest())
        assert status.socket == str(daemon.socket)
        assert [state.request_id for state in status.requests] == [gone.id]
        assert daemon.terminate() == 0
        assert not daemon.socket.exists()
    finally:
        daemon.kill()


def test_removed_home_keeps_its_daemon(daemon: DaemonProcess) -> None:
    """A home that is removed, and made anew, is another daemon's: the old one ends and binds nothing."""
    _configure(daemon, "idle_timeout_s = 4\n")  # a round every second
    daemon.start()
    aside = daemon.home.with_name("aside")
    daemon.home.rename(aside)
    daemon.home.mkdir(0o700)
    assert daemon.wait() == 0
    assert not list(daemon.home.iterdir())
    aside.rename(daemon.home.with_name("gone"))


def test_stale_socket_stops_the_start(daemon: DaemonProcess) -> None:
    """What a killed daemon left (socket, pid, lock file) is no obstacle."""
    daemon.start()
    daemon.kill()
    assert (daemon.home / "daemon.sock").exists()
    daemon.start()


def test_second_daemon_serves_the_same_home(daemon: DaemonProcess) -> None:
    """A second one waits for the first to leave, and then takes over."""
    daemon.start()
    second = DaemonProcess(daemon.home).start(wait=False)
    assert daemon.terminate() == 0
    try:
        second.wait_ready()
        assert (daemon.home / "daemon.lock").read_text() == f"{second.pid}\n"
    finally:
        second.kill()


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("config", "said"), [("max_transfers = 'x'", "max_transfers"), ("= =", "TOML")]
)
def test_bad_setting_is_a_riddle(daemon: DaemonProcess, config: str, said: str) -> None:
    """A setting that can't be used ends the start with exit code 1, and the log names it."""
    _configure(daemon, config)
    daemon.start(wait=False)
    assert daemon.wait() == 1
    assert said in daemon.log()
    assert "Traceback" not in daemon.log()


def test_locale_stops_the_start(home: Path) -> None:
    """Whatever the locale's encoding is, the daemon starts and takes names that it can't write."""
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with DaemonProcess(home, env) as daemon:
        artifact = Session(home).artifact("Käfer").add("für/日本.txt", b"1")
        with daemon.caller() as caller:
            artifact.log(caller)
        assert _state_of(daemon, artifact.id) == "done"
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.log()


def test_few_files_are_allowed_and_many_are_opened(daemon: DaemonProcess) -> None:
    """Where few open files are allowed, fewer transfers run at once than asked for; the log says so, and
    names what is set and has no effect yet.
    """
    _configure(daemon, "max_transfers = 40\ncapture = 'auto'\n")
    wherryd = f"{sys.executable} -m wherryd --stay --home {daemon.home}"
    limited = subprocess.Popen(
        ["sh", "-c", f"ulimit -n 96; exec {wherryd}"], stderr=subprocess.PIPE, text=True
    )
    assert limited.stderr is not None
    said = ""
    while "event=ready" not in said:
        line = limited.stderr.readline()
        assert line, said
        said += line
    with daemon.caller() as caller:
        _is_draining(caller)  # it answers, so that it hears signals
    limited.terminate()
    limited.communicate(timeout=30)
    assert limited.returncode == 0
    assert re.search("too few open files.* most=6", said), said
    assert re.search("no effect yet.* name=capture", said), said


def test_newer_queue_is_written_to(daemon: DaemonProcess) -> None:
    """A queue of a newer version is refused with the reason."""
    import sqlite3

    daemon.start()
    daemon.terminate()
    with sqlite3.connect(daemon.home / "queue.db") as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()
    with pytest.raises(DaemonEnded, match="newer"):
        daemon.start()


#: Makes one method of the daemon raise for the artifact ``poison``.
_BREAKING = """
import sys
class Break:
    def find_spec(self, name, *_):
        if name == "wherryd.app":
            import importlib
            sys.meta_path.remove(self)
            part = getattr(importlib.import_module("{module}"), "{part}")
            sound = part.{method}
            def broken(self, *given):
                lane = getattr(self, "_lane", None) or getattr(given[0], "request", given[0]).lane
                if lane.name == "poison":
                    raise ZeroDivisionError("a defect")
                return sound(self, *given)
            part.{method} = broken
sys.meta_path.insert(0, Break())
"""


@pytest.mark.parametrize(
    ("module", "part", "method"),
    [
        ("wherryd.prepare.manifests", "ManifestMaker", "make"),
        ("wherryd.transfer.blobs", "Blobs", "send"),
        ("wherryd.commit.worker", "LaneWorker", "_decide"),
        ("wherryd.commit.worker", "LaneWorker", "_put"),
        ("wherryd.commit.worker", "LaneWorker", "_look"),
        ("wherryd.commit.naming", "Namer", "_give"),
    ],
)
def test_one_bad_artifact_stops_all(home: Path, module: str, part: str, method: str) -> None:
    """A defect met by one request is told and tried again; others go on, and the daemon stays."""
    breaking = _BREAKING.format(module=module, part=part, method=method)
    (home.parent / "sitecustomize.py").write_text(breaking)
    session = Session(home)
    with DaemonProcess(home, {"PYTHONPATH": str(home.parent)}) as broken:
        poison = session.artifact("poison", aliases=["best"]).add("x", b"1")
        others = [session.artifact("good").add("x", str(n).encode()) for n in range(3)]
        with broken.caller() as caller:
            for artifact in (poison, *others):
                artifact.log(caller)
        done = broken.wait_done([other.id for other in others])
        assert {state.state for state in done.values()} == {"done"}
        _wait_until(lambda: broken.log().count("ZeroDivisionError: a defect") >= 2)
        if method != "_look":  # which is asked before it is known for which request
            _wait_until(lambda: "Defect" in _error_of(broken, poison.id))
        assert broken.terminate() == 0
    with DaemonProcess(home) as daemon:
        assert _state_of(daemon, poison.id) == "done"


#: Makes one method of the daemon raise, the first two times.
_BREAKING_PARTS = """
import sys
class Break:
    def find_spec(self, name, *_):
        if name == "wherryd.app":
            import importlib
            sys.meta_path.remove(self)
            part = getattr(importlib.import_module("{module}"), "{part}")
            sound, times = part.{method}, []
            async def broken(self, *given):
                times.append(1)
                if len(times) < 3:
                    raise ZeroDivisionError("a defect")
                return await sound(self, *given)
            part.{method} = broken
sys.meta_path.insert(0, Break())
"""


@pytest.mark.parametrize(
    ("module", "part", "method"),
    [
        ("wherryd.crew", "Crew", "_start_tasks"),
        ("wherryd.commit.committer", "Committer", "_start_workers"),
        ("wherryd.capture.freeing", "Freer", "_free_all"),
        ("wherryd.capture.durability", "Durability", "sync_all"),
        ("wherryd.upkeep", "Upkeep", "_round"),
    ],
)
def test_one_broken_part_ends_the_daemon(home: Path, module: str, part: str, method: str) -> None:
    """A part that meets a defect beside any request is started again; the others work on meanwhile."""
    breaking = _BREAKING_PARTS.format(module=module, part=part, method=method)
    (home.parent / "sitecustomize.py").write_text(breaking)
    session = Session(home)
    with DaemonProcess(home, {"PYTHONPATH": str(home.parent)}) as broken:
        artifact = session.artifact("good").add("x", b"1")
        with broken.caller() as caller:
            artifact.log(caller)
        assert _state_of(broken, artifact.id) == "done"
        _wait_until(lambda: broken.log().count("ZeroDivisionError: a defect") >= 2)
        _wait_until(lambda: not artifact.folder.exists())
        assert broken.terminate() == 0


def test_a_stopped_lane_shows_an_old_reason(daemon: DaemonProcess) -> None:
    """All requests of a stopped lane say why it stands still, and promise no next try."""
    session = Session(daemon.start().home)
    with daemon.caller() as caller:
        first = session.artifact().add("x", b"0")
        first.log(caller)
    assert _state_of(daemon, first.id) == "done"
    daemon.terminate()
    for record in (daemon.home / "store/cats/artifacts/model/versions").iterdir():
        record.unlink()
    daemon.start()
    held_up = [session.artifact().add("x", b"%d" % n) for n in (1, 2)]
    with daemon.caller() as caller:
        for artifact in held_up:
            artifact.log(caller)

    def stopped() -> pb.StatusReply:
        return daemon.call("Status", pb.StatusRequest())

    _wait_until(lambda: bool(stopped().stopped))
    late = session.artifact().add("x", b"3")
    with daemon.caller() as caller:
        late.log(caller)
    status = stopped()
    (lane,) = status.stopped
    assert len(status.requests) == 3
    for state in status.requests:
        assert (state.error, state.reason, state.next_try) == ("StoreChanged", lane.reason, "")


def _error_of(daemon: DaemonProcess, id_: str) -> str:
    status = daemon.call("Status", pb.StatusRequest())
    return next(state.error for state in status.requests if state.request_id == id_)


def test_wherryd_does_not_teach() -> None:
    """`wherryd --help` says what it is, how it ends and what the exit codes mean; odd usage is 2."""
    command = [sys.executable, "-m", "wherryd"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    for word in ("--home", "--stay", "SIGTERM", "Exit codes", "config.toml"):
        assert word in helped.stdout
    wrong = subprocess.run([*command, "--nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
