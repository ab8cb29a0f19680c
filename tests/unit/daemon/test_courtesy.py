"""Standing back for requests that come in."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.unit.daemon.bench import HandClock
from wherryd.prepare.courtesy import LONGEST_S, Courtesy


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_quiet_daemon_waits(clock: HandClock) -> None:
    """While nobody comes in, nobody waits."""
    courtesy = Courtesy(clock, lambda: False)
    for _ in range(3):
        await courtesy.wait_turn()


async def test_busy_daemon_never_begins(clock: HandClock) -> None:
    """While requests come in, one begins after each pause, and all as soon as none does."""
    coming = True
    courtesy = Courtesy(clock, lambda: coming)
    begun: list[int] = []

    async def begin(number: int) -> None:
        await courtesy.wait_turn()
        begun.append(number)

    tasks = [asyncio.ensure_future(begin(number)) for number in range(4)]
    for count in range(3):
        await _pass(clock, LONGEST_S * 0.8)
        assert len(begun) == count
        await _pass(clock, LONGEST_S * 0.25)
        assert len(begun) == count + 1
    coming = False
    await _pass(clock, LONGEST_S * 0.2)
    assert begun == [0, 1, 2, 3]
    await asyncio.gather(*tasks)


async def _pass(clock: HandClock, seconds: float) -> None:
    for _ in range(20):
        await anyio.wait_all_tasks_blocked()
        clock.advance(seconds / 20)
    await anyio.wait_all_tasks_blocked()
