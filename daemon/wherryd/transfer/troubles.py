"""What is wrong with stores at this time, and when they are tried again.

Owns: growing pauses with full jitter, and for whom: all of a store, one project where only that is refused,
or one lane. Pure state: no I/O. Does not own: which errors are worth another try (``StoreError`` says so).

One failure does not tell whether a store is in trouble, or only what one lane sends there. So it pauses that
lane, and all of the store only where another lane has failed as well since anything went well there.
"""

from __future__ import annotations

import msgspec

from wherry.errors import AccessRefused, StoreError, StoreMissing
from wherryd.clock import Clock, full_jitter
from wherryd.model import Lane
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


class Troubles:
    """Pauses by store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._troubles: dict[Lane, Trouble] = {}  # project or name "": of all
        self._failing: dict[str, set[Lane]] = {}  # by address, since anything went well there

    def note(self, lane: Lane, error: StoreError, began: float, *, of_store: bool) -> Trouble:
        """Note a failed try; a pause grows once for all tries that were under way together.

        Args:
            began: when the try began, by the monotonic clock.
            of_store: whether the store itself gave no answer, and not what a request has sent to it.
        """
        if isinstance(error, AccessRefused):
            return self._note(_project_of(lane), error, began)
        failing = self._failing.setdefault(lane.store, set())
        failing.add(lane)
        if of_store or isinstance(error, StoreMissing) or len(failing) > 1:
            return self._note(_store_of(lane), error, began)
        return self._note(lane, error, began)

    def went_well(self, lane: Lane) -> None:
        """The store has taken something of a project: the next pause is a first one again."""
        self._failing.pop(lane.store, None)
        self._troubles.pop(_store_of(lane), None)
        self._troubles.pop(_project_of(lane), None)

    def sent(self, lane: Lane) -> None:
        """All of a lane's request is in its store."""
        self.went_well(lane)
        self._troubles.pop(lane, None)

    def forget(self, address: str) -> None:
        """Let all that waits for this store be tried now: new credentials, or the user said so."""
        self._failing.pop(address, None)
        for place in [place for place in self._troubles if place.store == address]:
            del self._troubles[place]

    def of(self, lane: Lane) -> Trouble | None:
        """Why a lane's requests wait, if they do."""
        places = (_store_of(lane), _project_of(lane), lane)
        return next(filter(None, map(self._running, places)), None)

    def paused_stores(self) -> tuple[str, ...]:
        """Addresses that are left alone as a whole."""
        return tuple(
            place.store for place in self._troubles if not place.project and self._running(place)
        )

    def _note(self, place: Lane, error: StoreError, began: float) -> Trouble:
        before = self._troubles.get(place)
        if before is not None and began < before.noted:
            return before
        trouble = self._troubles[place] = self._next(before.failures if before else 0, error)
        return trouble

    def _running(self, place: Lane) -> Trouble | None:
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


def _store_of(lane: Lane) -> Lane:
    return Lane(lane.store, "", "")


def _project_of(lane: Lane) -> Lane:
    return Lane(lane.store, lane.project, "")
