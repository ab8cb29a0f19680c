"""Brings one upsert into its draft: the part, and the look that says whether it came in time.

Owns: the order of a writer's steps (docs/drafts.md, "How it is had"), pauses after store errors and while a
finish is under way. Does not own: which upserts are worked on (``committer``), the draft's end
(``finishing``).

The part is put before the look: either the look shows no ``sealing.json``, then every finisher's list shows
the part; or it waits for ``sealed.json``, which says whether the part is in.

What a kill leaves: the part's bytes are in the queue before they are sent, and are the same at each try; an
upsert whose part is known to be there looks again.
"""

from __future__ import annotations

from collections.abc import Callable

from wherry.errors import DraftConflict, QueueError, StoreError, StoreUnavailable, UsageError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock, full_jitter
from wherryd.commit.claiming import claimed_type
from wherryd.commit.drafts import late
from wherryd.commit.lane import is_recent, type_taken
from wherryd.commit.looking import Looker
from wherryd.commit.pauses import Pauses
from wherryd.commit.record import make_part
from wherryd.defects import NoteDefect, note_defect
from wherryd.model import Sealed, State
from wherryd.public import public_name
from wherryd.queue.base import Filter, Known, Queue, Request, WrongState
from wherryd.registry.base import DraftSeen, Registry
from wherryd.registry.identity import Exchanged
from wherryd.stores.base import WriteConflict
from wherryd.stores.retry import watched

#: While a finish is under way: the first and the longest pause between two looks.
_FIRST_S = 0.25
_LONGEST_S = 5.0
#: While the draft waits for another finish, which somebody has to ask for.
_LONGEST_IN_CONFLICT_S = 60.0

_AFTER_CLAIM = failpoint("commit.part.after-claim")
_BEFORE_KEEP = failpoint("commit.part.before-keep")
_BEFORE_SEND = failpoint("commit.part.before-send")
_AFTER_SEND = failpoint("commit.part.after-send")
_AFTER_LOOK = failpoint("commit.part.after-look")
_AFTER_PUT = failpoint("commit.part.after-put")
_BEFORE_FAIL = failpoint("commit.part.before-fail")


class UpsertWorker:
    """Works on upserts of one lane.

    Args:
        pauses: how long to wait after an error.
        looker: looks again at what an upsert names.
        broken: called at each error of the store.
    """

    def __init__(
        self,
        registry: Registry,
        queue: Queue,
        clock: Clock,
        pauses: Pauses,
        looker: Looker,
        broken: Callable[[], None],
        note_defect: NoteDefect = note_defect,
    ) -> None:
        self._looker = looker
        self._broken = broken
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._pauses = pauses
        self._note_defect = note_defect
        self._looks = 0

    async def run(self, row: int) -> None:
        """Work until the upsert has ended, waits for something else, or its lane is stopped."""
        while True:
            request = await self._get(row)
            if request is None or request.state not in _OURS:
                return
            if await self._advance(request):
                return

    async def _get(self, row: int) -> Request | None:
        try:
            return await self._queue.get(row)
        except QueueError:
            await self._pauses.wait_shortly()
            return None

    async def _advance(self, request: Request) -> bool:
        """Bring it a state further; whether there is nothing more to do now."""
        try:
            with watched(self._pauses.watcher(request)):
                await self._step(request)
            self._pauses.went_well()
        except WrongState:
            return True
        except Exchanged as error:
            self._broken()
            await self._stop(request, error)
            return True
        except StoreError as error:
            self._broken()
            await self._pauses.wait_after(request.row, error)
        except WriteConflict:
            await self._pauses.wait_conflict(request)
        except QueueError:
            await self._pauses.wait_shortly()
        except UsageError as error:  # the store folds case, and has the name in another one
            await self._fail(request, public_name(error), str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
            self._broken()
            await self._pauses.wait_after(request.row, self._note_defect(error, request.id))
        return False

    async def _step(self, request: Request) -> None:
        known = await self._queue.known(request.lane)
        match request.state:
            case State.UPLOADED:
                await self._begin(request, known)
            case State.SENDING:
                await self._put(request, known.store_id)
            case _:
                await self._await_sealed(request, known.store_id)

    async def _begin(self, request: Request, known: Known) -> None:
        """uploaded → sending."""
        there = known.type or await self._claim(request, known)
        if there != request.type:
            why = type_taken(request, there)
            await self._fail(request, why.error, why.reason)
            return
        if not is_recent(request.sent_since, self._clock.now()):
            is_whole = await self._looker.is_whole(request, self._registry, known.store_id)
            if not is_whole:
                return  # it was sent back
        part = make_part(request, await self._queue.home_id())
        _BEFORE_KEEP()
        await self._queue.keep_part(request.row, part)

    async def _claim(self, request: Request, known: Known) -> str:
        """The type is claimed by the first part: all parts of a draft are of the artifact's type."""
        there = await claimed_type(self._registry, request, known.store_id)
        _AFTER_CLAIM()
        if there is None:
            name = request.lane.name
            raise StoreUnavailable(f"the claim of {name!r} was put, and is not there")
        learnt = Known(known.store_id, there, known.highest, known.highest_request)
        await self._queue.learn(request.lane, learnt)
        return there

    async def _put(self, request: Request, store_id: str) -> None:
        """sending → settled, when the part was seen in the store after it was put; done if in time."""
        assert request.record is not None
        project, draft = request.lane.project, request.draft
        _BEFORE_SEND()
        is_new = await self._registry.drafts.put_part(project, draft, request.id, request.record)
        _AFTER_SEND()
        seen = await self._look(request, store_id, is_lasting=is_new)
        if not seen.has_part:
            raise StoreUnavailable(f"the part of {request.id} was put, and is not there")
        await self._queue.part_put(request.row)
        _AFTER_PUT()
        await self._end(request, seen)

    async def _await_sealed(self, request: Request, store_id: str) -> None:
        """settled → done or failed; or wait for ``sealed.json``."""
        seen = await self._look(request, store_id)
        if not seen.has_part and seen.sealed is None:
            raise StoreUnavailable(f"the part of {request.id} was there, and is gone")
        await self._end(request, seen)

    async def _look(
        self, request: Request, store_id: str, *, is_lasting: bool = False
    ) -> DraftSeen:
        place = request.lane.project, request.draft
        drafts = self._registry.drafts
        seen = await drafts.look(*place, store_id, request.id, is_lasting=is_lasting)
        _AFTER_LOOK()
        return seen

    async def _end(self, request: Request, seen: DraftSeen) -> None:
        sealed = seen.sealed
        if sealed is None and seen.is_sealing:
            await self._wait(request, seen.conflict or await self._why_ended(seen.sealing))
        elif sealed is None or request.id in sealed.parts:
            await self._queue.done(request.row, request.aliases)
        else:
            await self._fail_late(request, sealed)

    async def _why_ended(self, finish: str) -> str:
        """Why the finish that has begun the sealing is over without an end, if it was this home's."""
        ended = (State.FAILED, State.CANCELLED)
        found = await self._queue.find(Filter(states=ended, ids=(finish,))) if finish else []
        return f"{found[0].state} {found[0].reason}".strip() if found else ""

    async def _wait(self, request: Request, conflict: str) -> None:
        """A finish is under way, or is over without an end."""
        longest_s = _LONGEST_IN_CONFLICT_S if conflict else _LONGEST_S
        pause_s = full_jitter(self._clock, self._looks, _FIRST_S, longest_s)
        self._looks += 1
        if conflict:
            reason = f"a finish of the draft has failed, another is waited for: {conflict}"
            if request.reason != reason:
                error = public_name(DraftConflict())
                await self._queue.wait_until(request.row, error, reason, None)
        await self._pauses.wait(pause_s)

    async def _fail_late(self, request: Request, sealed: Sealed) -> None:
        version = f"v{sealed.start - 1}" if sealed.same else f"v{sealed.start} or later"
        failure = late(version, "this upsert")
        _BEFORE_FAIL()
        await self._queue.fail_late(request.row, failure.error, failure.reason)

    async def _fail(self, request: Request, error: str, reason: str) -> None:
        _BEFORE_FAIL()
        await self._queue.fail(request.row, error, reason)

    async def _stop(self, request: Request, error: Exchanged) -> None:
        await self._queue.stop_lane(request.lane, error.message, error.known)


_OURS = (State.UPLOADED, State.SENDING, State.SETTLED)
