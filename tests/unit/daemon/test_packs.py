"""Small files that travel together: which pack each lies in, and that all of it arrives."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import STORE, Bench, digest
from wherryd.model import Entry, FileStat, ManifestEntry, Source, State
from wherryd.prepare import packs
from wherryd.prepare.packs import PACK_BYTES, SMALL_BYTES, Packer
from wherryd.queue.base import Packed, Request
from wherryd.transfer.items import Gatherer


async def _arrived(bench: Bench, request: Request) -> list[ManifestEntry]:
    """The manifest of a request that is uploaded, every byte of it read back and checked."""
    done = await bench.wait_state(request, State.UPLOADED)
    registry = bench.registry()
    assert done.manifest is not None
    lines = [line async for line in registry.open_manifest("cats", done.manifest)]
    for line in lines:
        async for _ in registry.open_entry("cats", line):
            pass
    return lines


def _packs(bench: Bench) -> dict[str, bytes]:
    objects = bench.memory[STORE]._objects
    return {key.rpartition("/")[2]: objects[key].body for key in objects if "/packs/" in key}


def _running(bench: Bench) -> None:
    bench.preparer()
    bench.transferrer()


async def test_a_small_file_travels_alone(bench: Bench) -> None:
    """Small files lie back to back in one pack, by path and each once; what is large, or has no company,
    is a blob.
    """
    _running(bench)
    files = {"c": b"third", "a": b"first", "b": b"", "d": b"first", "large": bytes(SMALL_BYTES)}
    lines = await _arrived(bench, await bench.log(files))
    ((name, whole),) = _packs(bench).items()
    assert whole == b"firstthird" and name == hashlib.sha256(whole).hexdigest()
    assert [(line.path, line.pack, line.offset, line.size) for line in lines] == [
        ("a", name, 0, 5),
        ("b", name, 5, 0),
        ("c", name, 5, 5),
        ("d", name, 0, 5),
        ("large", None, None, SMALL_BYTES),
    ]
    (alone,) = await _arrived(bench, await bench.log({"a": b"alone"}, name="alone"))
    assert (alone.pack, alone.offset) == (None, None)
    assert len(_packs(bench)) == 1


async def test_packing_changes_the_digest(bench: Bench) -> None:
    """What a version is compared by says nothing of packs."""
    _running(bench)
    first = await bench.log({"a": b"1", "b": b"2"}, name="first")
    await _arrived(bench, first)
    second = await bench.log({"a": b"1", "b": b"2", "c": b"3"}, name="second")
    await _arrived(bench, second)
    third = await bench.log({"a": b"1", "b": b"2", "c": b"3"}, name="third")
    lines = await _arrived(bench, third)
    assert len({line.pack for line in lines}) == 2  # c travelled alone
    done = [await bench.queue.get(request.row) for request in (second, third)]
    assert done[0].digest == done[1].digest and done[0].content == done[1].content


async def test_a_pack_grows_without_end(bench: Bench) -> None:
    """A pack ends before it has more than 16 MiB; a file is never cut in two."""
    _running(bench)
    chance = random.Random(1)
    files = {f"{number:02}": chance.randbytes(900_000) for number in range(40)}
    lines = await _arrived(bench, await bench.log(files))
    assert sorted(map(len, _packs(bench).values())) == sorted(
        [18 * 900_000, 18 * 900_000, 4 * 900_000]
    )
    assert all(len(whole) <= PACK_BYTES for whole in _packs(bench).values())
    assert [line.path for line in lines] == sorted(files)


async def test_a_pack_waits_for_a_million_entries(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack ends when many entries wait for it, be they small files or not: what is in memory is bounded."""
    monkeypatch.setattr(packs, "PACK_ENTRIES", 10)
    _running(bench)
    files = {f"{number:03}": b"%d" % number for number in range(25)}
    lines = await _arrived(bench, await bench.log(files))
    assert [len({line.pack for line in lines[at : at + 10]}) for at in (0, 10, 20)] == [1, 1, 1]
    assert len(_packs(bench)) == 3


async def test_known_files_are_packed_again(bench: Bench) -> None:
    """A file that the store has, in whatever artifact's pack, is pointed at."""
    _running(bench)
    await _arrived(bench, await bench.log({"a": b"one", "b": b"two"}, name="first"))
    (first,) = _packs(bench)
    lines = await _arrived(
        bench, await bench.log({"x": b"two", "y": b"three", "z": b"four"}, name="second")
    )
    (second,) = _packs(bench).keys() - {first}
    assert [(line.path, line.pack, line.offset) for line in lines] == [
        ("x", first, 3),
        ("y", second, 0),
        ("z", second, 5),
    ]
    assert _packs(bench)[second] == b"threefour"


async def test_known_pack_is_sent_again(bench: Bench) -> None:
    """The same files, logged before the first of them were there, make the same pack, which goes once."""

    class Counting(MemoryStore):
        puts = 0

        async def put(self, key: str, body: object) -> None:
            self.puts += "/packs/" in key
            await super().put(key, body)  # type: ignore[arg-type]

    store = Counting(bench.clock, STORE)
    bench.stores[STORE] = bench.memory[STORE] = store
    bench.preparer()
    files = {"a": b"one" * 10_000, "b": b"two"}
    requests = [await bench.log(files, name=name) for name in ("first", "second", "third")]
    for request in requests:
        await bench.wait_state(request, State.PREPARED)
    bench.transferrer()
    for request in requests:
        await _arrived(bench, request)
    assert (len(_packs(bench)), store.puts) == (1, 1)


async def test_slice_passes_for_a_blob(bench: Bench) -> None:
    """A file that is planned as a blob is sent as one, though its bytes came to lie in a pack meanwhile."""
    bench.preparer()
    packed = await bench.log({"a": b"one", "b": b"two"}, name="packed")
    alone = await bench.log({"a": b"one"}, name="alone")
    for request in (packed, alone):
        await bench.wait_state(request, State.PREPARED)
    bench.transferrer(at_once=1)
    for request in (packed, alone):
        await _arrived(bench, request)
    again = await bench.log({"a": b"one", "b": b"two"}, name="again")
    await _arrived(bench, again)


async def test_bytes_of_a_store_that_is_gone_are_pointed_at(bench: Bench) -> None:
    """A manifest that points at packs of another store than counts now is made again, and all is sent."""
    bench.preparer()
    stage = bench.transferrer()
    await _arrived(bench, await bench.log({"a": b"one", "b": b"two"}, name="first"))
    await stage.crew.leave()
    request = await bench.log({"a": b"one", "b": b"two", "c": b"3", "d": b"4"})
    planned = await bench.wait_state(request, State.PREPARED)
    bench.memory[STORE]._objects.clear()
    await bench.registry().found("another")
    await bench.queue.restart_lane(request.lane, "another", -1, "")
    bench.transferrer()
    await _arrived(bench, request)  # with every byte in the store that counts now
    again = await bench.queue.get(request.row)
    assert (planned.digest, planned.content) == (again.digest, again.content)


async def test_killed_plan_is_mixed_with_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs that were planned before a kill stay as they are; the rest is planned after them."""
    monkeypatch.setattr(packs, "PACK_ENTRIES", 4)
    files = {f"{number}": b"%d" % number for number in range(10)}
    request = await bench.log(files)
    made = [(path, digest(data), len(data)) for path, data in files.items()]
    await bench.queue.save_digests(request.row, made)
    planned = b"3456"
    places = [Packed(f"{n}", hashlib.sha256(planned).hexdigest(), n - 3) for n in range(3, 7)]
    await bench.queue.save_places(request.row, places, (places[0].pack, 4))
    _running(bench)
    await _arrived(bench, request)
    assert sorted(_packs(bench).values()) == [b"012", b"3456", b"789"]


async def test_changed_file_is_packed(bench: Bench, tmp_path: Path) -> None:
    """A file of the user's that changed after it was hashed fails the request, by its entry's name."""
    file = tmp_path / "user.bin"
    file.write_bytes(b"before")
    seen = file.stat()
    stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    entry = Entry("mine", 6, digest=digest(b"before"), source=Source(str(file), 0, stat))
    request = await bench.log({"a": b"1"}, entries=(entry,))
    file.write_bytes(b"after!")
    bench.preparer()
    failed = await bench.wait_state(request, State.FAILED)
    assert failed.error == "FileChanged" and "mine" in failed.reason


# ── the plan, without I/O ──────────────────────────────────────────────────────────────────────
class _Plans:
    """Keeps what a packer plans, as the queue does."""

    def __init__(self) -> None:
        self.packs: dict[str, int] = {}
        self.places: dict[str, Packed] = {}

    async def places_of(self, *_: object) -> dict[str, object]:
        return {}

    async def save_places(
        self, _: int, places: Sequence[Packed], pack: tuple[str, int] | None = None
    ) -> None:
        self.places |= {each.path: each for each in places}
        if pack is not None:
            self.packs[pack[0]] = pack[1]


@pytest.mark.parametrize("seed", range(20))
async def test_bytes_fall_between_two_packs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever the sizes, how often each comes, where pages end: every entry is a blob, or the right slice
    of a pack that is made of whole files, and what is gathered for sending is just that.
    """
    chance = random.Random(seed)
    monkeypatch.setattr(packs, "PACK_BYTES", 60)
    monkeypatch.setattr(packs, "PACK_ENTRIES", chance.choice([3, 8, 1000]))
    monkeypatch.setattr(packs, "SMALL_BYTES", 30)
    kinds = [chance.randbytes(chance.choice([0, 1, 7, 20, 29, 30, 80])) for _ in range(12)]
    files = {f"{number:03}": chance.choice(kinds) for number in range(chance.randint(0, 60))}
    request = await bench.log(files)
    for page_size in (1, 7, 1000):
        plan, lines = _Plans(), []

        async def digest_pack(entries: Sequence[Entry]) -> str:
            return hashlib.sha256(b"".join(files[entry.path] for entry in entries)).hexdigest()

        monkeypatch.setattr(bench.queue, "places", plan.places_of)
        monkeypatch.setattr(bench.queue, "save_places", plan.save_places)
        packer = Packer(request, bench.queue, digest_pack)
        entries = [_hashed(path, data) for path, data in files.items()]
        for page in _pages(entries, page_size):
            lines += await packer.add(page)
        lines += await packer.finish()
        assert [line.path for line in lines] == list(files)
        _check_sent(lines, plan.packs, files, page_size)


def _hashed(path: str, data: bytes) -> Entry:
    return Entry(path, len(data), digest=digest(data), source=Source(f"/{path}"))


def _pages(entries: Sequence[Entry], size: int) -> list[Sequence[Entry]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def _check_sent(
    lines: Sequence[Entry], made: Mapping[str, int], files: Mapping[str, bytes], page_size: int
) -> None:
    gatherer = Gatherer(made)
    taken = [gatherer.take(page) for page in _pages(lines, page_size)]
    assert gatherer.is_done
    assert not any(page.pointed for page in taken)
    items = [item for page in taken for item in page.items]
    whole = {
        item.pack: b"".join(files[entry.path] for entry in item.entries)
        for item in items
        if item.pack
    }
    assert {name: len(data) for name, data in whole.items()} == made
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in whole.items())
    carried = sum(item.carried for item in items) + sum(page.free for page in taken)
    assert carried == sum(map(len, files.values()))
    blobs = {item.name for item in items if item.pack is None}
    for line in lines:
        data = files[line.path]
        if line.pack is None:
            assert digest(data) in blobs
        else:
            assert whole[line.pack][line.pack_offset :][: line.size] == data
    assert all(len(data) <= packs.PACK_BYTES for data in whole.values())
