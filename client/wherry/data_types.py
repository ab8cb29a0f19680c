"""``wherry.data_types``: what can be added to an artifact beside files.

Making one of those that are not built yet raises ``NotYet``.
"""

from __future__ import annotations

from wherry.later import LaterType
from wherry.tables.partitioned import PartitionedTable
from wherry.tables.table import Table

__all__ = ["Image", "JoinedTable", "PartitionedTable", "Table"]


class JoinedTable(LaterType):
    """Two tables joined on a key."""


class Image(LaterType):
    """A picture."""
