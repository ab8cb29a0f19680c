"""An event loop whose time is virtual: when nobody can run, the clock jumps to the next timer.

One seed drives everything: latencies, faults, crashes and tokens are drawn from one ``random.Random``
in the order in which the (single-threaded, deterministic) loop asks for them.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: 2026-11-23T00:00:00Z, where every history starts.
START = 1_795_392_000.0


class Deadlock(AssertionError):
    """Nobody can run and no timer is set: something waits for ever."""


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs as fast as the processor allows, on a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class SimClock:
    """``wherryd.clock.Clock`` on the virtual loop. ``skew`` is how wrong this machine's wall clock is."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, skew: float = 0.0) -> None:
        self._loop = loop
        self._chance = chance
        self._skew = skew

    def now(self) -> float:
        return START + self._loop.time() + self._skew

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return self._chance.random()

    def token(self) -> str:
        return f"{self._chance.getrandbits(128):032x}"


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end of ``main``, then end what it left running."""
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
