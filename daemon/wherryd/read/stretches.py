"""Entries that lie near each other in a pack are read in one go.

Owns: which entries those are. Pure. Does not own: reading (``files``, ``delivery``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wherryd.model import ManifestEntry

#: So much of a pack is read in one go.
STRETCH_BYTES = 1 << 20
#: Bytes between two files of a pack that are read, and dropped, rather than asked for apart.
GAP_BYTES = 32 << 10
#: Entries that wait for one read.
STRETCH_ENTRIES = 1000


class Stretch:
    """Entries that follow each other, beginning with one."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.entries = [entry]
        self._begin = entry.offset or 0
        self._end = self._begin + (entry.size or 0)

    def takes(self, entry: ManifestEntry) -> bool:
        """Whether the next entry lies where this stretch of the pack ends, or in it; it is made longer."""
        first = self.entries[0]
        if entry.pack is None or entry.pack != first.pack or (first.size or 0) > STRETCH_BYTES:
            return False
        begin = entry.offset or 0
        end = max(self._end, begin + (entry.size or 0))
        is_near = self._begin <= begin <= self._end + GAP_BYTES
        is_full = end - self._begin > STRETCH_BYTES or len(self.entries) >= STRETCH_ENTRIES
        if not is_near or is_full:
            return False
        self._end = end
        self.entries.append(entry)
        return True


def stretches(entries: Iterable[ManifestEntry]) -> Iterator[list[ManifestEntry]]:
    """Take entries apart into stretches, in order."""
    stretch: Stretch | None = None
    for entry in entries:
        if stretch is None or not stretch.takes(entry):
            if stretch is not None:
                yield stretch.entries
            stretch = Stretch(entry)
    if stretch is not None:
        yield stretch.entries
