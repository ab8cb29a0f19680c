"""When stores are tried again, and which requests are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from tests.unit.daemon.bench import OTHER, STORE, Bench, HandClock
from wherry.errors import AccessRefused, StoreUnavailable
from wherryd.crew import LOOK_AHEAD, Crew, in_turn
from wherryd.model import Lane, State
from wherryd.queue.base import Request
from wherryd.stores.base import OutcomeUnknown
from wherryd.transfer.stage import BIG_AT_ONCE, BIG_BYTES, SMALL_AT_ONCE, choose
from wherryd.transfer.troubles import LONGEST_S, Troubles


def test_pauses_stop_growing_or_shrink() -> None:
    """Pauses grow to a minute and stay there."""
    clock = HandClock()
    troubles = Troubles(clock)
    pauses = []
    for _ in range(12):
        trouble = troubles.note(STORE, "cats", StoreUnavailable("no"), clock.monotonic())
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
    first = troubles.note(STORE, "cats", StoreUnavailable("no"), began)
    assert troubles.note(STORE, "cats", StoreUnavailable("no"), began) == first


def test_refused_project_pauses_the_store() -> None:
    """Where one project is refused, the store's others go on; what concerns the store pauses all."""
    clock = HandClock()
    troubles = Troubles(clock)
    troubles.note(STORE, "cats", AccessRefused("no"), clock.monotonic())
    assert troubles.of(STORE, "cats")
    assert troubles.of(STORE, "dogs") is None
    assert troubles.paused_stores() == ()
    troubles.note(STORE, "dogs", OutcomeUnknown("no"), clock.monotonic())
    assert troubles.paused_stores() == (STORE,)
    assert troubles.of(STORE, "birds")
    assert troubles.of(OTHER, "birds") is None


def test_trouble_outlasts_its_pause() -> None:
    """A pause is over when its time is, when things go well, and when the user says so."""
    clock = HandClock()
    troubles = Troubles(clock)
    trouble = troubles.note(STORE, "cats", StoreUnavailable("no"), clock.monotonic())
    assert trouble.error == "StoreUnavailable"
    clock.advance(trouble.pause_s)
    assert troubles.of(STORE, "cats") is None
    again = troubles.note(STORE, "cats", StoreUnavailable("no"), clock.monotonic())
    assert again.pause_s == 2 * trouble.pause_s
    troubles.went_well(STORE, "cats")
    assert troubles.of(STORE, "cats") is None
    troubles.note(STORE, "cats", AccessRefused("no"), clock.monotonic())
    troubles.forget(STORE)
    assert troubles.of(STORE, "cats") is None


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
    troubles.note(STORE, "cats", StoreUnavailable("no"), bench.clock.monotonic())
    assert choose([request] * 5 + [other], [], troubles) == [other]
