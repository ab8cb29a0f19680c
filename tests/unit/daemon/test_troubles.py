"""When stores are tried again, and which requests are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import OTHER, STORE, Bench, HandClock, digest
from wherry.errors import AccessRefused, StoreUnavailable
from wherryd.crew import LOOK_AHEAD, Crew, in_turn
from wherryd.model import Lane, State
from wherryd.queue.base import Request
from wherryd.stores.base import Body, OutcomeUnknown
from wherryd.transfer.stage import BIG_AT_ONCE, BIG_BYTES, SMALL_AT_ONCE, choose
from wherryd.transfer.troubles import LONGEST_S, Troubles

CATS, DOGS = (Lane(STORE, project, "model") for project in ("cats", "dogs"))


def test_pauses_stop_growing_or_shrink() -> None:
    """Pauses grow to a minute and stay there."""
    clock = HandClock()
    troubles = Troubles(clock)
    pauses = []
    for _ in range(12):
        trouble = troubles.note(CATS, StoreUnavailable("no"), clock.monotonic(), of_store=True)
        pauses.append(trouble.pause_s)
        clock.advance(trouble.pause_s + 1)
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S


def test_requests_under_way_together_grow_one_pause() -> None:
    """Sixteen requests that fail in one outage are one failure."""
    clock = HandClock()
    troubles = Troubles(clock)
    began = clock.monotonic()
    clock.advance(1)
    first = troubles.note(CATS, StoreUnavailable("no"), began, of_store=True)
    assert troubles.note(CATS, StoreUnavailable("no"), began, of_store=True) == first


def test_refused_project_pauses_the_store() -> None:
    """Where one project is refused, the store's others go on; what concerns the store pauses all."""
    clock = HandClock()
    troubles = Troubles(clock)
    troubles.note(CATS, AccessRefused("no"), clock.monotonic(), of_store=False)
    assert troubles.of(CATS)
    assert troubles.of(DOGS) is None
    assert troubles.paused_stores() == ()
    troubles.note(DOGS, OutcomeUnknown("no"), clock.monotonic(), of_store=True)
    assert troubles.paused_stores() == (STORE,)
    assert troubles.of(Lane(STORE, "birds", "model"))
    assert troubles.of(Lane(OTHER, "birds", "model")) is None


def test_trouble_outlasts_its_pause() -> None:
    """A pause is over when its time is, when things go well, and when the user says so."""
    clock = HandClock()
    troubles = Troubles(clock)
    trouble = troubles.note(CATS, StoreUnavailable("no"), clock.monotonic(), of_store=True)
    assert trouble.error == "StoreUnavailable"
    clock.advance(trouble.pause_s)
    assert troubles.of(CATS) is None
    again = troubles.note(CATS, StoreUnavailable("no"), clock.monotonic(), of_store=True)
    assert again.pause_s == 2 * trouble.pause_s
    troubles.went_well(CATS)
    assert troubles.of(CATS) is None
    troubles.note(CATS, AccessRefused("no"), clock.monotonic(), of_store=False)
    troubles.forget(STORE)
    assert troubles.of(CATS) is None


def test_what_one_lane_sends_pauses_the_store() -> None:
    """One lane's failures pause that lane, ever longer, whatever goes well elsewhere; when another lane fails
    as well, and nothing has gone well since, it is the store.
    """
    clock = HandClock()
    troubles = Troubles(clock)
    pauses = []
    for _ in range(4):
        trouble = troubles.note(CATS, OutcomeUnknown("no"), clock.monotonic(), of_store=False)
        pauses.append(trouble.pause_s)
        assert troubles.of(CATS) == trouble
        assert troubles.of(DOGS) is None and troubles.paused_stores() == ()
        clock.advance(trouble.pause_s)
        troubles.went_well(CATS)  # some of what it sends
        troubles.sent(DOGS)
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    troubles.sent(CATS)
    for lane in (CATS, DOGS):
        troubles.note(lane, OutcomeUnknown("no"), clock.monotonic(), of_store=False)
    assert troubles.paused_stores() == (STORE,)
    assert troubles.of(Lane(STORE, "birds", "model"))
    troubles.forget(STORE)
    assert troubles.of(CATS) is troubles.of(DOGS) is None


class _Refusing(MemoryStore):
    """Takes all but the bytes that the test names."""

    refused = ""

    async def put(self, key: str, body: Body) -> None:
        if self.refused and self.refused in key:
            raise OutcomeUnknown("the server says 500 to this one")
        await super().put(key, body)


async def test_bytes_that_a_store_never_takes_hold_up_others(bench: Bench) -> None:
    """While one lane's bytes fail for ever, the others' go up, and no time passes for them."""
    store = _Refusing(bench.clock, STORE)
    store.refused = digest(b"bad").removeprefix("sha256:")
    bench.stores[STORE] = store
    bench.preparer()
    bench.transferrer()
    bad = await bench.log({"a": b"bad"}, name="bad")
    await bench.wait_row(bad, lambda now: now.error)
    for number in range(40):
        good = await bench.log({"a": b"good %d" % number}, name=f"good-{number % 4}")
        await bench.wait_state(good, State.UPLOADED)
        if number % 10 == 0:
            bench.clock.advance(60)  # the bad one is tried again
    waiting = await bench.queue.get(bad.row)
    assert (waiting.state, waiting.error) == (State.PREPARED, "StoreUnavailable")
    store.refused = ""
    bench.clock.advance(60)
    await bench.wait_state(bad, State.UPLOADED)


async def test_one_lane_takes_anothers_turn(bench: Bench) -> None:
    """The lane with the fewest under way is next, then the one that waits longest, then the earlier place."""
    a, b, c = [
        [await bench.log({"a": b"1"}, name=name) for _ in range(3)] for name in ("a", "b", "c")
    ]
    everyone = [*a, *b, *c]
    assert in_turn(everyone, [], {}) == [a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2]]
    turns = {a[0].lane: 1, c[0].lane: 2}
    assert in_turn([*a[1:], *b, *c], [a[0]], turns)[:4] == [b[0], c[0], b[1], a[1]]
    assert in_turn([], a, turns) == []


async def test_a_lane_far_behind_waits_for_all(bench: Bench) -> None:
    """A lane whose first request stands behind hundreds gets its turn after a few looks."""
    for _ in range(LOOK_AHEAD + 100):
        await bench.log({"a": b"1"}, name="many")
    last = await bench.log({"a": b"1"}, name="last")
    begun: list[str] = []

    async def work(request: Request) -> bool:
        begun.append(request.lane.name)
        bench.clock.advance(0.1)
        await bench.queue.fail(request.row, "Failed", "as the test wants")
        return True

    def one_at_once(candidates: Sequence[Request], busy: Sequence[Request]) -> Sequence[Request]:
        return candidates[: 1 - len(busy)]

    crew = Crew(State.ACCEPTED, one_at_once, work, bench.queue, bench.news, bench.clock)
    bench.start(crew.run())
    await bench.wait_state(last, State.FAILED)
    assert begun.index("last") < 3


@pytest.mark.parametrize("big", [False, True])
async def test_one_store_takes_anothers_places(bench: Bench, big: bool) -> None:
    """Each store has places of its own, for big requests and for small ones."""
    request = await bench.log({"a": b"1"})
    if big:
        request = msgspec.structs.replace(request, size=BIG_BYTES)
    other = msgspec.structs.replace(request, lane=Lane(OTHER, "cats", "model"))
    limit = BIG_AT_ONCE if big else SMALL_AT_ONCE
    troubles = Troubles(bench.clock)
    chosen = choose([request] * 50 + [other] * 50, [request], troubles)
    assert chosen == [request] * (limit - 1) + [other] * limit
    troubles.note(CATS, StoreUnavailable("no"), bench.clock.monotonic(), of_store=True)
    assert choose([request] * 5 + [other], [], troubles) == [other]
