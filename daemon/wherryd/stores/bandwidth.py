"""How many bytes a second this daemon sends to servers, over all of its stores.

Owns: who may send next, and when. Does not own: the setting (``config``), which bytes count
(``http.sending``).

Each sender is given a time at which its bytes may leave, one after the other, in the order in which they ask:
so all get the same share, and nobody who sends little waits behind the whole of a big file. What was not used
is not saved up, but for a tenth of a second.
"""

from __future__ import annotations

from wherryd.clock import Clock

_SAVED_S = 0.1
#: Handed to a connection at a time, which holds about as much again; or what takes this long if that is less:
#: servers hang up on connections that stand still.
MOST_BYTES = 64 << 10
_LEAST_BYTES = 4 << 10
_LONGEST_S = 0.1


class Bandwidth:
    """The limit; it may be changed at any time.

    Args:
        rate: bytes a second; None: no limit.
    """

    def __init__(self, clock: Clock, rate: int | None = None) -> None:
        self._clock = clock
        self._free_at = float("-inf")
        self.rate = rate

    @property
    def piece_bytes(self) -> int:
        """How much to ask for at a time."""
        if self.rate is None:
            return MOST_BYTES
        return max(_LEAST_BYTES, min(MOST_BYTES, int(self.rate * _LONGEST_S)))

    async def spend(self, size: int) -> None:
        """Return when so many bytes may leave."""
        if self.rate is None:
            return
        now = self._clock.monotonic()
        begin = max(self._free_at, now - _SAVED_S)
        self._free_at = begin + size / self.rate
        if begin > now:
            await self._clock.sleep(begin - now)
