"""Captured bytes leave the spool when their object is confirmed, and not before."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from tests.unit.daemon.bench import STORE, Bench, digest
from tests.unit.daemon.test_transfer import WatchedStore
from wherry.errors import StoreUnavailable
from wherry.wire.room import Room
from wherryd.capture.durability import Durability
from wherryd.model import Entry, FileStat, Lane, RunInfo, Source, State
from wherryd.queue.base import NewRequest, Request
from wherryd.registry import layout
from wherryd.stores.base import FileBody
from wherryd.transfer import blobs
from wherryd.transfer.emptying import LEAST_BYTES

_BIG = 1 << 20


@pytest.fixture
def store(bench: Bench) -> WatchedStore:
    """The bench's store, watched."""
    return WatchedStore(bench)


async def _log_files(
    bench: Bench, files: Mapping[str, bytes], *, linked: frozenset[str] = frozenset()
) -> tuple[Request, Path]:
    """Accept a request each of whose files has a spool file of its own."""
    folder = bench.spool / f"sessions/s/{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    entries = []
    for path, data in files.items():
        (folder / path).write_bytes(data)
        seen = (folder / path).stat()
        stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
        source = Source(str(folder / path), 0, stat if path in linked else None)
        entries.append(Entry(path, len(data), source=source))
    row = bench.queue.new_row()
    await bench.queue.stage(row, entries)
    own = [data for path, data in files.items() if path not in linked]
    request = NewRequest(
        id=folder.name,
        body=folder.name.encode(),
        lane=Lane(STORE, "cats", "model"),
        type="model",
        description=None,
        metadata="{}",
        aliases=[],
        tags=[],
        inputs=[],
        run=RunInfo("run1"),
        client="test",
        folder=str(folder.relative_to(bench.spool)),
        entries=len(entries),
        size=sum(map(len, files.values())),
        spooled=Room(sum(map(len, own)), len(own) + 1),
    )
    await bench.queue.accept(row, request)
    return await bench.queue.get(row), folder


async def _wait_gone(folder: Path, *names: str) -> None:
    with anyio.fail_after(20):
        while any((folder / name).exists() for name in names):
            await anyio.sleep(0.005)


async def _held(bench: Bench) -> Room:
    found = await bench.queue.spooled()
    return Room(
        sum(each.bytes for each in found.values()), sum(each.files for each in found.values())
    )


async def test_spool_waits_for_the_commit(bench: Bench, store: WatchedStore) -> None:
    """What a request has put leaves the spool when it is uploaded, the row first; linked files too."""
    files = {"a": os.urandom(_BIG), "b": os.urandom(_BIG)}
    request, folder = await _log_files(bench, files, linked=frozenset("b"))
    assert await _held(bench) == Room(_BIG, 2)
    bench.preparer()
    bench.transferrer()
    await bench.wait_state(request, State.UPLOADED)
    await _wait_gone(folder, "a", "b")
    assert await _held(bench) == Room(0, 1)


async def test_spool_keeps_all_while_one_file_is_sent(
    bench: Bench, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several big files those that have arrived leave while the others are on their way."""
    files = {name: os.urandom(_BIG) for name in "abc"}
    request, folder = await _log_files(bench, files)
    bench.preparer()
    slow = layout.blob_key("cats", digest(files["c"]))
    put, gate = store.put, anyio.Event()

    async def put_late(key: str, body: FileBody) -> None:
        if key == slow:
            await gate.wait()
        await put(key, body)

    monkeypatch.setattr(store, "put", put_late)
    bench.transferrer()
    with anyio.fail_after(20):
        while (folder / "a").exists() or (folder / "b").exists():
            await anyio.sleep(0.005)
            bench.clock.advance(blobs.PROVE_S / 10)
    assert (folder / "c").exists()
    assert (await bench.queue.get(request.row)).state is State.PREPARED
    assert await _held(bench) == Room(_BIG, 2)
    gate.set()
    await bench.wait_state(request, State.UPLOADED)
    await _wait_gone(folder, "c")


async def test_bytes_that_were_only_found_leave_early(bench: Bench, store: WatchedStore) -> None:
    """What another request had put stays in the spool until the commit, which looks at it again."""
    files = {"a": os.urandom(_BIG), "b": os.urandom(_BIG)}
    await bench.registry().put_blob("cats", digest(files["a"]), _body(bench, files["a"]))
    bench.preparer()
    bench.transferrer()
    request, folder = await _log_files(bench, files)
    await bench.wait_state(request, State.UPLOADED)
    await _wait_gone(folder, "b")
    again, kept = await _log_files(bench, files)
    await bench.wait_state(again, State.UPLOADED)
    assert sorted(os.listdir(kept)) == ["a", "b"]
    assert os.listdir(folder) == ["a"]


def _body(bench: Bench, data: bytes) -> FileBody:
    file = bench.root / "body"
    file.write_bytes(data)
    return FileBody(str(file), 0, len(data), bytes.fromhex(digest(data)[7:]))


async def test_a_part_of_a_spool_file_is_enough(bench: Bench, store: WatchedStore) -> None:
    """A spool file of many pieces leaves when all have arrived, and little ones with their request."""
    bench.preparer()
    bench.transferrer()
    pieces = {f"{number:02}": os.urandom(LEAST_BYTES) for number in range(8)}
    whole = await bench.log(pieces)
    await bench.wait_state(whole, State.UPLOADED)
    await _wait_gone(bench.file_of(whole).parent, "pack")
    little = await bench.log({"a": b"little"}, name="other")
    await bench.wait_state(little, State.UPLOADED)
    assert bench.file_of(little).exists()
    known = await bench.log({**pieces, "new": os.urandom(LEAST_BYTES)}, name="third")
    await bench.wait_state(known, State.UPLOADED)
    assert bench.file_of(known).exists()  # of which one piece alone was put


async def test_a_store_in_trouble_takes_bytes_away(bench: Bench, store: WatchedStore) -> None:
    """Nothing leaves before the store has confirmed it: where the proof fails, all is kept."""
    files = {"a": os.urandom(_BIG), "b": os.urandom(_BIG)}
    request, folder = await _log_files(bench, files)
    bench.preparer()
    await bench.wait_state(request, State.PREPARED)

    async def sync(*_: object) -> None:
        raise StoreUnavailable("it is away")

    store.sync = sync  # type: ignore[method-assign,assignment]
    bench.transferrer()
    await bench.wait_row(request, lambda now: now.error)
    assert sorted(os.listdir(folder)) == ["a", "b"]
    assert await _held(bench) == Room(2 * _BIG, 3)


async def test_another_boot_misses_what_has_left(bench: Bench, store: WatchedStore) -> None:
    """After a loss of power a request is whole whose bytes are in the spool or in the store."""
    files = {"a": os.urandom(_BIG), "b": os.urandom(_BIG), "c": os.urandom(_BIG)}
    request, folder = await _log_files(bench, files)
    bench.preparer()
    await bench.wait_state(request, State.PREPARED)
    digests = {name: digest(data) for name, data in files.items()}
    await bench.queue.set_store_id(STORE, "store-1", probed=True)
    sent = blobs.Item(digests["a"], _BIG, (), _BIG).sent(1)
    await bench.queue.note_sent(request.lane, sent)
    (folder / "a").unlink()
    durability = Durability(str(bench.spool), "boot-2", bench.queue, bench.news, bench.clock)
    await durability.check_boot()
    assert (await bench.queue.get(request.row)).state is State.PREPARED
    (folder / "b").unlink()
    durability = Durability(str(bench.spool), "boot-3", bench.queue, bench.news, bench.clock)
    await durability.check_boot()
    assert (await bench.queue.get(request.row)).state is State.FAILED
    assert await _held(bench) == Room()
