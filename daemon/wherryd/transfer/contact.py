"""First contact with a store, with the intent to write.

Owns: giving a new store its id, probing it once per (address, store id), asking again after 60 s or an
error which store lies at an address, and whether it still does. Does not own: what follows if that is
another one than before (``stage`` and ``commit`` stop the lane).

A kill leaves a store with an id that the queue does not know yet: the next start reads it there, and
probes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from wherry.errors import StoreChanged, StoreUnavailable
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.opened import OpenedStores
from wherryd.queue.base import Queue
from wherryd.registry.base import Registry
from wherryd.stores.base import ObjectStore, WriteConflict

FRESH_S = 60.0

_AFTER_FOUND = failpoint("transfer.contact.after-found")
_AFTER_PROBE = failpoint("transfer.contact.after-probe")

Probe = Callable[[ObjectStore], Awaitable[None]]


class AnotherStore(StoreChanged):
    """At an address lies another store than the one that counts. Users see ``StoreChanged``."""

    def __init__(self, address: str, counting_id: str) -> None:
        super().__init__(
            f"at {address} is not the store {counting_id} that was there before",
            hint="Look whether the right disk or bucket is there. If this one is to count: wherry retry",
        )
        self.counting_id = counting_id


class Contact(msgspec.Struct, frozen=True):
    """A store that may be written to."""

    registry: Registry
    counts: bool  # it is the one that the queue's knowledge is about
    counting_id: str  # the store that counts, when contact was made
    address: str

    def check_counts(self) -> None:
        """Raise ``AnotherStore`` where another store lies there than the one that counts."""
        if not self.counts:
            raise AnotherStore(self.address, self.counting_id)

    async def check_same(self) -> None:
        """Ask the store once more which one it is. Raises ``AnotherStore``, and as ``identify``.

        To be asked after what was put has been synced there (on a folder that fails where it is not
        there): then bytes that went into another store, for a moment, do not count as sent.
        """
        there = await self.registry.identify()
        if there is None or there.store != self.counting_id:
            raise AnotherStore(self.address, self.counting_id)


class Contacts:
    """The stores that this daemon writes to, by address.

    Args:
        probe: raises ``StoreUnfit`` where a store does not do what a store must.
    """

    def __init__(self, stores: OpenedStores, probe: Probe, queue: Queue, clock: Clock) -> None:
        self._stores = stores
        self._probe = probe
        self._queue = queue
        self._clock = clock
        self._made_at: dict[str, tuple[float, int]] = {}  # and how often doubted before
        self._contacts: dict[str, Contact] = {}
        self._unlisted: set[tuple[str, str]] = set()  # probed, and not the ones that count
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def for_writing(self, address: str) -> Contact:
        """Return the store at an address, known to be fit for writing.

        Raises ``StoreError`` (``StoreUnfit`` among them); ``BadURI`` or ``NotYet`` where the address can
        never be opened.
        """
        async with self._locks[address]:
            doubts = self._stores.doubts.of(address)
            if not self._is_fresh(address, doubts):
                self._contacts[address] = await self._make(address)
                self._made_at[address] = self._clock.monotonic(), doubts
            return self._contacts[address]

    def _is_fresh(self, address: str, doubts: int) -> bool:
        made_at, known_doubts = self._made_at.get(address, (-FRESH_S, 0))
        return self._clock.monotonic() - made_at < FRESH_S and doubts == known_doubts

    def broken(self, address: str) -> None:
        """Ask the store anew before its next use: something went wrong with it; the commit asks too."""
        self._stores.doubts.note(address)

    async def _make(self, address: str) -> Contact:
        registry = await self._stores.registry(address)
        known_id = await self._queue.store_id(address)
        store_id = await self._identify(registry, known_id)
        counts = store_id == known_id or not known_id
        if not counts:
            self._stores.doubts.note(address)  # the commit stops the lanes when it has asked itself
        if counts:
            await self._probe_once(address, store_id)
        elif (address, store_id) not in self._unlisted:
            await self._probe(await self._stores.store(address))
            self._unlisted.add((address, store_id))
        return Contact(registry, counts, store_id if counts else known_id, address)

    async def _identify(self, registry: Registry, known_id: str) -> str:
        identity = await registry.identify()
        if identity is not None:
            return identity.store
        if known_id:
            return ""  # emptied: the user decides whether a new store begins here
        try:
            founded = await registry.found(self._clock.token())
        except WriteConflict as exc:
            raise StoreUnavailable("another writer is founding the store at this moment") from exc
        _AFTER_FOUND()
        return founded.store

    async def _probe_once(self, address: str, store_id: str) -> None:
        if await self._queue.store_id(address) and await self._queue.probed(address):
            return
        await self._probe(await self._stores.store(address))
        _AFTER_PROBE()
        await self._queue.set_store_id(address, store_id, probed=True)
