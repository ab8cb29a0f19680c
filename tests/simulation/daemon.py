"""A home and the daemons that run on it, one after the other; each may be killed between any two steps."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from tests.simulation import disks
from tests.simulation.contents import (
    MemoryWriter,
    content_of,
    has_lines,
    is_bad,
    manifest_of,
    own_manifest,
)
from tests.simulation.loop import SimClock
from tests.simulation.store import RESTARTED, Died, SimStore, World
from wherry.errors import Defect, StoreError
from wherry.wire.canonical import content_digest
from wherryd.commit.committer import Committer
from wherryd.commit.gathering import Gatherer
from wherryd.model import Lane, Manifest, State
from wherryd.news import News
from wherryd.opened import OpenedStores
from wherryd.progress import Progress
from wherryd.queue.base import Filter, Request, WrongState
from wherryd.queue.database import InlineDatabase
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry.base import Registry
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import FileBody, ObjectStore, WriteConflict
from wherryd.transfer.contact import Contacts
from wherryd.transfer.stage import Transferrer

T = TypeVar("T")


class Daemon:
    """One life of a daemon: the real queue, transfer and commit, a stand-in for hashing."""

    def __init__(self, home: Home, steps_to_live: int | None) -> None:
        self.home = home
        self.alive = True
        self._steps_to_live = steps_to_live
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in order, so that a seed is enough
        self._clock = home.clock
        self._chance = home.world.chance
        self.news = News()
        self._store = SimStore(home.world, home.name, self.step)
        self.registry: Registry = ObjectRegistry(self._store)
        self._database = SlowDatabase(home, self.step)
        self._stores = OpenedStores(self._open_store, self._clock)
        self.queue: SqliteQueue | None = None
        self.committer: Committer | None = None
        self.transferrer: Transferrer | None = None

    def step(self) -> None:
        """One step is about to be done, or was done: the place where a kill may hit."""
        if not self.alive:
            raise Died
        if self._steps_to_live is not None:
            self._steps_to_live -= 1
            if self._steps_to_live <= 0:
                self.kill()
                raise Died

    def kill(self) -> None:
        """What SIGKILL does: whatever was not committed is lost, nothing runs on."""
        if self.alive:
            self.alive = False
            self._database.crash()
            for task in list(self._tasks):
                task.cancel()
            self.home.daemon_died()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something inside this daemon for somebody outside. Raises ``Died``."""
        task = self._spawn(work)
        await asyncio.wait({task})
        if task.cancelled() or not self.alive:
            if not task.cancelled():
                task.exception()
            raise Died
        return task.result()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self.home.world.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]

    async def start(self) -> None:
        """Open the queue and start the stages."""
        await self.call(self._open())
        assert self.queue is not None
        self.committer = Committer(
            self.queue,
            self._open_registry,
            self._clock,
            self.news,
            Gatherer(self.queue, MemoryWriter),
            note_defect=_crash,
            doubts=self._stores.doubts,
        )
        self.transferrer = self._transferrer(self.queue)
        for stage in (self._prepare, self._transfer, self.committer.run):
            self._spawn(self._stage(stage))

    async def _open(self) -> None:
        self.queue = await SqliteQueue.open(self._database, self.news, self._clock)

    async def _stage(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends a stage is a finding
            if self.alive:
                self.home.world.loop.call_exception_handler(
                    {"message": "stage", "exception": error}
                )
                self.home.crashed_stages.append(error)

    async def restart_lane(self, lane: Lane) -> None:
        """What ``wherry retry`` does for a stopped lane."""
        assert self.committer is not None and self.transferrer is not None
        self.home.world.puts.append((self.home.name, RESTARTED, b""))
        await self.committer.restart_lane(lane)
        self.committer.nudge(lane.store)
        self.transferrer.nudge(lane.store)

    async def _open_store(self, address: str) -> ObjectStore:
        return self._store

    async def _open_registry(self, address: str) -> Registry:
        return self.registry

    def _transferrer(self, queue: SqliteQueue) -> Transferrer:
        contacts = Contacts(self._stores, _pass, queue, self._clock)
        return Transferrer(
            self._manifest_of,
            contacts,
            4,
            queue,
            self.news,
            self._clock,
            Progress(),
            note_defect=_crash,
        )

    async def _transfer(self) -> None:
        await self._meet_store()
        assert self.transferrer is not None
        await self.transferrer.run()

    async def _meet_store(self) -> None:
        assert self.queue is not None
        while not await self.queue.store_id(SimStore.address):
            try:
                identity = await self.registry.found(self._clock.token())
            except (StoreError, WriteConflict):
                await self._clock.sleep(1.0)
            else:
                await self.queue.set_store_id(SimStore.address, identity.store, probed=True)

    async def _manifest_of(self, request: Request) -> FileBody:
        """Take the time that the bytes of files would."""
        is_big = self._chance.random() < self.home.big
        upload_s = self.home.big_upload_s if is_big else self.home.upload_s
        await self._clock.sleep(self._chance.random() * upload_s)
        await self.home.world.may_upload.wait()
        if has_lines(request):
            assert self.queue is not None
            return (await own_manifest(self.queue, request))[1]
        return manifest_of(request)

    # ── hashing, as far as the others see it ───────────────────────────────────────────────────
    async def _prepare(self) -> None:
        busy: set[int] = set()
        assert self.queue is not None
        with self.news.watch(State.ACCEPTED) as watch:
            while True:
                await watch.wait_news()
                for request in await self.queue.find(Filter(states=(State.ACCEPTED,))):
                    if request.row not in busy:
                        busy.add(request.row)
                        self._spawn(self._prepare_one(request, busy))

    async def _prepare_one(self, request: Request, busy: set[int]) -> None:
        assert self.queue is not None
        try:
            await self._clock.sleep(self._chance.random() * self.home.upload_s)
            if is_bad(request.metadata) and request.id not in self.home.mended:
                await self.queue.fail(request.row, "FileChanged", "changed")
                return
            content = content_of(request.type, request.metadata)
            manifest = Manifest(content, content, request.entries, request.size)
            if has_lines(request):
                manifest, _ = await own_manifest(self.queue, request)
                metadata = json.loads(request.metadata)
                content = content_digest(manifest.digest, request.type, None, metadata)
            await self.queue.prepared(request.row, manifest, content)
        except WrongState:
            pass
        finally:
            busy.discard(request.row)


@coroutine
def _let_others() -> Generator[None]:
    yield  # what asyncio.sleep(0) comes to


class SlowDatabase(InlineDatabase):
    """Lets others come between two steps of a queue."""

    def __init__(self, home: Home, step: Callable[[], None]) -> None:
        super().__init__(home.connection, step, let_others=_let_others)
        self._home = home

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._pass_time()
        result = await super().run(work)
        await self._pass_time()
        return result

    async def _pass_time(self) -> None:
        longest_s = self._home.slow_queue_s
        if longest_s:
            chance = self._home.world.chance
            await asyncio.sleep(chance.choice((0.0, chance.random() * longest_s)))


class Home:
    """A machine's home: its database outlives its daemons."""

    upload_s = 0.3
    big_upload_s = 60.0

    def __init__(self, name: str, world: World, chance: random.Random) -> None:
        self.name = name
        self.world = world
        self.clock = SimClock(world.loop, chance, skew=chance.uniform(-100, 100))
        self.connection = disks.take()
        self.crashed_stages: list[BaseException] = []
        self.lives_left = 0
        #: How likely an upload is a big one.
        self.big = 0.0
        #: Pauses around each step of the queue, at most this long.
        self.slow_queue_s = 0.0
        #: Requests in which the user has put right what was wrong.
        self.mended: set[str] = set()
        self.daemon: Daemon | None = None
        self._up = asyncio.Event()
        self._deaths = asyncio.Event()

    def daemon_died(self) -> None:
        """Called by a daemon that was killed."""
        self.daemon = None
        self._up.clear()
        self._deaths.set()

    async def keep_running(self) -> None:
        """Start a daemon, and the next one whenever it dies."""
        while True:
            await self._start_one()
            await self._deaths.wait()
            self._deaths.clear()
            await self.clock.sleep(self.world.chance.random() * 5)

    async def _start_one(self) -> None:
        steps = None
        if self.lives_left > 0:
            self.lives_left -= 1
            steps = int(self.world.chance.expovariate(1 / 60)) + 1
        daemon = Daemon(self, steps)
        self._deaths.clear()
        try:
            await daemon.start()
        except Died:
            self._deaths.set()
            return
        self.daemon = daemon
        self._up.set()

    async def ask(self, work: Callable[[SqliteQueue], Coroutine[Any, Any, T]]) -> T:
        """Do something with the queue of whatever daemon runs, as often as it takes.

        As a client does it: after a daemon's end the same request goes to the next one.
        """
        while True:
            await self._up.wait()
            daemon = self.daemon
            if daemon is None or daemon.queue is None:
                await asyncio.sleep(0.01)
                continue
            try:
                return await daemon.call(work(daemon.queue))
            except Died:
                await asyncio.sleep(0.01)

    async def requests(self, *states: State) -> list[Request]:
        """The requests that the queue has in these states, or all."""
        wanted = Filter(states=states or tuple(State), limit=100_000)
        return await self.ask(lambda queue: queue.find(wanted))

    def trouble(self) -> tuple[Daemon | None, int]:
        """Another value once the daemon has met trouble with the store, or is another one."""
        return self.daemon, self.world.met[self.name]

    async def restart_lane(self, lane: Lane) -> None:
        """What ``wherry retry`` does for a stopped lane."""
        while True:
            await self._up.wait()
            daemon = self.daemon
            assert daemon is not None
            try:
                await daemon.call(daemon.restart_lane(lane))
                return
            except (Died, StoreError):
                await asyncio.sleep(1.0)


async def _pass(_: ObjectStore) -> None:
    """The probe: the store of the simulation is fit."""


def _crash(error: Exception, _: str) -> Defect:
    """Where the daemon would go on: a defect is a finding."""
    raise error
