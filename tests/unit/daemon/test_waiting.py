"""What a request's row says while its store is tried again, and what ends the pauses."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import STORE, Bench, HandClock
from wherry.errors import StoreMissing, StoreUnavailable
from wherryd.commit.committer import Committer
from wherryd.model import State
from wherryd.nudge import Nudge, Patience
from wherryd.queue.base import Request
from wherryd.stores.base import Body, Found, Object
from wherryd.stores.retry import PATIENT, Retry
from wherryd.transfer.contact import FRESH_S


class Parts(MemoryStore):
    """Puts big bodies as a bucket does: part by part, each tried again by itself, in tasks of their own."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self._retry = Retry(bench.clock, PATIENT)
        self.is_away = False
        self.is_away_for = "nothing"
        self.missing: StoreMissing | None = None
        self.tries = 0
        self.halfway = anyio.Event()
        self.second = anyio.Event()
        bench.stores[STORE] = bench.memory[STORE] = self

    async def put(self, key: str, body: Body) -> None:
        if "/blobs/" in key:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._retry.run, f"part 1 of {key}", self._part)
            self.halfway.set()
            await self.second.wait()
        await super().put(key, body)

    async def get(self, key: str) -> Object:
        if self.missing:
            raise self.missing
        return await super().get(key)

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        if self.is_away or any(self.is_away_for in key for key in keys):
            self.tries += 1
            raise StoreUnavailable("the network is down")
        return await super().get_all(keys)

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        if any(self.is_away_for in key for key in keys):
            raise StoreUnavailable("the network is down")
        return await super().sync(keys, witness)

    async def _part(self) -> None:
        self.tries += 1
        if self.is_away:
            raise StoreUnavailable("the network is down")


@pytest.fixture
def store(bench: Bench) -> Parts:
    """The bench's store."""
    return Parts(bench)


async def _told(bench: Bench, request: Request) -> Request:
    return await bench.wait_row(request, lambda now: now.error)


async def test_a_big_file_waits_in_silence(bench: Bench, store: Parts) -> None:
    """The row says why a request waits from the first failure on, though that is met deep in the store; a
    nudge has it tried again at once, and what went well is told as soon.
    """
    store.is_away = True
    bench.preparer()
    stage = bench.transferrer()
    request = await bench.log({"a": b"1"})
    waiting = await _told(bench, request)
    assert (waiting.state, waiting.error) == (State.PREPARED, "StoreUnavailable")
    assert waiting.reason == "the network is down"
    assert waiting.next_try and waiting.next_try > bench.clock.now()
    assert store.tries == 1
    stage.nudge(STORE)
    with anyio.fail_after(10):
        while store.tries < 2:
            await anyio.lowlevel.checkpoint()
    store.is_away = False
    stage.nudge(STORE)
    going = await bench.wait_row(request, lambda now: not now.error)
    assert (going.state, going.reason) == (State.PREPARED, "")
    store.second.set()
    await bench.wait_state(request, State.UPLOADED)


async def test_a_commit_waits_in_silence(bench: Bench, store: Parts) -> None:
    """So it is with what a commit reads."""
    store.second.set()
    bench.preparer()
    bench.transferrer()
    request = await bench.wait_state(await bench.log({"a": b"1"}), State.UPLOADED)
    store.is_away = True
    committer = Committer(
        bench.queue, bench.opened.registry, bench.clock, bench.news, bench.gatherer
    )
    bench.start(committer.run())
    waiting = await _told(bench, request)
    assert (waiting.state, waiting.error) == (State.UPLOADED, "StoreUnavailable")
    store.is_away = False
    committer.nudge(STORE)
    assert (await bench.wait_state(request, State.DONE)).error == ""


async def test_an_alias_waits_in_silence(bench: Bench, store: Parts) -> None:
    """So it is with aliases, which are given when the version is there."""
    store.second.set()
    bench.preparer()
    bench.transferrer()
    request = await bench.wait_state(
        await bench.log({"a": b"1"}, aliases=("best",)), State.UPLOADED
    )
    store.is_away_for, store.tries = "/aliases/", 0
    committer = Committer(
        bench.queue, bench.opened.registry, bench.clock, bench.news, bench.gatherer
    )
    bench.start(committer.run())
    waiting = await _told(bench, request)
    assert (waiting.state, waiting.error) == (State.SETTLED, "StoreUnavailable")
    assert store.tries == 1
    store.is_away_for = "nothing"
    committer.nudge(STORE)
    assert (await bench.wait_state(request, State.DONE)).error == ""


async def test_a_long_pause_is_over_in_silence(bench: Bench, store: Parts) -> None:
    """What a stage's own pause has told is taken back when the store has answered, before all is sent."""
    bench.preparer()
    await bench.registry().found("one")
    store.missing = StoreMissing("The bucket is not there.")
    stage = bench.transferrer()
    request = await bench.log({"a": b"1"})
    assert (await _told(bench, request)).error == "StoreMissing"
    store.missing = None
    stage.nudge(STORE)
    going = await bench.wait_row(request, lambda now: not now.error)
    assert going.state is State.PREPARED
    store.second.set()
    await bench.wait_state(request, State.UPLOADED)


@pytest.mark.parametrize("away", ["/blobs/", "/versions/v00000001"])
async def test_repeated_trouble_is_not_told_to_the_commit(
    bench: Bench, store: Parts, away: str
) -> None:
    """A call that failed and then went well is trouble as well, for whoever met it: the store may be another
    since, and the lane's worker asks it once more.
    """
    bench.preparer()
    first = await bench.wait_state(await bench.log({"a": b"1"}), State.PREPARED)
    bench.transferrer(at_once=1)
    opened = bench.opened
    committer = Committer(
        bench.queue, opened.registry, bench.clock, bench.news, bench.gatherer, doubts=opened.doubts
    )
    bench.start(committer.run())
    with anyio.fail_after(10):
        await store.halfway.wait()
    request = await bench.log({"a": b"2"})  # so that the lane's worker stays
    await bench.wait_state(request, State.PREPARED)
    second, store.second = store.second, anyio.Event()
    second.set()
    await bench.wait_state(first, State.DONE)
    store.is_away_for = away
    store.second.set()
    await _told(bench, request)
    key = "cats/artifacts/model/versions/v00000000.json"
    record = (await store.get(key)).body
    await store.put(key, record.replace(first.id.encode(), b"another"))
    store.is_away_for = "nothing"
    bench.clock.advance(1)  # a nudge would have the store asked anew by itself
    waiting = await bench.wait_row(request, lambda now: now.error == "StoreChanged")
    assert "v0" in waiting.reason


async def test_a_store_that_is_gone_is_to_be_made(bench: Bench, store: Parts) -> None:
    """A store that was there before is to be put back, in every stage: a new one would not be that store."""
    store.second.set()
    bench.preparer()
    bench.transferrer()
    there = await bench.wait_state(await bench.log({"a": b"1"}), State.UPLOADED)
    store.missing = StoreMissing("The folder is not there.", hint="Make it with: mkdir")
    committer = Committer(
        bench.queue, bench.opened.registry, bench.clock, bench.news, bench.gatherer
    )
    bench.start(committer.run())
    bench.clock.advance(FRESH_S)
    other = await bench.log({"a": b"2"}, name="other")
    for request, state in ((there, State.UPLOADED), (other, State.PREPARED)):
        waiting = await _told(bench, request)
        assert (waiting.state, waiting.error) == (state, "StoreMissing")
        assert "put it back" in waiting.reason and "mkdir" not in waiting.reason


async def test_a_new_store_is_to_be_put_back(bench: Bench, store: Parts) -> None:
    """One that was never there is to be made."""
    store.missing = StoreMissing("The folder is not there.", hint="Make it with: mkdir")
    bench.preparer()
    bench.transferrer()
    assert "mkdir" in (await _told(bench, await bench.log({"a": b"1"}))).reason


async def test_a_nudge_between_two_pauses_is_lost() -> None:
    """A nudge that comes while a try is under way is for the pause after it, and for no other."""
    clock, nudge = HandClock(), Nudge()
    patience = Patience(nudge, clock)
    nudge.nudge()
    with anyio.fail_after(10):
        await patience.wait(60)
    ended = anyio.Event()

    async def wait() -> None:
        await patience.wait(60)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        for seconds in (0, 59):
            clock.advance(seconds)
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
        clock.advance(1)
