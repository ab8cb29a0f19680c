"""What users do beside logging: cancel, retry, sync, link, move aliases, delete versions, read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tests.simulation.daemon import Home
from tests.simulation.loop import SimClock
from tests.simulation.plan import Plan
from tests.simulation.promises import Broken, Logged, Moved, Promises
from tests.simulation.store import SimStore, World
from wherry.errors import NotFoundError, StoreError, StoreUnavailable
from wherryd.commit.editing import Editor
from wherryd.model import Lane, RunInfo, State
from wherryd.queue.base import Filter, WrongState
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import EtagMismatch, WriteConflict


class Users:
    """All users of one history."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        homes: Sequence[Home],
        lanes: Sequence[Lane],
        promises: Promises,
    ) -> None:
        self._world = world
        self._plan = plan
        self._homes = homes
        self._lanes = lanes
        self._promises = promises
        self._chance: random.Random = world.chance
        self._syncs = 0
        self._retrying = {home.name: asyncio.Lock() for home in homes}

    def actors(self) -> list[Coroutine[Any, Any, None]]:
        """One coroutine for each user; each ends by itself."""
        plan = self._plan
        return [
            *(self._mover(f"user{n}") for n in range(plan.movers if plan.moves else 0)),
            *(self._canceller() for _ in range(plan.cancels)),
            *(self._retrier(home) for home in self._homes for _ in range(plan.retries)),
            *(self._syncer(home) for home in self._homes if plan.offline),
            *(self._linker() for _ in range(plan.links)),
            *(self._deleter() for _ in range(plan.deletes)),
            self._reader(),
        ]

    async def _some_time(self) -> None:
        await asyncio.sleep(self._chance.random() * self._plan.spread_s * self._plan.logs)

    def _some_log(self) -> tuple[Logged, Home] | None:
        durable = [log for log in self._promises.logged.values() if log.is_durable]
        if not durable:
            return None
        log = self._chance.choice(durable)
        return log, next(home for home in self._homes if home.name == log.home)

    # ── with the queue ─────────────────────────────────────────────────────────────────────────
    async def _canceller(self) -> None:
        await self._some_time()
        if chosen := self._some_log():
            log, home = chosen
            was_cancelled = await home.ask(partial(cancel, log.id))
            log.cancelled = log.cancelled or was_cancelled

    async def _retrier(self, home: Home) -> None:
        """Mend what is wrong with a request that failed, and let it go once more."""
        await self._some_time()
        async with self._retrying[home.name]:
            await self._retry_failures(home)

    async def _retry_failures(self, home: Home) -> None:
        for request in await home.requests(State.FAILED):
            log = self._promises.logged.get(request.id)
            if log is None:
                continue
            home.mended.add(request.id)
            log.is_bad = False
            log.called, log.returned, log.sync = self._world.now(), None, None
            await home.ask(partial(_retry, request.row))
            log.returned = self._world.now()

    async def _syncer(self, home: Home) -> None:
        await self._some_time()
        await self.sync(home)

    async def sync(self, home: Home) -> None:
        """Let go what was logged offline."""
        held = await home.requests(State.HELD)
        if not held:
            return
        self._syncs += 1
        logs = [self._promises.logged.get(each.id) for each in held]
        mine = [log for log in logs if log and log.home == home.name and log.called is None]
        for log in mine:
            log.called, log.sync = self._world.now(), self._syncs
        rows = [each.row for each in held]
        await home.ask(lambda queue: queue.sync(rows))
        for log in mine:
            log.returned = self._world.now()

    async def _linker(self) -> None:
        """A second run logs the same Artifact, under a name of its own."""
        await self._some_time()
        if chosen := self._some_log():
            log, home = chosen
            aliases = [alias for alias in self._plan.aliases if self._chance.random() < 0.7]
            await home.ask(lambda queue: queue.link(log.id, RunInfo("another"), aliases))

    # ── with the store ─────────────────────────────────────────────────────────────────────────
    async def _mover(self, user: str) -> None:
        clock = SimClock(self._world.loop, self._chance)
        for time in range(self._plan.moves):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s)
            lane = self._lanes[0]
            folder = f"{lane.project}/artifacts/{lane.name}"
            lives = self._promises.lives[folder]
            if not lives or not self._plan.aliases:
                continue
            alias = self._plan.aliases[0]
            version = self._chance.choice((None, *range(min(len(lives), 2))))
            who = f"{user}.{time}"  # one name a move, so that a late write is known for whose it is
            move = Moved(who, folder, alias, len(lives) - 1, self._world.now())
            self._promises.moves.append(move)
            editor = Editor(lane, self._registry(who), clock)
            await self._insist(partial(editor.move, alias, version))
            move.end = self._world.now()

    async def _deleter(self) -> None:
        clock = SimClock(self._world.loop, self._chance)
        await self._some_time()
        lane = self._lanes[0]
        lives = self._promises.lives[f"{lane.project}/artifacts/{lane.name}"]
        if lives:
            number = self._chance.choice((len(lives) - 1, self._chance.randrange(len(lives))))
            editor = Editor(lane, self._registry("user-deleter"), clock)
            await self._insist(partial(editor.delete, number, with_aliases=True))

    async def _reader(self) -> None:
        """A reader who sees a version can read all that came before it."""
        registry = self._registry("user-reader")
        for _ in range(2 * self._plan.logs):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s)
            for lane in self._lanes:
                with suppress(StoreUnavailable):
                    await self._read_all(registry, lane)

    async def _read_all(self, registry: ObjectRegistry, lane: Lane) -> None:
        changes = self._world.changes
        numbers = [one.version for one in await registry.list_versions(lane.project, lane.name)]
        if numbers != list(range(len(numbers))):
            self._promises.broken.append(Broken(f"a reader of {lane.name} saw {numbers}"))
        for number in numbers:
            found = await registry.read_version(lane.project, lane.name, number)
            if self._world.changes != changes:
                return  # the store that was listed is not there any more
            if found is None:
                self._promises.broken.append(Broken(f"a reader saw v{number} and can't read it"))

    def _registry(self, user: str) -> ObjectRegistry:
        return ObjectRegistry(SimStore(self._world, user, lambda: None))

    async def _insist(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
                return
            except NotFoundError:  # the store was emptied meanwhile: there is nothing to be done
                return
            except (StoreError, EtagMismatch, WriteConflict):
                await asyncio.sleep(self._chance.random())


async def cancel(request_id: str, queue: SqliteQueue) -> bool:
    """Cancel a request; whether it is cancelled, by this or by a call whose answer was lost."""
    found = await queue.find(Filter(states=tuple(State), ids=(request_id,)))
    try:
        await queue.cancel(found[0].row)
    except WrongState:
        return found[0].state is State.CANCELLED
    return True


async def _retry(row: int, queue: SqliteQueue) -> None:
    with suppress(WrongState):  # done, by a daemon that died before it could say so
        await queue.retry(row)
