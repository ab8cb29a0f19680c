"""How far the work on each request is, in memory. Ground floor: no I/O.

Owns: bytes done in the state that a request is in (hashed while ``accepted``, sent while
``prepared``), and how many of all were done for the first time. Does not own: the states; after a restart a
count begins again at what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Moving:
    """Bytes of one file that is on its way; whoever moves it sets them, in any thread."""

    def __init__(self, *, is_spooled: bool) -> None:
        self.is_spooled = is_spooled
        self.done_bytes = 0

    def note(self, done_bytes: int) -> None:
        self.done_bytes = done_bytes


#: So many steps are remembered, so that what a further try repeats does not count as done anew.
_REMEMBERED = 1000


class Progress:
    """Bytes done by request row; a row that nobody works on has none."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}
        self._moving: dict[int, list[_Moving]] = {}
        self._sending: set[int] = set()
        self._furthest: dict[tuple[int, bool], int] = {}  # by row, and whether it is sent
        self._sent_bytes = 0
        self._hashed_bytes = 0

    def start(self, row: int, done_bytes: int = 0, *, is_sending: bool = False) -> None:
        """Begin the count of a step."""
        self._done[row] = done_bytes
        if is_sending:
            self._sending.add(row)
        else:
            self._sending.discard(row)

    def advanced(self) -> tuple[int, int]:
        """Bytes that were sent, and all that were sent or hashed; what a further try repeats counts once."""
        for row in self._done:
            self._note_furthest(row)
        return self._sent_bytes, self._sent_bytes + self._hashed_bytes

    def _note_furthest(self, row: int) -> None:
        done, step = self.done(row), (row, row in self._sending)
        before = self._furthest.get(step, 0)
        if done is None or done <= before:
            return
        self._furthest[step] = done
        if step[1]:
            self._sent_bytes += done - before
        else:
            self._hashed_bytes += done - before
        if len(self._furthest) > _REMEMBERED:
            del self._furthest[next(iter(self._furthest))]

    def add(self, row: int, size_bytes: int) -> None:
        """Count bytes, unless the step has ended meanwhile."""
        if row in self._done:
            self._done[row] += size_bytes

    @contextmanager
    def moving(self, row: int, *, is_spooled: bool = False) -> Iterator[Callable[[int], None]]:
        """Give what is told how many bytes of a file are done; they count until the block ends.

        The whole file is counted after that by ``add``, and a file that failed not at all.

        Args:
            is_spooled: whether the spool is rid of the bytes when the whole file is done.
        """
        moving = _Moving(is_spooled=is_spooled)
        all_ = self._moving.setdefault(row, [])
        all_.append(moving)
        try:
            yield moving.note
        finally:
            all_.remove(moving)
            if not all_:
                self._moving.pop(row, None)

    def moving_spooled(self) -> int:
        """Bytes that are done of files which the spool is rid of when the whole of them is."""
        moving = (each for all_ in self._moving.values() for each in all_)
        return sum(each.done_bytes for each in moving if each.is_spooled)

    def end(self, row: int) -> None:
        """Forget the count."""
        self._note_furthest(row)
        self._done.pop(row, None)
        self._sending.discard(row)

    def done(self, row: int) -> int | None:
        """Bytes done in the running step; None where no step runs."""
        if row not in self._done:
            return None
        return self._done[row] + sum(each.done_bytes for each in self._moving.get(row, ()))
