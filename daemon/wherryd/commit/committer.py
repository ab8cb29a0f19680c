"""Which lanes have commits to do.

Owns: one worker a lane with work, one task an upsert, one a lane for the aliases of its settled requests,
the restart of a stopped lane. Does not own: the steps of a commit (``worker``), of an upsert (``upserts``),
their rules (``lane``, ``drafts``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from wherry.errors import QueueError, StoreError, StoreUnavailable
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.commit.applying import Applier
from wherryd.commit.finishing import Finisher
from wherryd.commit.gathering import Gatherer
from wherryd.commit.looking import Looker
from wherryd.commit.naming import Namer
from wherryd.commit.pauses import Pauses
from wherryd.commit.upserts import UpsertWorker
from wherryd.commit.worker import LaneWorker
from wherryd.defects import NoteDefect, note_defect
from wherryd.doubts import Doubts
from wherryd.log import get_logger
from wherryd.model import Lane, RequestKind, State
from wherryd.news import News, Watch
from wherryd.nudge import Nudge
from wherryd.progress import Progress
from wherryd.queue.base import Filter, Queue, Request
from wherryd.registry.base import Identity, Registry
from wherryd.stores.base import WriteConflict

OpenRegistry = Callable[[str], Awaitable[Registry]]

#: After trouble that concerns no request: longest pause before a lane is taken up again.
_PAUSE_S = 10.0

#: First those whose parts are not put: a finish may wait for them.
_UPSERTS_AT_ONCE = 1000

_FOUND = failpoint("commit.restart.after-found")

_log = get_logger("commit")


class _Work:
    """One worker: whose store it works at, how to end it, and whether it has ended."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()


class Committer:
    """Commits what is uploaded, lane by lane in order, and gives versions their aliases.

    Args:
        open_registry: gives the registry of a store's address; cheap when asked again.
        gatherer: makes out what the parts of drafts come to.
        note_defect: is told of exceptions that nobody expected.
        doubts: shared with whoever else uses the stores.
        progress: is told how far changes are applied.
    """

    def __init__(
        self,
        queue: Queue,
        open_registry: OpenRegistry,
        clock: Clock,
        news: News,
        gatherer: Gatherer,
        note_defect: NoteDefect = note_defect,
        doubts: Doubts | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._queue = queue
        self._gatherer = gatherer
        self._open_registry = open_registry
        self._clock = clock
        self._news = news
        self._note_defect = note_defect
        self._nudges: defaultdict[str, Nudge] = defaultdict(Nudge)
        self._doubts = doubts or Doubts()
        self._looker = Looker(queue, clock)
        self._applier = Applier(queue, gatherer.writer_for, progress)
        self._working: dict[Lane | int, _Work] = {}  # of a lane; of an upsert's row
        self._resting: Counter[str] = Counter()  # addresses at which a lane is being restarted
        self._naming: set[Lane] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        self._working, self._naming = {}, set()  # those of an earlier call have ended with it
        async with anyio.create_task_group() as tasks:
            # What is being sent at the start is found by the first look.
            tasks.start_soon(self._keep_starting, State.UPLOADED, self._start_workers)
            tasks.start_soon(self._keep_starting, RequestKind.UPSERT, self._start_upserts)
            await self._keep_starting(State.SETTLED, self._start_naming)

    async def _keep_starting(
        self,
        topic: State | RequestKind,
        start: Callable[[TaskGroup, Watch], Awaitable[None]],
    ) -> None:
        async with anyio.create_task_group() as tasks:
            with self._news.watch(topic) as watch:
                while True:
                    await watch.wait_news()
                    try:
                        await start(tasks, watch)
                    except QueueError as error:
                        _log.warning("queue can't be read", error=str(error))
                        await self._clock.sleep(_PAUSE_S)
                        watch.wake()

    def nudge(self, address: str) -> None:
        """Let all that waits for this store try again now."""
        self._nudges[address].nudge()

    async def restart_lane(self, lane: Lane) -> None:
        """Take the store as it is now for the one that counts: the user has looked.

        Raises ``StoreError`` when the store can't be read.
        """
        async with self._at_rest(lane.store):
            await self._restart_lane(lane)

    async def _restart_lane(self, lane: Lane) -> None:
        registry = await self._open_registry(lane.store)
        identity = await registry.identify() or await self._found(registry)
        _FOUND()
        await self._settle_arrived(lane.store, registry, identity.store)
        there = await self._drafts_arrived(lane.store, registry, identity.store)
        stamps = await registry.list_versions(lane.project, lane.name)
        highest, request = (stamps[-1].version if stamps else -1), ""
        if highest >= 0:
            (stored,) = await registry.read_versions(
                lane.project, lane.name, [highest], identity.store
            )
            if stored is None:
                raise StoreError(f"v{highest} of {lane.name!r} was listed and can't be read")
            request = stored.record.request
        await self._queue.restart_lane(lane, identity.store, highest, request, there)

    async def _settle_arrived(self, address: str, registry: Registry, store_id: str) -> None:
        """Settle what is a version already: a restart makes what was sent cancellable again."""
        for request in await self._queue.find(Filter(states=(State.SENDING,), limit=1_000_000)):
            lane, number = request.lane, request.number
            if lane.store == address and number is not None and not request.draft:
                place = lane.project, lane.name
                (there,) = await registry.read_versions(*place, [number], store_id)
                if there and there.record.request == request.id:
                    await registry.sync_version(*place, number, store_id)
                    await self._queue.settle(request.row, number)

    async def _drafts_arrived(self, address: str, registry: Registry, store_id: str) -> list[int]:
        """Rows of upserts whose part is in this store, and of finishes whose draft is sealed there: these go
        on as they are, since neither can be taken back.
        """
        there: list[int] = []
        sent = Filter(states=(State.SENDING, State.SETTLED), limit=1_000_000)
        for request in await self._queue.find(sent):
            if request.lane.store == address and request.draft:
                place = request.lane.project, request.draft
                part = request.id if request.kind is RequestKind.UPSERT else None
                seen = await registry.drafts.look(*place, store_id, part)
                if seen.has_part or (part is None and seen.sealed is not None):
                    there.append(request.row)
        return there

    async def _found(self, registry: Registry) -> Identity:
        try:
            return await registry.found(self._clock.token())
        except WriteConflict as exc:
            raise StoreUnavailable("another writer is founding the store at this moment") from exc

    @asynccontextmanager
    async def _at_rest(self, address: str) -> AsyncIterator[None]:
        """End all workers of a store, as a kill would, so that none goes on with what it saw there before."""
        self._resting[address] += 1
        try:
            works = [work for work in self._working.values() if work.address == address]
            for work in works:
                work.scope.cancel()
            for work in works:
                await work.ended.wait()
            yield
        finally:
            self._resting[address] -= 1
            self._news.tell(State.UPLOADED, RequestKind.UPSERT)

    async def _start_workers(self, tasks: TaskGroup, watch: Watch) -> None:
        stopped = await self._queue.stopped()
        for lane in await self._queue.lanes(upserts=False):
            if self._is_free(lane, lane) and lane not in stopped:
                self._start(tasks, lane, lane.store, partial(self._work_on, lane), watch)

    async def _start_upserts(self, tasks: TaskGroup, watch: Watch) -> None:
        upserts = await self._queue.upserts(_UPSERTS_AT_ONCE)
        stopped = await self._queue.stopped() if upserts else {}
        for row, lane in upserts:
            if self._is_free(row, lane) and lane not in stopped:
                self._start(tasks, row, lane.store, partial(self._upsert, row, lane), watch)

    def _is_free(self, key: Lane | int, lane: Lane) -> bool:
        return key not in self._working and not self._resting[lane.store]

    def _start(
        self,
        tasks: TaskGroup,
        key: Lane | int,
        address: str,
        work_on: Callable[[], Awaitable[None]],
        watch: Watch,
    ) -> None:
        work = self._working[key] = _Work(address)
        tasks.start_soon(self._work, key, work, work_on, watch)

    async def _work(
        self, key: Lane | int, work: _Work, work_on: Callable[[], Awaitable[None]], watch: Watch
    ) -> None:
        try:
            with work.scope:
                await work_on()
        finally:
            del self._working[key]
            work.ended.set()
            watch.wake()  # a request may have come in since the worker looked last

    async def _upsert(self, row: int, lane: Lane) -> None:
        async with self._kept_going(f"an upsert to {lane.project}/{lane.name}"):
            registry, pauses = await self._open_registry(lane.store), self._pauses(lane)
            worker = UpsertWorker(
                registry,
                self._queue,
                self._clock,
                pauses,
                self._looker,
                partial(self._doubts.note, lane.store),
                self._note_defect,
            )
            await worker.run(row)

    async def _work_on(self, lane: Lane) -> None:
        async with self._kept_going(f"the lane {lane.project}/{lane.name}"):
            registry, pauses = await self._open_registry(lane.store), self._pauses(lane)
            worker = LaneWorker(
                lane,
                registry,
                self._queue,
                self._clock,
                pauses,
                self._looker,
                Finisher(registry, self._queue, self._gatherer),
                self._applier,
                self._note_defect,
                self._doubts,
            )
            with self._news.watch(lane) as news:
                await worker.run(news)

    async def _start_naming(self, tasks: TaskGroup, watch: Watch) -> None:
        settled: defaultdict[Lane, list[Request]] = defaultdict(list)
        for request in await self._queue.unaliased():
            settled[request.lane].append(request)
        for lane, requests in settled.items():
            if lane not in self._naming:
                self._naming.add(lane)
                tasks.start_soon(self._name, lane, requests, watch)

    async def _name(self, lane: Lane, requests: list[Request], watch: Watch) -> None:
        async with self._kept_going(f"the aliases of {lane.project}/{lane.name}"):
            registry, pauses = await self._open_registry(lane.store), self._pauses(lane)
            namer = Namer(lane, registry, self._queue, self._clock, pauses, self._note_defect)
            for request in requests:
                await namer.name(request)
        self._naming.discard(lane)
        watch.wake()  # others may have settled meanwhile

    @asynccontextmanager
    async def _kept_going(self, what: str) -> AsyncIterator[None]:
        """Outlive what goes wrong beside a request, and pause after it."""
        try:
            yield
        except (StoreError, QueueError) as error:
            _log.warning("commits are put off", of=what, error=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other lanes must go on
            self._note_defect(error, what)
        else:
            return
        await self._clock.sleep(self._clock.random() * _PAUSE_S)

    def _pauses(self, lane: Lane) -> Pauses:
        broken = partial(self._doubts.note, lane.store)
        return Pauses(self._queue, self._clock, self._nudges[lane.store], broken)
