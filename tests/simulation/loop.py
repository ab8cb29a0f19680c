"""An event loop whose time is virtual: when nobody can run, the clock jumps to the next timer.

One seed drives everything: latencies, faults, crashes and tokens are drawn from one ``random.Random``
in the order in which the (single-threaded, deterministic) loop asks for them.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

#: 2026-11-23T00:00:00Z, where every history starts.
START = 1_795_392_000.0
#: Timers whose times are nearer to each other than this come at one time.
_RESOLUTION_S = 1e-9


class Deadlock(AssertionError):
    """Nobody can run and no timer is set: something waits for ever."""


class _Call(asyncio.TimerHandle):
    """A call that is to be made, without what asyncio adds for those who debug."""

    __slots__ = ()
    _repr = _source_traceback = None

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: Context | None,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def _run(self) -> None:
        """Nothing is passed over: neither a callback's error nor the end of a test's time."""
        assert self._context is not None
        self._context.run(self._callback, *self._args)


class _Task(asyncio.Task[T]):
    __repr__ = object.__repr__  # anyio asks for it at each cancellation


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs as fast as the processor allows, on a clock of its own. Has no files, threads or signals.

    What asyncio's own loops do for these, and for those who debug, would be a tenth of a history.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[_Call] = deque()
        self._timers: list[_Call] = []  # a heap

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        call = _Call(self._now, callback, args, self, context)
        self._soon.append(call)
        return call

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        call = _Call(when, callback, args, self, context)
        heappush(self._timers, call)
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return _Task(coro, loop=self, name=name, context=context)

    def _run_once(self) -> None:
        """What the base class repeats: let time pass, then make the calls whose time has come."""
        soon, timers = self._soon, self._timers
        while timers and timers[0]._cancelled:
            heappop(timers)
        if not soon and not self._stopping:
            if not timers:
                raise Deadlock("every task waits and no timer is set")
            self._now += max(timers[0]._when - self._now, 0.0)
        while timers and timers[0]._when < self._now + _RESOLUTION_S:
            soon.append(heappop(timers))
        for _ in range(len(soon)):
            call = soon.popleft()
            if not call._cancelled:
                call._run()


class SimClock:
    """``wherryd.clock.Clock`` on the virtual loop. ``skew`` is how wrong this machine's wall clock is."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, skew: float = 0.0) -> None:
        self._loop = loop
        self._chance = chance
        self._skew = skew

    def now(self) -> float:
        return START + self._loop.time() + self._skew

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self) -> float:
        return self._chance.random()

    def token(self) -> str:
        return f"{self._chance.getrandbits(128):032x}"


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end of ``main``, then end what it left running."""
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
