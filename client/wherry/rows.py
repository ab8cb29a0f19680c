"""What a client remembers of an artifact's entries: a few dozen bytes each. No I/O.

Owns: the table from path to where the entry's bytes are. Does not own: how they got there
(``capture``), which paths may be added (``contents``).

A row is packed into one byte array and then named in the index, each in a single step, so that a
fork in the middle of another thread's ``put`` leaves the child a whole table.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Kind(enum.IntEnum):
    """Where an entry's bytes are."""

    COPIED = 0  # in a spool file
    LINKED = 1  # in a spool file that is a hard link to the user's (immutable)
    IN_PLACE = 2  # in the user's file (immutable)
    REFERENCE = 3  # where the URI says
    UNCHECKED = 4  # where the URI says, and nobody looks
    LOOKUP = 5  # where the URI says, and the daemon asks there
    KEPT = 6  # where the version has them that is changed


IN_SPOOL = (Kind.COPIED, Kind.LINKED)
#: What a request says nothing of among its entries.
NOT_ENTRIES = (Kind.LOOKUP, Kind.KEPT)
REFERENCES = (Kind.REFERENCE, Kind.UNCHECKED, Kind.LOOKUP)


class Row(NamedTuple):
    """One entry. Sizes and offsets in bytes; the last three are the user's file's at capture."""

    kind: int
    file: int  # number of the spool file
    origin: int  # number of the origin; -1 where there is no user's file
    offset: int
    size: int
    device: int
    inode: int
    mtime_ns: int


class Origin(NamedTuple):
    """Where entries come from: ``start`` + the entry's path from character ``cut`` on.

    One origin serves all files of a folder; that of a single file has everything in ``start``.
    """

    start: str
    cut: int | None = None

    def at(self, path: str) -> str:
        """Give the file or URI that the entry ``path`` came from."""
        return self.start if self.cut is None else self.start + path[self.cut :]


_FORM = struct.Struct("<BIiqqQQq")
_LATEST_NS = 2**63 - 1


def packed(row: Row) -> bytes:
    """Give the row's form in the table."""
    return _FORM.pack(*row[:-1], min(row.mtime_ns, _LATEST_NS))


class Table:
    """Entries by path."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._rows = bytearray()
        self._origins: list[Origin] = []

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, path: object) -> bool:
        return path in self._index

    def get(self, path: str) -> Row | None:
        """Give an entry's row; None where the path is free."""
        number = self._index.get(path)
        return None if number is None else self._row(number)

    def rows(self) -> Iterator[Row]:
        """Give all rows, in no order."""
        return map(self._row, list(self._index.values()))  # another thread may add meanwhile

    def paths(self) -> list[str]:
        """List all paths by their UTF-8 bytes, which is the order of their code points."""
        return sorted(self._index)

    def add_origin(self, origin: Origin) -> int:
        """Remember an origin; return its number for rows."""
        self._origins.append(origin)
        return len(self._origins) - 1

    def origin(self, path: str, row: Row) -> str | None:
        """Give the file or URI that an entry came from."""
        return None if row.origin < 0 else self._origins[row.origin].at(path)

    def put(self, path: str, row: Row) -> None:
        """Add an entry, or put another in its place."""
        self.put_many((path,), packed(row))

    def put_many(self, paths: Iterable[str], rows: bytes | bytearray) -> None:
        """Add entries whose rows are packed back to back, in the order of ``paths``."""
        first = len(self._rows) // _FORM.size
        self._rows += rows
        for number, path in enumerate(paths, first):
            self._index[path] = number

    def remove(self, path: str) -> None:
        """Forget an entry that is there."""
        del self._index[path]

    def _row(self, number: int) -> Row:
        return Row._make(_FORM.unpack_from(self._rows, number * _FORM.size))
