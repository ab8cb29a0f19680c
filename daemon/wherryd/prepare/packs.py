"""Which small files of a request travel together, and in which pack each lies.

Owns: the plan: what is small, where a pack ends, pointing at bytes that the store has. Does not own: digests
(``digests``), the manifest (``manifests``), sending packs (``transfer``). Memory: the entries of one pack.

Packs are cut in the order of paths, so that whoever reads a folder reads few long stretches; the same files
give the same packs. A kill leaves packs that were planned, each with all its entries, and nothing of the one
that was being filled: the next start keeps those and goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.model import Entry, Place
from wherryd.queue.base import Packed, Queue, Request

#: Files below this size travel in packs.
SMALL_BYTES = 1 << 20
#: A pack's most bytes, and the most entries that wait until it is full; they are written in one change.
PACK_BYTES = 16 << 20
PACK_ENTRIES = 5_000

_BEFORE_SAVE = failpoint("prepare.packs.before-save")
_AFTER_SAVE = failpoint("prepare.packs.after-save")

DigestPack = Callable[[Sequence[Entry]], Awaitable[str]]
"""Gives the name of the pack that holds these entries' bytes back to back."""


class Packer:
    """Plans the packs of one request, while its entries pass by in the order of their paths.

    Args:
        request: whose entries they are.
        digest_pack: hashes a pack; what it raises passes through.
    """

    def __init__(self, request: Request, queue: Queue, digest_pack: DigestPack) -> None:
        self._request = request
        self._queue = queue
        self._digest_pack = digest_pack
        self._filling = _Filling()

    async def add(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take the next entries, with their digests; give those whose places are certain now."""
        small = [entry.digest for entry in entries if entry.digest and _is_to_plan(entry)]
        known: dict[str, Place] = {}
        if small:
            known = await self._queue.places(self._request.lane, small)
        certain: list[Entry] = []
        pointed: list[Packed] = []
        for given in entries:
            entry = _pointed(given, known)
            if entry is not given:
                pointed.append(Packed(entry.path, entry.pack or "", entry.pack_offset))
            is_to_pack = _is_to_plan(entry) and entry.digest not in known
            if not self._filling.has_room(entry):
                certain += await self.finish()
            if is_to_pack or self._filling.entries:
                self._filling.add(entry, is_to_pack=is_to_pack)
            else:
                certain.append(entry)
        if pointed:
            await self._queue.save_places(self._request.row, pointed)
        return certain

    async def finish(self) -> list[Entry]:
        """End the pack that is being filled; give the entries that waited for it."""
        filling, self._filling = self._filling, _Filling()
        if filling.is_worth_it:
            name = await self._digest_pack(filling.files)
            packed = filling.packed(name)
            _BEFORE_SAVE()
            await self._queue.save_places(self._request.row, packed, (name, filling.size))
            _AFTER_SAVE()
            return filling.completed(packed)
        return filling.entries


class _Filling:
    """A pack that is not full yet, and all entries since its first file."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.files: list[Entry] = []  # whose bytes make up the pack
        self.size = 0
        self._offsets: dict[str, int] = {}  # by digest
        self._paths: list[tuple[str, int]] = []

    @property
    def is_worth_it(self) -> bool:
        """One file is better off as a blob: others that have the same bytes find it."""
        return len(self.files) > 1

    def has_room(self, entry: Entry) -> bool:
        """Whether an entry may wait for this pack, and go into it."""
        return len(self.entries) < PACK_ENTRIES and (
            not _is_to_plan(entry) or self.size + entry.size <= PACK_BYTES
        )

    def add(self, entry: Entry, *, is_to_pack: bool) -> None:
        """Take the next entry."""
        self.entries.append(entry)
        if not is_to_pack:
            return
        assert entry.digest is not None
        if entry.digest not in self._offsets:
            self._offsets[entry.digest] = self.size
            self.files.append(entry)
            self.size += entry.size
        self._paths.append((entry.path, self._offsets[entry.digest]))

    def packed(self, name: str) -> list[Packed]:
        """Where the entries lie in the pack of this name."""
        return [Packed(path, name, offset) for path, offset in self._paths]

    def completed(self, packed: Sequence[Packed]) -> list[Entry]:
        """The entries with their places."""
        places = {each.path: each for each in packed}
        return [_placed(entry, places.get(entry.path)) for entry in self.entries]


def _is_to_plan(entry: Entry) -> bool:
    return entry.source is not None and entry.pack is None and entry.size < SMALL_BYTES


def _pointed(entry: Entry, known: dict[str, Place]) -> Entry:
    """The entry, pointing at the pack in which the store has its bytes, if it has."""
    place = known.get(entry.digest or "") if _is_to_plan(entry) else None
    if place is None or place.pack is None:
        return entry
    return msgspec.structs.replace(entry, pack=place.pack, pack_offset=place.offset)


def _placed(entry: Entry, packed: Packed | None) -> Entry:
    if packed is None:
        return entry
    return msgspec.structs.replace(entry, pack=packed.pack, pack_offset=packed.offset)
