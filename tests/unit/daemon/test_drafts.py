"""Drafts through the stages, with a store in memory: what is lost, retried, linked or restarted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.daemon.bench import STORE, Bench
from tests.unit.registry.example import SEALING
from wherryd.commit.committer import Committer
from wherryd.model import RequestKind, RunInfo, State
from wherryd.queue.base import Request
from wherryd.registry import layout, records

DRAFT = "ab" * 32


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


async def upsert(bench: Bench, run: str, **files: bytes) -> Request:
    """A part of the draft."""
    return await bench.log(files, kind=RequestKind.UPSERT, draft=DRAFT, run=run)


async def finish(bench: Bench, *, newest: bool = False, type_: str = "model") -> Request:
    """A finish of the draft."""
    kind = RequestKind.FINISH
    return await bench.log({}, kind=kind, draft=DRAFT, run="last", newest=newest, type_=type_)


async def ended(bench: Bench, request: Request) -> Request:
    """The request, when it has ended."""
    over = (State.DONE, State.FAILED, State.CANCELLED)
    return await bench.wait_row(request, lambda now: now.state in over)


def take(bench: Bench, wanted: Callable[[str], bool]) -> dict[str, object]:
    """Remove objects from the store; what they were."""
    objects = bench.memory[STORE]._objects
    return {key: objects.pop(key) for key in [key for key in objects if wanted(key)]}


@pytest.mark.parametrize("lost", ["manifests", "blobs"])
async def test_a_part_that_was_lost_becomes_a_hole(
    bench: Bench, committer: Committer, lost: str
) -> None:
    """A finish whose parts name what is gone fails, takes no number, and can be retried when it is back."""
    await ended(bench, await upsert(bench, "a", x=b"1"))
    taken = take(bench, lambda key: f"/{lost}/" in key)
    failed = await ended(bench, await finish(bench))
    assert (failed.state, failed.error) == (State.FAILED, "StoreDamaged")
    assert f"/{lost}/" in failed.reason and "wherry retry" in failed.reason
    assert await bench.queue.gathered(failed.row) == []
    assert not take(bench, lambda key: "/versions/" in key)
    bench.memory[STORE]._objects |= taken  # type: ignore[arg-type] # they were objects
    await bench.queue.retry(failed.row)
    done = await ended(bench, failed)
    assert (done.state, done.version) == (State.DONE, 0)


async def test_a_retry_remembers_its_conflict(bench: Bench, committer: Committer) -> None:
    """A finish that failed for a conflict finds what has mended it, when it is retried."""
    for run, data in (("a", b"1"), ("b", b"2")):
        await ended(bench, await upsert(bench, run, x=data))
    failed = await ended(bench, await finish(bench))
    assert (failed.error, failed.state) == ("DraftConflict", State.FAILED)
    assert "run a" in failed.reason and "run b" in failed.reason
    mend = await upsert(bench, "b", x=b"1")
    waiting = await bench.wait_row(mend, lambda now: now.error)
    assert (waiting.state, waiting.error) == (State.SETTLED, "DraftConflict")
    await bench.queue.retry(failed.row)
    assert (await ended(bench, failed)).version == 0
    bench.clock.advance(100)
    assert (await ended(bench, mend)).state is State.DONE


async def test_newest_is_asked_for_in_vain(bench: Bench, committer: Committer) -> None:
    """With ``newest`` the later part counts, and the version says where."""
    await ended(bench, await upsert(bench, "a", x=b"1"))
    bench.clock.advance(5)
    await ended(bench, await upsert(bench, "b", x=b"2"))
    assert (await ended(bench, await finish(bench, newest=True))).version == 0
    body = bench.memory[STORE]._objects[layout.sealed_key("cats", DRAFT)].body
    sealed = records.decode_sealed("sealed", body)
    assert (sealed.replaced, len(sealed.parts)) == (["x"], 2)


async def test_a_link_settles_an_upsert_again(bench: Bench, committer: Committer) -> None:
    """A second run that upserts the same Artifact is noted, and nothing else is to be done."""
    done = await ended(bench, await upsert(bench, "a", x=b"1"))
    await bench.queue.link(done.id, RunInfo("second"), ["more"])
    again = await bench.queue.get(done.row)
    assert (again.state, again.aliases) == (State.DONE, [])
    assert [link.run.id for link in await bench.queue.links(done.id)] == ["second"]


async def test_a_restarted_lane_gives_a_part_up(bench: Bench, committer: Committer) -> None:
    """After ``wherry retry`` of a lane, a part that is in the store stays there, and can't be taken back."""
    await ended(bench, await upsert(bench, "a", x=b"1"))
    mark = records.encode(SEALING)
    await bench.registry().drafts.begin_sealing("cats", DRAFT, mark)
    late = await upsert(bench, "b", y=b"2")
    await bench.wait_state(late, State.SETTLED)
    await committer.restart_lane(late.lane)
    assert (await bench.queue.get(late.row)).state is State.SETTLED
    assert (await ended(bench, await finish(bench))).version == 0
    bench.clock.advance(100)
    assert (await ended(bench, late)).state is State.DONE
