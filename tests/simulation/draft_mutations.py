"""The protocol of drafts with one sentence taken out, for each that carries weight (``mutations``)."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import msgspec

from tests.simulation.mutations import Applied, mutation
from wherryd.commit import drafts, gathering
from wherryd.commit.drafts import Finishing
from wherryd.commit.finishing import Finisher
from wherryd.commit.lane import Memory, Settle, Step
from wherryd.commit.upserts import UpsertWorker
from wherryd.model import Sealed, State
from wherryd.queue.base import Filter, Request
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry import layout, records
from wherryd.registry.base import Registry
from wherryd.registry.drafts import ObjectDrafts

_WRITERS = {"homes": 2, "logs": 1, "drafts": 1, "writers": 3, "finishers": 1, "contents": 100}
_RACE = _WRITERS | {"finishers": 3, "writers": 1, "spread_s": 0.5}


# ── the writer ─────────────────────────────────────────────────────────────────────────────────
@mutation(
    "the writer looks before it puts",
    "and it is in it: False",
    **_WRITERS | {"writers": 4, "finishers": 2, "spread_s": 3.0},
    faults={"latency_s": 1.0},
)
def _looks_first() -> Applied:
    async def put(self: UpsertWorker, request: Request, store_id: str) -> None:
        seen = await self._look(request, store_id)
        assert request.record is not None
        place = request.lane.project, request.draft
        await self._clock.sleep(3 * self._clock.random())
        await self._registry.drafts.put_part(*place, request.id, request.record)
        await self._queue.part_put(request.row)
        await self._end(request, seen)

    with patch.object(UpsertWorker, "_put", put):
        yield


@mutation(
    "the writer gives up without waiting for sealed.json", "and it is in it: True", **_WRITERS
)
def _gives_up() -> Applied:
    async def wait(self: UpsertWorker, request: Request, _: str) -> None:
        await self._queue.fail_late(request.row, "DraftFinished", "")

    with patch.object(UpsertWorker, "_wait", wait):
        yield


# ── the finisher ───────────────────────────────────────────────────────────────────────────────
@mutation("sealing.json after the list", "and it is in it: False", **_WRITERS)
def _late_mark() -> Applied:
    begin_sealing, put_sealed = Finisher._begin_sealing, Finisher._put_sealed

    async def begin(self: Finisher, request: Request, _: str) -> None:
        self.memory(request).is_sealing = True

    async def seal(self: Finisher, request: Request) -> None:
        known = await self._queue.known(request.lane)
        await begin_sealing(self, request, known.store_id)
        await put_sealed(self, request)

    async def list_parts(self: ObjectDrafts, project: str, draft: str) -> list[str]:
        prefix = layout.parts_prefix(project, draft)
        found = [layout.parse_part(stat.key) async for stat in self._store.list(prefix)]
        return sorted(request for request in found if request)

    with (
        patch.object(Finisher, "_begin_sealing", begin),
        patch.object(Finisher, "_put_sealed", seal),
        patch.object(ObjectDrafts, "list_parts", list_parts),
    ):
        yield


@mutation(
    "the finisher does not wait for earlier parts",
    "came before .*, and is not in",
    first=52,
    **_WRITERS,
)
def _no_waiting() -> Applied:
    async def await_parts(self: Finisher, request: Request) -> None:
        self.memory(request).has_parts = True

    with patch.object(Finisher, "_await_parts", await_parts):
        yield


@mutation("the finisher waits for the ends of earlier upserts", "not at rest", first=429, **_RACE)
def _waits_for_ends() -> Applied:
    async def missing(self: SqliteQueue, row: int) -> int:
        finish = await self.get(row)
        going = tuple(
            state for state in State if state not in (State.DONE, State.FAILED, State.CANCELLED)
        )
        assert finish.place is not None
        before = [
            each
            for each in await self.find(Filter(states=going))
            if each.kind == "upsert" and each.place is not None and each.place < finish.place
        ]
        return len(before)

    with patch.object(SqliteQueue, "parts_missing", missing):
        yield


@mutation(
    "sealed.json not in the queue before it is sent",
    "has sealed the draft and is cancelled",
    first=97,
    **_WRITERS | {"homes": 1, "writers": 1, "cancels": 2, "lives": 0, "spread_s": 3.0},
    faults={"latency_s": 1.0},
)
def _not_kept() -> Applied:
    async def keep(self: SqliteQueue, row: int, sealed: bytes) -> None:
        del self, row, sealed

    original = Finisher.do

    async def do(
        self: Finisher, step: drafts.FinishStep, request: Request, store_id: str, tick: int
    ) -> Request:
        after = await original(self, step, request, store_id, tick)
        is_kept = isinstance(step, drafts.KeepSealed)
        return msgspec.structs.replace(after, state=State.UPLOADED) if is_kept else after

    with patch.object(SqliteQueue, "keep_sealed", keep), patch.object(Finisher, "do", do):
        yield


# ── whoever comes second ───────────────────────────────────────────────────────────────────────
def _loser_keeps(change: Callable[[Sealed, Sealed], Sealed]) -> Applied:
    """A finisher that finds the draft sealed by another goes on with something of its own."""
    original = Finishing.looked

    def looked(self: Finishing, sealed: Sealed | None, tick: int) -> None:
        if sealed is not None and self.made is not None:
            sealed = change(sealed, records.decode_sealed("own", self.made))
        original(self, sealed, tick)

    with patch.object(Finishing, "looked", looked):
        yield


mutation("a loser goes on with its own list", "another content|became", first=65, **_RACE)(
    lambda: _loser_keeps(lambda _, own: own)
)
mutation("a loser goes on with its own from", "became", first=65, **_RACE)(
    lambda: _loser_keeps(lambda there, own: msgspec.structs.replace(there, start=own.start))
)
mutation(
    "a loser goes on with its own look at the number below", "was told|became", first=127, **_RACE
)(lambda: _loser_keeps(lambda there, own: msgspec.structs.replace(there, same=own.same)))


@mutation("the draft is committed under the finisher's id", "became|names what is not", **_RACE)
def _own_id() -> Applied:
    original = Finisher._look

    async def look(self: Finisher, request: Request, store_id: str, tick: int) -> None:
        await original(self, request, store_id, tick)
        finishing = self.memory(request)
        if finishing.sealed is not None:
            finishing.sealed = msgspec.structs.replace(finishing.sealed, draft=request.id)

    with patch.object(Finisher, "_look", look):
        yield


@mutation(
    "same content is asked of the latest",
    "was told|became|has two versions",
    first=20,
    **_RACE | {"drafts": 2, "clashes": 1.0, "writers": 1, "lives": 3, "spread_s": 3.0},
)
def _asks_latest() -> Applied:
    original = drafts._to_version

    def to_version(
        memory: Memory, finishing: Finishing, sealed: Sealed, request: Request, store_id: str
    ) -> Step:
        latest = memory.seen.get(memory.highest)
        if latest is not None and latest.content == sealed.content and not latest.deleted:
            return Settle(memory.highest)
        return original(memory, finishing, sealed, request, store_id)

    with patch.object(drafts, "_to_version", to_version):
        yield


@mutation(
    "from is the number kept and not a listing's",
    "was not the highest|another content",
    first=169,
    **_WRITERS | {"drafts": 4, "clashes": 1.0, "writers": 1, "logs": 3, "spread_s": 6.0},
)
def _from_kept() -> Applied:
    original = gathering.Gatherer.gather
    kept: dict[int, int] = {}  # by registry, of which each daemon has its own

    async def gather(
        self: gathering.Gatherer,
        request: Request,
        registry: Registry,
        store_id: str,
        finishing: Finishing,
    ) -> None:
        kept[id(registry)] = (await self._queue.known(request.lane)).highest
        await original(self, request, registry, store_id, finishing)

    async def start(
        request: Request, registry: Registry, store_id: str, content: str
    ) -> tuple[int, bool]:
        highest = kept[id(registry)]
        if highest < 0:
            return 0, False
        place = request.lane.project, request.lane.name
        (stored,) = await registry.read_versions(*place, [highest], store_id)
        return highest + 1, bool(stored and stored.record.content == content)

    with (
        patch.object(gathering.Gatherer, "gather", gather),
        patch.object(gathering, "_start", start),
    ):
        yield
