"""How waiting looks while it lasts. Owns: a bar on a terminal, a line now and then elsewhere.

Does not own: whether there is anything to show: a command that prints JSON shows nothing.
All of it goes to standard error.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self

from wherry import messages as pb
from wherry.cli import output
from wherry.cli.states import ENDED, artifact_text, headline, is_waiting, sentences
from wherry.cli.words import progress_text
from wherry.progress import sent_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar

_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What is told of requests while somebody waits for them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, count: int) -> None:
        """So many requests are waited for."""
        ...

    def note(self, state: pb.RequestState) -> None:
        """Take in that a request is in this state."""
        ...


def choose_progress(*, quiet: bool) -> Progress:
    """Choose what fits standard error; nothing where ``quiet`` is said."""
    if quiet:
        return _Nothing()
    return _OnTerminal() if sys.stderr.isatty() else _Lines()


class _Tally:
    """Sums over the requests that are waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = 0
        self.size_bytes = 0
        self.done_bytes = 0
        self._states: dict[str, pb.RequestState] = {}
        self._waiting: dict[str, pb.RequestState] = {}
        self._latest: pb.RequestState | None = None

    def note(self, state: pb.RequestState) -> None:
        before = self._states.get(state.request_id)
        if before is not None:
            self._add(before, -1)
        self._add(state, 1)
        self._states[state.request_id] = self._latest = state
        self._waiting.pop(state.request_id, None)
        if is_waiting(state):
            self._waiting[state.request_id] = state

    def text(self) -> str:
        """Name the one that needs attention, else the one that was told last."""
        shown = next(iter(self._waiting.values()), self._latest)
        why = f": {sentences(shown)[0]}" if shown and is_waiting(shown) else ""
        last = f"; {artifact_text(shown)} {headline(shown)}{why}" if shown else ""
        sent = progress_text(self.done_bytes, self.size_bytes)
        return f"{self.ended} of {self.count} ended, {sent}{last}"

    def _add(self, state: pb.RequestState, sign: int) -> None:
        ended = state.state in ENDED
        self.ended += sign * ended
        self.size_bytes += sign * state.size
        self.done_bytes += sign * (state.size if ended else sent_bytes(state))


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, count: int) -> None:
        pass

    def note(self, state: pb.RequestState) -> None:
        pass


class _Lines:
    """A line every 10 s, for logs; none if it is over before."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, count: int) -> None:
        self._tally.count = count

    def note(self, state: pb.RequestState) -> None:
        self._tally.note(state)
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            output.note(f"wherry: {self._tally.text()}")


class _OnTerminal:
    """A bar over all bytes, with rate and time left, and a line on what happens; gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tally = _Tally()
        self._text = ""
        self._bar = _bar()
        self._task = self._bar.add_task("", total=None)
        self._live = Live(
            console=Console(file=sys.stderr),
            transient=True,
            get_renderable=self._shown,
            refresh_per_second=4,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, count: int) -> None:
        self._tally.count = count

    def note(self, state: pb.RequestState) -> None:
        self._tally.note(state)
        self._text = self._tally.text()
        self._bar.update(self._task, total=self._tally.size_bytes, completed=self._tally.done_bytes)

    def _shown(self) -> RenderableType:
        """Called by a thread of rich's."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._bar, Text(self._text))


def _bar() -> Bar:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()
    )
