"""The line that tells how far a run's artifacts are. Owns: its words, and how often it is written.

Does not own: the states (``finishing``), when waiting ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TextIO

from wherry.notices import is_terminal, width, write

if TYPE_CHECKING:
    from wherry import messages as pb

_EVERY_S = 10.0
_EVERY_ON_TERMINAL_S = 0.2
_SENT = ("uploaded", "sending", "settled", "done")
_ENDED = ("done", "failed", "cancelled")


class Line:
    """One line on a terminal that is written over, or a line every ten seconds elsewhere.

    Args:
        out: usually stderr; None writes nothing.
        now_s: seconds on some clock; the first line comes ten seconds later.
    """

    def __init__(self, out: TextIO | None, now_s: float) -> None:
        self._out = out
        self._terminal = out is not None and is_terminal(out)
        self._next_s = now_s + (0.5 if self._terminal else _EVERY_S)
        self._shown = False

    def is_due(self, now_s: float) -> bool:
        """Tell whether ``show`` would write."""
        return self._out is not None and now_s >= self._next_s

    def show(self, text: str, now_s: float) -> None:
        """Write ``text``, if it is time."""
        if self._out is None or now_s < self._next_s:
            return
        if self._terminal:
            self._next_s = now_s + _EVERY_ON_TERMINAL_S
            write(self._out, f"\r\x1b[2K{text[: width(self._out) - 1]}")
        else:
            self._next_s = now_s + _EVERY_S
            write(self._out, f"{text}\n")
        self._shown = True

    def clear(self) -> None:
        """Leave the terminal's line empty for what follows."""
        if self._out is not None and self._terminal and self._shown:
            write(self._out, "\r\x1b[2K")


class Pace:
    """How fast bytes are sent, over the time since it was first asked."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def describe(self, sent: int, total: int, now_s: float) -> str:
        """Say the rate and the time that is left; "" before it can be known.

        Args:
            sent: bytes so far.
            total: bytes in all.
            now_s: seconds on some clock.
        """
        if self._first is None:
            self._first = now_s, sent
        passed_s, moved = now_s - self._first[0], sent - self._first[1]
        if passed_s < 1 or moved <= 0:
            return ""
        rate = moved / passed_s
        return f", {size_text(int(rate))}/s, {duration_text((total - sent) / rate)} left"


class Coming:
    """The line that tells how far a download is.

    Args:
        what: is downloaded.
        total: bytes in all.
        out: usually stderr.
        monotonic: tells the time.
    """

    def __init__(
        self,
        what: str,
        total: int,
        out: TextIO | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._monotonic = monotonic
        self._line = Line(out, monotonic())
        self._pace = Pace()
        self._here = 0

    def note(self, here: int) -> None:
        """So many bytes are on this machine; fewer than before say nothing."""
        self._here = min(max(here, self._here), self._total)
        now_s = self._monotonic()
        if self._line.is_due(now_s):
            amount = f"{size_text(self._here)} of {size_text(self._total)}"
            left = self._pace.describe(self._here, self._total, now_s)
            self._line.show(f"wherry: {self._what}: {amount} downloaded{left}", now_s)

    def clear(self) -> None:
        """Leave the terminal's line empty for what follows."""
        self._line.clear()


def describe(states: Iterable[pb.RequestState], pace: Pace, now_s: float) -> str:
    """Say how far requests are: versions, bytes, rate, time left, and the first that is not done."""
    all_states = list(states)
    done = sum(1 for state in all_states if state.state == "done")
    total = sum(state.size for state in all_states)
    sent = sum(sent_bytes(state) for state in all_states)
    noun = (
        "parts in drafts"
        if all(_is_upsert(state) for state in all_states)
        else "versions committed"
    )
    text = f"wherry: {done} of {len(all_states)} {noun}"
    if total:
        text += f", {size_text(sent)} of {size_text(total)}{pace.describe(sent, total, now_s)}"
    open_states = [state for state in all_states if state.state not in _ENDED]
    if open_states:
        from wherry.ticket import describe as describe_stage

        first = min(open_states, key=lambda state: state.place)
        text += f"; {first.name}: {describe_stage(first)}"
    return text


def _is_upsert(state: pb.RequestState) -> bool:
    return state.kind == "upsert"


def sent_bytes(state: pb.RequestState) -> int:
    """Count the bytes of a request that are in the store."""
    if state.state in _SENT:
        return state.size
    return state.bytes_done if state.state == "prepared" else 0


def size_text(size: int) -> str:
    """Write a number of bytes for people: ``1 byte``, ``12 bytes``, ``1.5 GiB``."""
    if size < 1024:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def duration_text(seconds: float) -> str:
    """Write a time for people: ``12 s``, ``3 min``, ``2 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
