"""What is wrong with stores at this time, and when they are tried again.

Owns: growing pauses with full jitter, one for each store, or for one project of it where only that is
refused. Pure state: no I/O. Does not own: which errors are worth another try (``StoreError`` says so).
"""

from __future__ import annotations

import msgspec

from wherry.errors import AccessRefused, StoreError
from wherryd.clock import Clock, full_jitter
from wherryd.public import public_name

FIRST_S = 0.5
LONGEST_S = 60.0


class Trouble(msgspec.Struct, frozen=True):
    """Why a store is left alone for a while."""

    error: str  # class in wherry.errors
    reason: str
    next_try: float  # wall clock
    pause_s: float
    noted: float  # monotonic clock
    failures: int

    @property
    def ends(self) -> float:
        """When it is tried again, by the monotonic clock."""
        return self.noted + self.pause_s


_Place = tuple[str, str]  # address, project ("" for all)


class Troubles:
    """Pauses by store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[_Place, Trouble] = {}

    def note(self, address: str, project: str, error: StoreError, began: float) -> Trouble:
        """Note a failed try; the pause grows once for all tries that were under way together.

        Args:
            began: when the try began, by the monotonic clock.
        """
        place = (address, project if isinstance(error, AccessRefused) else "")
        before = self._troubles.get(place)
        if before is not None and began < before.noted:
            return before
        trouble = self._troubles[place] = self._next(before.failures if before else 0, error)
        return trouble

    def went_well(self, address: str, project: str) -> None:
        """The next pause is a first one again."""
        self._troubles.pop((address, ""), None)
        self._troubles.pop((address, project), None)

    def forget(self, address: str) -> None:
        """Let all that waits for this store be tried now: new credentials, or the user said so."""
        for place in [place for place in self._troubles if place[0] == address]:
            del self._troubles[place]

    def of(self, address: str, project: str) -> Trouble | None:
        """Why requests of a project wait, if they do."""
        return self._running((address, "")) or self._running((address, project))

    def paused_stores(self) -> tuple[str, ...]:
        """Addresses that are left alone as a whole."""
        return tuple(
            address
            for address, project in self._troubles
            if not project and self._running((address, project))
        )

    def _running(self, place: _Place) -> Trouble | None:
        trouble = self._troubles.get(place)
        return trouble if trouble and self._clock.monotonic() < trouble.ends else None

    def _next(self, failures: int, error: StoreError) -> Trouble:
        pause_s = full_jitter(self._clock, failures, FIRST_S, LONGEST_S)
        pause_s = max(pause_s, error.retry_after_s)
        return Trouble(
            error=public_name(error),
            reason=str(error),
            next_try=self._clock.now() + pause_s,
            pause_s=pause_s,
            noted=self._clock.monotonic(),
            failures=failures + 1,
        )
