"""What a store says of uploads in parts where every object is put whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from wherryd.stores.base import UploadStat


class PutsWhole:
    """The verbs for uploads in parts, of a store that has none."""

    async def give_up(self, key: str, upload: str) -> None:
        """Do nothing: there is no such upload."""

    async def list_uploads(self, prefix: str) -> AsyncGenerator[UploadStat, None]:  # noqa: ARG002
        """Give none."""
        none: tuple[UploadStat, ...] = ()
        for upload in none:
            yield upload
