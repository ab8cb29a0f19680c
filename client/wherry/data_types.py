"""``wherry.data_types``: tables and the like. None is built yet; making one raises ``NotYet``."""

from __future__ import annotations

from wherry.errors import NotYet


class _Later:
    """What will be a data type."""

    def __init__(self, *_: object, **__: object) -> None:
        name = self.__class__.__name__
        raise NotYet(
            f"wherry.{name} is not built yet.", hint="Save the data to a file and use add_file."
        )


class Table(_Later):
    """Rows and columns."""


class PartitionedTable(_Later):
    """A table whose parts lie in one folder of an artifact."""


class JoinedTable(_Later):
    """Two tables joined on a key."""


class Image(_Later):
    """A picture."""
