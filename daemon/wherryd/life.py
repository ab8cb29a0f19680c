"""A daemon's life: who is using it, and whether it is leaving. Ground floor: no I/O.

Owns: calls under way, when the last one ended, the wish to leave. Does not own: what leaving takes
(``app``), or whether there is work (``queue``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from wherry.errors import DaemonLeaving
from wherryd.clock import Clock
from wherryd.news import News

#: Topic of the news that the daemon begins to leave.
LEAVING = "leaving"
#: So many requests within so many seconds: other work stands back a little.
_PRESSURE, _PRESSURE_S = 4, 0.1
_PRESSED_S = 0.1
#: So many: what the machine can do is theirs, until this has lasted so long. A queue must not only grow.
_CROWD = 10
_CROWDED_S = 1.0
_LONGEST_CROWD_S = 10.0
#: Whoever logs again within this time most likely logs in a loop.
_FOLLOWS_S = 0.05


class Life:
    """From the first call to the last."""

    def __init__(self, clock: Clock, news: News) -> None:
        self._clock = clock
        self._news = news
        self._calls = 0
        self._requests = deque([float("-inf")] * _CROWD, maxlen=_CROWD)
        self._crowded_since = float("-inf")
        self._last_call = clock.monotonic()
        self._leaving = anyio.Event()
        self._call_ended = anyio.Event()
        self.started = clock.now()
        self.why = ""

    def begin(self) -> None:
        """Count the quiet from now on: nobody could call before."""
        self._last_call = self._clock.monotonic()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call while it is under way."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._last_call = self._clock.monotonic()
            self._call_ended.set()

    def note_request(self) -> None:
        """Count a request that is coming in."""
        now = self._clock.monotonic()
        if now - self._requests[-1] >= _PRESSURE_S:
            self._crowded_since = now
        self._requests.append(now)

    @property
    def stand_back_s(self) -> float:
        """How long other work should stand back for requests that come in: training waits for those."""
        now = self._clock.monotonic()
        if now - self._requests[-_PRESSURE] >= _PRESSURE_S:
            return 0.0
        is_crowded = now - self._requests[0] < _PRESSURE_S
        return (
            _CROWDED_S
            if is_crowded and now - self._crowded_since < _LONGEST_CROWD_S
            else _PRESSED_S
        )

    @property
    def is_receiving(self) -> bool:
        """Whether a request came in just now, and the next one may follow at once."""
        return self._clock.monotonic() - self._requests[-1] < _FOLLOWS_S

    @property
    def quiet_s(self) -> float:
        """Seconds since the last call ended; 0 while one is under way."""
        return 0.0 if self._calls else self._clock.monotonic() - self._last_call

    @property
    def is_leaving(self) -> bool:
        """Whether no new request is taken."""
        return self._leaving.is_set()

    def leave(self, why: str) -> None:
        """Take no new request, let running steps end, and end."""
        if not self.is_leaving:
            self.why = why
            self._leaving.set()
            self._news.tell(LEAVING)

    async def wait_leaving(self) -> None:
        """Return when the daemon begins to leave."""
        await self._leaving.wait()

    async def wait_no_call(self) -> None:
        """Return when no call is under way."""
        while self._calls:
            self._call_ended = anyio.Event()
            await self._call_ended.wait()

    def check_staying(self) -> None:
        """Raise ``DaemonLeaving`` where a new request can't be taken."""
        if self.is_leaving:
            raise DaemonLeaving(
                f"the daemon is about to end ({self.why})", hint="Call again: the next one answers."
            )
