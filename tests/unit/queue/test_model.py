"""A hypothesis machine drives the queue, with kills around any commit, against a plain model of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.soak import rounds
from tests.unit.queue.helpers import ADDRESS, ALL, MANIFEST, StillClock, new_entry, new_request
from wherry.errors import QueueError, RequestIdTaken, TypeTaken
from wherryd.model import Lane, State
from wherryd.news import News
from wherryd.queue import knowledge, looks, streams
from wherryd.queue.base import Filter, Known, WrongState
from wherryd.queue.database import InlineDatabase
from wherryd.queue.sqlite import SqliteQueue

LANES = [Lane(ADDRESS, "cats", "a"), Lane(ADDRESS, "cats", "b"), Lane("s3://other", "cats", "a")]
UNSENT = {State.HELD, State.ACCEPTED, State.PREPARED, State.UPLOADED}
ENDED = {State.DONE, State.FAILED, State.CANCELLED}
IN_LINE = {State.ACCEPTED, State.PREPARED, State.UPLOADED, State.SENDING}

picks = st.integers(0, 1_000)
lanes = st.sampled_from(LANES)
#: Entries of a stream that are held until its request is accepted; so both ways are gone.
HELD = 1
#: A kill right before the commit of the change, right after it, or none.
kills = st.sampled_from([None, None, None, "before", "after"])


class Died(Exception):
    """The daemon was killed."""


@dataclass
class Modelled:
    """A request as it should be."""

    id: str
    row: int
    lane: Lane
    type: str
    body: bytes
    paths: list[str]
    state: State
    place: int | None
    floor: tuple[int, str]
    number: int | None = None
    record: bytes | None = None
    version: int | None = None
    acknowledged: bool = False
    content: str | None = None

    @property
    def in_order(self) -> tuple[bool, int, int]:
        return self.place is None, self.place or 0, self.row


@dataclass
class Model:
    """The queue as it should be."""

    requests: dict[int, Modelled] = field(default_factory=dict)
    staged: dict[int, list[str]] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    last_place: int = 0
    stores: dict[str, str] = field(default_factory=dict)
    known: dict[tuple[Lane, str], tuple[str | None, int, str]] = field(default_factory=dict)
    stopped: dict[Lane, str] = field(default_factory=dict)

    def next_place(self) -> int:
        self.last_place += 1
        return self.last_place

    def known_of(self, lane: Lane) -> Known:
        store = self.stores.get(lane.store, "")
        type_, highest, by = self.known.get((lane, store), (None, -1, ""))
        return Known(store, type_, highest, by)

    def type_of(self, lane: Lane) -> str | None:
        waiting = (r.type for r in self.all() if r.lane == lane and r.state not in ENDED)
        return self.known_of(lane).type or next(waiting, None)

    def all(self) -> list[Modelled]:
        return sorted(self.requests.values(), key=lambda request: request.in_order)


class QueueMachine(RuleBasedStateMachine):
    """Each rule does one thing to the queue and to the model; the invariants compare all that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.disk = sqlite3.connect(":memory:")
        self.clock = StillClock()
        self.runner = asyncio.Runner()
        self.steps_left: int | None = None
        self.ids = 0
        self.start()

    # ── how ────────────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        self.steps_left = None
        self.database = InlineDatabase(self.disk, self.step)
        self.queue = self.run(self._open())
        # What cut streams left is swept, as in every start.
        self.model.staged.clear()

    async def _open(self) -> SqliteQueue:
        queue = await SqliteQueue.open(self.database, News(), self.clock)
        await queue._sweeping
        return queue

    def step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left == 0:
                self.database.crash()
                raise Died

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def do(
        self, work: Coroutine[Any, Any, Any], kill: str | None, then: Callable[[], object]
    ) -> bool:
        """Do a change, perhaps with a kill around its commit; ``then`` does it to the model.

        Returns whether the caller got its answer.
        """
        self.steps_left = {None: None, "before": 1, "after": 2}[kill]
        if kill is None:
            self.run(work)
            then()
            return True
        with pytest.raises(QueueError):
            self.run(work)
        if kill == "after":
            then()
        self.start()
        return False

    def refused(self, work: Coroutine[Any, Any, Any], error: type[Exception] = WrongState) -> None:
        with pytest.raises(error):
            self.run(work)

    def any_request(self, pick: int) -> Modelled:
        requests = self.model.all()
        return requests[pick % len(requests)]

    def change(
        self,
        work: Coroutine[Any, Any, Any],
        kill: str | None,
        request: Modelled,
        allowed: set[State],
        **after: object,
    ) -> None:
        """A change that one request may go through from the states in ``allowed``."""
        if request.state not in allowed:
            self.refused(work)
            return
        self.do(
            work, kill, lambda: self.model.requests.update({request.row: replace(request, **after)})
        )  # type: ignore[arg-type]

    # ── whole ways, so that histories come far ─────────────────────────────────────────────────
    @initialize(
        logs=st.lists(st.tuples(lanes, st.booleans()), min_size=4, max_size=8),
        steps=st.lists(st.tuples(picks, kills), max_size=20),
    )
    def begin(self, logs: list[tuple[Lane, bool]], steps: list[tuple[int, str | None]]) -> None:
        for lane in LANES:
            self.meet_store(lane, None)
        for lane, offline in logs:
            self.stage(["a", "b"], None)
            self.accept(lane, "m", offline, None)
        for pick, kill in steps:
            self.go_on(pick, kill)

    @rule(lane=lanes, offline=st.booleans(), kill=kills)
    def log(self, lane: Lane, offline: bool, kill: str | None) -> None:
        self.stage(["a", "b", "c"], None)
        self.accept(lane, self.model.type_of(lane) or "m", offline, kill)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def go_on(self, pick: int, kill: str | None) -> None:
        """The next step of a request's way, whichever that is."""
        match self.any_request(pick).state:
            case State.HELD:
                self.sync({pick}, kill)
            case State.ACCEPTED:
                self.prepared(pick, kill)
            case State.PREPARED:
                self.uploaded(pick, kill)
            case State.UPLOADED:
                self.attempt(pick, pick % 4, b"x", kill)
            case State.SENDING:
                self.settle(pick, pick % 4, kill)
            case State.SETTLED:
                self.done(pick, kill)
            case State.FAILED:
                self.retry(pick, kill)

    # ── coming in ──────────────────────────────────────────────────────────────────────────────
    @rule(paths=st.lists(st.sampled_from("abc"), unique=True), kill=kills)
    def stage(self, paths: list[str], kill: str | None) -> None:
        row = self.queue.new_row()
        assert row not in self.model.rows
        self.model.rows.add(row)
        work = self.queue.stage(row, [new_entry(path) for path in paths])
        if len(paths) > HELD:
            # A kill ends the stream: whatever it left is swept.
            if not self.do(work, kill, lambda: None):
                return
        else:
            self.run(work)
        self.model.staged[row] = paths

    @precondition(lambda self: self.model.staged)
    @rule(lane=lanes, type_=st.sampled_from("mn"), offline=st.booleans(), kill=kills)
    def accept(self, lane: Lane, type_: str, offline: bool, kill: str | None) -> None:
        row, paths = self.model.staged.popitem()
        self.ids += 1
        request = new_request(
            f"r{self.ids}", lane=lane, type=type_, entries=len(paths), offline=offline
        )
        if self.model.type_of(lane) not in (None, type_):
            self.refused(self.queue.accept(row, request), TypeTaken)
            self.run(self.queue.abandon(row))
            return

        def then() -> None:
            known = self.model.known_of(lane)
            self.model.requests[row] = Modelled(
                id=request.id,
                row=row,
                lane=lane,
                type=type_,
                body=request.body,
                paths=paths,
                state=State.HELD if offline else State.ACCEPTED,
                place=None if offline else self.model.next_place(),
                floor=(known.highest, known.store_id),
            )

        self.do(self.queue.accept(row, request), kill, then)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, other=st.booleans())
    def accept_again(self, pick: int, other: bool) -> None:
        there = self.any_request(pick)
        row = self.queue.new_row()
        self.model.rows.add(row)
        self.run(self.queue.stage(row, [new_entry("again")]))
        request = new_request(
            there.id, lane=there.lane, type=there.type, body=b"other" if other else there.body
        )
        if other:
            self.refused(self.queue.accept(row, request), RequestIdTaken)
            self.run(self.queue.abandon(row))
            return
        again = self.run(self.queue.accept(row, request))
        assert (again.row, again.place, again.again) == (there.row, there.place, True)

    @precondition(lambda self: self.model.staged)
    @rule(kill=kills)
    def abandon(self, kill: str | None) -> None:
        row, _ = self.model.staged.popitem()
        self.do(self.queue.abandon(row), kill, lambda: None)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks)
    def abandon_what_was_accepted(self, pick: int) -> None:
        self.run(self.queue.abandon(self.any_request(pick).row))

    # ── forward ────────────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def prepared(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.prepared(request.row, MANIFEST, "content")
        after = {"state": State.PREPARED, "content": "content"}
        self.change(work, kill, request, {State.ACCEPTED}, **after)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def plan_again(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.plan_again(request.row)
        after = {"state": State.ACCEPTED, "content": None}
        self.change(work, kill, request, {State.PREPARED}, **after)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def uploaded(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.uploaded(request.row)
        self.change(work, kill, request, {State.PREPARED}, state=State.UPLOADED)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, is_planned=st.booleans(), kill=kills)
    def send_back(self, pick: int, is_planned: bool, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.send_back(request.row, "StoreDamaged", "gone", is_planned=is_planned)
        if request.state is not State.UPLOADED:
            self.refused(work)
            return

        def then() -> None:
            request.state = State.PREPARED if is_planned else State.ACCEPTED
            request.content = request.content if is_planned else None
            known = self.model.known_of(request.lane)
            place = request.lane, known.store_id
            if place in self.model.known:
                self.model.known[place] = (None, known.highest, known.highest_request)

        self.do(work, kill, then)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, number=st.integers(0, 5), record=st.sampled_from([b"x", b"y"]), kill=kills)
    def attempt(self, pick: int, number: int, record: bytes, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.attempt(request.row, number, record)
        before = -1 if request.number is None else request.number
        again = (number, record) == (before, request.record)
        allowed = {State.UPLOADED, State.SENDING} if number > before or again else {State.UPLOADED}
        after = {"state": State.SENDING, "number": number, "record": record}
        self.change(work, kill, request, allowed, **after)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, version=st.integers(0, 5), kill=kills)
    def settle(self, pick: int, version: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.settle(request.row, version)
        after = {"state": State.SETTLED, "version": version, "number": None, "record": None}
        self.change(work, kill, request, {State.UPLOADED, State.SENDING}, **after)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def done(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        self.change(
            self.queue.done(request.row, ALL), kill, request, {State.SETTLED}, state=State.DONE
        )

    # ── what goes wrong, and what the user says ────────────────────────────────────────────────
    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def fail(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.fail(request.row, "FileChanged", "why")
        self.change(work, kill, request, UNSENT, state=State.FAILED)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def cancel(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        self.change(self.queue.cancel(request.row), kill, request, UNSENT, state=State.CANCELLED)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def retry(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.retry(request.row)
        if request.state is not State.FAILED:
            self.refused(work)
            return

        def then() -> None:
            self.model.requests[request.row] = replace(
                request,
                state=State.ACCEPTED,
                place=self.model.next_place(),
                acknowledged=False,
                content=None,
            )

        self.do(work, kill, then)

    @rule(chosen=st.sets(picks, max_size=4), kill=kills)
    def sync(self, chosen: set[int], kill: str | None) -> None:
        rows = [self.any_request(pick).row for pick in chosen if self.model.requests]
        if not rows:
            return

        def then() -> None:
            for row in sorted(set(rows)):
                request = self.model.requests[row]
                if request.state is State.HELD:
                    request.state, request.place = State.ACCEPTED, self.model.next_place()

        self.do(self.queue.sync(rows), kill, then)

    @rule(chosen=st.sets(picks, max_size=4), kill=kills)
    def acknowledge(self, chosen: set[int], kill: str | None) -> None:
        rows = [self.any_request(pick).row for pick in chosen if self.model.requests]
        if not rows:
            return

        def then() -> None:
            for row in rows:
                request = self.model.requests[row]
                request.acknowledged |= request.state is State.FAILED

        self.do(self.queue.acknowledge(rows), kill, then)

    # ── stores ─────────────────────────────────────────────────────────────────────────────────
    @rule(lane=lanes, kill=kills)
    def meet_store(self, lane: Lane, kill: str | None) -> None:
        store = self.model.stores.get(lane.store) or f"first of {lane.store}"
        work = self.queue.set_store_id(lane.store, store, probed=True)
        self.do(work, kill, lambda: self.model.stores.update({lane.store: store}))

    @rule(lane=lanes, highest=st.integers(0, 5), kill=kills)
    def learn(self, lane: Lane, highest: int, kill: str | None) -> None:
        known = self.model.known_of(lane)
        if not known.store_id:
            return
        by = f"by {self.ids}"
        news = Known(known.store_id, known.type or self.model.type_of(lane), highest, by)

        def then() -> None:
            best = (
                (highest, by)
                if highest >= known.highest
                else (known.highest, known.highest_request)
            )
            self.model.known[lane, known.store_id] = (news.type, *best)

        self.do(self.queue.learn(lane, news), kill, then)

    @rule(lane=lanes, kill=kills)
    def stop_lane(self, lane: Lane, kill: str | None) -> None:
        work = self.queue.stop_lane(lane, "gone")
        self.do(work, kill, lambda: self.model.stopped.update({lane: "gone"}))

    @rule(
        lane=lanes,
        store=st.sampled_from(["same", "one", "two"]),
        highest=st.integers(-1, 2),
        kill=kills,
    )
    def restart_lane(self, lane: Lane, store: str, highest: int, kill: str | None) -> None:
        before = self.model.stores.get(lane.store, "")
        after = (before or "one") if store == "same" else store

        def then() -> None:
            self.model.stores[lane.store] = after
            self.model.known[lane, after] = (None, highest, "seen")
            self.model.stopped.pop(lane, None)
            exchanged = before not in ("", after)
            for request in self.model.all():
                if request.lane == lane or (exchanged and request.lane.store == lane.store):
                    _start_over(request)

        self.do(self.queue.restart_lane(lane, after, highest, "seen"), kill, then)

    # ── upkeep, ends ───────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, kill=kills)
    def drop_entries(self, pick: int, kill: str | None) -> None:
        request = self.any_request(pick)
        work = self.queue.drop_entries(request.row)
        self.change(work, kill, request, {State.DONE, State.CANCELLED}, paths=[])

    @rule()
    def forget_ended(self) -> None:
        gone = [
            request.row
            for request in self.model.all()
            if request.state in (State.DONE, State.CANCELLED) or request.acknowledged
        ]
        assert self.run(self.queue.forget_ended(10_000.0)) == len(gone)
        for row in gone:
            del self.model.requests[row]

    @rule()
    def kill(self) -> None:
        self.database.crash()
        self.start()

    @rule()
    def end_in_order(self) -> None:
        self.run(self.queue.aclose())
        self.start()

    # ── what must hold ─────────────────────────────────────────────────────────────────────────
    @invariant()
    def every_request_is_as_it_should_be(self) -> None:
        found = looks.find(self.disk, Filter())
        modelled = self.model.all()
        assert list(map(_visible, found)) == list(map(_visible, modelled))
        assert [(r.floor, r.floor_store) for r in found] == [m.floor for m in modelled]

    @invariant()
    def every_entry_is_there(self) -> None:
        for row in self.model.rows:
            request = self.model.requests.get(row)
            written = [] if len(self.model.staged.get(row, [])) <= HELD else self.model.staged[row]
            paths = request.paths if request else written
            assert [e.path for e in looks.entries(self.disk, row, None, 100)] == sorted(paths)

    @invariant()
    def lanes_and_lines_follow(self) -> None:
        lines = {
            lane: [m.id for m in self.model.all() if m.lane == lane and m.state in IN_LINE]
            for lane in LANES
        }
        assert looks.lanes(self.disk) == sorted(lane for lane in LANES if lines[lane])
        for lane in LANES:
            assert [r.id for r in looks.line(self.disk, lane, 100)] == lines[lane]
            assert knowledge.known(self.disk, lane) == self.model.known_of(lane)
        assert knowledge.stopped(self.disk) == self.model.stopped

    @invariant()
    def whoever_counts_counts_alike(self) -> None:
        states = [m.state for m in self.model.all()]
        counts = looks.counts(self.disk)
        assert counts == {state: states.count(state) for state in State}
        waiting = [m for m in self.model.all() if m.state not in ENDED]
        for index, request in enumerate(waiting):
            before = [m for m in waiting[:index] if m.lane == request.lane]
            assert looks.ahead(self.disk, request.row) == len(before)

    def teardown(self) -> None:
        self.run(self.queue.aclose())
        self.runner.close()
        self.disk.close()


_visible = attrgetter(
    *("id", "row", "state", "place", "lane"),
    *("number", "record", "version", "acknowledged", "content"),
)


def _start_over(request: Modelled) -> None:
    if request.state in UNSENT | {State.SENDING, State.FAILED}:
        request.floor = (-1, "")
    if request.state in (State.UPLOADED, State.SENDING):
        request.state, request.number, request.record = State.PREPARED, None, None


@pytest.mark.soak
def test_a_queue_that_differs_from_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done in whatever order, with kills around any commit, the queue is as its model."""
    monkeypatch.setattr(streams, "HELD_PER_STREAM", HELD)
    long = settings(stateful_step_count=40, max_examples=rounds(120, 3_000))
    run_state_machine_as_test(QueueMachine, settings=long)
