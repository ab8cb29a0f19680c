"""The protocol with one sentence taken out, for each sentence that carries weight.

Each mutation patches the real code; a history must then break a promise. A mutation that no history
catches means a blind simulation, or a sentence that is not needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import anyio

from tests.simulation.plan import Plan
from tests.simulation.store import Faults, SimStore
from wherry.errors import WherryError
from wherryd.commit import aliases, editing, lane, looking, naming, worker
from wherryd.commit.committer import Committer
from wherryd.commit.lane import Memory, Seen
from wherryd.commit.pauses import Pauses
from wherryd.commit.worker import LaneWorker
from wherryd.doubts import Doubts
from wherryd.model import Alias, State
from wherryd.queue import changes, knowledge
from wherryd.queue.base import DoneRecord, Filter, Known, Request, WrongState
from wherryd.queue.group import Changed
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import ObjectExists, OutcomeUnknown, WriteConflict


@dataclass(frozen=True)
class Mutation:
    """A broken protocol, the promise that breaks, and a plan under which it does."""

    apply: Callable[[], Any]
    breaks: str
    plan: Callable[[], Plan]
    #: The seed to begin with: one that shows it soon, where these are rare. After a change another may.
    first: int = 0


MUTATIONS: dict[str, Mutation] = {}

Applied = Iterator[None]


def mutation(
    name: str, breaks: str, first: int = 0, **plan: Any
) -> Callable[[Callable[[], Applied]], None]:
    """Register a mutation with a pattern of what it breaks, and the plan that lets it show."""

    def register(apply: Callable[[], Applied]) -> None:
        MUTATIONS[name] = Mutation(contextmanager(apply), breaks, partial(_plan, plan), first)

    return register


def _plan(chosen: dict[str, Any]) -> Plan:
    chosen = dict(chosen)
    faults = Faults(**chosen.pop("faults", {}))
    return Plan(**{"cancels": 0, "bad": 0.0, "spread_s": 1.0} | chosen, faults=faults)


# ── the write ──────────────────────────────────────────────────────────────────────────────────
@mutation("a put without a condition", "written over", homes=2, contents=100, lives=0)
def _unconditional() -> Applied:
    original = SimStore.put_if_absent

    async def put(self: SimStore, key: str, body: bytes) -> str:
        if "/versions/" not in key:
            return await original(self, key, body)
        await SimStore.put(self, key, body)
        return ""

    with patch.object(SimStore, "put_if_absent", put):
        yield


def _takes_for_taken(error: type[Exception]) -> Applied:
    """After ``error`` the worker goes on to the next number, as if another had taken this one."""
    original = LaneWorker._put

    async def put(self: LaneWorker, head: Request, number: int) -> None:
        try:
            await original(self, head, number)
        except (OutcomeUnknown, WriteConflict) as raised:
            if not isinstance(raised, error):
                raise
            self._memory._see(number, Seen("somebody", "something", False, self._memory.tick))
        else:
            if error is ObjectExists and self._memory.is_refused(number):
                self._memory._see(number, Seen("somebody", "something", False, self._memory.tick))

    with patch.object(LaneWorker, "_put", put):
        yield


mutation(
    "the next number after a timeout",
    "became two versions",
    homes=1,
    contents=100,
    faults={"lost_answer": 0.3},
)(partial(_takes_for_taken, OutcomeUnknown))
mutation(
    "the next number after a 409", "leaves a hole", homes=1, contents=100, faults={"conflict": 0.3}
)(partial(_takes_for_taken, WriteConflict))
mutation(
    "the next number after a bare 412",
    "leaves a hole",
    homes=1,
    contents=100,
    faults={"bare_412": 0.3},
)(partial(_takes_for_taken, ObjectExists))


@mutation("new bytes at a second try", "other bytes", contents=100, faults={"lost_request": 0.3})
def _new_bytes() -> Applied:
    original = LaneWorker._put
    tries = iter(range(1_000_000_000))

    async def put(self: LaneWorker, head: Request, number: int) -> None:
        assert head.record
        await original(self, _with_record(head, head.record + b" " * (next(tries) % 7)), number)

    with patch.object(LaneWorker, "_put", put):
        yield


def _with_record(head: Request, record: bytes) -> Request:
    import msgspec

    return msgspec.structs.replace(head, record=record)


@mutation(
    "number and bytes not in the queue before the send",
    "is cancelled",
    homes=1,
    lives=0,
    processes=1,
    logs=3,
    cancels=8,
    contents=100,
    spread_s=3.0,
    faults={"latency_s": 1.0},
)
def _not_queued() -> Applied:
    async def attempt(self: LaneWorker, head: Request, number: int) -> Request:
        record = worker.make_record(head, number)
        tick = self._memory.ask()
        try:
            await self._registry.create_version(self._lane.project, self._lane.name, number, record)
        except ObjectExists:
            pass
        there = await self._registry.read_version(self._lane.project, self._lane.name, number)
        self._memory.read(number, there, tick)
        return head

    with patch.object(LaneWorker, "_attempt", attempt):
        yield


# ── the queue ──────────────────────────────────────────────────────────────────────────────────
@mutation(
    "cancelling after the send",
    "is cancelled",
    homes=1,
    logs=2,
    cancels=3,
    contents=100,
    spread_s=10.0,
    faults={"lost_answer": 0.5, "slow_answer": 0.5},  # so that it is in `sending` for long
)
def _cancel_late() -> Applied:
    with patch.object(changes, "UNSENT", (*changes.UNSENT, State.SENDING)):
        yield


@mutation("acknowledging before the queue's commit", "is lost", lives=6, contents=100)
def _acknowledge_early() -> Applied:
    from wherryd.queue.sqlite import SqliteQueue

    original = SqliteQueue.accept

    async def accept(self: SqliteQueue, row: int, request: Any) -> Any:
        import asyncio

        from wherryd.queue.base import Accepted

        task = asyncio.get_running_loop().create_task(original(self, row, request))
        _KEPT.append(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Accepted(row, 0, False)

    with patch.object(SqliteQueue, "accept", accept):
        yield
    _KEPT.clear()


_KEPT: list[object] = []


#: A home is copied in the middle of it all, and both go on.
_COPIED_HOME: dict[str, Any] = {
    "copies": 1,
    "contents": 1_000_000_000,
    "logs": 5,
    "faults": {"latency_s": 0.3},
}
#: The store is changed under daemons that are at work.
_CHANGED: dict[str, Any] = {"changes": 1, "lanes": 2, "logs": 4, "big": 0.3}
#: The same, with workers that hardly ever run out of work.
_CHANGED_AT_WORK: dict[str, Any] = {
    "changes": 1,
    "kinds": ("emptied", "exchanged"),
    "processes": 4,
    "logs": 6,
    "contents": 1000,
    "spread_s": 10.0,
    "lives": 0,
    "big": 0.1,
}


# ── order and identity ─────────────────────────────────────────────────────────────────────────
@mutation(
    "two commits in flight in a lane",
    "leaves a hole|two commits in flight",
    homes=1,
    processes=4,
    contents=100,
    spread_s=0.1,
)
def _two_in_flight() -> Applied:
    original = LaneWorker._put

    async def put(self: LaneWorker, head: Request, number: int) -> None:
        line = await self._queue.line(self._lane, limit=2)
        if len(line) < 2 or line[1].state is not State.UPLOADED:
            await original(self, head, number)
            return
        record = worker.make_record(line[1], number + 1)
        await self._queue.attempt(line[1].row, number + 1, record)
        async with anyio.create_task_group() as both:
            both.start_soon(original, self, head, number)
            both.start_soon(original, self, _with_record(line[1], record), number + 1)

    with patch.object(LaneWorker, "_put", put):
        yield


@mutation(
    "the id not looked at after a refusal",
    "became two versions",
    homes=3,
    processes=2,
    logs=4,
    lives=0,
    contents=100,
    spread_s=3.0,
    faults={"repeated": 0.5, "slow_answer": 0.5},
)
def _id_not_looked_at() -> Applied:
    original = Memory.read

    def read(self: Memory, number: int, stored: Any, tick: int) -> None:
        was_refused = self.is_refused(number)
        original(self, number, stored, tick)
        if was_refused and stored is not None:
            self._by_request.pop(stored.record.request, None)

    with patch.object(Memory, "read", read):
        yield


@mutation(
    "records above the highest number known at acceptance not looked through",
    "became two versions",
    **_COPIED_HOME,
)
def _not_looked_through() -> Applied:
    with patch.object(Memory, "unread", lambda self, floor, accepted: iter(())):
        yield


@mutation("young records taken for old ones", "became two versions", **_COPIED_HOME)
def _taken_for_old() -> Applied:
    with patch.object(lane, "OLD_S", -1e9):
        yield


@mutation("the type not claimed", "before its type is claimed", homes=1, types=("model", "dataset"))
def _not_claimed() -> Applied:
    async def claim(self: LaneWorker, head: Request) -> None:
        self._memory.type = head.type

    with patch.object(LaneWorker, "_claim", claim):
        yield


@mutation("a retried failure keeps its place", "came before", homes=1, bad=0.5, retries=3, logs=6)
def _keeps_its_place() -> Applied:
    original = changes.retry

    def retry(db: sqlite3.Connection, row: int, now: float) -> Changed[int]:
        (place,) = db.execute("SELECT place FROM requests WHERE row = ?", (row,)).fetchone()
        with patch.object(changes, "_next_place", lambda db: place):
            return original(db, row, now)

    with patch.object(changes, "retry", retry):
        yield


@mutation(
    "what was held let go in another order",
    "came before",
    homes=1,
    offline=0.8,
    logs=6,
    contents=100,
)
def _synced_backwards() -> Applied:
    original = changes.sync

    def sync(db: sqlite3.Connection, rows: Sequence[int], now: float) -> Changed[int]:
        counted = [original(db, [row], now) for row in sorted(set(rows), reverse=True)]
        return Changed(
            sum(each.value for each in counted), tuple(t for each in counted for t in each.topics)
        )

    with patch.object(changes, "sync", sync):
        yield


# ── one bad request, a store in trouble ────────────────────────────────────────────────────────
def _gives_up(end: Callable[[Pauses, int], Awaitable[None]]) -> Applied:
    """At a store error the daemon ends the request, where the queue lets it."""
    original = Pauses.wait_after

    async def wait_after(self: Pauses, row: int, error: WherryError) -> None:
        try:
            await end(self, row)
        except WrongState:
            await original(self, row, error)

    with patch.object(Pauses, "wait_after", wait_after):
        yield


async def _fail(self: Pauses, row: int) -> None:
    await self._queue.fail(row, "StoreUnavailable", "503")


async def _cancel(self: Pauses, row: int) -> None:
    await self._queue.cancel(row)


mutation(
    "a request failed by a store error", "nothing is wrong with it", faults={"unavailable": 0.4}
)(partial(_gives_up, _fail))
mutation(
    "a request cancelled by a store error", "log.cancelled=False", faults={"unavailable": 0.4}
)(partial(_gives_up, _cancel))


# ── a store that is not what it was ────────────────────────────────────────────────────────────
_UNASKED = "written before the user said"


@mutation(
    "N-1 not read again after a start",
    _UNASKED,
    first=11,
    contents=100,
    kinds=("put back",),
    **_CHANGED,
)
def _not_read_again() -> Applied:
    async def confirm(self: LaneWorker) -> None:
        kept = self._kept = await self._queue.known(self._lane)
        memory = self._memory
        memory.type = kept.type
        if kept.highest >= 0:
            found = await self._queue.find(Filter(states=tuple(State), ids=(kept.highest_request,)))
            content = (found[0].content if found else None) or ""
            memory._see(kept.highest, Seen(kept.highest_request, content, False, 0))
        memory._confirmed_at = self._clock.monotonic()
        self._doubted = self._doubts.of(self._lane.store)

    with patch.object(LaneWorker, "_confirm", confirm):
        yield


@mutation("the store's id not read again", _UNASKED, first=12, kinds=("exchanged",), **_CHANGED)
def _id_not_read() -> Applied:
    with patch.object(ObjectRegistry, "_check", lambda self, identity, store_id: None):
        yield


@mutation(
    "another id at the highest number passed over", _UNASKED, kinds=("overwritten",), **_CHANGED
)
def _passed_over() -> Applied:
    original = Memory.confirmed

    def confirmed(self: Memory, *seen: Any) -> None:
        original(self, *seen)
        self.changed = None

    with patch.object(Memory, "confirmed", confirmed):
        yield


@mutation(
    "the store not asked again after an error",
    _UNASKED,
    first=27,
    homes=1,
    ways=("away",),
    **_CHANGED_AT_WORK | {"processes": 5, "logs": 3, "spread_s": 2.0},
)
def _not_asked_after_error() -> Applied:
    with patch.object(Doubts, "note", lambda self, address: None):
        yield


@mutation(
    "trouble of an upload not known to the commit",
    _UNASKED,
    first=25,
    ways=("away",),
    **_CHANGED_AT_WORK | {"kinds": ("put back",)},
)
def _doubts_apart() -> Applied:
    original = LaneWorker.__init__

    def alone(self: LaneWorker, *given: Any) -> None:
        original(self, *given[:-1], Doubts())

    with patch.object(LaneWorker, "__init__", alone):
        yield


@mutation("the store not asked again after 60 s", _UNASKED, first=23, ways=("quiet",), **_CHANGED)
def _trusted_for_ever() -> Applied:
    with patch.object(lane, "FRESH_S", 1e12):
        yield


@mutation(
    "a worker that goes on over a retry",
    "leaves a hole|stopped, and the store is what it was",
    homes=1,
    lanes=3,
    ways=("away",),
    **_CHANGED_AT_WORK,
)
def _goes_on() -> Applied:
    original = Memory.confirmed

    def confirmed(self: Memory, kept: Known, *seen: Any) -> None:
        original(self, kept, *seen)
        if self.highest > kept.highest:
            self.gone = None

    with (
        patch.object(Committer, "_at_rest", lambda self, address: nullcontext()),
        patch.object(Memory, "confirmed", confirmed),
    ):
        yield


@mutation(
    "what was sent to the old store not sent again",
    "names what is not there",
    **_CHANGED_AT_WORK,
)
def _not_sent_again() -> Applied:
    original = knowledge.all_rows

    def all_rows(db: sqlite3.Connection, query: str, /, **values: Any) -> list[sqlite3.Row]:
        return [] if query == "to_upload_again" else original(db, query, **values)

    with patch.object(knowledge, "all_rows", all_rows):
        yield


# ── another store at the address, for a moment ─────────────────────────────────────────────────
_MOMENTS: dict[str, Any] = {
    "homes": 2,
    "lives": 0,
    "logs": 6,
    "contents": 100,
    "moments": 6,
    "moment_s": 0.5,
    "spread_s": 3.0,
    "faults": {"latency_s": 0.1},
}


@mutation("bytes noted that may be in another store", "names what is not there", **_MOMENTS)
def _bytes_not_proven() -> Applied:
    async def sync(self: ObjectRegistry, *_: Any) -> None:
        await self._store.sync([], "")

    with patch.object(ObjectRegistry, "sync", sync):
        yield


@mutation("a record counts that was not read back", "told a missing version|of another", **_MOMENTS)
def _record_not_read() -> Applied:
    original = LaneWorker._put

    async def put(self: LaneWorker, head: Request, number: int) -> None:
        await original(self, head, number)
        if self._memory.was_created(number):
            seen = Seen(head.id, head.content or "", False, self._memory.tick)
            self._memory._see(number, seen)

    with patch.object(LaneWorker, "_put", put):
        yield


@mutation(
    "a claim counts that was not read back",
    "before its type is claimed",
    **_MOMENTS | {"homes": 1, "lanes": 8, "logs": 3},
)
def _claim_not_read() -> Applied:
    async def claim(self: LaneWorker, head: Request) -> None:
        project, name = self._lane.project, self._lane.name
        there = await self._registry.read_type(project, name)
        self._memory.type = there or await self._registry.claim_type(project, name, head.type)

    with patch.object(LaneWorker, "_claim", claim):
        yield


@mutation(
    "an alias counts that was not read back",
    "never came to",
    **_MOMENTS
    | {
        "homes": 1,
        "processes": 1,
        "logs": 8,
        "aliases": ("best",),
        "moments": 8,
        "moment_s": 1.0,
        "spread_s": 5.0,
        "faults": {"latency_s": 0.3},
    },
)
def _alias_not_read() -> Applied:
    async def give(self: naming.Namer, alias: str, version: int) -> bool:
        project, name = self._lane.project, self._lane.name
        stored = await self._registry.read_alias(project, name, alias)
        there = stored.alias if stored else None
        moved = naming.given_by_logging(there, alias, version, self._clock.token())
        if moved:
            try:
                etag = stored.etag if stored else None
                await self._registry.write_alias(project, name, moved, etag)
            except naming._RACED:
                return False
        return True

    with patch.object(naming.Namer, "_give", give):
        yield


# ── bytes that somebody removes ────────────────────────────────────────────────────────────────
_REMOVED: dict[str, Any] = {
    "lanes": 2,
    "logs": 6,
    "contents": 3,
    "removals": 6,
    "spread_s": 3.0,
}


@mutation("commits without looking again", "names what is not there", **_REMOVED)
def _not_looked_at_again() -> Applied:
    with patch.object(lane, "_is_whole", lambda *_: True):
        yield


@mutation("what another request has put is not looked at", "names what is not there", **_REMOVED)
def _any_sender() -> Applied:
    def is_put_lately(record: DoneRecord | None, request: Request, now: float) -> bool:
        return record is not None and lane.is_recent(record.seen, now)

    with patch.object(looking, "_is_put_lately", is_put_lately):
        yield


# ── same content ───────────────────────────────────────────────────────────────────────────────
@mutation(
    "same content settled without looking for the next number",
    "was not the highest",
    homes=3,
    processes=3,
    lives=0,
    logs=6,
    contents=2,
    spread_s=5.0,
    faults={"slow_answer": 0.5},
)
def _next_not_looked_for() -> Applied:
    with patch.object(Memory, "was_absent_after", lambda self, number, tick: True):
        yield


@mutation(
    "same content settled on a deleted version",
    "was not the highest",
    homes=1,
    logs=4,
    contents=1,
    deletes=3,
    lives=0,
)
def _on_deleted() -> Applied:
    original = Memory._see

    def see(self: Memory, number: int, seen: Seen) -> None:
        import msgspec

        original(self, number, msgspec.structs.replace(seen, deleted=False))

    with patch.object(Memory, "_see", see):
        yield


# ── aliases ────────────────────────────────────────────────────────────────────────────────────
@mutation(
    "aliases moved before the row",
    "moved before the row",
    homes=3,
    lives=8,
    logs=4,
    contents=3,
    cancels=8,
    aliases=("best",),
    spread_s=2.0,
    faults={"latency_s": 0.5},
)
def _aliases_first() -> Applied:
    original = LaneWorker._settle

    async def settle(self: LaneWorker, head: Request, version: int) -> None:
        namer = naming.Namer(self._lane, self._registry, self._queue, self._clock, self._pauses)
        for alias in aliases.worth_giving(head.aliases):
            await namer._give(alias, version)
        await original(self, head, version)

    with patch.object(LaneWorker, "_settle", settle):
        yield


_ALIAS_PLAN: dict[str, Any] = {
    "homes": 1,
    "lives": 2,
    "logs": 4,
    "contents": 100,
    "aliases": ("best",),
    "moves": 4,
    "movers": 2,
    "faults": {"lost_answer": 0.2, "unavailable": 0.2},
}


@mutation("aliases moved without 'highest'", "moved down", first=24, **_ALIAS_PLAN)
def _without_highest() -> Applied:
    original = aliases.given_by_logging

    def given(there: Alias | None, alias: str, version: int, write: str) -> Alias | None:
        if there is not None:
            there = Alias(
                1, alias, there.version, -1 if there.version is None else there.version, ""
            )
        return original(there, alias, version, write)

    with patch.object(naming, "given_by_logging", given):
        yield


@mutation(
    "aliases moved without the random id",
    "happened again",
    homes=1,
    lives=0,
    logs=2,
    contents=100,
    aliases=("best",),
    moves=12,
    movers=3,
    spread_s=4.0,
    faults={"late": 0.5, "late_s": 20.0},
)
def _without_random_id() -> Applied:
    original = editing.moved_by_user

    def moved(*args: Any) -> Alias:
        return original(*args[:-1], "")

    with patch.object(editing, "moved_by_user", moved):
        yield


@mutation(
    "a user's move that does not raise 'highest'",
    "taken back by logging",
    **_ALIAS_PLAN | {"moves": 16},
)
def _not_raised() -> Applied:
    original = editing.moved_by_user

    def moved(there: Alias | None, alias: str, version: int | None, _: int, write: str) -> Alias:
        return original(there, alias, version, version or 0, write)

    with patch.object(editing, "moved_by_user", moved):
        yield


@mutation(
    "deleting that removes the record",
    "was removed",
    homes=1,
    logs=4,
    contents=100,
    deletes=3,
    lives=0,
)
def _removes() -> Applied:
    async def bury(self: ObjectRegistry, project: str, name: str, version: int, *_: Any) -> None:
        key = f"{project}/artifacts/{name}/versions/v{version:08d}.json"
        await self._store.delete(key)

    with patch.object(ObjectRegistry, "bury_version", bury):
        yield
