"""From ``prepared`` to ``uploaded``: all that the version names is in its store.

Owns: which requests are worked on at once, the order manifest, bytes, row; what an error means.
Does not own: which bytes to send (``blobs``), first contact (``contact``), the record (``commit``).

What a kill leaves: objects in the store that nobody names yet; the request is still ``prepared`` and is
done again, without sending again what the store has.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import anyio.to_thread

from wherry.errors import QueueError, StoreError, WherryError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.crew import Crew
from wherryd.log import get_logger
from wherryd.model import State
from wherryd.news import News
from wherryd.progress import Progress
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.transfer.blobs import Blobs, Job, Leaving
from wherryd.transfer.bodies import manifest_body
from wherryd.transfer.contact import AnotherStore, Contact, Contacts
from wherryd.transfer.slots import Slots
from wherryd.transfer.troubles import Troubles

#: Requests from this size on have places of their own, so that they never fill all.
BIG_BYTES = 64 << 20
#: Of one store.
BIG_AT_ONCE = 4
SMALL_AT_ONCE = 12
#: Manifests below this many bytes are put without a question.
SMALL_BYTES = 16 << 10
#: Timers may fire a little early.
_MARGIN_S = 0.05

_AFTER_MANIFEST = failpoint("transfer.manifest.after-put")
_BEFORE_QUEUE = failpoint("transfer.request.before-queue")
_AFTER_QUEUE = failpoint("transfer.request.after-queue")
_BEFORE_FAIL = failpoint("transfer.request.before-fail")

_log = get_logger("transfer")


def choose(
    candidates: Sequence[Request], busy: Sequence[Request], troubles: Troubles
) -> list[Request]:
    """Choose the requests to start: by place, so many of a store, and none of one that is paused."""
    taken = Counter(_class_of(request) for request in busy)
    chosen = []
    for request in candidates:
        address, is_big = class_ = _class_of(request)
        limit = BIG_AT_ONCE if is_big else SMALL_AT_ONCE
        if taken[class_] < limit and troubles.of(address, request.lane.project) is None:
            taken[class_] += 1
            chosen.append(request)
    return chosen


def _class_of(request: Request) -> tuple[str, bool]:
    return request.lane.store, request.size >= BIG_BYTES


class Transferrer:
    """The stage.

    Args:
        manifests: folder of the manifests' files, ``<request row>.zst`` each.
        contacts: the stores that may be written to.
        at_once: bodies in flight, over all stores.
    """

    def __init__(
        self,
        manifests: str,
        contacts: Contacts,
        at_once: int,
        queue: Queue,
        news: News,
        clock: Clock,
        progress: Progress,
        is_pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._manifests = manifests
        self._contacts = contacts
        self._queue = queue
        self._clock = clock
        self._progress = progress
        self._slots = Slots(at_once)
        self._blobs = Blobs(queue, self._slots, progress)
        self.troubles = Troubles(clock)
        self.crew = Crew(
            State.PREPARED,
            partial(choose, troubles=self.troubles),
            self._transfer,
            queue,
            news,
            clock,
            left_out=self.troubles.paused_stores,
            is_blocked=lambda lane: self.troubles.of(lane.store, lane.project) is not None,
            is_pressed=is_pressed,
        )

    async def run(self) -> None:
        """Work until cancelled."""
        await self.crew.run()

    def nudge(self, address: str) -> None:
        """Let all that waits for this store try again now."""
        self.troubles.forget(address)
        self._contacts.broken(address)
        self.crew.nudge()

    async def _transfer(self, request: Request) -> bool:
        self._progress.start(request.row)
        began = self._clock.monotonic()
        try:
            contact = await self._contacts.for_writing(request.lane.store)
            contact.check_counts()
            await self._send(request, contact)
            _BEFORE_QUEUE()
            await self._queue.uploaded(request.row, contact.counting_id)
            _AFTER_QUEUE()
        except Leaving:
            return False
        except QueueError:
            raise
        except WrongState:
            self._contacts.broken(request.lane.store)  # another store may count by now
            raise
        except StoreError as error:
            await self._wait(request, error, began)
            return False
        except WherryError as error:
            await self._fail(request, error)
        finally:
            self._progress.end(request.row)
        return True

    async def _send(self, request: Request, contact: Contact) -> None:
        lane = request.lane

        def went_well() -> None:
            self.troubles.went_well(lane.store, lane.project)

        job = Job(request, contact, lambda: self.crew.leaving, went_well)
        await self._send_manifest(job)
        if request.error:
            await self._queue.wait_until(request.row, "", "", None)
        await self._blobs.send(job)

    async def _send_manifest(self, job: Job) -> None:
        request, registry, project = job.request, job.contact.registry, job.request.lane.project
        assert request.manifest is not None
        path = os.path.join(self._manifests, f"{request.row}.zst")
        body = await anyio.to_thread.run_sync(manifest_body, path, request.manifest)
        async with self._slots.one():
            # Putting a small one again costs no more than asking.
            if body.size < SMALL_BYTES or not await registry.has_manifest(
                project, request.manifest
            ):
                await registry.put_manifest(project, request.manifest, body)
        job.went_well()
        _AFTER_MANIFEST()

    async def _wait(self, request: Request, error: StoreError, began: float) -> None:
        lane = request.lane
        self._contacts.broken(lane.store)
        if isinstance(error, AnotherStore):
            await self._queue.stop_lane(lane, error.message, error.counting_id)
        trouble = self.troubles.note(lane.store, lane.project, error, began)
        _log.warning("store has trouble", store=lane.store, request=request.id, error=str(error))
        await self._queue.wait_until(request.row, trouble.error, trouble.reason, trouble.next_try)
        self.crew.wake_in(trouble.pause_s + _MARGIN_S)

    async def _fail(self, request: Request, error: WherryError) -> None:
        _log.warning("request fails", request=request.id, name=request.lane.name, error=str(error))
        _BEFORE_FAIL()
        await self._queue.fail(request.row, public_name(error), str(error))
