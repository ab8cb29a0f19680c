"""Streams that are coming in, as long as they are small.

Owns: a small stream's entries until its request is accepted: they go into the database together with
it, so that it costs one sync of the disk and not two. Does not own: those of a bigger stream, which are
written batch by batch (``staging``), or what becomes of them. A kill loses what is held here, and with
it nothing: before it is accepted a stream is no promise.
"""

from __future__ import annotations

from collections.abc import Sequence

from wherry.errors import PathTaken
from wherryd.model import Entry

#: Entries held for one stream: what its acceptance writes while others wait for the same commit.
HELD_PER_STREAM = 100
#: Entries held in all, some 5 MB.
HELD_IN_ALL = 10_000


def path_taken(path: str) -> PathTaken:
    """Say that a path came twice in a stream."""
    return PathTaken(
        f"two entries have the path {path!r}", hint="remove one of them, or give it another name"
    )


class Streams:
    """The entries of small streams, by row."""

    def __init__(self) -> None:
        self._held: dict[int, dict[str, Entry]] = {}
        self._in_all = 0

    def begin(self, row: int) -> None:
        """Note a new stream."""
        self._held[row] = {}

    def add(self, row: int, entries: Sequence[Entry]) -> list[Entry]:
        """Hold a batch; where it gets too much, give back all that must be written, and hold no more.

        Raises ``PathTaken``.
        """
        held = self._held.get(row)
        if held is None:
            return list(entries)
        fits = len(held) + len(entries) <= HELD_PER_STREAM
        if not fits or self._in_all + len(entries) > HELD_IN_ALL:
            return [*self.end(row), *entries]
        for entry in entries:
            if entry.path in held:
                raise path_taken(entry.path)
            held[entry.path] = entry
            self._in_all += 1
        return []

    def held(self, row: int) -> list[Entry]:
        """What is held of a stream; it stays, for ``accept`` may fail and be tried again."""
        return list(self._held.get(row, {}).values())

    def end(self, row: int) -> list[Entry]:
        """Hold nothing of the stream any more; returns what was held."""
        held = self._held.pop(row, {})
        self._in_all -= len(held)
        return list(held.values())
