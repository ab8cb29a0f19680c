"""The daemon: builds its parts, wires them, starts them, and lets them end.

Owns: which part gets what, what a start does first, leaving within 10 s. Does not own: anything that a
part does.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import QueueError
from wherry.wire import places
from wherry.wire.failpoints import failpoint
from wherryd.capture.durability import Durability, boot_id
from wherryd.capture.freeing import Freer
from wherryd.capture.intake import Intake
from wherryd.capture.room import SpoolRoom, Wanted
from wherryd.capture.sessions import Sweeper
from wherryd.capture.streams import Streams
from wherryd.clock import Clock, SystemClock
from wherryd.commit.committer import Committer
from wherryd.commit.gathering import Gatherer
from wherryd.commit.manifest_file import ManifestFile
from wherryd.commit.run_records import Recorder, Writable
from wherryd.config import Config, ConfigFile
from wherryd.defects import keep_going
from wherryd.life import Life
from wherryd.lineage.tracer import Tracer
from wherryd.log import get_logger
from wherryd.model import Lane, State
from wherryd.news import News
from wherryd.opened import OpenedStores
from wherryd.prepare.lookups import Lookups
from wherryd.prepare.stage import Preparer
from wherryd.progress import Progress
from wherryd.queue.base import Filter
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.files import set_aside
from wherryd.queue.reserve import Reserve
from wherryd.queue.sqlite import SqliteQueue
from wherryd.read.cache import CacheFolder
from wherryd.read.fetching import Fetcher
from wherryd.references.asking import Asker
from wherryd.references.builtin import open_resolvers
from wherryd.references.table import Resolvers
from wherryd.registry.base import Registry
from wherryd.rpc.calls import Calls
from wherryd.rpc.meeting import Identity
from wherryd.rpc.server import Server
from wherryd.stores.bandwidth import Bandwidth
from wherryd.stores.base import ObjectStore
from wherryd.stores.credentials import CredentialSets
from wherryd.stores.opening import make_folder, open_store
from wherryd.stores.probe import probe
from wherryd.stores.traffic import Traffic
from wherryd.together import all_of
from wherryd.transfer.bodies import manifests_in
from wherryd.transfer.contact import Contacts
from wherryd.transfer.given_up import Reclaimer
from wherryd.transfer.stage import Transferrer
from wherryd.upkeep import Upkeep

#: The daemon leaves within 10 s. Counted from the beginning: steps, then calls, then all has ended.
_STEPS_S = 7.0
_CALLS_S = 8.5
_LEAVE_S = 9.8
#: Of these in between.
_COMMITS_S = 2.0
_LAST_SYNC_S = 0.5
#: For the last answers to get out; idle connections take it every time.
_ANSWERS_S = 0.1

_QUEUE_OPEN = failpoint("app.start.queue-open")
_BOUND = failpoint("app.start.bound")
_BEFORE_END = failpoint("app.leave.before-end")

_log = get_logger("app")


class Daemon(msgspec.Struct, frozen=True):
    """The parts, wired."""

    clock: Clock
    news: News
    queue: SqliteQueue
    stores: OpenedStores
    life: Life
    server: Server
    preparer: Preparer
    transferrer: Transferrer
    reclaimer: Reclaimer
    tracer: Tracer
    committer: Committer
    recorder: Recorder
    freer: Freer
    durability: Durability
    room: SpoolRoom
    upkeep: Upkeep


async def serve(
    config: Config,
    leave_on: Callable[[Life], Coroutine[object, object, None]],
    holds_home: Callable[[], bool],
) -> None:
    """Be the daemon of a home, until it leaves.

    The caller holds the instance lock.

    Args:
        leave_on: runs beside the daemon and makes it leave, on a signal say.
        holds_home: whether the instance lock is still the home's; blocks for a moment.

    Raises:
        QueueError: the queue can't be opened.
    """
    async with _built(config, holds_home) as daemon, anyio.create_task_group() as tasks:
        await daemon.server.bind()
        daemon.life.begin()
        _BOUND()
        tasks.start_soon(leave_on, daemon.life)
        _log.info("ready", home=str(config.home), pid=os.getpid())
        tasks.start_soon(keep_going, partial(_prepare, daemon), "Preparer", daemon.clock)
        for part in (
            daemon.transferrer,
            daemon.reclaimer,
            daemon.committer,
            daemon.recorder,
            daemon.freer,
            daemon.durability,
            daemon.room,
            daemon.upkeep,
        ):
            tasks.start_soon(keep_going, part.run, type(part).__name__, daemon.clock)
        await daemon.life.wait_leaving()
        _log.info("leaving", why=daemon.life.why)
        await _leave(daemon)
        tasks.cancel_scope.cancel()
    _BEFORE_END()
    _log.info("ended")


async def _prepare(daemon: Daemon) -> None:
    await daemon.freer.sweep_manifests()
    await daemon.preparer.run()


# ── building ───────────────────────────────────────────────────────────────────────────────────
@asynccontextmanager
async def _built(config: Config, holds_home: Callable[[], bool]) -> AsyncIterator[Daemon]:
    clock, news = SystemClock(), News()
    await anyio.to_thread.run_sync(_make_folders, config)
    async with AsyncExitStack() as end:
        reserve = await anyio.to_thread.run_sync(Reserve, config.reserve)
        end.callback(reserve.close)
        # Before anybody can log: programs may have filled the disk by the first round.
        await anyio.to_thread.run_sync(reserve.renew)
        database = await ThreadDatabase.open(config.queue, clock, reserve=reserve)
        # Twice closed is no harm; left open, its threads would keep this process for ever.
        end.push_async_callback(database.aclose)
        queue = await SqliteQueue.open(database, news, clock)
        end.push_async_callback(queue.aclose)
        _QUEUE_OPEN()
        credentials = CredentialSets()
        traffic = Traffic(clock, Bandwidth(clock, config.max_bandwidth))
        stores = OpenedStores(
            partial(_open_store, config, credentials, clock, traffic),
            clock,
            home_id=await queue.home_id(),
            place=f"{socket.gethostname()}:{config.home}",
        )
        end.push_async_callback(stores.aclose)
        resolvers = open_resolvers(clock, credentials)
        end.push_async_callback(resolvers.aclose)
        daemon = await _wire(
            config,
            holds_home,
            clock,
            news,
            queue,
            stores,
            resolvers,
            credentials,
            reserve,
            traffic,
        )
        end.push_async_callback(daemon.server.stop, 0.0)
        end.callback(daemon.room.close)
        end.push_async_callback(daemon.tracer.aclose)
        await daemon.durability.check_boot()
        await daemon.room.begin()
        yield daemon


async def _wire(
    config: Config,
    holds_home: Callable[[], bool],
    clock: Clock,
    news: News,
    queue: SqliteQueue,
    stores: OpenedStores,
    resolvers: Resolvers,
    credentials: CredentialSets,
    reserve: Reserve,
    traffic: Traffic,
) -> Daemon:
    progress, streams, life = Progress(), Streams(), Life(clock, news)
    spool, manifests = str(config.spool), str(config.manifests)
    room = SpoolRoom(str(config.room), spool, _wanted(config), queue, progress, clock)
    preparer = Preparer(
        manifests,
        os.cpu_count() or 1,
        Lookups(
            queue,
            resolvers,
            Asker(clock, queue.last_place),
            clock,
            config.reference_timeout_s,
            lambda: life.is_receiving,
        ),
        queue,
        news,
        clock,
        progress,
        lambda: life.stand_back_s,
        reserve.give_up,
    )
    contacts = Contacts(stores, lambda store: probe(store, clock), queue, clock)
    transferrer = Transferrer(
        manifests_in(manifests, queue),
        contacts,
        config.max_transfers,
        queue,
        news,
        clock,
        progress,
        lambda: life.stand_back_s,
        spool=spool,
    )
    gatherer = Gatherer(queue, partial(ManifestFile, manifests))
    committer = Committer(
        queue, stores.registry, clock, news, gatherer, doubts=stores.doubts, progress=progress
    )

    def are_kept() -> bool:
        return bool(set_aside(config.queue))

    def nudge(address: str) -> None:
        traffic.try_now()
        preparer.nudge()
        go_on(address)

    def go_on(address: str) -> None:
        transferrer.nudge(address)
        committer.nudge(address)
        recorder.nudge(address)

    def all_go_on() -> None:
        for address in stores.addresses:
            go_on(address)

    traffic.on_recovery = all_go_on

    boot = await anyio.to_thread.run_sync(boot_id)
    fetcher = Fetcher(
        lambda is_in_use: CacheFolder(
            str(config.cache), boot, clock, is_in_use, config.cache_quota_bytes
        )
    )

    def heed(changed: Config) -> None:
        traffic.bandwidth.rate = changed.max_bandwidth
        fetcher.folder.quota_bytes = changed.cache_quota_bytes
        room.heed(_wanted(changed))

    async def for_writing(address: str) -> Registry:
        return (await contacts.for_writing(address)).registry

    async def writable(address: str) -> Writable:
        contact = await contacts.for_writing(address)
        return Writable(contact.registry, contact.store_id)

    recorder = Recorder(queue, writable, news, clock, stores.doubts)
    tracer = Tracer(config.lineage, stores.registry, clock)

    async def restart_lane(lane: Lane) -> None:
        await committer.restart_lane(lane)
        nudge(lane.store)

    calls = Calls(
        identity=Identity(config.home, await queue.home_id(), lambda: server.socket),
        default_store=config.store,
        queue=queue,
        news=news,
        clock=clock,
        life=life,
        progress=progress,
        intake=Intake(spool, queue, streams, room.took_in),
        stores=stores,
        credentials=credentials,
        restart_lane=restart_lane,
        nudge=nudge,
        trouble_of=transferrer.troubles.of,
        set_aside=partial(set_aside, config.queue),
        resolvers=resolvers,
        is_receiving=lambda: streams.are_running,
        fullness=room.fullness,
        fetcher=fetcher,
        for_writing=for_writing,
        tracer=tracer,
        why_runs_wait=lambda: recorder.why_waiting,
    )
    freer = Freer(spool, manifests, queue, news, clock, are_kept)
    server = Server(partial(places.socket_path, config.home), calls.handlers())
    return Daemon(
        clock=clock,
        news=news,
        queue=queue,
        stores=stores,
        life=life,
        server=server,
        preparer=preparer,
        transferrer=transferrer,
        reclaimer=Reclaimer(contacts, queue, news, clock),
        committer=committer,
        recorder=recorder,
        tracer=tracer,
        freer=freer,
        durability=Durability(spool, boot, queue, news, clock),
        room=room,
        upkeep=Upkeep(
            config,
            holds_home,
            queue,
            Sweeper(spool, queue, streams, are_kept, room.forget),
            freer,
            server,
            life,
            clock,
            reserve.renew,
            ConfigFile(config.home, heed).look,
            room,
        ),
    )


async def _open_store(
    config: Config,
    credentials: CredentialSets,
    clock: Clock,
    traffic: Traffic,
    address: str,
) -> ObjectStore:
    if address == config.default_store:
        await make_folder(address)
    # In a thread, since an S3 store's libraries take a tenth of a second to import.
    return await anyio.to_thread.run_sync(
        open_store, address, credentials.source(address), clock, traffic
    )


def _wanted(config: Config) -> Wanted:
    return Wanted(config.spool_quota_bytes, config.spool_quota_inodes, config.spool_timeout_s)


def _make_folders(config: Config) -> None:
    sessions = config.home / places.SESSIONS
    for folder in (config.spool, config.manifests, sessions):
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)


# ── leaving ────────────────────────────────────────────────────────────────────────────────────
async def _leave(daemon: Daemon) -> None:
    """Let running steps end. Whatever has not ended then goes on at the next start, as after a kill."""
    began = daemon.clock.monotonic()
    last = threading.Timer(
        _LEAVE_S, os._exit, (0,)
    )  # a thread that syncs a file can't be cancelled
    last.daemon = True
    last.start()
    await daemon.server.tell_leaving()
    with anyio.move_on_after(_STEPS_S):
        await all_of(
            daemon.transferrer.crew.leave,
            daemon.preparer.leave,
            partial(_try, partial(_wait_committed, daemon)),
            partial(_try, daemon.durability.sync_all),
        )
    await daemon.server.hide()
    with anyio.move_on_after(_CALLS_S - (daemon.clock.monotonic() - began)):
        await daemon.life.wait_no_call()
    await daemon.server.stop(_ANSWERS_S)
    with anyio.move_on_after(_LAST_SYNC_S):
        await _try(daemon.durability.sync_all)  # of requests that came in meanwhile


async def _try(step: Callable[[], Awaitable[object]]) -> None:
    """Do it if the queue can be used: its trouble takes no other step's time away."""
    try:
        await step()
    except QueueError as error:
        _log.warning("left to the next start", error=str(error))


async def _wait_committed(daemon: Daemon) -> None:
    """Let the records that are on their way arrive."""
    with (
        anyio.move_on_after(_COMMITS_S),
        daemon.news.watch(State.SETTLED, State.DONE, State.SENDING) as watch,
    ):
        while True:
            await watch.wait_news()
            under_way = await daemon.queue.find(Filter(states=(State.SENDING, State.SETTLED)))
            if all(request.error for request in under_way):
                return
