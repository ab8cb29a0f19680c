"""What this daemon asks of servers at once, and whether it asks them at all.

Owns: for each server, how many requests may be under way, who is next, and leaving alone one that is down but
for one request at a time. Does not own: the requests (``http.transport``), how long each waits that failed
(``retry``, and the stages), how many bodies there are at once over all servers (``transfer.slots``).

The limit grows by one for each round of requests that it held up, as long as they are answered, and falls
where the server says that it is too much, says nothing, or takes ever longer: additive increase,
multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms", 1989).

A server counts as down when some requests in a row, over some seconds, had no answer. Then one is let through
at a time, after growing pauses with full jitter; all others fail at once, without a byte on the network, and
are told when to come back. The first answer ends it, and whoever waits is woken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from wherry.errors import StoreUnavailable
from wherryd.breaker import Breaker
from wherryd.clock import Clock
from wherryd.stores.bandwidth import Bandwidth

#: A limit to begin with.
FIRST = 16
MOST = 64
#: Rising latency alone lets the limit fall no further.
FEW = 4
#: Requests from here on have a line of their own, which moves up at every fourth place.
LARGE_BYTES = 1 << 20
_LARGE_TURN = 4
#: Only what is smaller tells by its time how busy the server is.
_TIMED_BYTES = 64 << 10

_TOO_MUCH = 0.7
_SLOW = 0.9
_SLOWER = 3.0  # times the quickest, and
_SLOWER_S = 0.2  # so much more

#: So many failures in a row, over so many seconds, mean that a server is down.
DOWN_AFTER = 5
DOWN_AFTER_S = 3.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
#: While one request asks whether it is up again, others come back after this.
_ASKED_S = 1.0

_BUSY = (429, 503)
#: What stands before a server says so where nobody is behind it.
_NOBODY = {
    502: "It said 502: nobody is behind it.",
    503: "It said 503: it has too much to do, or nobody is behind it.",
    504: "It said 504: who is behind it does not answer.",
}


class Limit:
    """How many requests may be under way. Pure state."""

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        self._limit = float(min(first, most))
        self._most = float(most)
        self._fell_at = float("-inf")
        self._quickest_s = float("inf")
        self._usual_s = 0.0

    @property
    def now(self) -> int:
        """The limit, at least 1."""
        return max(1, int(self._limit))

    def answered(self, began: float, at: float, *, is_full: bool, is_small: bool) -> None:
        """A request was answered.

        Args:
            began: when it was sent, by the monotonic clock.
            at: now, likewise.
            is_full: whether others wait for a place, or all were taken.
            is_small: whether its time says something about the server, and not about its bytes.
        """
        if is_small and self._is_slow(at - began):
            if is_full and self._limit > FEW:
                self._fall(began, at, _SLOW, FEW)
            return
        if is_full:
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def too_much(self, began: float, at: float) -> None:
        """The server said that it is too much, or said nothing."""
        self._fall(began, at, _TOO_MUCH, 1)

    def _fall(self, began: float, at: float, factor: float, least: float) -> None:
        """Once for all that was under way together."""
        if began > self._fell_at:
            self._fell_at = at
            self._limit = max(least, self._limit * factor)

    def _is_slow(self, took_s: float) -> bool:
        # The quickest is forgotten slowly: the way to a server may become longer.
        self._quickest_s = min(took_s, self._quickest_s * 1.001)
        self._usual_s += (took_s - self._usual_s) / 8 if self._usual_s else took_s
        return self._usual_s > _SLOWER * self._quickest_s + _SLOWER_S


class Fuse:
    """Whether a server is left alone. Pure state but for the clock."""

    def __init__(self, server: str, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._breaker = Breaker(clock, FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._failures = 0  # in a row
        self._since = 0.0  # the first of them
        self._said = ""

    @property
    def is_down(self) -> bool:
        """Whether it is."""
        return self._breaker.is_open

    def check(self) -> None:
        """Raise ``StoreUnavailable`` where no request is let through just now."""
        if self._breaker.keeps_away:
            raise self._refusal(_ASKED_S if self._breaker.is_probed else self._breaker.left_s)

    def let_through(self) -> bool:
        """Check, and take what is let through; True: it is the one that asks."""
        self.check()
        return self._breaker.go()

    def failed(self, said: str, *, is_probe: bool) -> None:
        """A request had no answer."""
        now = self._clock.monotonic()
        if not self._failures:
            self._since = now
        self._failures += 1
        self._said = said
        if is_probe or (self._failures >= DOWN_AFTER and now - self._since >= DOWN_AFTER_S):
            self._breaker.trip(is_probe=is_probe)

    def answered(self) -> bool:
        """A request was answered; True: that was news."""
        self._failures = 0
        return self._breaker.reset()

    def has_asked(self) -> None:
        """The request that was let through is over."""
        self._breaker.probed()

    def try_now(self) -> None:
        """Let the next request through."""
        self._breaker.end_pause()

    def _refusal(self, left_s: float) -> StoreUnavailable:
        lasted_s = self._clock.monotonic() - self._since
        refusal = StoreUnavailable(
            f"{self._server} is down: {self._failures} requests in a row came to nothing, the first"
            f" {lasted_s:.0f} s ago. It gets one at a time until it answers one. {self._said}"
        )
        refusal.retry_after_s = left_s
        return refusal


class Asked:
    """One request under way, at whose end one of ``answered``, ``failed`` and ``dropped`` is called, once."""

    def __init__(self, host: Host, size: int, *, is_probe: bool) -> None:
        self._host = host
        self._size = size
        self._is_probe = is_probe
        self.began = host.clock.monotonic()

    def answered(self, status: int) -> None:
        """The server has answered."""
        host, now = self._host, self._host.clock.monotonic()
        is_full = host.is_full
        if status in _BUSY:
            host.limit.too_much(self.began, now)
        elif status < 500:
            is_small = self._size <= _TIMED_BYTES
            host.limit.answered(self.began, now, is_full=is_full, is_small=is_small)
        self._end()
        if status in _NOBODY:
            host.fuse.failed(_NOBODY[status], is_probe=self._is_probe)
        elif host.fuse.answered():
            host.recovered()

    def too_much(self) -> None:
        """What came after the answer's head says that it is too much."""
        self._host.limit.too_much(self.began, self._host.clock.monotonic())

    def failed(self, said: str) -> None:
        """No answer came."""
        self._host.limit.too_much(self.began, self._host.clock.monotonic())
        self._end()
        self._host.fuse.failed(said, is_probe=self._is_probe)

    def dropped(self) -> None:
        """It was ended from this side, which says nothing of the server."""
        self._end()

    def _end(self) -> None:
        if self._is_probe:
            self._host.fuse.has_asked()
        self._host.give_back()


class Host:
    """One server.

    Args:
        recovered: called when it answers again after it was down.
    """

    def __init__(self, server: str, clock: Clock, most: int, recovered: Callable[[], None]) -> None:
        self.clock = clock
        self.limit = Limit(most=most)
        self.fuse = Fuse(server, clock)
        self.recovered = recovered
        self._under_way = 0
        self._small: deque[anyio.Event] = deque()
        self._large: deque[anyio.Event] = deque()
        self._turn = 0

    @property
    def is_full(self) -> bool:
        """Whether another request would have to wait."""
        return self._under_way >= self.limit.now

    async def ask(self, size: int) -> Asked:
        """Wait for a place; then send, and say how it ended.

        Args:
            size: of the body, in bytes.

        Raises ``StoreUnavailable``, with ``retry_after_s``, where the server is down.
        """
        self.fuse.check()
        await self._take(size)
        try:
            is_probe = self.fuse.let_through()
        except BaseException:
            self.give_back()
            raise
        return Asked(self, size, is_probe=is_probe)

    def give_back(self) -> None:
        """A request has ended."""
        self._under_way -= 1
        self._let_in()

    async def _take(self, size: int) -> None:
        if not self.is_full and not self._small and not self._large:
            self._under_way += 1
            return
        line = self._large if size >= LARGE_BYTES else self._small
        place = anyio.Event()
        line.append(place)
        try:
            await place.wait()
        except BaseException:
            if place.is_set():
                self.give_back()
            else:
                line.remove(place)
            raise

    def _let_in(self) -> None:
        while not self.is_full and (self._small or self._large):
            self._turn += 1
            is_larges = bool(self._large) and (not self._small or self._turn % _LARGE_TURN == 0)
            self._under_way += 1
            (self._large if is_larges else self._small).popleft().set()


class Traffic:
    """All servers, and the bandwidth that they share.

    Args:
        bandwidth: None: no limit.
        most: requests that may be under way to one server.
    """

    def __init__(self, clock: Clock, bandwidth: Bandwidth | None = None, most: int = MOST) -> None:
        self.bandwidth = bandwidth or Bandwidth(clock)
        self.on_recovery: Callable[[], None] = lambda: None
        """Called when a server that was down has answered."""
        self._clock = clock
        self._most = most
        self._hosts: dict[str, Host] = {}

    def host(self, server: str) -> Host:
        """The server at ``https://name:port``."""
        if server not in self._hosts:
            self._hosts[server] = Host(server, self._clock, self._most, self._recovered)
        return self._hosts[server]

    def try_now(self) -> None:
        """Ask again what is down: the user said so, or brought new credentials."""
        for host in self._hosts.values():
            host.fuse.try_now()

    def _recovered(self) -> None:
        self.on_recovery()
