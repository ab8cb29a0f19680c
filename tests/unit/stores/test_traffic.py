"""How many requests a server gets at once, and when it is left alone."""

from __future__ import annotations

import anyio
import pytest

from tests.unit.stores.helpers import TestClock
from wherry.errors import StoreUnavailable
from wherryd.stores.traffic import (
    DOWN_AFTER,
    DOWN_AFTER_S,
    FEW,
    FIRST,
    FIRST_PAUSE_S,
    LARGE_BYTES,
    LONGEST_PAUSE_S,
    MOST,
    Host,
    Limit,
    Traffic,
)


# ── the limit ──────────────────────────────────────────────────────────────────────────────────
def _round(limit: Limit, at: float, took_s: float = 0.01, *, is_small: bool = False) -> None:
    """As many answers as the limit allows, all at once."""
    for _ in range(limit.now):
        limit.answered(at - took_s, at, is_full=True, is_small=is_small)


def test_a_limit_that_is_held_up_stays() -> None:
    """It grows by about one for each round, to the most there may be; unless nobody waits for it."""
    limit = Limit()
    for second in range(10):
        _round(limit, second)
    assert FIRST + 8 <= limit.now <= FIRST + 10
    for second in range(10, 1000):
        _round(limit, second)
    assert limit.now == MOST
    idle = Limit()
    for second in range(1000):
        idle.answered(second - 0.1, second, is_full=False, is_small=True)
    assert idle.now == FIRST


def test_one_trouble_counts_for_each_request() -> None:
    """What was under way together lets the limit fall once; trouble that lasts, down to one."""
    limit = Limit()
    for _ in range(FIRST):
        limit.too_much(0, 1)
    assert limit.now == int(FIRST * 0.7)
    for second in range(2, 60):
        limit.too_much(second - 0.5, second)
    assert limit.now == 1
    for second in range(60, 90):
        _round(limit, second)
    assert limit.now > 20


def test_waiting_lines_at_the_server_grow() -> None:
    """Answers that take ever longer let it fall, but not to nothing; long bodies say nothing."""
    limit = Limit()
    for second in range(20):
        _round(limit, second, is_small=True)
    before = limit.now
    for second in range(20, 25):
        _round(limit, second, 5.0)  # bodies
    assert limit.now > before
    for second in range(25, 100):
        _round(limit, second, 1.0, is_small=True)
    assert limit.now == FEW
    for second in range(100, 200):
        _round(limit, second, is_small=True)
    assert limit.now > before


@pytest.mark.parametrize(
    ("status", "falls"),
    [
        (429, True),
        (503, True),
        (None, True),
        (500, False),
        (502, False),
        (404, False),
        (200, False),
    ],
)
async def test_an_answer_does_not_count(status: int | None, falls: bool) -> None:
    """What a server says that is busy, and silence, let its limit fall; other errors do not."""
    host = Traffic(TestClock()).host("http://a")
    asked = await host.ask(0)
    if status is None:
        asked.failed("It said nothing.")
    else:
        asked.answered(status)
    assert (host.limit.now < FIRST) == falls


# ── a server that is down ──────────────────────────────────────────────────────────────────────
async def _fail(host: Host, clock: TestClock, times: int, apart_s: float) -> None:
    for _ in range(times):
        asked = await host.ask(0)
        clock.time += apart_s
        asked.failed("It said nothing.")


async def _refusal(host: Host) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refused:
        await host.ask(0)
    return refused.value


async def test_a_short_trouble_is_taken_for_the_end() -> None:
    """Many failures in a moment, or a few over a long time, are not yet a server that is down."""
    clock = TestClock()
    host = Traffic(clock).host("http://a")
    await _fail(host, clock, 100, 0.01)
    (await host.ask(0)).answered(200)
    await _fail(host, clock, DOWN_AFTER - 1, 60)
    (await host.ask(0)).answered(404)
    await _fail(host, clock, DOWN_AFTER - 1, 60)
    (await host.ask(0)).answered(500)
    assert not host.fuse.is_down


@pytest.mark.parametrize("nobody", [502, 503, 504, None])
async def test_a_dead_server_is_hammered(nobody: int | None) -> None:
    """Then one request at a time asks, ever less often; the others learn when to come back."""
    clock, woken = TestClock(chance=1.0), []
    traffic = Traffic(clock)
    traffic.on_recovery = lambda: woken.append(clock.time)
    host = traffic.host("http://a")
    await _fail(host, clock, DOWN_AFTER, DOWN_AFTER_S / (DOWN_AFTER - 1) + 0.01)
    bound_s = FIRST_PAUSE_S
    for _ in range(12):
        refused = await _refusal(host)
        assert "http://a is down" in str(refused)
        assert "It said" in str(refused)
        assert refused.retry_after_s == pytest.approx(bound_s)
        clock.time += bound_s - 0.01
        await _refusal(host)
        clock.time += 0.01
        probe = await host.ask(0)
        assert (await _refusal(host)).retry_after_s > 0
        if nobody:
            probe.answered(nobody)
        else:
            probe.failed("It said nothing.")
        bound_s = min(bound_s * 2, LONGEST_PAUSE_S)
    assert not woken
    clock.time += LONGEST_PAUSE_S
    (await host.ask(0)).answered(403)
    assert woken == [clock.time]
    for _ in range(3):
        (await host.ask(0)).answered(200)
    assert len(woken) == 1


async def test_one_that_was_given_up_keeps_the_others_out() -> None:
    """A probe that is cancelled says nothing; the next request is one."""
    clock = TestClock()
    host = Traffic(clock).host("http://a")
    await _fail(host, clock, DOWN_AFTER, DOWN_AFTER_S)
    clock.time += LONGEST_PAUSE_S
    (await host.ask(0)).dropped()
    (await host.ask(0)).answered(200)
    assert not host.fuse.is_down


async def test_what_was_under_way_lengthens_the_pause() -> None:
    """Requests that were sent before the server counted as down end with it: one trouble, one pause."""
    clock = TestClock(chance=1.0)
    host = Traffic(clock).host("http://a")
    under_way = [await host.ask(0) for _ in range(8)]
    for number, asked in enumerate(under_way):
        clock.time += DOWN_AFTER_S / (DOWN_AFTER - 1) if number < DOWN_AFTER else 0.0
        asked.failed("It said nothing.")
    assert (await _refusal(host)).retry_after_s <= FIRST_PAUSE_S


async def test_user_has_to_wait() -> None:
    """New credentials, or `wherry retry`, ask at once; other servers are not touched by one that is down."""
    clock = TestClock()
    traffic = Traffic(clock)
    host = traffic.host("http://a")
    await _fail(host, clock, DOWN_AFTER, DOWN_AFTER_S)
    (await traffic.host("http://b").ask(0)).answered(200)
    await _refusal(host)
    traffic.try_now()
    (await host.ask(0)).answered(200)


# ── who is next ────────────────────────────────────────────────────────────────────────────────
async def test_large_bodies_hold_up_small_ones() -> None:
    """Small requests go first, and every fourth place is a large one's."""
    host = Traffic(TestClock()).host("http://a")
    under_way = [await host.ask(0) for _ in range(FIRST)]
    order: list[str] = []

    async def ask(name: str, size: int) -> None:
        asked = await host.ask(size)
        order.append(name)
        await anyio.sleep(0)
        asked.answered(200)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask, "large", LARGE_BYTES)
        await anyio.wait_all_tasks_blocked()
        for _ in range(8):
            tasks.start_soon(ask, "small", 0)
        await anyio.wait_all_tasks_blocked()
        under_way.pop().dropped()
        for asked in under_way[1:]:
            await anyio.wait_all_tasks_blocked()
            asked.dropped()
    assert order[:8].count("small") == 6
    assert order.count("large") == order.count("small") == 8
    under_way[0].dropped()


async def test_a_place_is_lost_with_who_waited() -> None:
    """Cancelled while it waits, or right when it is let in: the place is the next one's."""
    host = Traffic(TestClock()).host("http://a")
    under_way = [await host.ask(0) for _ in range(FIRST)]
    with anyio.move_on_after(0.01):
        await host.ask(0)

    async def ask_for_ever() -> None:
        asked = await host.ask(0)
        try:
            await anyio.sleep_forever()
        finally:
            asked.dropped()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_for_ever)
        await anyio.wait_all_tasks_blocked()
        under_way.pop().dropped()  # lets it in …
        tasks.cancel_scope.cancel()  # … and it never comes to know
    with anyio.fail_after(1):
        under_way.append(await host.ask(0))
    assert host.is_full
