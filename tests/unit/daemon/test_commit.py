"""From uploaded to settled, with a real queue and a store that misbehaves."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import STORE, Bench
from wherry.errors import StoreUnavailable
from wherryd.commit.committer import Committer
from wherryd.commit.pauses import FEW, Pauses
from wherryd.commit.record import make_record
from wherryd.model import RunInfo, State
from wherryd.nudge import Nudge
from wherryd.queue.base import Request
from wherryd.stores.base import Found, Object, ObjectExists, WriteConflict


class RecordsStore(MemoryStore):
    """Notes what is synced, and refuses records where ``refusal`` says so."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, STORE)
        self.synced: list[str] = []
        self.refusal: type[Exception] | None = None
        self.refused = 0
        bench.stores[STORE] = bench.memory[STORE] = self

    async def put_if_absent(self, key: str, body: bytes) -> str:
        if self.refusal and "/versions/" in key:
            self.refused += 1
            raise self.refusal(key)
        return await super().put_if_absent(key, body)

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        self.synced += keys
        return await super().sync(keys, witness)


async def uploaded(bench: Bench) -> Request:
    """A request that waits for its commit."""
    bench.preparer()
    bench.transferrer()
    return await bench.wait_state(await bench.log({"a": b"1"}), State.UPLOADED)


def start_commit(bench: Bench) -> Committer:
    """The stage ``commit``, running."""
    opened = bench.opened
    committer = Committer(
        bench.queue, opened.registry, bench.clock, bench.news, bench.gatherer, doubts=opened.doubts
    )
    bench.start(committer.run())
    return committer


async def test_a_record_that_was_found_is_lost(bench: Bench) -> None:
    """A record that an earlier life has linked, and not synced, is synced before it is told of."""
    store = RecordsStore(bench)
    request = await uploaded(bench)
    record = make_record(request, 0)
    await bench.queue.attempt(request.row, 0, record)
    await bench.registry().create_version("cats", "model", 0, record)
    start_commit(bench)
    await bench.wait_state(request, State.DONE)
    assert "cats/artifacts/model/versions/v00000000.json" in store.synced


async def test_a_record_that_was_made_is_synced_twice(bench: Bench) -> None:
    """What the store has answered for needs nothing more."""
    store = RecordsStore(bench)
    request = await uploaded(bench)
    start_commit(bench)
    await bench.wait_state(request, State.DONE)
    assert not [key for key in store.synced if "/versions/" in key]


async def test_a_conflict_without_end_is_silent(bench: Bench) -> None:
    """A store that answers 409 again and again is told of in the request's row."""
    store = RecordsStore(bench)
    request = await uploaded(bench)
    store.refusal = WriteConflict
    committer = start_commit(bench)
    await _wait_told(bench, committer, request)


async def test_a_bare_refusal_without_end_is_silent(bench: Bench) -> None:
    """So is one that says that a record is there (412), and has none."""
    store = RecordsStore(bench)
    request = await uploaded(bench)
    store.refusal = ObjectExists
    committer = start_commit(bench)
    waiting = await _wait_told(bench, committer, request)
    assert "v0" in waiting.reason
    store.refusal = None
    committer.nudge(STORE)
    assert (await bench.wait_state(request, State.DONE)).version == 0


async def _wait_told(bench: Bench, committer: Committer, request: Request) -> Request:
    async with anyio.create_task_group() as tasks:

        async def hurry() -> None:
            while True:
                committer.nudge(STORE)
                await anyio.sleep(0)

        tasks.start_soon(hurry)
        waiting = await bench.wait_row(request, lambda now: now.error == "StoreUnavailable")
        tasks.cancel_scope.cancel()
    assert waiting.state is State.SENDING
    assert waiting.next_try is not None
    return waiting


async def test_refusals_are_answered_without_a_pause(bench: Bench) -> None:
    """The first few refusals wait a moment, then longer and longer ones, until another number is tried."""
    request = await uploaded(bench)
    told = []

    class Noted(Nudge):
        async def wait_nudged(self, *given: object) -> None:
            told.append(given[-1])

    pauses = Pauses(bench.queue, bench.clock, Noted())
    for _ in range(FEW + 3):
        await pauses.wait_refused(request.row, StoreUnavailable("no"))
    assert told == [0.2] * FEW + [0.5, 1.0, 2.0]
    pauses.not_refused()
    await pauses.wait_refused(request.row, StoreUnavailable("no"))
    assert told[-1] == 0.2


async def test_a_version_is_cancelled_after_a_retry(bench: Bench) -> None:
    """``wherry retry`` settles what has arrived in the store before it sends requests back."""
    RecordsStore(bench)
    request = await uploaded(bench)
    record = make_record(request, 0)
    await bench.queue.attempt(request.row, 0, record)
    await bench.registry().create_version("cats", "model", 0, record)
    committer = Committer(
        bench.queue, bench.opened.registry, bench.clock, bench.news, bench.gatherer
    )
    await committer.restart_lane(request.lane)
    assert (await bench.queue.get(request.row)).state is State.SETTLED


async def test_an_alias_holds_up_the_others(bench: Bench) -> None:
    """An alias that the store has in another case is passed over, and the request's row says why."""

    class Folds(RecordsStore):
        """Folds the case of aliases."""

        async def get(self, key: str) -> Object:
            return await super().get(_folded(key))

        async def put_if_absent(self, key: str, body: bytes) -> str:
            return await super().put_if_absent(_folded(key), body)

    Folds(bench)
    bench.preparer()
    bench.transferrer()
    start_commit(bench)
    given: list[Request] = []
    for number, aliases in enumerate((["best"], ["Best", "prod"])):
        request = await bench.log({"a": str(number).encode()})
        await bench.queue.link(request.id, RunInfo("another"), aliases)
        given.append(await bench.wait_state(request, State.DONE))
    assert given[0].error == ""
    assert given[1].error == "BadName"
    assert "'Best'" in given[1].reason
    there = await bench.registry().list_aliases("cats", "model")
    assert {each.alias: each.version for each in there} == {"best": 0, "prod": 1}


async def test_a_damaged_alias_holds_up_the_others(bench: Bench) -> None:
    """An alias object that makes no sense is read a few times more, then passed over as well."""
    store = RecordsStore(bench)
    await store.put_if_absent("cats/artifacts/model/aliases/best.json", b"{")
    bench.preparer()
    bench.transferrer()
    committer = start_commit(bench)
    request = await bench.log({"a": b"1"}, aliases=("best", "prod"))
    assert "damaged" in (await bench.wait_row(request, lambda now: now.error)).reason
    with anyio.fail_after(20):
        while (done := await bench.queue.get(request.row)).state is not State.DONE:
            committer.nudge(STORE)
            await anyio.sleep(0)
    assert done.error == "StoreDamaged"
    assert "'best'" in done.reason and "give the alias again" in done.reason
    later = await bench.log({"a": b"2"}, aliases=("prod",))
    assert (await bench.wait_state(later, State.DONE)).error == ""
    prod = await bench.registry().read_alias("cats", "model", "prod")
    assert prod is not None and prod.alias.version == 1


def _folded(key: str) -> str:
    return key.lower() if "/aliases/" in key else key
