"""``wherry.data_types.PartitionedTable``: a table whose parts are the tables in one folder of an artifact.

Owns: the parts' order, and going through them. Does not own: reading each (``entries``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from wherry.errors import ArtifactStateError, BadTable
from wherry.tables.table import Table

_DIGITS = re.compile(r"(\d+)")


class Parts(Protocol):
    """The artifact that the parts are in."""

    def paths(self, folder: str) -> list[str]:
        """List the tables below a folder."""
        ...

    def tables(self, paths: list[str]) -> Iterator[Table]:
        """Read tables, in the order of ``paths``."""
        ...


class PartitionedTable:
    """A table whose parts lie in one folder of an artifact, put there by one run or by many.

    Args:
        parts_path: the folder.
    """

    def __init__(self, parts_path: str) -> None:
        if not isinstance(parts_path, str):
            raise BadTable(f"parts_path is {parts_path!r}, and no string.")
        self.parts_path = parts_path.rstrip("/")
        self._parts: Parts | None = None

    def __repr__(self) -> str:
        return f"<PartitionedTable of {self.parts_path!r}>"

    @classmethod
    def of(cls, parts: Parts, parts_path: str) -> PartitionedTable:
        """Make one that knows the artifact it is in."""
        table = cls(parts_path)
        table._parts = parts
        return table

    def iterrows(self) -> Iterator[tuple[int, list[object]]]:
        """Give number and values of each row: part by part, in the order of ``in_part_order``.

        Raises:
            BadTable: two parts have other columns.
            ArtifactStateError: it was not asked for from an artifact.
        """
        if self._parts is None:
            raise ArtifactStateError(
                f"The parts below {self.parts_path!r} are in no artifact that this object knows of.",
                hint="artifact.add(table, name), then artifact.get(name).iterrows()",
            )
        return self._rows(self._parts)

    def _rows(self, parts: Parts) -> Iterator[tuple[int, list[object]]]:
        paths = in_part_order(parts.paths(self.parts_path))
        columns, number = None, 0
        for path, table in zip(paths, parts.tables(paths), strict=True):
            if columns is not None and table.columns != columns:
                raise BadTable(
                    f"{path!r} has the columns {table.columns!r}, and {paths[0]!r} has {columns!r}.",
                    hint=f"Read them one by one: artifact.get({path!r}).",
                )
            columns = table.columns
            for _, row in table.iterrows():
                yield number, row
                number += 1


def in_part_order(paths: Iterable[str]) -> list[str]:
    """Sort paths with the numbers in them as numbers: ``table_2`` before ``table_10``."""
    return sorted(paths, key=lambda path: (_split(path), path))


def _split(path: str) -> list[tuple[int, str]]:
    """A path's text and numbers in turn; text comes first, so that each is compared with its like."""
    pieces = _DIGITS.split(path)
    return [(int(each), "") if at % 2 else (0, each) for at, each in enumerate(pieces)]
