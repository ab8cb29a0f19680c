"""Connections, their start and their end, with the stock server as the daemon."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.soak import rounds
from tests.support.interrupts import Interrupt, chosen_lines
from wherry import cut_off, errors
from wherry.connection import Connection, connect
from wherry.wire import places
from wherry.wire import wherry_pb2 as pb

Pids = Callable[[], list[int]]


@pytest.fixture
def connection(home: Path, daemon: Pids) -> Iterator[Connection]:
    """Give the connection to the test's daemon, which nobody has started yet."""
    made = connect(home)
    yield made
    made.close()


def get_version(connection: Connection, name: str = "", version: str = "") -> pb.Version:
    """Make a unary call; the answer's version is the daemon's pid."""
    request = pb.GetVersionRequest(name=name, version=version)
    return connection.unary("GetVersion", request, pb.Version)


def log(connection: Connection, name: str = "") -> int:
    """Make a client-stream call; returns the count of the entries' bytes, which is 30."""

    def messages() -> Iterator[pb.LogMessage]:
        yield pb.LogMessage(header=pb.LogHeader(request_id="r", name=name))
        for _ in range(3):
            yield pb.LogMessage(entries=pb.EntryBatch(entries=[pb.Entry(path="x" * 10)]))

    return connection.client_stream("Log", messages, pb.LogReply).place


def log_small(connection: Connection, name: str = "", size: int = 30) -> int:
    """Make an exchange; returns as ``log``."""
    entries = pb.EntryBatch(entries=[pb.Entry(path="x" * size)])
    whole = pb.LogWhole(header=pb.LogHeader(request_id="r", name=name), entries=entries)
    return connection.exchange("LogMany", lambda: whole, pb.LogReply).place


Log = Callable[..., int]
either_way = pytest.mark.parametrize("log", [log, log_small])


def hanging_wait(connection: Connection) -> Iterator[pb.RequestState]:
    """Begin a server stream that tells two states and then nothing."""
    request = pb.WaitRequest(every_s=2, request_ids=["hang"])
    return connection.server_stream("Wait", request, pb.RequestState)


def wait_ended(pid: int) -> None:
    """Wait for the end of a process that is not ours."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


# ── starting ───────────────────────────────────────────────────────────────────────────────────


def test_first_use_starts_no_daemon(connection: Connection, daemon: Pids) -> None:
    """The first call starts the daemon, the next ones use it."""
    assert connection.ask_running() is None
    assert daemon() == []
    assert get_version(connection, "a").version == daemon()[0]
    assert log(connection) == 30
    assert len(daemon()) == 1
    running = connection.ask_running()
    assert running and running.pid == daemon()[0]


def test_racing_processes_start_many_daemons(home: Path, daemon: Pids) -> None:
    """Of many processes that need a daemon at once, one starts it and all use it."""
    program = (
        "import sys; from wherry.connection import connect\nprint(connect(sys.argv[1]).hello().pid)"
    )
    racing = [
        subprocess.Popen([sys.executable, "-c", program, home], stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    answers = {int(process.communicate()[0]) for process in racing}
    assert answers == set(daemon())
    assert len(answers) == 1


def test_racing_threads_start_many_daemons(connection: Connection, daemon: Pids) -> None:
    """Of many threads that need a daemon at once, one starts it and all use it."""
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(get_version(connection).version))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert set(answers) == set(daemon())
    assert len(daemon()) == 1


def test_daemon_that_ends_at_once_goes_unexplained(connection: Connection, home: Path) -> None:
    """A daemon that can't start: the error shows the log's last lines, of this start only."""
    (home / "daemon.log").write_text("an earlier trouble\n")
    (home / "options").write_text("exit=no-disk")
    with pytest.raises(errors.DaemonNotStarted) as caught:
        get_version(connection)
    assert "cannot start: no-disk" in str(caught.value)
    assert "exit code 1" in str(caught.value)
    assert "earlier trouble" not in str(caught.value)


def test_command_that_is_missing_goes_unexplained(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon command that is not there is named."""
    monkeypatch.setenv("WHERRY_DAEMON", "/no/such/wherryd")
    with pytest.raises(errors.DaemonNotStarted, match="/no/such/wherryd can't be started"):
        get_version(connection)


@pytest.mark.parametrize("place", ["launch.lock.taken", "launch.process.started"])
def test_killed_starter_blocks_the_others(
    connection: Connection, home: Path, daemon: Pids, place: str
) -> None:
    """When the process that is starting the daemon is killed, the next one goes on from there."""
    program = "import sys; from wherry.connection import connect; connect(sys.argv[1]).hello()"
    environ = {**os.environ, "WHERRY_FAILPOINT": place}
    killed = subprocess.run([sys.executable, "-c", program, home], env=environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert get_version(connection).version
    assert len(daemon()) == 1


def test_stale_socket_is_in_the_way(connection: Connection, home: Path, daemon: Pids) -> None:
    """A socket that a killed daemon left, and the spawn lock's file, hinder nobody."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(home / places.SOCKET))
    left.close()
    (home / places.SPAWN_LOCK).touch()
    assert get_version(connection).version == daemon()[0]


def test_long_path_has_no_socket(
    tmp_path: Path, daemon: Pids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home whose path is too long for a socket works alike."""
    monkeypatch.setenv("WHERRY_HOME", str(tmp_path / ("long" * 30)))
    home = places.home()
    connection = connect(home)
    try:
        assert get_version(connection).version
        assert not (home / places.SOCKET).exists()
    finally:
        connection.shut_down("the test is over")
        connection.close()
        for pid in (home / "pids").read_text().split():
            wait_ended(int(pid))


def test_proxy_takes_the_call(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies in the environment are not for a local socket."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert log(connection) == 30


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_daemon_inherits_from_the_program(connection: Connection, daemon: Pids) -> None:
    """The daemon is nobody's child, in its own session, without the program's descriptors and masks."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    pipe = os.readlink(f"/proc/self/fd/{write}")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        get_version(connection)
    finally:
        signal.signal(signal.SIGUSR1, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(write)
        os.close(read)
    process = Path(f"/proc/{daemon()[0]}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert not int(status["SigIgn"], 16) >> (signal.SIGUSR1 - 1) & 1
    assert os.readlink(process / "cwd") == "/"
    assert os.readlink(process / "fd/0") == "/dev/null"
    assert os.readlink(process / "fd/1").endswith(places.LOG)
    assert pipe not in {os.readlink(file) for file in (process / "fd").iterdir()}
    assert os.getsid(daemon()[0]) == daemon()[0]
    with pytest.raises(ChildProcessError):  # it is nobody's child, so no zombie of ours later
        os.waitpid(daemon()[0], os.WNOHANG)
    # … and what stood between was waited for; children of other tests may be here.
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
    assert not [command for command in commands if b"detach" in command or not command]


# ── ends and new beginnings ────────────────────────────────────────────────────────────────────


def test_killed_daemon_fails_the_next_call(connection: Connection, daemon: Pids) -> None:
    """After the daemon was killed the next call is served by a new one."""
    for times in (1, 2, 3):
        assert log_small(connection) == 30
        assert get_version(connection).version == daemon()[-1]
        assert len(daemon()) == times
        os.kill(daemon()[-1], signal.SIGKILL)


@either_way
def test_kill_in_mid_call_fails_the_call(connection: Connection, daemon: Pids, log: Log) -> None:
    """A call whose daemon is killed is repeated with the next one, from its first message."""
    assert log(connection, "die") == 30
    assert len(daemon()) == 2


@either_way
def test_leaving_daemon_fails_the_call(connection: Connection, daemon: Pids, log: Log) -> None:
    """A daemon that is about to go is waited for, and the next one takes the call."""
    assert log(connection, "leave") == 30
    assert len(daemon()) == 2


@either_way
def test_many_kills_fail_the_call(connection: Connection, daemon: Pids, log: Log) -> None:
    """A call is repeated however often its daemon is killed, while that does not last too long."""
    assert log(connection, "die:6") == 30
    assert len(daemon()) == 7


@pytest.mark.parametrize("call", ["log", "list"])
def test_crash_loop_is_endless(
    connection: Connection, daemon: Pids, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A call that ends the daemon each time fails when the time is over, and says what to do."""
    monkeypatch.setattr(cut_off, "LIMIT_S", 0.0)
    with pytest.raises(errors.CommError, match="ended 4 times") as caught:
        if call == "log":
            log(connection, "die:1000")
        else:
            request = pb.ReadFilesRequest(paths=["1", "die"])
            connection.whole_stream("ReadFiles", request, pb.FileChunk)
    assert "wherry daemon logs" in str(caught.value)
    assert len(daemon()) == 4


def test_wait_ends_with_the_daemon(connection: Connection, daemon: Pids) -> None:
    """`Wait` goes on with the next daemon when its own is killed."""
    states = hanging_wait(connection)
    first = [next(states) for _ in range(2)]
    os.kill(first[0].place, signal.SIGKILL)
    second = [next(states) for _ in range(2)]
    assert [first[0].place, second[0].place] == daemon()


def test_other_streams_begin_again_in_the_middle(connection: Connection, daemon: Pids) -> None:
    """A stream other than `Wait` that is cut off after its first answer fails, and says so."""
    request = pb.ReadFilesRequest(paths=["1000000"] * 1000)
    chunks = connection.server_stream("ReadFiles", request, pb.FileChunk)
    next(chunks)
    os.kill(daemon()[0], signal.SIGKILL)
    with pytest.raises(errors.CommError):
        list(chunks)
    assert get_version(connection).version == daemon()[-1]


def test_older_idle_daemon_stays(connection: Connection, home: Path, daemon: Pids) -> None:
    """An idle daemon that is older than the client is asked to leave, and the next one is started."""
    (home / "options").write_text("protocol=0")
    with pytest.raises(errors.DaemonTooOld, match="too"):
        get_version(connection)
    (home / "options").unlink()
    assert get_version(connection).version == daemon()[-1]
    assert len(daemon()) == 3


def test_older_busy_daemon_is_ended(connection: Connection, home: Path, daemon: Pids) -> None:
    """A busy daemon that is older than the client is left alone; the error says what to do."""
    (home / "options").write_text("protocol=0 busy=1")
    with pytest.raises(errors.DaemonTooOld, match="has work") as caught:
        get_version(connection)
    assert "wherry daemon stop" in str(caught.value)
    os.kill(daemon()[0], 0)
    assert len(daemon()) == 1


def test_newer_daemon_is_refused(connection: Connection, home: Path) -> None:
    """A daemon that is newer than the client serves it."""
    (home / "options").write_text("protocol=99")
    assert log(connection) == 30


def test_shut_down_starts_or_ends_another(connection: Connection, home: Path, daemon: Pids) -> None:
    """Shutting down asks the daemon that runs, and starts none."""
    assert not connection.shut_down("test")
    (home / "options").write_text("busy=1")
    get_version(connection)
    assert not connection.shut_down("test", if_idle=True)
    assert connection.shut_down("test")
    connection.close()
    wait_ended(daemon()[0])
    assert len(daemon()) == 1


def test_interrupted_call_spoils_the_next(connection: Connection, daemon: Pids) -> None:
    """An exception from a signal handler ends the call; the next one gets its own answer."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert get_version(connection, "first").name == "first"
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            get_version(connection, "interrupted", "slow:60")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert get_version(connection, "next").name == "next"
    assert len(daemon()) == 1


def test_threads_share_an_exchange(connection: Connection, daemon: Pids) -> None:
    """Threads that log at once each get their own answers."""
    wrong: list[int] = []

    def go_on(size: int) -> None:
        for _ in range(200):
            place = log_small(connection, size=size)
            if place != size:
                wrong.append(place)

    threads = [threading.Thread(target=go_on, args=(size,)) for size in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(daemon()) == 1


# ── credentials ────────────────────────────────────────────────────────────────────────────────


def test_credentials_are_told_too_late(connection: Connection) -> None:
    """Credentials are with the daemon before the next call, and told again only when they change."""

    def stores() -> list[str]:
        reply = connection.unary("Status", pb.StatusRequest(), pb.StatusReply)
        return [credentials.store for credentials in reply.stopped]

    assert stores() == []
    connection.offer_credentials("s3://a", {"AWS_ACCESS_KEY_ID": "1"})
    assert stores() == ["s3://a"]
    connection.offer_credentials("s3://a", {"AWS_ACCESS_KEY_ID": "1"})
    connection.offer_credentials("s3://b", {})
    assert stores() == ["s3://a"]
    connection.offer_credentials("s3://b", {"AWS_ACCESS_KEY_ID": "2"})
    assert sorted(stores()) == ["s3://a", "s3://a", "s3://b"]


# ── threads and forks ──────────────────────────────────────────────────────────────────────────


def test_waiting_stream_blocks_other_threads(connection: Connection, daemon: Pids) -> None:
    """Threads call at the same time, while streams wait."""
    waiting = [hanging_wait(connection) for _ in range(3)]
    assert all(next(states).place for states in waiting)
    answers: list[str] = []

    def call(thread: int) -> None:
        for number in range(20):
            name = f"{thread}-{number}"
            assert log(connection) == 30
            answers.append(get_version(connection, name).name)

    threads = [threading.Thread(target=call, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"{t}-{n}" for t in range(8) for n in range(20))
    assert all(next(states).place for states in waiting)
    assert len(daemon()) == 1


@pytest.mark.soak
def test_fork_in_mid_call_hangs(connection: Connection, daemon: Pids) -> None:
    """Children forked in the middle of other threads' calls make their own; the parent's go on."""
    stop = threading.Event()
    errors_seen: list[BaseException] = []

    def keep_calling() -> None:
        while not stop.is_set():
            try:
                assert log(connection) == 30
                assert get_version(connection, "parent").name == "parent"
            except BaseException as error:  # noqa: BLE001 (whatever it is, the test fails)
                errors_seen.append(error)

    waiting = hanging_wait(connection)
    next(waiting)
    threads = [threading.Thread(target=keep_calling) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(rounds(10, 100)):
        children = [_fork_a_caller(connection, waiting) for _ in range(3)]
        codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes) == {0}
    assert errors_seen == []
    assert next(waiting).request_id == "1"
    assert len(daemon()) == 1


def _fork_a_caller(connection: Connection, waiting: Iterator[pb.RequestState]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.alarm(60)
        del waiting  # its end in the child is not the parent's
        gc.collect()
        name = f"child {os.getpid()}"
        if log(connection) == 30 and get_version(connection, name).name == name:
            code = 0
    finally:
        os._exit(code)


def test_inherited_stream_talks_on(connection: Connection) -> None:
    """A stream that the parent began can't be read in a child; the parent reads on."""
    waiting = hanging_wait(connection)
    next(waiting)
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(60)
            next(waiting)
            next(waiting)
            code = 2  # two answers: a new stream of the child's own, as Wait is begun again
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert next(waiting).request_id == "1"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("within", "is_warm"),
    [("exchange", False), ("exchange", True), ("usable", True), ("dial", False), ("open", False)],
)
def test_fork_by_a_signal_handler_takes_an_answer(
    connection: Connection, daemon: Pids, within: str, is_warm: bool
) -> None:
    """Forked at whichever line of a call, both go on with it: parent and child get their own answers."""
    assert log_small(connection) == 30

    def begin(hit: Interrupt) -> list[int]:
        if not is_warm:
            connection.close()
        places: list[int] = []
        hit.run(lambda: places.append(log_small(connection)))
        return places

    counted = Interrupt(within)
    assert begin(counted) == [30]
    for line in chosen_lines(counted.lines, 24):
        forked: list[int] = []
        hit = Interrupt(within, line, act=lambda forked=forked: forked.append(os.fork()))
        places: list[int] = []
        try:
            places = begin(hit)
        finally:
            if forked == [0]:
                os._exit(int(places != [30]))
        assert places == [30], hit.where
        if forked:  # a line that is not come by each time may be missed
            assert os.waitpid(forked[0], 0)[1] == 0, hit.where
    assert len(daemon()) == 1


def test_fork_during_the_first_import_hangs(daemon: Pids, home: Path) -> None:
    """A child forked while another thread imports the transport makes its calls."""
    program = """
import os, signal, sys, threading
from wherry.connection import connect
connection = connect(sys.argv[1])
hello = threading.Thread(target=connection.hello)
hello.start()
codes = []
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(60)
        connection.hello()
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
hello.join()
sys.exit(any(codes))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, home], check=True, timeout=100)
    assert len(daemon()) == 1
