"""The stores that are open, one of each address, shared by all stages.

Owns: opening at the first use, closing at the end; the doubts about each, which the stages share.
Does not own: how a store is opened (``stores.opening``), whether it is the one that counts
(``transfer.contact``, ``commit``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from wherryd.clock import Clock
from wherryd.doubts import Doubts
from wherryd.log import get_logger
from wherryd.registry.base import Registry
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import ObjectStore
from wherryd.stores.retry import Retried, RetryingStore

OpenStore = Callable[[str], Awaitable[ObjectStore]]

_log = get_logger("stores")


class OpenedStores:
    """Stores by address; cheap when asked again.

    Args:
        open_store: opens the store at an address; raises ``BadURI``, ``NotYet`` or ``StoreError``.
        clock: for the pauses of what is repeated.
    """

    def __init__(self, open_store: OpenStore, clock: Clock) -> None:
        self._open_store = open_store
        self._clock = clock
        self.doubts = Doubts()
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
        return ObjectRegistry(RetryingStore(await self.store(address), self._clock, told=_tell))

    async def aclose(self) -> None:
        """Close all."""
        stores, self._stores = self._stores, {}
        for store in stores.values():
            await store.aclose()


def _tell(retried: Retried) -> None:
    _log.info("tries again", what=retried.what, error=str(retried.error), pause_s=retried.pause_s)
