"""Changes to versions through the stages, with a store in memory: what is kept, lost, retried, restarted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.daemon.bench import STORE, Bench, reference
from wherryd.commit import applying
from wherryd.commit.committer import Committer
from wherryd.model import Base, Entry, Manifest, ManifestEntry, Reference, State, VersionRecord
from wherryd.queue.base import Request

OPEN = Base()


@pytest.fixture
async def committer(bench: Bench) -> Committer:
    """All stages, running."""
    bench.preparer()
    bench.transferrer()
    opened = bench.opened
    made = Committer(
        bench.queue, opened.registry, bench.clock, bench.news, bench.gatherer, doubts=opened.doubts
    )
    bench.start(made.run())
    return made


async def ended(bench: Bench, request: Request) -> Request:
    """The request, when it has ended."""
    over = (State.DONE, State.FAILED, State.CANCELLED)
    return await bench.wait_row(request, lambda now: now.state in over)


async def lines(bench: Bench, version: int) -> dict[str, ManifestEntry]:
    """A version's entries."""
    stored = await bench.registry().read_version("cats", "model", version)
    assert stored is not None and isinstance(stored.record, VersionRecord)
    entries = bench.registry().open_manifest("cats", stored.record.manifest)
    return {line.path: line async for line in entries}


def take(bench: Bench, word: str) -> dict[str, object]:
    """Remove objects from the store; what they were."""
    objects = bench.memory[STORE]._objects
    return {key: objects.pop(key) for key in [key for key in objects if f"/{word}/" in key]}


@pytest.mark.usefixtures("committer")
async def test_folders_and_their_neighbours_are_confused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken out is the entry, or all below the folder, and nothing whose name begins alike, on
    whichever page it stands; what is added is in its order.
    """
    monkeypatch.setattr(applying, "PAGE", 3)
    names = ["a-b", "a/x", "a/y/z", "ab", "b", "c", "d/e", "d0", "é", "\U0001f600"]
    await ended(bench, await bench.log({name: name.encode() for name in names}))
    own = {"a": b"own", "b": b"other", "zz": b"last"}
    done = await ended(bench, await bench.log(own, base=OPEN, removed=("a", "d", "nothing")))
    there = await lines(bench, 1)
    assert [*there] == sorted({*names, "a", "zz"} - {"a/x", "a/y/z", "d/e"})
    first = await lines(bench, 0)
    assert all(there[path] == first[path] for path in there.keys() - own.keys())
    assert there["b"] != first["b"] and (done.entries, done.version) == (len(there), 1)
    assert done.size == sum(line.size or 0 for line in there.values())


@pytest.mark.usefixtures("committer")
async def test_bytes_that_stay_are_put(bench: Bench) -> None:
    """Nothing is put but what is new, the manifest and the record; and no manifest of the changes alone."""
    await ended(bench, await bench.log({"a": b"1", "b": b"2"}))
    before = set(bench.memory[STORE]._objects)
    await ended(bench, await bench.log({"c": b"3"}, base=OPEN))
    new = sorted(key.split("/")[1] for key in bench.memory[STORE]._objects.keys() - before)
    assert new == ["artifacts", "blobs", "manifests"]


@pytest.mark.usefixtures("committer")
@pytest.mark.parametrize("lost", ["blobs", "packs", "manifests"])
async def test_a_base_that_is_whole_again_stays_lost(bench: Bench, lost: str) -> None:
    """What fails for a hole in its base takes no number, and is made when that is mended, by a retry."""
    await ended(bench, await bench.log({"a": b"1", "b": b"2", "big": b"0" * (1 << 20)}))
    taken = take(bench, lost)
    failed = await ended(bench, await bench.log({"c": b"3"}, base=OPEN))
    assert (failed.state, failed.error) == (State.FAILED, "StoreDamaged")
    assert f"/{lost}/" in failed.reason and f"wherry retry {failed.id}" in failed.reason
    bench.memory[STORE]._objects |= taken  # type: ignore[arg-type] # they were objects
    await bench.queue.retry(failed.row)
    assert (await ended(bench, failed)).version == 1
    assert [*await lines(bench, 1)] == ["a", "b", "big", "c"]


async def test_own_bytes_that_were_lost_become_a_hole(bench: Bench) -> None:
    """Own bytes that were there, and are not any more, are sent again before the changes are applied."""
    bench.preparer()
    bench.transferrer()
    for name in ("other", "model"):
        request = await bench.log({"a": b"1", "b": b"2"}, name=name, base=OPEN)
        await bench.wait_state(request, State.UPLOADED)
    lost = take(bench, "packs")
    opened, gatherer = bench.opened, bench.gatherer
    committer = Committer(bench.queue, opened.registry, bench.clock, bench.news, gatherer)
    bench.start(committer.run())
    assert (await ended(bench, request)).version == 0
    assert take(bench, "packs").keys() == lost.keys() != set()
    assert [*await lines(bench, 0)] == ["a", "b"]


@pytest.mark.usefixtures("committer")
async def test_references_are_lost_or_never_resolved(bench: Bench, tmp_path: Path) -> None:
    """References of the base stay as they were resolved; own ones are, and those nobody looks at are kept."""
    local, again = tmp_path / "local", tmp_path / "again"
    local.write_bytes(b"local")
    again.write_bytes(b"again!")
    await ended(bench, await bench.log({}, entries=(reference("local", local.as_uri()),)))
    bench.clock.advance(10)
    unchecked = Entry("unchecked", -1, reference=Reference("odd://x", checksum=False))
    own = (reference("again", again.as_uri()), unchecked)
    await ended(bench, await bench.log({}, entries=own, base=OPEN))
    first, there = await lines(bench, 0), await lines(bench, 1)
    assert there["local"] == first["local"]
    assert there["again"].size == 6 and (there["again"].digest or "").startswith("sha256:")
    assert there["again"].resolved and there["again"].resolved > (first["local"].resolved or "")
    assert (there["unchecked"].digest, there["unchecked"].size) == (None, None)
    assert (there["unchecked"].ref, there["unchecked"].resolved) == ("odd://x", None)


@pytest.mark.usefixtures("committer")
async def test_a_draft_is_made_of_what_came_after_its_version(bench: Bench) -> None:
    """A draft of v0 is made of v0, whatever came after it; one of nothing fails."""
    await ended(bench, await bench.log({"a": b"1"}))
    first = await bench.registry().read_version("cats", "model", 0)
    assert first is not None and isinstance(first.record, VersionRecord)
    await ended(bench, await bench.log({"b": b"2"}))
    base = Base(0, first.record.manifest)
    assert (await ended(bench, await bench.log({"c": b"3"}, base=base))).version == 2
    assert [*await lines(bench, 2)] == ["a", "c"]
    same = await ended(bench, await bench.log({"c": b"3"}, base=base))
    assert same.version == 2
    lost = await ended(bench, await bench.log({"c": b"3"}, base=Base(7, "sha256:" + "0" * 64)))
    assert (lost.error, "v7 of 'model', which this changes" in lost.reason) == (
        "StoreDamaged",
        True,
    )


async def test_a_restarted_lane_makes_a_version_of_what_was_applied_before(
    bench: Bench, committer: Committer
) -> None:
    """After ``wherry retry`` of a lane, what was applied is sent again, and applied to what is there now."""
    await ended(bench, await bench.log({"a": b"1"}))
    request = await bench.log({"b": b"2"}, base=OPEN)
    await ended(bench, request)
    objects = bench.memory[STORE]._objects
    (key,) = [key for key in objects if key.endswith("v00000001.json")]
    del objects[key]
    stuck = await bench.log({"c": b"3"}, base=OPEN)
    await bench.wait_row(stuck, lambda now: now.error == "StoreChanged")
    before = Manifest("sha256:" + "0" * 64, "sha256:" + "1" * 64, 7, 7)
    await bench.queue.applied(stuck.row, before, "sha256:" + "2" * 64)
    await committer.restart_lane(stuck.lane)
    done = await ended(bench, stuck)
    assert (done.version, [*await lines(bench, 1)]) == (1, ["a", "c"])


@pytest.mark.usefixtures("committer")
async def test_a_file_becomes_a_folder_as_well(bench: Bench) -> None:
    """An entry below a file, or a file above entries, fails alone and says which; the next one goes on."""
    await ended(bench, await bench.log({"a": b"1", "dir/b": b"2"}))
    for own in ({"a/below": b"3"}, {"dir": b"4"}):
        failed = await ended(bench, await bench.log(own, base=OPEN))
        assert (failed.state, failed.error) == (State.FAILED, "PathTaken")
        assert "of v0, which this changes" in failed.reason
    done = await ended(bench, await bench.log({"dir": b"4"}, base=OPEN, removed=("dir",)))
    assert (done.version, [*await lines(bench, 1)]) == (1, ["a", "dir"])
