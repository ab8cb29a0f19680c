"""The objects that hold a request's bytes: blobs, and the packs that it makes.

Owns: which entries each of them holds, gathered while the entries pass by in the order of their paths. Pure
state: no I/O. Does not own: which of them the store has, sending them (``blobs``), what lies in which pack
(``prepare.packs``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from wherryd.model import Entry, Place
from wherryd.queue.base import Sent


class Item(msgspec.Struct, frozen=True):
    """An object of the store, out of files on this machine."""

    name: str  # of its done-record: a blob's digest, or pack:<hex>
    size: int  # bytes of the object
    entries: tuple[Entry, ...]  # whose bytes it holds, back to back, each once
    carried: int  # bytes of all entries that it holds, each as often as it is there
    pack: str | None = None  # <hex>; None: a blob

    @property
    def is_spooled(self) -> bool:
        """Whether its bytes take room in the spool, and will leave it: no file of the user's has them."""
        return all(entry.source and entry.source.stat is None for entry in self.entries)

    def sent(self, sender: int | None) -> list[Sent]:
        """What is known to be in the store when the object is.

        Args:
            sender: row of the request that put it; None: it was there.
        """
        whole = Sent(self.name, self.size, sender=sender)
        if self.pack is None:
            return [whole]
        return [whole, *(_sent_slice(entry) for entry in self.entries)]


def pack_record(pack: str) -> str:
    """The name of a whole pack's done-record."""
    return f"pack:{pack}"


class Gatherer:
    """Makes items out of entries.

    Args:
        own: the packs that the request makes: sizes by name.
    """

    def __init__(self, own: Mapping[str, int]) -> None:
        self._own = own
        self._open: dict[str, _Pack] = {}
        self._closed: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Whether every pack that was begun has all its bytes."""
        return not self._open

    def take(self, page: Sequence[Entry]) -> Taken:
        """Take the next entries by path."""
        blobs: dict[str, Item] = {}
        packs: list[Item] = []
        pointed: set[str] = set()
        free = 0
        for entry in page:
            if (
                entry.source is None
                or entry.digest is None
                or (entry.pack is None and entry.digest in blobs)
            ):
                free += entry.size
            elif entry.pack is None:
                blobs[entry.digest] = Item(entry.digest, entry.size, (entry,), entry.size)
            elif entry.pack in self._own and entry.pack not in self._closed:
                packs += self._take_packed(entry.pack, entry)
            else:
                pointed |= {entry.pack} - self._closed
                free += entry.size
        return Taken([*blobs.values(), *packs], pointed, free)

    def _take_packed(self, name: str, entry: Entry) -> list[Item]:
        pack = self._open.setdefault(name, _Pack(self._own[name]))
        pack.take(entry)
        if pack.left:
            return []
        self._closed.add(name)
        del self._open[name]
        return [pack.item(name)]


class Taken(msgspec.Struct, frozen=True):
    """What a page of entries came to."""

    items: list[Item]  # that are whole with this page
    pointed: set[str]  # packs (<hex>) that others have made, and that entries lie in
    free: (
        int  # bytes of entries that no item carries: references, known bytes, the same bytes again
    )


class _Pack:
    """A pack some of whose entries have passed by."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.left = size
        self._entries: dict[tuple[int, int], Entry] = {}  # by offset and size
        self._carried = 0

    def take(self, entry: Entry) -> None:
        self._carried += entry.size
        place = entry.pack_offset, entry.size
        if place not in self._entries:
            self._entries[place] = entry
            self.left -= entry.size

    def item(self, name: str) -> Item:
        entries = tuple(self._entries[place] for place in sorted(self._entries))
        return Item(pack_record(name), self._size, entries, self._carried, name)


def _sent_slice(entry: Entry) -> Sent:
    assert entry.digest is not None
    return Sent(entry.digest, entry.size, Place(entry.pack, entry.pack_offset))
