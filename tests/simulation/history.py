"""One history: a seed makes homes, processes, users, faults and crashes, lets them run, and judges."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.simulation.daemon import Home, content_of
from tests.simulation.loop import SimClock, VirtualLoop, run_virtual
from tests.simulation.promises import Broken, Logged, Moved, Promises
from tests.simulation.store import Faults, SimStore, World
from wherry.errors import StoreError, StoreUnavailable
from wherryd.commit.naming import Namer
from wherryd.commit.pauses import Nudge, Pauses
from wherryd.model import Lane, RunInfo, State, Tombstone
from wherryd.queue.base import Accepted, Filter, Known, NewRequest, WrongState
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import EtagMismatch, WriteConflict

#: Virtual seconds after which everything must have come to rest.
REST_S = 3600.0


@dataclass
class Plan:
    """What a history is made of."""

    homes: int = 2
    lanes: int = 1
    processes: int = 2
    logs: int = 3
    contents: int = 3
    lives: int = 2
    aliases: tuple[str, ...] = ()
    bad: float = 0.05
    cancels: int = 1
    moves: int = 0
    movers: int = 1
    deletes: int = 0
    restore: bool = False
    spread_s: float = 3.0
    faults: Faults = field(default_factory=Faults)


def random_plan(chance: random.Random) -> Plan:
    """Choose how much of everything a history has."""

    def rate(most: float) -> float:
        return chance.choice((0.0, 0.0, chance.random() * most))

    aliases = chance.choice(((), ("best",), ("best", "prod")))
    return Plan(
        homes=chance.choice((1, 2, 2, 3)),
        lanes=chance.choice((1, 1, 2)),
        processes=chance.choice((1, 2)),
        logs=chance.randint(1, 4),
        contents=chance.choice((1, 2, 3, 100)),
        lives=chance.choice((0, 1, 2, 4)),
        aliases=aliases,
        bad=chance.choice((0.0, 0.1)),
        cancels=chance.choice((0, 1, 3)),
        moves=chance.choice((0, 2)) if aliases else 0,
        deletes=chance.choice((0, 0, 1, 2)),
        restore=chance.random() < 0.05,
        spread_s=chance.choice((0.2, 3.0, 30.0)),
        faults=Faults(
            lost_request=rate(0.3),
            lost_answer=rate(0.3),
            late=rate(0.3),
            twice=rate(0.2),
            repeated=rate(0.2),
            slow_answer=rate(0.3),
            conflict=rate(0.2),
            bare_412=rate(0.2),
            unavailable=rate(0.2),
            latency_s=chance.choice((0.01, 0.1, 1.0)),
        ),
    )


class History:
    """All that happens under one seed."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.chance = random.Random(seed)
        self.plan = plan or random_plan(self.chance)
        self.loop = VirtualLoop()
        self.world = World(self.loop, self.chance, self.plan.faults)
        self.promises = Promises(self.world)
        self.world.watchers.append(self.promises.watch)
        self.homes = [Home(f"home{n}", self.world, self.chance) for n in range(self.plan.homes)]
        self.lanes = [Lane(SimStore.address, "p", f"a{n}") for n in range(self.plan.lanes)]
        self.promises.rows = {home.name: home.connection for home in self.homes}
        self._logged = 0

    def run(self) -> None:
        """Let everything happen, then judge. Raises ``Broken``."""
        run_virtual(self._main(), self.loop)

    async def _main(self) -> None:
        tasks = self.loop
        for home in self.homes:
            home.lives_left = self.plan.lives
        running = [tasks.create_task(home.keep_running()) for home in self.homes]
        actors = [tasks.create_task(actor) for actor in self._actors()]
        try:
            async with asyncio.timeout(REST_S):
                await asyncio.gather(*actors)
                if self.plan.restore:
                    await self._restore()
                await self._come_to_rest()
        except TimeoutError:
            self._judge_crashes()
            for broken in self.promises.broken:
                raise broken from None
            raise Broken(f"not at rest after {REST_S} s: {await self._unfinished()}") from None
        finally:
            for task in running + actors:
                task.cancel()
        self._judge_crashes()
        self.promises.judge({home.name: await home.requests() for home in self.homes})

    def _judge_crashes(self) -> None:
        for home in self.homes:
            for error in home.crashed_stages:
                raise Broken(f"a stage of {home.name} crashed: {error!r}") from error

    def _actors(self) -> list[Coroutine[Any, Any, None]]:
        plan = self.plan
        processes = [self._process(home) for home in self.homes for _ in range(plan.processes)]
        movers = [self._mover(f"user{n}") for n in range(plan.movers if plan.moves else 0)]
        cancellers = [self._canceller() for _ in range(plan.cancels)]
        deleters = [self._deleter() for _ in range(plan.deletes)]
        return [*processes, *movers, *cancellers, *deleters, self._reader()]

    # ── processes ──────────────────────────────────────────────────────────────────────────────
    async def _process(self, home: Home) -> None:
        for _ in range(self.plan.logs):
            await asyncio.sleep(self.chance.random() * self.plan.spread_s)
            await self._log(home)

    async def _log(self, home: Home) -> None:
        await self._log_into(home, self.chance.choice(self.lanes))

    def _new_request(self, lane: Lane) -> NewRequest:
        self._logged += 1
        bad = self.chance.random() < self.plan.bad
        metadata = {"bad": True} if bad else {"x": self.chance.randrange(self.plan.contents)}
        given = [alias for alias in self.plan.aliases if self.chance.random() < 0.5]
        return NewRequest(
            id=f"r{self._logged}",
            body=str(self._logged).encode(),
            lane=lane,
            type="model",
            description=None,
            metadata=json.dumps(metadata, separators=(",", ":")),
            aliases=given,
            tags=[],
            inputs=[],
            run=RunInfo("run"),
            client="simulation",
            folder="",
            entries=0,
            size=0,
        )

    # ── users ──────────────────────────────────────────────────────────────────────────────────
    async def _canceller(self) -> None:
        await asyncio.sleep(self.chance.random() * self.plan.spread_s * self.plan.logs)
        returned = [log for log in self.promises.logged.values() if log.returned is not None]
        if not returned:
            return
        log = self.chance.choice(returned)
        home = next(home for home in self.homes if home.name == log.home)
        log.cancelled = await home.ask(partial(_cancel, log.id))

    async def _mover(self, user: str) -> None:
        clock = SimClock(self.loop, self.chance)
        for time in range(self.plan.moves):
            await asyncio.sleep(self.chance.random() * self.plan.spread_s)
            lane = self.lanes[0]
            folder = f"{lane.project}/artifacts/{lane.name}"
            lives = self.promises.lives[folder]
            if not lives or not self.plan.aliases:
                continue
            alias = self.plan.aliases[0]
            version = self.chance.choice((None, *range(min(len(lives), 2))))
            who = f"{user}.{time}"  # one name a move, so that a late write is known for whose it is
            registry = self._user_registry(who)
            move = Moved(who, folder, alias, len(lives) - 1, self.world.now())
            self.promises.moves.append(move)
            pauses = Pauses(None, clock, Nudge())  # type: ignore[arg-type] # has no row to tell
            namer = Namer(lane, registry, None, clock, pauses)  # type: ignore[arg-type]
            await self._insist(partial(namer.move, alias, version))
            move.end = self.world.now()

    async def _deleter(self) -> None:
        registry = self._user_registry("user-deleter")
        await asyncio.sleep(self.chance.random() * self.plan.spread_s * self.plan.logs)
        lane = self.lanes[0]
        lives = self.promises.lives[f"{lane.project}/artifacts/{lane.name}"]
        if lives:
            number = self.chance.choice((len(lives) - 1, self.chance.randrange(len(lives))))
            await self._insist(partial(_delete, registry, lane, number))

    async def _reader(self) -> None:
        """A reader who sees a version can read all that came before it."""
        registry = self._user_registry("user-reader")
        for _ in range(2 * self.plan.logs):
            await asyncio.sleep(self.chance.random() * self.plan.spread_s)
            for lane in self.lanes:
                with suppress(StoreUnavailable):
                    await self._read_all(registry, lane)

    async def _read_all(self, registry: ObjectRegistry, lane: Lane) -> None:
        numbers = [one.version for one in await registry.list_versions(lane.project, lane.name)]
        if numbers != list(range(len(numbers))):
            self.promises.broken.append(Broken(f"a reader of {lane.name} saw {numbers}"))
        for number in numbers:
            if await registry.read_version(lane.project, lane.name, number) is None:
                self.promises.broken.append(Broken(f"a reader saw v{number} and can't read it"))

    def _user_registry(self, user: str) -> ObjectRegistry:
        return ObjectRegistry(SimStore(self.world, user, lambda: None))

    async def _insist(self, act: Any) -> None:
        while True:
            try:
                await act()
                return
            except (StoreError, EtagMismatch, WriteConflict):
                await asyncio.sleep(self.chance.random())

    # ── the end ────────────────────────────────────────────────────────────────────────────────
    async def _restore(self) -> None:
        """All daemons die; the store is put back from a backup; a user looks and says so."""
        await self._come_to_rest()
        lane, home = self.lanes[0], self.homes[0]
        known = await home.ask(partial(_known, lane))
        for one in self.homes:
            if one.daemon:
                one.daemon.kill()
        keep = self._put_back(lane)
        self.promises.forget({row.id for one in self.homes for row in await one.requests()})
        self.promises.frozen = known.highest >= keep
        for _ in range(2):
            await self._log_into(home, lane)
        await asyncio.sleep(200)
        self.promises.frozen = False
        for one in self.homes:
            await one.restart_lane(lane)

    def _put_back(self, lane: Lane) -> int:
        """Lose the newest versions of a lane; return how many are left."""
        folder = f"{lane.project}/artifacts/{lane.name}/versions/"
        records = sorted(key for key in self.world.objects if key.startswith(folder))
        keep = self.chance.randrange(len(records) + 1)
        for key in records[keep:]:
            del self.world.objects[key]
        del self.promises.lives[folder.removesuffix("/versions/")][keep:]
        for key in self.promises.names:
            self.world.objects.pop(key, None)
        return keep

    async def _log_into(self, home: Home, lane: Lane) -> None:
        request = self._new_request(lane)
        log = Logged(
            home=home.name,
            lane=lane.name,
            id=request.id,
            content=content_of(request.metadata),
            aliases=tuple(request.aliases),
            called=self.world.now(),
        )
        self.promises.logged[request.id] = log
        await home.ask(partial(_accept, request))
        log.returned = self.world.now()

    def _heal(self) -> None:
        self.plan.faults.__init__()  # type: ignore[misc] # every rate back to nothing
        for home in self.homes:
            home.lives_left = 0
            if home.daemon:
                home.daemon.kill()

    async def _come_to_rest(self) -> None:
        self._heal()
        while await self._unfinished():
            await asyncio.sleep(5)
        await asyncio.sleep(2 * 20.0)

    async def _unfinished(self) -> list[str]:
        resting = (State.DONE, State.FAILED, State.CANCELLED)
        return [
            f"{home.name} {request.id} {request.state} {request.error} {request.reason}"
            for home in self.homes
            for request in await home.requests()
            if request.state not in resting
        ]


async def _accept(request: NewRequest, queue: SqliteQueue) -> Accepted:
    return await queue.accept(queue.new_row(), request)


async def _known(lane: Lane, queue: SqliteQueue) -> Known:
    return await queue.known(lane)


async def _cancel(request_id: str, queue: SqliteQueue) -> bool:
    found = await queue.find(Filter(states=tuple(State), ids=(request_id,)))
    try:
        await queue.cancel(found[0].row)
    except WrongState:
        return found[0].state is State.CANCELLED
    return True


async def _delete(registry: ObjectRegistry, lane: Lane, number: int) -> None:
    stored = await registry.read_version(lane.project, lane.name, number)
    if stored is None or isinstance(stored.record, Tombstone):
        return
    record = stored.record
    tombstone = Tombstone(
        format=1,
        version=number,
        request=record.request,
        digest=record.digest,
        content=record.content,
        deleted="2026-11-24T00:00:00.000Z",
    )
    await registry.bury_version(lane.project, lane.name, number, tombstone, stored.etag)


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
