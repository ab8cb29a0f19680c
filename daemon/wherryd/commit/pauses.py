"""How long a step waits after an error, and what is told meanwhile.

Owns: growing pauses with full jitter, the row's reason, being woken early. Does not own: which
errors are worth another try (``wherry.errors.StoreError`` says so).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from wherry.errors import QueueError, StoreError, StoreUnavailable, WherryError
from wherryd.clock import Clock, full_jitter
from wherryd.nudge import Nudge, Patience
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.registry.identity import of_known
from wherryd.waiting import RowWatcher

FIRST_S = 0.5
LONGEST_S = 60.0
#: After 409: another conditional write is under way, and over in a moment.
SHORT_S = 0.2
#: Refusals without a reason that are taken for just that.
FEW = 8


class Pauses:
    """The pauses of one line of work.

    Args:
        broken: called at each failure that is repeated.
    """

    def __init__(
        self, queue: Queue, clock: Clock, nudge: Nudge, broken: Callable[[], None] = lambda: None
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._nudge = nudge
        self._broken = broken
        self._patience = Patience(nudge, clock)
        self._failures = 0
        self._refusals = 0

    def went_well(self) -> None:
        """The next pause is a first one again."""
        self._failures = 0

    def not_refused(self) -> None:
        """Another number is tried, which nobody has refused."""
        self._refusals = 0

    def watcher(self, request: Request) -> RowWatcher:
        """Make the watcher for what is done for a request."""
        return RowWatcher(request, self._queue, self._clock, self._nudge, self._broken)

    async def wait_after(self, row: int, error: WherryError) -> None:
        """Tell in the request's row why it waits, and wait: up to 0.5, 1, 2, … 60 s."""
        failures, self._failures = self._failures, self._failures + 1
        await self._wait(row, error, failures)

    async def wait_refused(self, row: int, error: WherryError) -> None:
        """Wait shortly after a refusal that is over in a moment; after too many, as after an error."""
        refusals, self._refusals = self._refusals, self._refusals + 1
        if refusals < FEW:
            await self.wait_shortly()
        else:
            await self._wait(row, error, refusals - FEW)

    async def wait_conflict(self, request: Request) -> None:
        """Wait after a 409: another conditional write is under way; as ``wait_refused``."""
        store = request.lane.store
        refusal = StoreUnavailable(f"{store} says again and again that a write is going on")
        await self.wait_refused(request.row, refusal)

    async def _wait(self, row: int, error: WherryError, failures: int) -> None:
        pause_s = full_jitter(self._clock, failures, FIRST_S, LONGEST_S)
        if isinstance(error, StoreError):
            pause_s = max(pause_s, error.retry_after_s)
            error = of_known(error)
        next_try = self._clock.now() + pause_s
        # Cancelled meanwhile, or a disk so full that not even the reason can be told: pause all the same.
        with suppress(WrongState, QueueError):
            await self._queue.wait_until(row, public_name(error), str(error), next_try)
        await self._patience.wait(pause_s)

    async def wait(self, seconds: float) -> None:
        """Wait so long, unless nudged."""
        await self._patience.wait(seconds)

    async def wait_shortly(self) -> None:
        """Wait up to 0.2 s."""
        await self._patience.wait(self._clock.random() * SHORT_S)
