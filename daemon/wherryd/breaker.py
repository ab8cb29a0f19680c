"""Leaving alone what has trouble: a circuit breaker. Ground floor: no I/O.

Owns: growing pauses, and that one goes ahead after each. Does not own: which failures open it, and what is
said to those who are kept away.
"""

from __future__ import annotations

from wherryd.clock import Clock, full_jitter


class Breaker:
    """Closed at first: nobody is kept away.

    Args:
        first_s: bound of the first pause.
        longest_s: of the last one.
    """

    def __init__(self, clock: Clock, first_s: float, longest_s: float) -> None:
        self._clock = clock
        self._first_s = first_s
        self._longest_s = longest_s
        self._until: float | None = None  # by the monotonic clock; None: closed
        self._pauses = 0
        self.is_probed = False
        """Whether the one that went ahead is under way."""

    @property
    def is_open(self) -> bool:
        """Whether there is trouble."""
        return self._until is not None

    @property
    def left_s(self) -> float:
        """How long the pause still lasts; 0 where there is none."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock.monotonic())

    @property
    def keeps_away(self) -> bool:
        """Whether nobody may go just now."""
        return self.is_open and (self.is_probed or self.left_s > 0)

    def go(self) -> bool:
        """Let one go, where none is kept away; True: it goes ahead, and ``probed`` is told of its end."""
        self.is_probed = self.is_open
        return self.is_probed

    def probed(self) -> None:
        """The one that went ahead is back; what it met is told besides."""
        self.is_probed = False

    def trip(self, *, is_probe: bool, least_s: float = 0.0) -> None:
        """Open, or begin the next pause; once for all that were under way when it opened.

        Args:
            is_probe: whether the one that failed had gone ahead.
            least_s: how long the pause has to be.
        """
        if self.is_open and not is_probe:
            return
        pause_s = full_jitter(self._clock, self._pauses, self._first_s, self._longest_s)
        self._pauses += 1
        self._until = self._clock.monotonic() + max(pause_s, least_s)

    def reset(self) -> bool:
        """All is well; whether that is news."""
        was_open, self._until, self._pauses = self.is_open, None, 0
        return was_open

    def end_pause(self) -> None:
        """Let one go ahead now."""
        if self._until is not None:
            self._until = self._clock.monotonic()
