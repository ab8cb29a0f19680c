"""A request's row says why it waits, from the first time that its store fails.

Owns: telling what is repeated, and that it went well again; pauses that a nudge ends. Does not own: how
often a call is repeated (``stores.retry``), the long pauses of a stage, which tell the row themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from wherry.errors import QueueError
from wherryd.clock import Clock
from wherryd.nudge import Nudge, Patience
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.stores.retry import Retried


class RowWatcher:
    """Is told of what is repeated for one request (``stores.retry.Watcher``).

    Args:
        request: as its row is now.
        broken: called at each failure: what was known of the store until then may not hold any more.
    """

    def __init__(
        self,
        request: Request,
        queue: Queue,
        clock: Clock,
        nudge: Nudge,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        self._row = request.row
        self._queue = queue
        self._clock = clock
        self._patience = Patience(nudge, clock)
        self._broken = broken
        self._is_told = bool(request.error)

    async def wait_again(self, retried: Retried) -> None:
        """Tell the row; let the pause pass."""
        self._broken()
        self._is_told = True
        next_try = self._clock.now() + retried.pause_s
        await self._tell(public_name(retried.error), str(retried.error), next_try)
        await self._patience.wait(retried.pause_s)

    async def recovered(self) -> None:
        """Take back what the row says."""
        if self._is_told:
            self._is_told = False
            await self._tell("", "", None)

    async def _tell(self, error: str, reason: str, next_try: float | None) -> None:
        # Cancelled meanwhile, or a disk so full that not even the reason can be told: it goes on.
        with suppress(WrongState, QueueError):
            await self._queue.wait_until(self._row, error, reason, next_try)
