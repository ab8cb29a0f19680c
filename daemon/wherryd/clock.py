"""Time and chance, handed to whoever needs them, so that a simulation can supply its own.

Ground floor. Owns: the wall clock, the loop's clock, randomness. Nobody else in the daemon asks the
operating system for any of them (ruff's banned-api says so).
"""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """Time and chance as the daemon's stages see them."""

    def now(self) -> float:
        """Wall clock: seconds since 1970 in UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        ...

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...

    def token(self) -> str:
        """32 hex digits that no other call ever returns."""
        ...


def full_jitter(clock: Clock, failures: int, first_s: float, longest_s: float) -> float:
    """How long to pause: random below a bound that doubles.

    AWS Architecture Blog, "Exponential Backoff And Jitter".

    Args:
        failures: before the one after which to pause.
        first_s: the first bound.
        longest_s: the last one.
    """
    return clock.random() * min(longest_s, first_s * 2.0 ** min(failures, 20))


class SystemClock:
    """The machine's own clock and random numbers."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def random(self) -> float:
        return random.random()

    def token(self) -> str:
        return os.urandom(16).hex()


def rfc3339(seconds: float) -> str:
    """Write a wall-clock time as RFC 3339 in UTC with milliseconds.

    Args:
        seconds: since 1970, as ``Clock.now()`` gives them.
    """
    stamp = datetime.fromtimestamp(seconds, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 1000:03d}Z"
