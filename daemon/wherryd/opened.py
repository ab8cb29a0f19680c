"""The stores that are open, one of each address, shared by all stages.

Owns: opening at the first use, closing at the end; the doubts about each, and what is put there, which the
stages share; by what writes that depend on what is there are made: those of a single writer by more than
conditions. Does not own: how a store is opened (``stores.opening``), whether it is the one that counts
(``transfer.contact``, ``commit``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

import anyio

from wherry.wire.address import has_single_writer
from wherryd.clock import Clock
from wherryd.doubts import Doubts
from wherryd.log import get_logger
from wherryd.registry.base import Registry, Writer
from wherryd.registry.objects import ObjectRegistry
from wherryd.registry.puts import Puts
from wherryd.registry.records import FORMAT
from wherryd.registry.sole import SoleWriter
from wherryd.stores.base import ObjectStore
from wherryd.stores.retry import Retried, RetryingStore

OpenStore = Callable[[str], Awaitable[ObjectStore]]

_log = get_logger("stores")


class OpenedStores:
    """Stores by address; cheap when asked again.

    Args:
        open_store: opens the store at an address; raises ``BadURI``, ``NotYet`` or ``StoreError``.
        clock: for the pauses of what is repeated.
        home_id: of this home, by which a single writer is known.
        place: where this home is, for people.
    """

    def __init__(
        self, open_store: OpenStore, clock: Clock, home_id: str = "", place: str = ""
    ) -> None:
        self._open_store = open_store
        self._clock = clock
        self._home_id = home_id
        self._place = place
        self._sole: dict[str, SoleWriter] = {}
        self.doubts = Doubts()
        self._puts: defaultdict[str, Puts] = defaultdict(Puts)
        self._stores: dict[str, ObjectStore] = {}
        self._lock = anyio.Lock()

    @property
    def addresses(self) -> list[str]:
        """Of all that are open."""
        return list(self._stores)

    async def store(self, address: str) -> ObjectStore:
        """The store at an address, as it is: nothing is repeated."""
        if address not in self._stores:
            async with self._lock:
                if address not in self._stores:
                    self._stores[address] = await self._open_store(address)
        return self._stores[address]

    async def registry(self, address: str) -> Registry:
        """The registry of the store at an address; short faults of harmless verbs are passed over."""
        store = RetryingStore(await self.store(address), self._clock, told=_tell)
        sole = await self.sole_writer(address) if has_single_writer(address) else None
        return ObjectRegistry(store, sole, self._puts[address])

    async def sole_writer(self, address: str) -> SoleWriter:
        """What writes the store at an address where this home alone may, and knows whether another does."""
        if address not in self._sole:
            store = await self.store(address)
            me = Writer(FORMAT, self._home_id, address, self._place)
            self._sole.setdefault(address, SoleWriter(store, me, self._clock))
        return self._sole[address]

    async def aclose(self) -> None:
        """Close all."""
        stores, self._stores, self._sole = self._stores, {}, {}
        for store in stores.values():
            await store.aclose()


def _tell(retried: Retried) -> None:
    _log.info("tries again", what=retried.what, error=str(retried.error), pause_s=retried.pause_s)
