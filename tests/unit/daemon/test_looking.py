"""What a request did not put itself is looked at again before it becomes a version."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import STORE, Bench, digest
from wherry.errors import StoreUnavailable
from wherryd.commit import looking
from wherryd.commit.committer import Committer
from wherryd.commit.lane import TRUSTED_S
from wherryd.commit.record import make_record
from wherryd.model import Entry, FileStat, Source, State
from wherryd.queue.base import Request
from wherryd.registry import layout
from wherryd.stores.base import Body, ObjectStat, Sizes

#: Too large for a pack.
LARGE = random.Random(0).randbytes((1 << 20) + 1)


class LookedAt(MemoryStore):
    """Notes which objects are looked at and put; ``before`` comes before each look."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self.looks: list[list[str]] = []
        self.heads: list[str] = []
        self.puts: list[str] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        bench.stores[STORE] = bench.memory[STORE] = self

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        if self.before is not None:
            await self.before()
        self.looks.append([*keys])
        return await super().sizes(keys, witness)

    async def head(self, key: str) -> ObjectStat:
        self.heads.append(key)
        return await super().head(key)

    async def put(self, key: str, body: Body) -> None:
        self.puts.append(key)
        await super().put(key, body)

    def lose(self, *kinds: str) -> list[str]:
        """Lose all blobs, packs or manifests; which keys those were."""
        lost = [key for key in self._objects if any(f"/{kind}/" in key for kind in kinds)]
        for key in lost:
            del self._objects[key]
        return lost


@pytest.fixture
async def store(bench: Bench) -> LookedAt:
    """The bench's store, watched; all stages run."""
    store = LookedAt(bench)
    bench.preparer()
    bench.transferrer()
    return store


@pytest.fixture
async def committer(bench: Bench, store: LookedAt) -> Committer:
    """The stage ``commit``, running."""
    return start_commit(bench)


def start_commit(bench: Bench) -> Committer:
    """The stage ``commit``, running."""
    opened = bench.opened
    made = Committer(
        bench.queue, opened.registry, bench.clock, bench.news, bench.gatherer, doubts=opened.doubts
    )
    bench.start(made.run())
    return made


async def log(bench: Bench, files: Mapping[str, bytes], metadata: str = "{}") -> Request:
    """A request that has become a version."""
    request = await bench.log(files, metadata=metadata)
    return await bench.wait_state(request, State.DONE)


async def read(bench: Bench, version: int, name: str = "model") -> dict[str, bytes]:
    """All that a version holds."""
    registry = bench.registry()
    stored = await registry.read_version("cats", name, version)
    assert stored is not None
    manifest = getattr(stored.record, "manifest", "")
    return {
        entry.path: b"".join([chunk async for chunk in registry.open_entry("cats", entry)])
        async for entry in registry.open_manifest("cats", manifest)
    }


def manifest_key(request: Request) -> str:
    """Where a request's manifest lies."""
    return layout.manifest_key("cats", request.manifest or "")


# ── what is asked ──────────────────────────────────────────────────────────────────────────────
async def test_what_was_put_is_looked_at(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """A request that has put all itself costs no further question."""
    await log(bench, {"a": b"a", "b": b"b", "large": LARGE})
    await log(bench, {"a": b"other"})
    assert store.looks == []


async def test_each_entry_is_looked_at(bench: Bench, store: LookedAt, committer: Committer) -> None:
    """What was there is asked for once: a pack, and not each of its files; nor what is put along with it."""
    files = {f"{n:04}": str(n).encode() for n in range(2500)}
    await log(bench, files | {"large": LARGE})
    (pack,) = [key for key in store.puts if "/packs/" in key]
    store.heads.clear()
    second = await log(bench, files | {"large": LARGE, "new": b"new", "same": LARGE})
    asked = [manifest_key(second), pack, layout.blob_key("cats", digest(LARGE))]
    assert [sorted(look) for look in store.looks] == [sorted(asked)]
    assert sorted(store.heads) == sorted([*asked, manifest_key(second)])  # it before it was put


async def test_a_look_has_no_bound(
    bench: Bench, store: LookedAt, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many objects are asked for at once, over all pages of entries, and each of them once."""
    monkeypatch.setattr(looking, "BATCH", 2)
    monkeypatch.setattr(looking, "PAGE", 3)
    files = {f"{n}": bytes([n]) + LARGE for n in range(7)}
    await log(bench, files | {"same": b"\0" + LARGE})
    second = await log(bench, files, '{"n":1}')
    keys = [layout.blob_key("cats", digest(data)) for data in files.values()]
    assert {len(look) for look in store.looks} == {2}
    asked = [key for look in store.looks for key in look]
    assert sorted(asked) == sorted([*keys, manifest_key(second)])


async def test_what_was_put_long_ago_is_trusted(bench: Bench, store: LookedAt) -> None:
    """What waits for its commit longer than a day is looked at, and sent again where it is gone."""
    request = await bench.log({"small": b"small"})
    await bench.wait_state(request, State.UPLOADED)
    store.lose("blobs")
    bench.clock.advance(TRUSTED_S)
    start_commit(bench)
    done = await bench.wait_state(request, State.DONE)
    keys = [layout.blob_key("cats", digest(b"small")), manifest_key(done)]
    assert [sorted(look) for look in store.looks] == [keys], (
        "what it put once more, it put just now"
    )
    assert await read(bench, 0) == {"small": b"small"}


async def test_what_has_left_the_spool_is_lost_without_a_word(
    bench: Bench, store: LookedAt
) -> None:
    """Large bytes leave the spool with their upload: gone a day later, the request fails, and says why."""
    request = await bench.log({"large": LARGE})
    await bench.wait_state(request, State.UPLOADED)
    store.lose("blobs")
    bench.clock.advance(TRUSTED_S)
    start_commit(bench)
    failed = await bench.wait_state(request, State.FAILED)
    assert failed.error == "FileChanged"
    assert digest(LARGE) in failed.reason
    await log(bench, {"large": LARGE})
    assert await read(bench, 0) == {"large": LARGE}


async def test_what_was_sent_is_looked_at(bench: Bench, store: LookedAt) -> None:
    """After a start, what counts as sent is settled and not looked at; what waits is looked at anew."""
    await bench.wait_state(await bench.log({"large": LARGE}, name="zero"), State.UPLOADED)
    sent = await bench.wait_state(await bench.log({"large": LARGE}), State.UPLOADED)
    await bench.queue.attempt(sent.row, 0, make_record(sent, 0))
    waiting = await bench.log({"large": LARGE}, name="waiting")
    await bench.wait_state(waiting, State.UPLOADED)
    start_commit(bench)
    for request in (sent, waiting):
        await bench.wait_state(request, State.DONE)
    assert [key for look in store.looks for key in look if "/manifests/" in key] == [
        manifest_key(await bench.queue.get(waiting.row))
    ]


# ── what is gone ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kinds", [("blobs",), ("packs",), ("manifests",), ("blobs", "packs")])
async def test_a_version_has_a_hole(
    bench: Bench, store: LookedAt, committer: Committer, kinds: tuple[str, ...]
) -> None:
    """What somebody has removed is sent again, and each request after it finds it known."""
    files = {"a": b"a", "b": b"b", "large": LARGE}
    await log(bench, files)
    lost = store.lose(*kinds)
    assert lost
    done = await log(bench, files, '{"n":1}')
    assert (done.version, done.error, done.reason) == (1, "", "")
    assert await read(bench, 1) == files
    puts = len(store.puts)
    await log(bench, files, '{"n":2}')
    assert len([key for key in store.puts[puts:] if "/manifests/" not in key]) == 0


async def test_same_content_has_a_hole(bench: Bench, store: LookedAt, committer: Committer) -> None:
    """Logging again what a version has lost brings it back."""
    files = {"a": b"a", "b": b"b", "large": LARGE}
    await log(bench, files)
    store.lose("blobs", "packs", "manifests")
    assert (await log(bench, files)).version == 0
    assert await read(bench, 0) == files


async def test_packs_of_many_versions_are_lost(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """A request that points into packs of others makes its own of what is gone, and points at the rest."""
    first = {"a": b"a", "b": b"b"}
    second = first | {"c": b"c", "d": b"d"}
    await log(bench, first)
    await log(bench, second)
    gone, kept = (key for key in store.puts if "/packs/" in key)
    await store.delete(gone)
    await log(bench, second | {"e": b"e"})
    assert await read(bench, 2) == second | {"e": b"e"}
    assert [store.puts.count(key) for key in (gone, kept)] == [2, 1]


async def test_an_emptied_bucket_gets_half_a_version(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """Of a bucket that was emptied, but for its id and the last record, the next version is whole, and the
    type is claimed again.
    """
    files = {"a": b"a", "b": b"b", "large": LARGE}
    await log(bench, files)
    store.lose("blobs", "packs", "manifests")
    claim = layout.artifact_key("cats", "model")
    await store.delete(claim)
    assert (await log(bench, files, '{"n":1}')).version == 1
    assert await read(bench, 1) == files
    assert await bench.registry().read_type("cats", "model") == "model"


async def test_all_is_sent_again_at_once(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """Many requests that miss the same bytes send them once."""
    await log(bench, {"large": LARGE})
    store.lose("blobs")
    requests = [
        await bench.log({"large": LARGE}, name=name, metadata='{"n":1}') for name in "abcdef"
    ]
    for request in requests:
        await bench.wait_state(request, State.DONE)
    assert len([key for key in store.puts if "/blobs/" in key]) == 2


# ── what can't be had again ────────────────────────────────────────────────────────────────────
def in_place(path: Path, data: bytes) -> Entry:
    """An entry whose file the user has promised to leave as it is."""
    path.write_bytes(data)
    seen = path.stat()
    stat = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return Entry("fixed", len(data), source=Source(str(path), 0, stat))


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_request_that_lacks_bytes_takes_a_number(
    bench: Bench, store: LookedAt, tmp_path: Path, is_gone: bool
) -> None:
    """Bytes that neither the store has nor this machine: the request fails and says so, the next one has
    its number, and a retry goes well when the store has them again.
    """
    await bench.wait_state(await bench.log({"x": LARGE}, name="zero"), State.UPLOADED)
    file = tmp_path / "fixed"
    request = await bench.log({}, entries=(in_place(file, LARGE),))
    await bench.wait_state(request, State.UPLOADED)
    (key,) = store.lose("blobs")
    if is_gone:
        file.unlink()
    else:
        file.write_bytes(b"changed" + LARGE[7:])
    start_commit(bench)
    failed = await bench.wait_state(request, State.FAILED)
    assert failed.error in ("FileChanged", "FileMissing")
    assert key in failed.reason and "wherry retry" in failed.reason
    assert (await log(bench, {"a": b"next"})).version == 0
    await store.put(key, LARGE)
    await bench.queue.retry(request.row)
    assert (await bench.wait_state(request, State.DONE)).version == 1
    assert await read(bench, 1) == {"fixed": LARGE}


# ── what goes wrong meanwhile ──────────────────────────────────────────────────────────────────
async def test_trouble_of_a_look_fails_the_request(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """A store that does not answer is waited for, with the reason, and nothing of it is forgotten."""
    await log(bench, {"large": LARGE})
    store.before = _refuse
    request = await bench.log({"large": LARGE}, metadata='{"n":1}')
    waiting = await bench.wait_row(request, lambda now: now.state is State.UPLOADED and now.error)
    assert waiting.error == "StoreUnavailable"
    store.before = None
    with anyio.fail_after(20):
        while (await bench.queue.get(request.row)).state is not State.DONE:
            committer.nudge(STORE)
            await anyio.sleep(0)
    assert len([key for key in store.puts if "/blobs/" in key]) == 1


async def _refuse() -> None:
    raise StoreUnavailable("503")


async def test_another_store_is_taken_for_an_emptied_one(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """Where another store lies at the address during a look, the lane stops, and what is known stays."""
    await log(bench, {"large": LARGE})
    kept = dict(store._objects)

    async def exchange() -> None:
        store._objects.clear()
        await store.put_if_absent(layout.IDENTITY, b'{"format":1,"store":"another"}')

    store.before = exchange
    request = await bench.log({"large": LARGE}, metadata='{"n":1}')
    stopped = await bench.wait_row(request, lambda now: now.error == "StoreChanged")
    assert stopped.state is State.UPLOADED
    store._objects.update(kept)
    records = await bench.queue.done_records(request.lane, [digest(LARGE)])
    assert records.keys() == {digest(LARGE)}


async def test_a_cancelled_request_is_sent_back(
    bench: Bench, store: LookedAt, committer: Committer
) -> None:
    """A request that is cancelled while it is looked at stays cancelled, and the lane goes on."""
    await log(bench, {"large": LARGE})
    store.lose("blobs")
    request = await bench.log({"large": LARGE}, metadata='{"n":1}')

    async def cancel() -> None:
        store.before = None
        await bench.queue.cancel(request.row)

    store.before = cancel
    await bench.wait_state(request, State.CANCELLED)
    assert (await log(bench, {"large": LARGE}, '{"n":2}')).version == 1
    assert await read(bench, 1) == {"large": LARGE}


async def test_a_look_that_was_cut_is_half_believed(bench: Bench, store: LookedAt) -> None:
    """A kill after some done-records were forgotten: the next start looks again, and sends what is gone."""
    files = {"a": b"a", "b": b"b", "large": LARGE}
    await bench.wait_state(await bench.log(files, name="zero"), State.UPLOADED)
    request = await bench.wait_state(await bench.log(files), State.UPLOADED)
    hexes = [key.rpartition("/")[2] for key in store.lose("blobs", "packs")]
    names = [f"{kind}:{name}" for name in hexes for kind in ("sha256", "pack")]
    await bench.queue.forget_sent(request.lane, names, await bench.queue.store_id(STORE))
    start_commit(bench)
    await bench.wait_state(request, State.DONE)
    assert await read(bench, 0) == files
