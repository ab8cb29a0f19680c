"""``wherry.data_types``: tables and the like. None is built yet; making one raises ``NotYet``."""

from __future__ import annotations

from wherry.later import LaterType


class Table(LaterType):
    """Rows and columns."""


class PartitionedTable(LaterType):
    """A table whose parts lie in one folder of an artifact."""


class JoinedTable(LaterType):
    """Two tables joined on a key."""


class Image(LaterType):
    """A picture."""
