"""``FetchFiles``: how long a call holds what it has told of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from google.protobuf.message import Message

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import HandClock
from tests.unit.daemon.stored import put_files
from wherry.errors import CommError, DaemonLeaving
from wherry.wire import wherry_pb2 as pb
from wherryd.life import Life
from wherryd.news import News
from wherryd.opened import OpenedStores
from wherryd.read.cache import CacheFolder
from wherryd.read.fetching import Fetcher
from wherryd.registry.objects import ObjectRegistry
from wherryd.rpc.fetching import HELD_S, FetchingCalls
from wherryd.together import all_of

STORE = "s3://bucket"


class Bench:
    """The calls, over a store in memory."""

    def __init__(self, root: Path) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock)
        self.life = Life(self.clock, News())
        self.fetcher = Fetcher(
            lambda is_in_use: CacheFolder(str(root), "boot", self.clock, is_in_use, 1 << 40)
        )
        stores = OpenedStores(self._open, self.clock)
        self.calls = FetchingCalls(stores, STORE, self.fetcher, self.clock, self.life)
        self.replies: list[pb.FetchReply] = []

    async def _open(self, _: str) -> MemoryStore:
        return self.store

    async def put(self, folder: Path, files: dict[str, bytes]) -> pb.FetchFilesRequest:
        """Put files; return the request for them."""
        manifest = await put_files(ObjectRegistry(self.store), folder, files)
        return pb.FetchFilesRequest(store=STORE, project="cats", manifest=manifest)

    async def send(self, reply: Message) -> None:
        """Take a reply."""
        assert isinstance(reply, pb.FetchReply)
        self.replies.append(reply)

    async def wait_told(self) -> None:
        """Return when all is told."""
        while not (self.replies and self.replies[-1].last):
            await anyio.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One."""
    return Bench(tmp_path / "cache")


async def test_what_is_copied_leaves(bench: Bench, tmp_path: Path) -> None:
    """What a call has told of stays until the client hangs up."""
    request = await bench.put(tmp_path, {"a": b"a", "b": b"b"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.calls.fetch_files, request, bench.send)
        await bench.wait_told()
        assert (await bench.calls.trim_cache(pb.TrimCacheRequest(most_bytes=0))).removed_files == 0
        tasks.cancel_scope.cancel()
    reply = await bench.calls.trim_cache(pb.TrimCacheRequest(most_bytes=0))
    assert (reply.removed_files, reply.removed_bytes, reply.files) == (2, 2, 0)


async def test_a_look_removes_something(bench: Bench, tmp_path: Path) -> None:
    """Without a size nothing is removed."""
    request = await bench.put(tmp_path, {"a": b"a"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.calls.fetch_files, request, bench.send)
        await bench.wait_told()
        tasks.cancel_scope.cancel()
    reply = await bench.calls.trim_cache(pb.TrimCacheRequest())
    assert (reply.files, reply.bytes, reply.removed_files) == (1, 1, 0)
    assert reply.quota_bytes > 1


async def test_a_leaving_daemon_waits_for_copies(bench: Bench, tmp_path: Path) -> None:
    """A daemon that leaves ends the call at once: the next one is asked for the rest."""
    request = await bench.put(tmp_path, {"a": b"a"})
    ended: list[Exception] = []

    async def call() -> None:
        try:
            await bench.calls.fetch_files(request, bench.send)
        except DaemonLeaving as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await bench.wait_told()
        assert not ended
        bench.life.leave("test")
    assert len(ended) == 1


async def test_a_client_that_hangs_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """After an hour in which a client does not hang up it has had its time."""
    request = await bench.put(tmp_path, {"a": b"a"})

    async def let_time_pass() -> None:
        await bench.wait_told()
        await anyio.wait_all_tasks_blocked()
        bench.clock.advance(HELD_S + 1)

    with pytest.raises(CommError):
        await all_of(partial(bench.calls.fetch_files, request, bench.send), let_time_pass)


async def test_a_large_object_comes_in_silence(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an object is on its way, the client is told each second how much has come."""
    request = await bench.put(tmp_path, {"a": b"a" * 3_000_000})
    go_on, stream = anyio.Event(), bench.store.stream

    async def slow(key: str, *args: Any) -> Any:
        async for chunk in stream(key, *args):
            yield chunk
            if "/blobs/" in key:
                await go_on.wait()

    monkeypatch.setattr(bench.store, "stream", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.calls.fetch_files, request, bench.send)
        while not bench.replies:
            await anyio.sleep(0.01)
            bench.clock.advance(1)
        assert 0 < bench.replies[0].bytes < 3_000_000
        go_on.set()
        await bench.wait_told()
        tasks.cancel_scope.cancel()
