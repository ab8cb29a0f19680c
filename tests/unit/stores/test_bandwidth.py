"""The daemon's share of the line."""

from __future__ import annotations

import asyncio

import pytest

from wherryd.stores.bandwidth import MOST_BYTES, Bandwidth


class Clock:
    """Time passes only where somebody sleeps; all sleep side by side."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        await asyncio.sleep(0)
        self.time = max(self.time, until)

    def random(self) -> float:
        return 1.0

    def token(self) -> str:
        return "0"


async def _spend(bandwidth: Bandwidth, total: int) -> None:
    while total > 0:
        await bandwidth.spend(size := min(total, bandwidth.piece_bytes))
        total -= size


@pytest.mark.parametrize("senders", [1, 5])
@pytest.mark.parametrize("rate", [20_000, 1_000_000, 200_000_000])
async def test_the_limit_is_not_kept(rate: int, senders: int) -> None:
    """However many send, together they take what they may, and not much less."""
    clock = Clock()
    bandwidth = Bandwidth(clock, rate)
    await asyncio.gather(*(_spend(bandwidth, rate * 10 // senders) for _ in range(senders)))
    assert clock.time - 100 == pytest.approx(10, abs=0.35)


async def test_a_pause_is_made_up_for() -> None:
    """What was not used is not saved up."""
    clock = Clock()
    bandwidth = Bandwidth(clock, 1_000_000)
    await _spend(bandwidth, 1_000_000)
    clock.time += 60
    before = clock.time
    await _spend(bandwidth, 1_000_000)
    assert clock.time - before > 0.8


async def test_a_change_waits_for_a_restart() -> None:
    """The limit may be changed, taken away and set again at any time."""
    clock = Clock()
    bandwidth = Bandwidth(clock)
    await _spend(bandwidth, 1 << 30)
    assert clock.time == 100
    for rate, wanted in ((1_000_000, 1.0), (4_000_000, 0.25), (None, 0.0)):
        bandwidth.rate, before = rate, clock.time
        await _spend(bandwidth, 1_000_000)
        assert clock.time - before == pytest.approx(wanted, abs=0.15)


def test_a_connection_stands_still() -> None:
    """On a narrow line pieces are small, so that each connection gets some every now and then."""
    assert Bandwidth(Clock()).piece_bytes == MOST_BYTES
    assert Bandwidth(Clock(), 10**9).piece_bytes == MOST_BYTES
    assert Bandwidth(Clock(), 100_000).piece_bytes == 10_000
    assert Bandwidth(Clock(), 100).piece_bytes == 4_096
