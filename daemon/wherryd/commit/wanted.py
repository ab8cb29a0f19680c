"""Whether a store has the objects that entries name which nobody here has put (docs/commit.md, rule 6).

Owns: which objects those are, a blob once a page of entries, a pack once; asking for some batches side by
side. Does not own: what it means that one is gone (``gathering``, ``applying``), what a request has put
itself (``looking``), what was looked at a short while ago (``changed``). Memory: a page, and an item a pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from wherryd.commit.looking import BATCH, BATCHES_AT_ONCE
from wherryd.commit.merging import TOLD
from wherryd.model import ManifestEntry
from wherryd.registry import layout
from wherryd.registry.base import Kind, Named, Registry
from wherryd.together import all_of

#: Objects that are asked for before it goes on.
_AT_ONCE = BATCH * BATCHES_AT_ONCE


class Wanted:
    """The objects that entries name, while these pass by."""

    def __init__(self, project: str, registry: Registry, store_id: str) -> None:
        self._project = project
        self._registry = registry
        self._store_id = store_id
        self._blobs: list[Named] = []
        self._packs: dict[str, int] = {}  # as far as entries reach into each, bytes
        self._lost: list[str] = []
        self._count = 0

    async def look(self, lines: Sequence[ManifestEntry], *, is_last: bool = False) -> None:
        """Look for what further entries name, in batches; for packs after the last."""
        self._take(lines)
        whole = len(self._blobs) if is_last else len(self._blobs) - len(self._blobs) % _AT_ONCE
        ready, self._blobs = self._blobs[:whole], self._blobs[whole:]
        if is_last:
            ready += [Named(Kind.PACK, pack) for pack in sorted(self._packs)]
        for first in range(0, len(ready), _AT_ONCE):
            await self._ask(ready[first : first + _AT_ONCE])

    def lost(self) -> str:
        """Say what is gone; "" where all is there."""
        if not self._count:
            return ""
        more = f" and {self._count - len(self._lost)} more" if self._count > len(self._lost) else ""
        return f"the store has lost {', '.join(self._lost)}{more}"

    def _take(self, lines: Sequence[ManifestEntry]) -> None:
        blobs = dict[str, Named]()
        for line in lines:
            if line.ref is not None or line.digest is None:
                continue
            if line.pack is None:
                blobs[line.digest] = Named(Kind.BLOB, line.digest, line.size)
            else:
                end = (line.offset or 0) + (line.size or 0)
                self._packs[line.pack] = max(end, self._packs.get(line.pack, 0))
        self._blobs += blobs.values()

    async def _ask(self, named: Sequence[Named]) -> None:
        """Ask for all of these at once."""
        batches = [named[first : first + BATCH] for first in range(0, len(named), BATCH)]
        ask = self._registry.sizes
        answers = await all_of(
            *(partial(ask, self._project, batch, self._store_id) for batch in batches)
        )
        for batch, sizes in zip(batches, answers, strict=True):
            lost = [
                each for each, size in zip(batch, sizes, strict=True) if self._is_lost(each, size)
            ]
            self._count += len(lost)
            self._lost += [self._key_of(each) for each in lost[: TOLD - len(self._lost)]]

    def _is_lost(self, named: Named, size: int | None) -> bool:
        """Whether it is gone, has another size, or ends before an entry that lies in it."""
        if size is None:
            return True
        if named.kind is Kind.PACK:
            return size < self._packs[named.name]
        return size != named.size

    def _key_of(self, named: Named) -> str:
        key_of = layout.pack_key if named.kind is Kind.PACK else layout.blob_key
        return key_of(self._project, named.name)
