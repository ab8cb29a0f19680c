"""One history: a seed makes homes, processes, users, faults and crashes, lets them run, and judges."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine
from functools import partial
from typing import Any

from tests.simulation import disks, incrementing
from tests.simulation.contents import ENTRY_BYTES, content_of, entry_of, is_bad
from tests.simulation.daemon import Home
from tests.simulation.drafting import Drafting
from tests.simulation.incrementing import Incrementing
from tests.simulation.judging import judge
from tests.simulation.loop import VirtualLoop, run_virtual
from tests.simulation.plan import Plan, random_plan
from tests.simulation.promises import Broken, Logged, Promises
from tests.simulation.store import SimStore, World
from tests.simulation.upheaval import Upheavals
from tests.simulation.users import Users
from wherry.errors import TypeTaken
from wherryd.model import Lane, RunInfo
from wherryd.queue.base import Accepted, NewRequest
from wherryd.queue.sqlite import SqliteQueue

#: Virtual seconds after which everything must have come to rest.
REST_S = 3600.0
_UNFINISHED = """
    SELECT id, state, error, reason FROM requests WHERE state NOT IN ('done', 'failed', 'cancelled')
"""


class History:
    """All that happens under one seed."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.chance = random.Random(seed)
        self.plan = plan = plan or random_plan(self.chance)
        self.loop = VirtualLoop()
        self.world = World(self.loop, self.chance, plan.faults)
        self.promises = Promises(self.world)
        self.world.watchers.append(self.promises.watch)
        self.homes = [self._new_home(f"home{n}") for n in range(plan.homes)]
        self.lanes = [Lane(SimStore.address, "p", f"a{n}") for n in range(plan.lanes)]
        everything = self.world, plan, self.homes, self.lanes, self.promises
        self.users = Users(*everything)
        self.drafting = Drafting(*everything)
        self.incrementing = Incrementing(*everything)
        lanes = [*self.lanes, incrementing.LANE] if plan.incrementers else self.lanes
        self.upheavals = Upheavals(
            self.world, plan, self.homes, lanes, self.promises, self._log_good
        )
        self._logged = 0
        self._running: list[asyncio.Task[None]] = []

    def run(self) -> None:
        """Let everything happen, then judge. Raises ``Broken``."""
        run_virtual(self._main(), self.loop)
        for home in self.homes:
            disks.give_back(home.connection)

    def _new_home(self, name: str) -> Home:
        home = Home(name, self.world, self.chance)
        home.lives_left = self.plan.lives
        home.slow_queue_s, home.big = self.plan.slow_queue_s, self.plan.big
        self.promises.rows[name] = home.connection
        return home

    async def _main(self) -> None:
        for home in self.homes:
            self._run(home.keep_running())
        if self.plan.changes or self.plan.moments:
            self._run(self.upheavals.look_after())
        actors = [self.loop.create_task(actor) for actor in self._actors()]
        try:
            async with asyncio.timeout(REST_S):
                await asyncio.gather(*actors)
                await self._come_to_rest()
                # Here, where a daemon that dies of being asked is followed by another.
                found = {home.name: await home.requests() for home in self.homes}
        except TimeoutError:
            self._judge_crashes()
            for broken in self.promises.broken:
                raise broken from None
            raise Broken(f"not at rest after {REST_S} s: {self._unfinished()}") from None
        finally:
            ended = [task for task in self._running if task.done()]
            for task in self._running + actors:
                task.cancel()
            for task in ended:
                task.result()
        self._judge_crashes()
        self.incrementing.judge(found)
        judge(self.promises, found, self.drafting)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._running.append(self.loop.create_task(work))

    def _judge_crashes(self) -> None:
        for home in self.homes:
            for error in home.crashed_stages:
                raise Broken(f"a stage of {home.name} crashed: {error!r}") from error

    def _actors(self) -> list[Coroutine[Any, Any, None]]:
        plan = self.plan
        processes = [self._process(home) for home in self.homes for _ in range(plan.processes)]
        copiers = [self._copier() for _ in range(plan.copies)]
        is_calm = not (plan.changes or plan.moments or plan.removals)
        upheavals = [] if is_calm else [self.upheavals.happen()]
        return [
            *processes,
            *self.users.actors(),
            *copiers,
            *upheavals,
            *self.drafting.actors(),
            *self.incrementing.actors(),
        ]

    # ── homes that are copied ──────────────────────────────────────────────────────────────────
    async def _copier(self) -> None:
        """A home's database is copied, and a second machine goes on from there."""
        await asyncio.sleep(self.chance.random() * self.plan.spread_s * self.plan.logs)
        copy = self._new_home(f"copy{len(self.homes)}")
        self.homes[0].connection.backup(copy.connection)
        self.homes.append(copy)
        self._run(copy.keep_running())
        await self._process(copy)

    # ── processes ──────────────────────────────────────────────────────────────────────────────
    async def _process(self, home: Home) -> None:
        for _ in range(self.plan.logs):
            await asyncio.sleep(self.chance.random() * self.plan.spread_s)
            is_offline = self.chance.random() < self.plan.offline
            bad = self.chance.random() < self.plan.bad
            await self._log(home, self.chance.choice(self.lanes), is_bad=bad, is_offline=is_offline)

    async def _log_good(self, home: Home, lane: Lane) -> None:
        await self._log(home, lane, is_bad=False, is_offline=False)

    async def _log(self, home: Home, lane: Lane, *, is_bad: bool, is_offline: bool) -> None:
        request = self._new_request(lane, is_bad=is_bad, is_offline=is_offline)
        log = _log_of(request, home, self.world.now())
        self.promises.logged[request.id] = log
        try:
            await home.ask(partial(_accept, request))
        except TypeTaken:
            del self.promises.logged[request.id]
            self.promises.watch_refused(log)
            return
        log.is_durable = True
        log.held_returned = self.world.now()
        if not is_offline:
            log.called, log.returned = log.held_called, log.held_returned

    def _new_request(self, lane: Lane, *, is_bad: bool, is_offline: bool) -> NewRequest:
        self._logged += 1
        metadata = {"bad": True} if is_bad else {"x": self.chance.randrange(self.plan.contents)}
        given = [alias for alias in self.plan.aliases if self.chance.random() < 0.5]
        return NewRequest(
            id=f"r{self._logged}",
            body=str(self._logged).encode(),
            lane=lane,
            type=self.chance.choice((self.plan.types[0], *self.plan.types)),
            description=None,
            metadata=json.dumps(metadata, separators=(",", ":")),
            aliases=given,
            tags=[],
            inputs=[],
            run=RunInfo("run"),
            client="simulation",
            folder="",
            entries=1,
            size=ENTRY_BYTES,
            offline=is_offline,
        )

    # ── the end ────────────────────────────────────────────────────────────────────────────────
    def _heal(self) -> None:
        self.plan.faults.__init__()  # type: ignore[misc] # every rate back to nothing
        for home in self.homes:
            home.lives_left = 0
            home.slow_queue_s = 0.0
            if home.daemon:
                home.daemon.kill()

    async def _come_to_rest(self) -> None:
        self._heal()
        for home in self.homes:
            await self.users.sync(home)
        await self.drafting.finish_all()
        while self._unfinished():
            await asyncio.sleep(5)
        await asyncio.sleep(2 * 20.0)

    def _unfinished(self) -> list[str]:
        return [
            f"{home.name} {id_} {state} {error} {reason}"
            for home in self.homes
            for id_, state, error, reason in home.connection.execute(_UNFINISHED)
        ]


def _log_of(request: NewRequest, home: Home, now: float) -> Logged:
    return Logged(
        home=home.name,
        lane=f"{request.lane.project}/artifacts/{request.lane.name}",
        id=request.id,
        type=request.type,
        content=content_of(request.type, request.metadata),
        aliases=tuple(request.aliases),
        is_bad=is_bad(request.metadata),
        is_offline=request.offline,
        held_called=now,
        called=None if request.offline else now,
    )


async def _accept(request: NewRequest, queue: SqliteQueue) -> Accepted:
    row = queue.new_row()
    await queue.stage(row, [entry_of(content_of(request.type, request.metadata))])
    return await queue.accept(row, request)


def run_history(seed: int, plan: Plan | None = None) -> None:
    """Run one history; whatever goes wrong is raised with its seed."""
    history = History(seed, plan)
    planned = str(history.plan)  # the faults are healed at the end
    try:
        history.run()
    except Broken as broken:
        raise Broken(f"seed {seed}: {broken}\n{planned}") from broken.__cause__
    except BaseException as error:
        error.add_note(f"seed {seed}: {planned}")
        raise
