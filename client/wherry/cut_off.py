"""Calls that are cut off: how long they are made again, and after which pauses.

Owns: the one rule by which a daemon that ends is waited for. Does not own: the calls (``connection``),
starting the next daemon (``launch``).

The rule counts time: a daemon may be killed ten times in a row, and the next one takes the call. A few tries
there are in any case, since one may itself take longer than the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from wherry.errors import CommError, DaemonLeaving
from wherry.wire.status import ConnectionLost

LIMIT_S = 60.0
"""So long is a call made again that comes no further."""

_LEAST_CUTS = 4
_FIRST_PAUSE_S = 0.05
_PAUSE_S = 2.0


class CutOff:
    """How long a call has come no further, since it was cut off for the first time.

    Args:
        home: whose daemon it asks.
        monotonic: tells the time.
        sleep: waits.
    """

    def __init__(
        self,
        home: Path,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._home = home
        self._monotonic = monotonic
        self._sleep = sleep
        self._began_s: float | None = None
        self._cuts = 0

    def note_progress(self) -> None:
        """Begin anew: what comes now is another trouble."""
        self._began_s, self._cuts = None, 0

    def wait_again(self, error: CommError, end_s: float | None = None) -> None:
        """Return when the call may be made again: at once at first, then after growing pauses.

        Args:
            error: how the call ended.
            end_s: when the caller's own time is over, on the monotonic clock; no pause is longer.

        Raises:
            CommError: ``error`` itself if it is no cut, or that the daemon ends again and again.
        """
        if not isinstance(error, (ConnectionLost, DaemonLeaving)):
            raise error
        now_s = self._monotonic()
        if self._began_s is None:
            self._began_s = now_s
        self._cuts += 1
        lasted_s = now_s - self._began_s
        if self._cuts >= _LEAST_CUTS and lasted_s >= LIMIT_S:
            raise CommError(
                f"The daemon of {self._home} ended {self._cuts} times in {lasted_s:.0f} s before it had"
                f" answered a call: {error.message}",
                hint="`wherry daemon logs` shows why it ends. Mend that, and call again: what was logged"
                " before is safe.",
            ) from error
        pause_s = self._pause_s()
        if end_s is not None:
            pause_s = min(pause_s, end_s - now_s)
        if pause_s > 0:
            self._sleep(pause_s)

    def _pause_s(self) -> float:
        if self._cuts == 1:
            return 0.0
        return min(_FIRST_PAUSE_S * 2.0 ** min(self._cuts - 2, 10), _PAUSE_S)
