"""Whether a store has to be asked again if it is the one that was there. Ground floor: no I/O.

Owns: a count for each address, which every stage raises that has met trouble there. Does not own: the
question (``transfer.contact`` and ``commit`` ask it, each what it needs), or what a stage does then.

One stage may meet the trouble that another one must know of: a disk that was away while files were sent
may be another one when the record is to be created.
"""

from __future__ import annotations

from collections import Counter


class Doubts:
    """Counts by address; an answer holds as long as the count is what it was before the question."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of(self, address: str) -> int:
        """How often this address was doubted."""
        return self._counts[address]

    def note(self, address: str) -> None:
        """Something went wrong at this address, or something else lies there than before."""
        self._counts[address] += 1
