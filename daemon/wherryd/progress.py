"""How far the work on each request is, in memory. Ground floor: no I/O.

Owns: bytes done in the state that a request is in (hashed while ``accepted``, sent while
``prepared``). Does not own: the states; after a restart a count begins again at what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Moving:
    """Bytes of one file that is on its way; whoever moves it sets them, in any thread."""

    def __init__(self) -> None:
        self.done_bytes = 0

    def note(self, done_bytes: int) -> None:
        self.done_bytes = done_bytes


class Progress:
    """Bytes done by request row; a row that nobody works on has none."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}
        self._moving: dict[int, list[_Moving]] = {}

    def start(self, row: int, done_bytes: int = 0) -> None:
        """Begin the count of a step."""
        self._done[row] = done_bytes

    def add(self, row: int, size_bytes: int) -> None:
        """Count bytes, unless the step has ended meanwhile."""
        if row in self._done:
            self._done[row] += size_bytes

    @contextmanager
    def moving(self, row: int) -> Iterator[Callable[[int], None]]:
        """Give what is told how many bytes of a file are done; they count until the block ends.

        The whole file is counted after that by ``add``, and a file that failed not at all.
        """
        moving, all_ = _Moving(), self._moving.setdefault(row, [])
        all_.append(moving)
        try:
            yield moving.note
        finally:
            all_.remove(moving)
            if not all_:
                self._moving.pop(row, None)

    def end(self, row: int) -> None:
        """Forget the count."""
        self._done.pop(row, None)

    def done(self, row: int) -> int | None:
        """Bytes done in the running step; None where no step runs."""
        if row not in self._done:
            return None
        return self._done[row] + sum(each.done_bytes for each in self._moving.get(row, ()))
