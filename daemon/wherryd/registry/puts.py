"""What this daemon puts of versions and runs, for whoever has looked at a project: it needs no listing.

Owns: stamps of what was put, or may have been, by project, as long as somebody follows it. Does not own: what
others put, when to look (``lineage``).
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from wherryd.registry.base import Put, Since

#: Of more than so many, a listing tells for less.
_MOST = 1_000


class Puts:
    """What is put into one store, by all who write there."""

    def __init__(self) -> None:
        self._followed: dict[str, Since] = {}

    def follow(self, project: str) -> Since:
        """As ``Registry.follow``."""
        before = self._followed.get(project)
        if before is not None:
            before.is_whole = False
        self._followed[project] = Since()
        return self._followed[project]

    def note(self, project: str, put: Put) -> None:
        """Note a put that was made, or may have been."""
        since = self._followed.get(project)
        if since is None:
            return
        since.puts.append(put)
        if len(since.puts) > _MOST:
            since.is_whole = False
            del self._followed[project]

    async def noted(self, project: str, put: Put, size: int, write: Awaitable[str]) -> None:
        """Make a write, and note it with the stamp that a listing will show; without, where it failed.

        Args:
            put: what is written, its stamp left out.
            size: its bytes.
            write: gives the ETag.
        """
        try:
            put = msgspec.structs.replace(put, stamp=stamp(await write, size))
        finally:
            self.note(project, put)


def stamp(etag: str, size: int) -> str:
    """What tells whether an object is the one that was read."""
    return f"{etag}/{size}"
