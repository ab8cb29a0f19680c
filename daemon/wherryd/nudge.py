"""Pauses that end early. Ground floor: no I/O.

Owns: waking all who wait for one thing. Does not own: how long a pause is, or what it is for.
"""

from __future__ import annotations

import anyio

from wherryd.clock import Clock


class Nudge:
    """Ends the pauses of all who wait for one store: new credentials, or the user said so."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.count = 0

    def nudge(self) -> None:
        """Let everybody try again now."""
        self.count += 1
        self._event.set()
        self._event = anyio.Event()

    async def wait_nudged(self, clock: Clock, at_most_s: float) -> None:
        """Return when nudged, or after ``at_most_s`` seconds."""
        nudged = self._event
        async with anyio.create_task_group() as tasks:

            async def pause() -> None:
                await clock.sleep(at_most_s)
                tasks.cancel_scope.cancel()

            tasks.start_soon(pause)
            await nudged.wait()
            tasks.cancel_scope.cancel()


class Patience:
    """The pauses of one who waits; a nudge that comes between two of them ends the second one."""

    def __init__(self, nudge: Nudge, clock: Clock) -> None:
        self._nudge = nudge
        self._clock = clock
        self._heard = nudge.count

    async def wait(self, at_most_s: float) -> None:
        """Wait so many seconds, unless somebody nudges."""
        if self._nudge.count == self._heard:
            await self._nudge.wait_nudged(self._clock, at_most_s)
        self._heard = self._nudge.count
