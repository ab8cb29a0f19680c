"""Contact with a store, with the intent to write.

Owns: probing a store once per (address, store id); where it does not pass, making this home the one that
writes it, if the user promised that; giving a new store its id; asking again after 10 s or an error whether
it is still the one that is known, and nobody else's, and whether all went well since some moment. Does not
own: what follows if it is another (``stage`` stops the lane), or the proof that bytes are in it (``blobs``).

A kill leaves a store with an id, or a writer, that the queue does not know yet: the next start reads it
there, and probes again, unless the writer is this home.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from wherry.errors import StoreUnavailable
from wherry.wire.address import has_single_writer
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.opened import OpenedStores
from wherryd.queue.base import Queue
from wherryd.registry.base import Identity, Registry
from wherryd.registry.identity import Exchanged
from wherryd.stores.base import ObjectStore, WriteConflict
from wherryd.stores.probe import Unconditional

#: The contract asks for 60 s at most; less is less to send again where a store was exchanged.
FRESH_S = 10.0

_AFTER_FOUND = failpoint("transfer.contact.after-found")
_AFTER_PROBE = failpoint("transfer.contact.after-probe")

Probe = Callable[[ObjectStore], Awaitable[None]]


class Contact(msgspec.Struct, frozen=True):
    """A store that may be written to: the one that the queue's knowledge is about."""

    address: str
    registry: Registry
    store_id: str


class Moment(msgspec.Struct, frozen=True):
    """A point in an address's history."""

    troubles: int
    at: float  # monotonic clock


class Contacts:
    """The stores that this daemon writes to, by address.

    Args:
        probe: raises ``StoreUnfit`` where a store does not do what a store must; ``Unconditional`` where a
            single writer can do without.
    """

    def __init__(self, stores: OpenedStores, probe: Probe, queue: Queue, clock: Clock) -> None:
        self._stores = stores
        self._probe = probe
        self._queue = queue
        self._clock = clock
        self._made: dict[str, Moment] = {}
        self._contacts: dict[str, Contact] = {}
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def for_writing(self, address: str) -> Contact:
        """Return the store at an address, known to be fit for writing.

        Raises ``Exchanged`` where another lies there than is known; other ``StoreError`` (``StoreUnfit`` and
        ``StoreTaken`` among them); ``BadURI`` or ``NotYet`` where the address can never be opened.
        """
        if self._is_made(address):
            return self._contacts[address]
        async with self._locks[address]:
            if not self._is_made(address):
                before = self.moment(address)
                self._contacts[address] = await self._make(address)
                self._made[address] = msgspec.structs.replace(before, at=self._clock.monotonic())
            return self._contacts[address]

    def _is_made(self, address: str) -> bool:
        made = self._made.get(address)
        return made is not None and self.is_unbroken(address, made)

    def broken(self, address: str) -> None:
        """Ask the store anew before its next use: something went wrong with it; the commit asks too."""
        self._stores.doubts.note(address)

    def moment(self, address: str) -> Moment:
        """Now; to be asked ``is_unbroken`` about."""
        return Moment(self._stores.doubts.of(address), self._clock.monotonic())

    def is_unbroken(self, address: str, since: Moment) -> bool:
        """Whether nothing went wrong with the store since, and that was only a moment ago."""
        now = self.moment(address)
        return now.troubles == since.troubles and now.at - since.at < FRESH_S

    async def _make(self, address: str) -> Contact:
        registry = await self._stores.registry(address)
        known = await self._queue.store_id(address)
        there = await registry.identify()
        if known and (there is None or there.store != known):
            raise Exchanged(address, there, known)
        is_probed = await self._probe_once(address, bool(known))
        there = there or await self._found(registry)
        if not known or is_probed != await self._queue.probed(address):
            await self._queue.set_store_id(address, there.store, probed=is_probed)
        return Contact(address, registry, there.store)

    async def _found(self, registry: Registry) -> Identity:
        try:
            founded = await registry.found(self._clock.token())
        except WriteConflict as exc:
            raise StoreUnavailable("another writer is founding the store at this moment") from exc
        _AFTER_FOUND()
        return founded

    async def _probe_once(self, address: str, is_known: bool) -> bool:
        """Whether the store passes the probe; else this home is the one that writes there."""
        may_be_alone = has_single_writer(address)
        is_probed = is_known and await self._queue.probed(address)
        if is_probed and not may_be_alone:
            return True
        sole = await self._stores.sole_writer(address)
        if await sole.is_claimed():
            return False
        if not is_probed:
            try:
                await self._probe(await self._stores.store(address))
            except Unconditional:
                if not may_be_alone:
                    raise
                await sole.claim()
                return False
            _AFTER_PROBE()
        return True
