"""What each set of credentials leads to: keys, and the place that they are for.

Owns: one way for each set, for as long as the set is the same; finding its place anew when that did not do.
Does not own: which set is tried when (``stores.credentials``), keys (``identity``), places (``place``).
"""

from __future__ import annotations

import anyio

from wherry.wire.address import StoreAddress
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.stores.credentials import CredentialSet, CredentialSource
from wherryd.stores.s3.identity import Identity
from wherryd.stores.s3.place import Place, find_place, move

_log = get_logger("stores")


class Way:
    """The way of one set."""

    def __init__(self, address: StoreAddress, credentials: CredentialSet, clock: Clock) -> None:
        self.credentials = credentials
        self.identity = Identity(credentials, clock)
        self._address = address
        self._finding = anyio.Lock()
        self._place: Place | None = None

    async def place(self) -> Place:
        """The place, found when first asked for. Raises ``NoPlace``."""
        if self._place is None:
            async with self._finding:
                if self._place is None:
                    self._place = await find_place(self._address, self.credentials)
        return self._place

    async def move(self, place: Place, region: str) -> Place:
        """Go to the region that the server named. Raises ``NoPlace``."""
        if self._place is None or self._place.region != region:
            _log.info("bucket is in another region", bucket=self._address.bucket, region=region)
        self._place = moved = await move(place, region)
        return moved

    def doubt(self) -> None:
        """Find the place anew when it is needed again: the profile may be another by then."""
        self._place = None


class Ways:
    """The ways to one store."""

    def __init__(self, address: StoreAddress, credentials: CredentialSource, clock: Clock) -> None:
        self._address = address
        self._credentials = credentials
        self._clock = clock
        self._ways: dict[CredentialSet, Way] = {}

    def in_order(self) -> list[Way]:
        """Which to try, best first."""
        ways = [self._way(each) for each in self._credentials.in_order()]
        self._ways = {way.credentials: way for way in ways}
        return ways

    def _way(self, credentials: CredentialSet) -> Way:
        known = self._ways.get(credentials)
        # equal, and another object: handed over anew
        if known is None or known.credentials is not credentials:
            return Way(self._address, credentials, self._clock)
        return known
