"""Standing back for requests that come in: training waits for those, and for nothing else here.

Owns: when a piece of work that takes this machine's time may begin. Does not own: which requests' work it
is (``lookups``), what is under way already.

A page of a listing is some 15 ms of work here, between asking and writing its entries down. Fifty artifacts
that are logged in a loop, each with a prefix, have fifty listings under way when the last one comes.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from wherryd.clock import Clock

#: However many requests come in, a piece of work begins each time that this has passed.
LONGEST_S = 0.1
_LOOK_S = 0.01


class Courtesy:
    """Lets pieces of work begin.

    Args:
        is_receiving: whether a request is coming in, or may follow at once.
    """

    def __init__(self, clock: Clock, is_receiving: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_receiving = is_receiving
        self._turn = anyio.Lock()
        self._last = clock.monotonic()

    async def wait_turn(self) -> None:
        """Return when nobody comes in, or after a while, one caller after the other."""
        async with self._turn:
            while self._is_receiving() and self._clock.monotonic() - self._last < LONGEST_S:
                await self._clock.sleep(_LOOK_S)
            self._last = self._clock.monotonic()
