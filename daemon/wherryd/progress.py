"""How far the work on each request is, in memory. Ground floor: no I/O.

Owns: bytes done in the state that a request is in (hashed while ``accepted``, sent while
``prepared``). Does not own: the states; after a restart a count begins again at what is done.
"""

from __future__ import annotations


class Progress:
    """Bytes done by request row; a row that nobody works on has none."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}

    def start(self, row: int, done_bytes: int = 0) -> None:
        """Begin the count of a step."""
        self._done[row] = done_bytes

    def add(self, row: int, size_bytes: int) -> None:
        """Count bytes, unless the step has ended meanwhile."""
        if row in self._done:
            self._done[row] += size_bytes

    def end(self, row: int) -> None:
        """Forget the count."""
        self._done.pop(row, None)

    def done(self, row: int) -> int | None:
        """Bytes done in the running step; None where no step runs."""
        return self._done.get(row)
