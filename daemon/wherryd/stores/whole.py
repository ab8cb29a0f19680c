"""What a store says of uploads in parts that it does not list, or does not have.

Owns: saying that there are none. Does not own: the uploads of a store that has some.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from wherryd.stores.base import UploadStat


class ListsNoUploads:
    """The verb that lists uploads, of a store that can't."""

    async def list_uploads(self, prefix: str) -> AsyncGenerator[UploadStat, None]:  # noqa: ARG002
        """Give none."""
        none: tuple[UploadStat, ...] = ()
        for upload in none:
            yield upload


class PutsWhole(ListsNoUploads):
    """The verbs for uploads in parts, of a store where every object is put whole."""

    async def give_up(self, key: str, upload: str) -> None:
        """Do nothing: there is no such upload."""
