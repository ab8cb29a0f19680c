"""What the daemon does now and then, whoever calls.

Owns: when the socket, the settings and the spool's disk are looked at, when sessions are swept, when old
requests are forgotten, when the reserve is made anew, when the daemon is idle. Does not own: doing any of it.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread

from wherry.errors import QueueError, WherryError
from wherryd.capture.freeing import Freer
from wherryd.capture.room import SpoolRoom
from wherryd.capture.sessions import Sweeper
from wherryd.clock import Clock
from wherryd.config import Config
from wherryd.life import Life
from wherryd.log import get_logger
from wherryd.queue.base import Queue
from wherryd.rpc.server import Server

SOCKET_S = 5.0
SWEEP_S = 60.0
FORGET_S = 3600.0
#: Ids of done requests are kept so long (docs/promises.md, promise 3).
KEEP_S = 30 * 86_400.0

_log = get_logger("upkeep")


class Upkeep:
    """The rounds."""

    def __init__(
        self,
        config: Config,
        holds_home: Callable[[], bool],
        queue: Queue,
        sweeper: Sweeper,
        freer: Freer,
        server: Server,
        life: Life,
        clock: Clock,
        renew_reserve: Callable[[], None] = lambda: None,
        look_at_config: Callable[[], None] = lambda: None,
        room: SpoolRoom | None = None,
    ) -> None:
        self._room = room
        self._holds_home = holds_home
        self._idle_s = config.idle_timeout_s
        self._queue = queue
        self._sweeper = sweeper
        self._freer = freer
        self._server = server
        self._life = life
        self._clock = clock
        self._renew_reserve = renew_reserve
        self._look_at_config = look_at_config
        self._due: dict[str, float] = {}
        self._are_sessions_held = False

    async def run(self) -> None:
        """Make rounds until the daemon leaves."""
        pause_s = min(SOCKET_S, self._idle_s / 4) if self._idle_s else SOCKET_S
        while not self._life.is_leaving:
            try:
                await self._round()
            except (QueueError, OSError) as error:
                _log.warning("upkeep is put off", error=str(error))
            await self._clock.sleep(pause_s)

    async def _round(self) -> None:
        if not await anyio.to_thread.run_sync(self._holds_home):
            # A socket made here now could be in the way of another daemon's.
            self._life.leave("its home was removed")
            return
        await self._look_at_socket()
        await anyio.to_thread.run_sync(self._renew_reserve)
        await anyio.to_thread.run_sync(self._look_at_config)
        is_wanted = await self._look_at_room()
        if self._is_due("sweep", SWEEP_S) or is_wanted:
            self._are_sessions_held = await self._sweeper.sweep()
        if self._is_due("forget", FORGET_S):
            await self._queue.forget_ended(self._clock.now() - KEEP_S)
        if await self._is_idle():
            self._life.leave(f"idle for {self._idle_s:.0f} s")

    async def _look_at_socket(self) -> None:
        try:
            await self._server.bind_if_gone()
        except (WherryError, OSError) as error:
            # Who is connected goes on, and the next round tries again.
            _log.warning("the socket is put off", error=str(error))

    async def _look_at_room(self) -> bool:
        """Whether somebody waits for room: what ended programs have left is swept at once then."""
        if self._room is None:
            return False
        await self._room.look()
        return self._room.is_wanted()

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self._clock.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True

    async def _is_idle(self) -> bool:
        """No call for a while, no process that holds a session, and nothing to do that could be done.

        The queue is looked at once more after the sweep, which may take long, and the calls last of all:
        with no call since, nothing can have come into the queue since.
        """
        if not self._idle_s or self._life.quiet_s < self._idle_s or await self._has_work():
            return False
        self._are_sessions_held = await self._sweeper.sweep()
        if self._are_sessions_held or await self._has_work():
            return False
        return self._life.quiet_s >= self._idle_s

    async def _has_work(self) -> bool:
        if await self._queue.unaliased() or await self._freer.has_work():
            return True
        if await self._queue.run_places():
            return True
        stopped = await self._queue.stopped()
        return any(lane not in stopped for lane in await self._queue.lanes())
