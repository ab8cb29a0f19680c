"""From accepted to prepared."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import msgspec
import pytest

from tests.unit.daemon.bench import Bench, digest, opened_bench, reference
from wherry.wire.canonical import content_digest
from wherryd.model import Entry, FileStat, Source, State
from wherryd.prepare.stage import BIG_AT_ONCE, BIG_BYTES, SMALL_AT_ONCE, choose
from wherryd.queue.base import Request
from wherryd.registry.manifest_reader import ManifestReader
from wherryd.registry.small_manifest import FEW_ENTRIES
from wherryd.stores.bodies import read_whole
from wherryd.transfer.bodies import manifests_in


async def _lines(bench: Bench, request: Request) -> list[tuple[str, str | None, int | None]]:
    assert request.manifest
    reader = ManifestReader(request.manifest, "test")
    packed = read_whole(await manifests_in(str(bench.manifests), bench.queue)(request))
    entries = [entry for batch in reader.feed(packed) for entry in batch] + reader.end()
    return [(entry.path, entry.digest, entry.size) for entry in entries]


async def test_prepared_request_lacks_digests(bench: Bench) -> None:
    """A prepared request has every digest, a manifest that says so, and its content's digest."""
    files = {f"dir/{number}": os.urandom(number) for number in range(30)}
    request = await bench.log(files, metadata='{"step":7}')
    bench.preparer()
    done = await bench.wait_state(request, State.PREPARED)
    expected = [(path, digest(files[path]), len(files[path])) for path in sorted(files)]
    assert await _lines(bench, done) == expected
    entries = await bench.queue.entries(request.row)
    assert [(entry.path, entry.digest, entry.size) for entry in entries] == expected
    assert done.digest
    assert done.content == content_digest(done.digest, "model", None, {"step": 7})


async def test_many_pages_lose_entries(bench: Bench) -> None:
    """Requests larger than a page are prepared whole; so are those of none and of exactly one."""
    logged = []
    for count in (0, 1000, 2001):
        files = {f"{number:05d}": b"%d" % (number % 7) for number in range(count)}
        logged.append((count, await bench.log(files, name=f"n{count}")))
    bench.preparer()
    for count, request in logged:
        done = await bench.wait_state(request, State.PREPARED)
        assert len(await _lines(bench, done)) == count == done.entries


async def test_damaged_spool_stops_others(bench: Bench) -> None:
    """A missing or short spool file fails that request alone, with its reason."""
    gone, short, good = [await bench.log({"a": b"abc"}, name=name) for name in "xyz"]
    bench.file_of(gone).unlink()
    bench.file_of(short).write_bytes(b"a")
    bench.preparer()
    assert (await bench.wait_state(good, State.PREPARED)).error == ""
    failed = await bench.wait_state(gone, State.FAILED)
    assert failed.error == "FileMissing"
    assert "pack" in failed.reason
    failed = await bench.wait_state(short, State.FAILED)
    assert (failed.error, "ends at byte 1" in failed.reason) == ("FileChanged", True)


async def test_changed_immutable_file_is_committed(bench: Bench, tmp_path: Path) -> None:
    """A file that the user promised to keep, and changed, fails the request."""
    file = tmp_path / "user.bin"
    file.write_bytes(b"before")
    seen = file.stat()
    stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    entry = Entry("a", 6, source=Source(str(file), 0, stat))
    request = await bench.log({}, entries=(entry,))
    file.write_bytes(b"after!")
    os.utime(file, ns=(1, 1))
    bench.preparer()
    assert (await bench.wait_state(request, State.FAILED)).error == "FileChanged"


async def test_kept_digests_are_made_again(tmp_path: Path) -> None:
    """What was hashed before a kill is not read again: here it could not be."""
    async with opened_bench(tmp_path) as bench:
        request = await bench.log({"a": b"abc"})
        await bench.queue.save_digests(request.row, [("a", digest(b"abc"), 3)])
        bench.file_of(request).unlink()
        bench.preparer()
        assert (await bench.wait_state(request, State.PREPARED)).size == 3


async def test_half_written_manifest_counts(bench: Bench) -> None:
    """A manifest that a killed daemon left is written anew."""
    files = {f"{number:02}": b"%d" % number for number in range(FEW_ENTRIES + 1)}
    request = await bench.log(files)
    bench.manifests.mkdir()
    for name in (f"{request.row}.zst", f"{request.row}.zst.tmp"):
        (bench.manifests / name).write_bytes(b"half a manife")
    bench.preparer()
    done = await bench.wait_state(request, State.PREPARED)
    assert await _lines(bench, done) == [
        (path, digest(data), len(data)) for path, data in files.items()
    ]


@pytest.mark.parametrize("count", [0, 1, FEW_ENTRIES])
async def test_a_small_manifest_takes_a_file(bench: Bench, count: int) -> None:
    """The manifest of a few files is made out of the queue when it is sent: nothing of it is on the disk."""
    files = {f"{number:02}": os.urandom(number) for number in range(count)}
    request = await bench.log(files)
    bench.preparer()
    done = await bench.wait_state(request, State.PREPARED)
    assert not bench.manifests.exists()
    assert [line[0] for line in await _lines(bench, done)] == sorted(files)


async def test_file_reference_is_not_looked_at(bench: Bench, tmp_path: Path) -> None:
    """A file:// reference gets the digest and size of the file as it is now, and when that was."""
    file = tmp_path / "my data%20x.bin"
    file.write_bytes(b"referenced")
    entries = (reference("plain", f"file://{file}"), reference("quoted", file.as_uri()))
    request = await bench.log({"own": b"1"}, entries=entries)
    bench.preparer()
    done = await bench.wait_state(request, State.PREPARED)
    assert await _lines(bench, done) == [
        ("own", digest(b"1"), 1),
        ("plain", digest(b"referenced"), 10),
        ("quoted", digest(b"referenced"), 10),
    ]


@pytest.mark.parametrize("uri", ["file:///no/such/file", "file:///etc", "s3://bucket/key"])
async def test_reference_that_is_gone_stops_others(bench: Bench, uri: str) -> None:
    """A reference that can't be resolved fails its request alone."""
    bad = await bench.log({}, name="bad", entries=(reference("a", uri),))
    good = await bench.log({"a": b"1"}, name="good")
    bench.preparer()
    await bench.wait_state(good, State.PREPARED)
    failed = await bench.wait_state(bad, State.FAILED)
    assert failed.error == "ReferenceFailed"
    assert uri in failed.reason


async def test_cancelled_request_comes_back(bench: Bench) -> None:
    """Cancelling a request while it is prepared leaves it cancelled."""
    request = await bench.log({"a": b"1"})
    await bench.queue.cancel(request.row)
    bench.preparer()
    other = await bench.log({"a": b"1"}, name="other")
    await bench.wait_state(other, State.PREPARED)
    assert (await bench.queue.get(request.row)).state is State.CANCELLED


async def test_big_requests_hold_up_small_ones(bench: Bench) -> None:
    """However many big requests wait, small ones find a place, and the other way round."""
    small = await bench.log({"a": b"1"})
    big = msgspec.structs.replace(small, size=BIG_BYTES)
    chosen = choose([big] * 20 + [small] * 20, [])
    assert [request.size for request in chosen].count(BIG_BYTES) == BIG_AT_ONCE
    assert len(chosen) == BIG_AT_ONCE + SMALL_AT_ONCE
    assert choose([big, small], [big] * BIG_AT_ONCE) == [small]
    assert choose([big, small], [small] * SMALL_AT_ONCE) == [big]


async def test_leaving_stage_starts_more(bench: Bench) -> None:
    """A leaving stage ends what runs and starts nothing."""
    stage = bench.preparer()
    first = await bench.log({"a": b"1"}, name="first")
    await bench.wait_state(first, State.PREPARED)
    await stage.crew.leave()
    second = await bench.log({"a": b"1"}, name="second")
    for _ in range(20):
        await anyio.wait_all_tasks_blocked()
        assert (await bench.states())["second"] is State.ACCEPTED
        assert bench.progress.done(second.row) is None


async def test_pressure_stops_the_work(bench: Bench) -> None:
    """While many requests come in, work stands back for them, and goes on all the same."""
    requests = [await bench.log({"a": b"1"}, name=f"n{number}") for number in range(10)]
    bench.preparer(is_receiving=lambda: True)
    for _ in range(20):
        await anyio.wait_all_tasks_blocked()
        assert set((await bench.states()).values()) == {State.ACCEPTED}
    with anyio.fail_after(20):
        while set((await bench.states()).values()) != {State.PREPARED}:
            bench.clock.advance(0.1)
            await anyio.wait_all_tasks_blocked()
    assert all([(await bench.queue.get(request.row)).manifest for request in requests])
