"""Lock, log, socket and life: what stands below the stages."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio
import pytest

from tests.unit.daemon.bench import HandClock
from wherry.errors import BadSetting, DaemonLeaving, DaemonNotStarted
from wherry.wire import wherry_pb2 as pb
from wherryd.config import ConfigFile, most_transfers, read_config
from wherryd.life import LEAVING, Life
from wherryd.lock import InstanceLock
from wherryd.log import mask_secrets
from wherryd.news import News
from wherryd.rpc.server import Server
from wherryd.rpc.service import SERVICE, make_handlers


# ── lock ───────────────────────────────────────────────────────────────────────────────────────
def test_two_daemons_hold_a_home(tmp_path: Path) -> None:
    """The second one is told who has it, and gets it when the first has ended."""
    with (
        InstanceLock(tmp_path),
        pytest.raises(DaemonNotStarted, match=f"pid {os.getpid()}"),
        InstanceLock(tmp_path, patience_s=0.1),
    ):
        pass
    assert (tmp_path / "daemon.lock").read_text() == ""
    with InstanceLock(tmp_path, patience_s=0):
        assert (tmp_path / "daemon.lock").read_text() == f"{os.getpid()}\n"


def _hold(home: Path, ready: int, end: int) -> None:
    with InstanceLock(home):
        os.write(ready, b".")
        os.read(end, 1)
        os._exit(9)


def test_killed_daemon_keeps_its_home(tmp_path: Path) -> None:
    """The kernel's lock is the truth: a pid in the file of a killed daemon means nothing."""
    ready, end = os.pipe(), os.pipe()
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_hold, args=(tmp_path, ready[1], end[0]))
    process.start()
    os.read(ready[0], 1)
    os.write(end[1], b".")
    process.join()
    assert (tmp_path / "daemon.lock").read_text() == f"{process.pid}\n"
    with InstanceLock(tmp_path, patience_s=0):
        pass


# ── log ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://AKIA:secret@bucket/x", "s3://***@bucket/x"),
        ("https://token@host/x?a=1", "https://***@host/x?a=1"),
        ("no access to http://u:p%40ss@h:80/x.", "no access to http://***@h:80/x."),
        (
            "GET https://h/x?X-Amz-Signature=abc&b=1&X-Amz-Credential=AKIA/2026",
            "GET https://h/x?X-Amz-Signature=***&b=1&X-Amz-Credential=***",
        ),
        (
            "https://h/x?AWSAccessKeyId=AK&Signature=s",
            "https://h/x?AWSAccessKeyId=***&Signature=***",
        ),
        ("s3://bucket/x?region=eu&endpoint_url=http://h:1", None),
        ("mail bob@example.org about file:///home/a@b/c", None),
    ],
)
def test_secrets_get_into_the_log(text: str, masked: str | None) -> None:
    """Passwords, tokens and signatures in URIs are hidden; all else is told as it is."""
    assert mask_secrets(text) == (text if masked is None else masked)


# ── config ─────────────────────────────────────────────────────────────────────────────────────
def test_config_is_not_read(tmp_path: Path) -> None:
    """The home's config.toml counts; a bad value is told with its place; odd names are reported."""
    (tmp_path / "config.toml").write_text("max_transfers = 3\nidle_timeout_s = 9\nodd = 1\n")
    config = read_config(tmp_path, {})
    assert (config.max_transfers, config.idle_timeout_s, config.unknown) == (3, 9.0, ("odd",))
    assert config.store == config.default_store == f"file://{tmp_path}/store"
    assert config.without_effect == ()
    (tmp_path / "config.toml").write_text("spool_quota_inodes = 9\ncapture = 'copy'\n")
    assert read_config(tmp_path, {}).without_effect == ("capture",)
    (tmp_path / "config.toml").write_text("max_transfers = 'many'\n")
    with pytest.raises(BadSetting, match=r"max_transfers in .*config\.toml"):
        read_config(tmp_path, {})


def test_changed_config_waits_for_a_restart(tmp_path: Path) -> None:
    """What is written into config.toml counts at the next look; what can't be used changes nothing."""
    file, told = tmp_path / "config.toml", []
    looking = ConfigFile(tmp_path, lambda config: told.append(config.max_bandwidth))
    looking.look()
    for written in (
        "max_bandwidth = '2 MB/s'\n",
        "max_bandwidth = 'fast'\n",
        "max_bandwidth = 7\n",
    ):
        file.write_text(written)
        for _ in range(2):
            looking.look()
    file.unlink()
    looking.look()
    assert told == [2_000_000, 7, None]


@pytest.mark.parametrize(
    ("wanted", "files", "most"), [(16, 65_536, 16), (16, 256, 16), (16, 64, 4), (16, 8, 1)]
)
def test_transfers_run_out_of_files(wanted: int, files: int, most: int) -> None:
    """No more transfers run at once than half of the open files allow, and one always does."""
    assert most_transfers(wanted, files) == most


# ── life ───────────────────────────────────────────────────────────────────────────────────────
async def test_daemon_is_quiet_during_a_call() -> None:
    """Quiet is counted from the beginning, then from the end of the last call; a leaving daemon takes
    nothing new.
    """
    clock, news = HandClock(), News()
    life = Life(clock, news)
    clock.advance(5)
    life.begin()
    clock.advance(4)
    assert life.quiet_s == 4
    with life.call():
        clock.advance(5)
        assert life.quiet_s == 0
    clock.advance(1)
    assert life.quiet_s == 1
    life.check_staying()
    with news.watch(LEAVING) as watch:
        await watch.wait_news()
        life.leave("a test")
        await watch.wait_news()
    with pytest.raises(DaemonLeaving, match="a test"):
        life.check_staying()


def test_a_few_requests_are_pressure() -> None:
    """Work stands back while requests come in fast, and no longer."""
    clock = HandClock()
    life = Life(clock, News())
    for _ in range(3):
        life.note_request()
    assert life.stand_back_s == 0.0
    life.note_request()
    assert life.stand_back_s > 0.0
    clock.advance(0.2)
    assert life.stand_back_s == 0.0


def test_a_crowd_that_never_ends_stops_the_work() -> None:
    """Work all but stops for a crowd of requests, and goes on beside it when it lasts."""
    clock = HandClock()
    life = Life(clock, News())
    for _ in range(4):
        life.note_request()
    pressed_s = life.stand_back_s
    stood_back = []
    for _ in range(1500):
        clock.advance(0.01)
        life.note_request()
        stood_back.append(life.stand_back_s)
    assert max(stood_back) > pressed_s
    assert stood_back[-1] == pressed_s
    clock.advance(0.2)
    for _ in range(10):
        life.note_request()
    assert life.stand_back_s > pressed_s


def test_request_is_forgotten_at_once() -> None:
    """A request that came in is news for a moment: the next one may follow."""
    clock = HandClock()
    life = Life(clock, News())
    assert not life.is_receiving
    life.note_request()
    assert life.is_receiving
    clock.advance(0.06)
    assert not life.is_receiving


# ── socket ─────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
async def make_server(home: Path) -> AsyncIterator[Callable[[int], Server]]:
    """Make servers that know Hello only and answer a pid, in a folder whose name has to be quoted."""
    folder = home / "a b%20ü?#"
    folder.mkdir(parents=True)
    made: list[Server] = []

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    def make(pid: int) -> Server:
        async def hello(_: pb.HelloRequest) -> pb.HelloReply:
            return pb.HelloReply(pid=pid)

        calls = {method.name: broken for method in SERVICE.methods} | {"Hello": hello}
        handlers = make_handlers(calls, Life(HandClock(), News()))
        made.append(Server(lambda: folder / "daemon.sock", handlers))
        return made[-1]

    yield make
    for server in made:
        await server.stop(0)
        # grpc.aio waits for its thread when its last object goes: not in the middle of another test.
        server._servers.clear()
    gc.collect()


@pytest.fixture
def server(make_server: Callable[[int], Server]) -> Server:
    """A server."""
    return make_server(7)


async def _ask(socket: Path, method: str = "Hello") -> int:
    async with grpc.aio.insecure_channel(f"unix:{quote(str(socket))}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE.full_name}/{method}",
            request_serializer=pb.HelloRequest.SerializeToString,
            response_deserializer=pb.HelloReply.FromString,
        )
        reply = await call(pb.HelloRequest(), timeout=10)
        return int(reply.pid)


async def test_bound_socket_has_nobody_behind_it(server: Server) -> None:
    """The socket answers from its first moment, in place of a stale file too."""
    server._find_socket().write_bytes(b"stale")
    await server.bind()
    assert await _ask(server._socket) == 7
    assert [path.name for path in server._socket.parent.iterdir()] == ["daemon.sock"]


async def test_removed_socket_stays_away(server: Server) -> None:
    """A socket whose file is gone is made again; one that is there is left alone."""
    await server.bind()
    inode = server._socket.stat().st_ino
    await server.bind_if_gone()
    assert server._socket.stat().st_ino == inode
    server._socket.unlink()
    await server.bind_if_gone()
    assert await _ask(server._socket) == 7


async def test_ending_daemon_takes_its_successors_socket(
    server: Server, make_server: Callable[[int], Server]
) -> None:
    """At its end a server removes its own file, and no other that has come to its place."""
    await server.bind()
    following = make_server(8)
    await following.bind()
    assert await _ask(server._socket) == 8
    await server.stop(0)
    assert await _ask(server._socket) == 8


@pytest.mark.blocks  # the traceback in the log reads source files
async def test_defect_ends_the_server(server: Server) -> None:
    """A call with a defect gets an error that says so, and the next call an answer."""
    await server.bind()
    with pytest.raises(grpc.aio.AioRpcError, match="ZeroDivisionError") as caught:
        await _ask(server._socket, "Shutdown")
    assert dict(caught.value.trailing_metadata())["wherry-error"] == "WherryError"
    assert await _ask(server._socket) == 7
