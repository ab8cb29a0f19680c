"""From ``prepared`` to ``uploaded``: all that the version names is in its store.

Owns: which requests are worked on at once, the order bytes, row; what an error means; stopping a lane whose
store is another. Does not own: what to send (``blobs``), contact (``contact``), the record (``commit``).

What a kill leaves: objects in the store that nobody names yet; the request is still ``prepared`` and is
done again, without sending again what the store has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from wherry.errors import QueueError, StoreError, WherryError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.crew import Crew
from wherryd.defects import NoteDefect, note_defect
from wherryd.log import get_logger
from wherryd.lost import of_lost
from wherryd.model import Lane, State
from wherryd.news import News
from wherryd.nudge import Nudge
from wherryd.progress import Progress
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.registry.identity import Exchanged, of_known
from wherryd.stores.retry import watched
from wherryd.transfer.blobs import Blobs, Came, Job, Leaving
from wherryd.transfer.bodies import Astray, ManifestOf
from wherryd.transfer.contact import Contact, Contacts
from wherryd.transfer.emptying import Emptying
from wherryd.transfer.slots import Slots
from wherryd.transfer.troubles import Troubles
from wherryd.waiting import RowWatcher

#: Requests from this size on have places of their own, so that they never fill all.
BIG_BYTES = 64 << 20
#: Of one store.
BIG_AT_ONCE = 4
SMALL_AT_ONCE = 12
#: Timers may fire a little early.
_MARGIN_S = 0.05

_BEFORE_QUEUE = failpoint("transfer.request.before-queue")
_AFTER_QUEUE = failpoint("transfer.request.after-queue")
_BEFORE_STOP = failpoint("transfer.lane.before-stop")
_BEFORE_PLAN = failpoint("transfer.request.before-plan")
_BEFORE_FAIL = failpoint("transfer.request.before-fail")

_log = get_logger("transfer")


def choose(
    candidates: Sequence[Request], busy: Sequence[Request], troubles: Troubles
) -> list[Request]:
    """Choose the requests to start: in turn, so many of a store, and none of one that is paused."""
    taken = Counter(_class_of(request) for request in busy)
    chosen = []
    for request in candidates:
        _, is_big = class_ = _class_of(request)
        limit = BIG_AT_ONCE if is_big else SMALL_AT_ONCE
        if taken[class_] < limit and troubles.of(request.lane) is None:
            taken[class_] += 1
            chosen.append(request)
    return chosen


def _class_of(request: Request) -> tuple[str, bool]:
    return request.lane.store, request.size >= BIG_BYTES


class Transferrer:
    """The stage.

    Args:
        manifest_of: gives manifests' files.
        contacts: the stores that may be written to.
        at_once: bodies in flight, over all stores.
        spool: the folder that empties as bytes arrive; "": it is left alone.
    """

    def __init__(
        self,
        manifest_of: ManifestOf,
        contacts: Contacts,
        at_once: int,
        queue: Queue,
        news: News,
        clock: Clock,
        progress: Progress,
        stand_back_s: Callable[[], float] = lambda: 0.0,
        note_defect: NoteDefect = note_defect,
        spool: str = "",
    ) -> None:
        self._spool = spool
        self._manifest_of = manifest_of
        self._contacts = contacts
        self._queue = queue
        self._clock = clock
        self._progress = progress
        self._blobs = Blobs(queue, contacts, Slots(at_once), progress, clock)
        self._nudges: defaultdict[str, Nudge] = defaultdict(Nudge)
        self._stopped: set[Lane] = set()
        self.troubles = Troubles(clock)
        self.crew = Crew(
            State.PREPARED,
            partial(choose, troubles=self.troubles),
            self._transfer,
            queue,
            news,
            clock,
            left_out=self.troubles.paused_stores,
            is_blocked=self._is_blocked,
            stand_back_s=stand_back_s,
            note_defect=note_defect,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        await self.crew.run()

    def nudge(self, address: str) -> None:
        """Let all that waits for this store try again now."""
        self.troubles.forget(address)
        self._contacts.broken(address)
        self._blobs.forget(address)
        self._stopped = {lane for lane in self._stopped if lane.store != address}
        self._nudges[address].nudge()
        self.crew.nudge()

    async def _transfer(self, request: Request) -> bool:
        self._progress.start(request.row, is_sending=True)
        began, since = self._clock.monotonic(), self._clock.now()
        watcher = self._watcher(request)
        emptying = Emptying(request, self._spool, self._queue)
        contact = None
        try:
            if await self._is_stopped(request.lane):
                return False
            with watched(watcher):
                contact = await self._contacts.for_writing(request.lane.store)
                came = await self._send(request, contact, watcher, emptying)
            _BEFORE_QUEUE()
            own_since = since if came.is_own else None
            await self._queue.uploaded(request.row, contact.store_id, own_since, came.sent)
            _AFTER_QUEUE()
            self.troubles.sent(request.lane)
            await emptying.empty()
        except Leaving:
            return False
        except QueueError:
            raise
        except WrongState:
            self._contacts.broken(request.lane.store)  # another store may count by now
            raise
        except Astray as error:
            _log.info("manifest is made again", request=request.id, why=str(error))
            _BEFORE_PLAN()
            await self._queue.plan_again(request.row)
        except Exchanged as error:
            await self._stop(request.lane, error)
            return False
        except StoreError as error:
            await self._wait(request, error, began, of_store=contact is None)
            return False
        except WherryError as error:
            await self._fail(request, error)
        finally:
            self._progress.end(request.row)
        return True

    async def _send(
        self, request: Request, contact: Contact, watcher: RowWatcher, emptying: Emptying
    ) -> Came:
        lane = request.lane

        async def went_well() -> None:
            self.troubles.went_well(lane)
            await watcher.recovered()

        manifest = await self._manifest_of(request) if request.base is None else None
        job = Job(request, contact, manifest, emptying, lambda: self.crew.leaving, went_well)
        return await self._blobs.send(job)

    def _watcher(self, request: Request) -> RowWatcher:
        address = request.lane.store
        broken = partial(self._contacts.broken, address)
        return RowWatcher(request, self._queue, self._clock, self._nudges[address], broken)

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────
    def _is_blocked(self, lane: Lane) -> bool:
        return lane in self._stopped or self.troubles.of(lane) is not None

    async def _is_stopped(self, lane: Lane) -> bool:
        """Whether the lane waits for the user; it is left alone then until a nudge."""
        nudge = self._nudges[lane.store]
        before = nudge.count
        is_stopped = lane in await self._queue.stopped()
        if is_stopped and nudge.count == before:
            self._stopped.add(lane)
        return is_stopped

    async def _stop(self, lane: Lane, error: Exchanged) -> None:
        _log.warning("another store", store=lane.store, name=lane.name, error=error.message)
        self._contacts.broken(lane.store)
        _BEFORE_STOP()
        await self._queue.stop_lane(lane, error.message, error.known)

    async def _wait(
        self, request: Request, error: StoreError, began: float, *, of_store: bool
    ) -> None:
        lane = request.lane
        self._contacts.broken(lane.store)
        if await self._queue.store_id(lane.store):
            error = of_known(error)
        trouble = self.troubles.note(lane, error, began, of_store=of_store)
        _log.warning("store has trouble", store=lane.store, request=request.id, error=str(error))
        await self._queue.wait_until(request.row, trouble.error, trouble.reason, trouble.next_try)
        self.crew.wake_in(trouble.pause_s + _MARGIN_S)

    async def _fail(self, request: Request, error: WherryError) -> None:
        _log.warning("request fails", request=request.id, name=request.lane.name, error=str(error))
        _BEFORE_FAIL()
        reason = str(of_lost(error, request))
        await self._queue.fail(request.row, public_name(error), reason)
