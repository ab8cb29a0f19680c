"""Whether a store has the objects that entries name which nobody here has put (docs/commit.md, rule 6).

Owns: which objects those are, each pack once; asking for them in batches. Does not own: what it means that
one is gone (``gathering``, ``applying``), what a request has put itself (``looking``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wherryd.commit.looking import BATCH
from wherryd.commit.merging import TOLD
from wherryd.model import ManifestEntry
from wherryd.registry.base import Kind, Named, Registry


class Wanted:
    """The objects that entries name, while these pass by."""

    def __init__(self, project: str, registry: Registry, store_id: str) -> None:
        self._project = project
        self._registry = registry
        self._store_id = store_id
        self._named: list[Named] = []
        self._packs: set[str] = set()
        self._lost: list[str] = []
        self._count = 0

    async def look(self, lines: Sequence[ManifestEntry], *, is_last: bool = False) -> None:
        """Look for what further entries name, in batches."""
        self._named += self._of(lines)
        whole = len(self._named) if is_last else len(self._named) - len(self._named) % BATCH
        ready, self._named = self._named[:whole], self._named[whole:]
        for first in range(0, whole, BATCH):
            some = ready[first : first + BATCH]
            lost = await self._registry.lost(self._project, some, self._store_id)
            self._count += len(lost)
            self._lost += [each.key for each in lost][: TOLD - len(self._lost)]

    def lost(self) -> str:
        """Say what is gone; "" where all is there."""
        if not self._count:
            return ""
        more = f" and {self._count - len(self._lost)} more" if self._count > len(self._lost) else ""
        return f"the store has lost {', '.join(self._lost)}{more}"

    def _of(self, lines: Sequence[ManifestEntry]) -> Iterator[Named]:
        for line in lines:
            if line.ref is not None or line.digest is None:
                continue
            if line.pack is None:
                yield Named(Kind.BLOB, line.digest, line.size)
            elif line.pack not in self._packs:
                self._packs.add(line.pack)
                yield Named(Kind.PACK, line.pack)
