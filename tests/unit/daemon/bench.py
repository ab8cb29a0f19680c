"""A stage on its own: a real queue, a real spool, stores in memory, a clock that the test moves."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel

from tests.support.memory import MemoryStore
from tests.support.resolving import FakeResolver
from wherryd.capture.streams import Streams
from wherryd.commit.gathering import Gatherer
from wherryd.commit.manifest_file import ManifestFile
from wherryd.model import Base, Entry, Lane, Lookup, Reference, RequestKind, RunInfo, Source, State
from wherryd.news import News
from wherryd.opened import OpenedStores
from wherryd.prepare.lookups import Lookups
from wherryd.prepare.stage import Preparer
from wherryd.progress import Progress
from wherryd.queue.base import Filter, NewRequest, Request
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue
from wherryd.references.asking import Asker
from wherryd.references.table import Resolvers
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import ObjectStore
from wherryd.stores.probe import probe
from wherryd.transfer.bodies import manifests_in
from wherryd.transfer.contact import Contacts
from wherryd.transfer.stage import Transferrer

STORE = "memory:one"
OTHER = "memory:two"
REFERENCE_TIMEOUT_S = 1800.0
_SCHEMES = ("http", "https", "bucket")


def digest(data: bytes) -> str:
    """SHA-256 as the daemon writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class HandClock:
    """Time passes when the test says so; chance always gives the longest pause."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._tokens = 0
        self._sleepers: list[tuple[float, anyio.Event]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def random(self) -> float:
        return 1.0

    def token(self) -> str:
        self._tokens += 1
        return f"{self._tokens:032x}"

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        self._sleepers.append((self._now + seconds, event))
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        due = [event for at, event in self._sleepers if at <= self._now]
        self._sleepers = [(at, event) for at, event in self._sleepers if at > self._now]
        for event in due:
            event.set()


async def _let_others_go_on() -> None:
    """Let whoever changed a row begin the pause after it, so that the clock may be moved on."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


class Bench:
    """One home without a daemon."""

    def __init__(self, root: Path, queue: SqliteQueue, news: News, clock: HandClock) -> None:
        self.root = root
        self.spool = root / "spool"
        self.manifests = self.spool / "manifests"
        self.queue = queue
        self.news = news
        self.clock = clock
        self.progress = Progress()
        self.streams = Streams()
        self.gatherer = Gatherer(queue, partial(ManifestFile, str(self.manifests)))
        self.memory = {address: MemoryStore(clock, address) for address in (STORE, OTHER)}
        self.stores: dict[str, ObjectStore] = {**self.memory}
        self.opened = OpenedStores(self._open, clock)
        self.resolver = FakeResolver()
        self._tasks: list[asyncio.Task[None]] = []

    async def _open(self, address: str) -> ObjectStore:
        return self.stores[address]

    # ── requests ───────────────────────────────────────────────────────────────────────────────
    async def log(
        self,
        files: Mapping[str, bytes],
        *,
        name: str = "model",
        store: str = STORE,
        entries: tuple[Entry, ...] = (),
        lookups: tuple[Lookup, ...] = (),
        offline: bool = False,
        synced: bool = False,
        metadata: str = "{}",
        aliases: tuple[str, ...] = (),
        kind: RequestKind = RequestKind.LOG,
        draft: str = "",
        run: str = "run1",
        type_: str = "model",
        newest: bool = False,
        base: Base | None = None,
        removed: tuple[str, ...] = (),
    ) -> Request:
        """Accept a request whose bytes lie back to back in one spool file."""
        folder = f"sessions/s/{uuid.uuid4().hex}"
        (self.spool / folder).mkdir(parents=True)
        file, offset, made = self.spool / folder / "pack", 0, list(entries)
        file.write_bytes(b"".join(files.values()))
        for path, data in files.items():
            made.append(Entry(path, len(data), source=Source(str(file), offset)))
            offset += len(data)
        made.sort(key=lambda entry: entry.path)
        row = self.queue.new_row()
        await self.queue.stage(row, made)
        id_ = str(uuid.uuid4())
        request = NewRequest(
            id=id_,
            body=id_.encode(),
            lane=Lane(store, "cats", name),
            type=type_,
            description=None,
            metadata=metadata,
            aliases=list(aliases),
            tags=[],
            inputs=[],
            run=RunInfo(run),
            client="test",
            folder=folder,
            entries=len(made),
            size=sum(entry.size for entry in made),
            offline=offline,
            synced=synced,
            lookups=len(lookups),
            kind=kind,
            draft=draft,
            newest=newest,
            base=base,
        )
        await self.queue.stage_removed(row, removed)
        await self.queue.accept(row, request, lookups)
        return await self.queue.get(row)

    def file_of(self, request: Request) -> Path:
        """The spool file of a request."""
        return self.spool / request.folder / "pack"

    async def wait_state(self, request: Request, state: State) -> Request:
        """Return the request when it has come to a state."""
        return await self.wait_row(request, lambda now: now.state is state)

    async def wait_row(self, request: Request, holds: object) -> Request:
        """Return the request when its row is as wanted."""
        assert callable(holds)
        with anyio.fail_after(20), self.news.watch(request.id) as watch:
            while True:
                await watch.wait_news()
                now = await self.queue.get(request.row)
                if holds(now):
                    await _let_others_go_on()
                    return now

    async def states(self) -> dict[str, State]:
        """The state of every request by its artifact's name."""
        found = await self.queue.find(Filter())
        return {each.lane.name: each.state for each in found}

    # ── stages ─────────────────────────────────────────────────────────────────────────────────
    def preparer(self, is_receiving: Callable[[], bool] = lambda: False) -> Preparer:
        """The stage ``prepare``, running."""
        stage = self.preparer_stage(is_receiving)
        self.start(stage.run())
        return stage

    def preparer_stage(self, is_receiving: Callable[[], bool] = lambda: False) -> Preparer:
        """The stage ``prepare``."""
        resolvers = Resolvers(self.clock, {scheme: lambda _: self.resolver for scheme in _SCHEMES})
        asker = Asker(self.clock, self.queue.last_place)
        lookups = Lookups(
            self.queue, resolvers, asker, self.clock, REFERENCE_TIMEOUT_S, is_receiving
        )
        return Preparer(
            str(self.manifests),
            2,
            lookups,
            self.queue,
            self.news,
            self.clock,
            self.progress,
            lambda: 1.0 if is_receiving() else 0.0,
        )

    def transferrer(self, at_once: int = 8) -> Transferrer:
        """The stage ``transfer``, running."""
        contacts = Contacts(
            self.opened, lambda store: probe(store, self.clock), self.queue, self.clock
        )
        stage = Transferrer(
            manifests_in(str(self.manifests), self.queue),
            contacts,
            at_once,
            self.queue,
            self.news,
            self.clock,
            self.progress,
            spool=str(self.spool),
        )
        self.start(stage.run())
        return stage

    def registry(self, store: str = STORE) -> ObjectRegistry:
        """What lies in a store."""
        return ObjectRegistry(self.memory[store])

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run something until the test ends; its failure is the test's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def aclose(self) -> None:
        """End what runs."""
        failures = [task for task in self._tasks if task.done() and not task.cancelled()]
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert not [task.exception() for task in failures if task.exception()]


@asynccontextmanager
async def opened_bench(root: Path) -> AsyncIterator[Bench]:
    """A bench in an empty folder."""
    clock, news = HandClock(), News()
    root.mkdir(parents=True, exist_ok=True)
    database = await ThreadDatabase.open(root / "queue.db", clock)
    queue = await SqliteQueue.open(database, news, clock)
    bench = Bench(root, queue, news, clock)
    try:
        yield bench
    finally:
        await bench.aclose()
        await queue.aclose()


def reference(path: str, uri: str) -> Entry:
    """An entry whose bytes stay where they are."""
    return Entry(path, 0, reference=Reference(uri))
