"""One lane's commits, one after the other.

Owns: doing the steps that ``lane.decide`` names, for the first request of one lane; pauses after
store errors. Does not own: the rules (``lane``, ``drafts``, ``changing``), the steps of a draft
(``finishing``), applying changes (``applying``), which lanes have work (``committer``), aliases.

What a kill leaves: before ``queue.attempt`` returned, nothing was sent; after it, number and bytes
are in the queue and count as sent, and the next start settles them at that number.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wherry.errors import (
    CaptureError,
    QueueError,
    StoreChanged,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.commit.applying import Applier
from wherryd.commit.changing import Applied, Apply, ApplyAgain, ChangeStep, decide_change
from wherryd.commit.claiming import claimed_type
from wherryd.commit.drafts import FailLate, FinishStep, decide_finish
from wherryd.commit.finishing import Finisher, PartsMissing
from wherryd.commit.lane import (
    Attempt,
    Confirm,
    Fail,
    LookAgain,
    Memory,
    Put,
    Read,
    ReadType,
    Settle,
    Stop,
    decide,
)
from wherryd.commit.looking import Looker
from wherryd.commit.pauses import Pauses
from wherryd.commit.record import make_draft_record, make_record
from wherryd.defects import NoteDefect, note_defect
from wherryd.doubts import Doubts
from wherryd.model import Lane, RequestKind, Sealed, State
from wherryd.news import Watch
from wherryd.public import public_name
from wherryd.queue.base import Known, Queue, Request, WrongState
from wherryd.registry.base import Registry, Stamp, StoredVersion
from wherryd.registry.identity import Exchanged
from wherryd.stores.base import ObjectExists, WriteConflict
from wherryd.stores.retry import watched

_AFTER_CONFIRM = failpoint("commit.store.after-confirm")
_AFTER_CLAIM = failpoint("commit.type.after-claim")
_BEFORE_ATTEMPT = failpoint("commit.record.before-queue")
_BEFORE_SEND = failpoint("commit.record.before-send")
_AFTER_SEND = failpoint("commit.record.after-send")
_BEFORE_AGAIN = failpoint("commit.base.before-again")
_BEFORE_FAIL_LATE = failpoint("commit.draft.before-fail")
_BEFORE_SETTLE = failpoint("commit.request.before-settle")
_AFTER_SETTLE = failpoint("commit.request.after-settle")


class LaneWorker:
    """Brings the requests of one lane to their versions, in order.

    Args:
        lane: whose requests.
        registry: the lane's store.
        pauses: how long to wait after an error; shared by the lanes of a store.
        looker: looks again at what a request names.
        finisher: finishes drafts.
        applier: applies changes to other versions.
        doubts: what others, and this worker, have met at the store.
    """

    def __init__(
        self,
        lane: Lane,
        registry: Registry,
        queue: Queue,
        clock: Clock,
        pauses: Pauses,
        looker: Looker,
        finisher: Finisher,
        applier: Applier,
        note_defect: NoteDefect = note_defect,
        doubts: Doubts | None = None,
    ) -> None:
        self._lane = lane
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._pauses = pauses
        self._looker = looker
        self._finisher = finisher
        self._applier = applier
        self._applied = Applied()
        self._note_defect = note_defect
        self._doubts = doubts or Doubts()
        self._doubted = 0  # how often, when the store was asked last
        self._memory = Memory()
        self._kept: Known | None = None

    async def run(self, watch: Watch) -> None:
        """Work until the lane has no request left, or is stopped."""
        while True:
            await watch.wait_news()
            while line := await self._look():
                head = line[0]
                if head.state not in (State.UPLOADED, State.SENDING):
                    break
                try:
                    if not await self._advance(head):
                        return
                except PartsMissing:
                    break
            if not line:
                return

    async def _look(self) -> list[Request]:
        """Look at the beginning of the lane.

        The second request is noticed as well, before the first is sent, so that what this worker
        writes counts as seen after the second was accepted.
        """
        line = await self._queue.line(self._lane, limit=2, upserts=False)
        self._memory.notice(line)
        return line

    async def _advance(self, head: Request) -> bool:
        """Do steps until the request has ended or something is in the way; False: lane stopped."""
        try:
            with watched(self._pauses.watcher(head)):
                while not isinstance(step := self._decide(head), Settle | Fail | FailLate | Stop):
                    head = await self._do(step, head)
                    self._pauses.went_well()
                await self._end(step, head)
        except WrongState:
            return True  # cancelled meanwhile: look again
        except Exchanged as error:
            self._memory.changed = error.message
            return await self._advance(head)
        except StoreError as error:
            self._doubts.note(self._lane.store)
            await self._pauses.wait_after(head.row, error)
            return True
        except WriteConflict:
            await self._pauses.wait_conflict(head)
            return True
        except PartsMissing:
            raise
        except (QueueError, CaptureError) as error:
            await self._pause_for_room(head, error)
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, the other lanes must go on
            self._doubts.note(self._lane.store)
            await self._pauses.wait_after(head.row, self._note_defect(error, head.id))
            return True
        return not isinstance(step, Stop)

    async def _pause_for_room(self, head: Request, error: QueueError | CaptureError) -> None:
        """What makes a manifest is much to do again, so that waits longer; and can be told mostly."""
        makes_manifest = head.kind is RequestKind.FINISH or head.base is not None
        if isinstance(error, CaptureError) and makes_manifest:
            await self._pauses.wait_after(head.row, error)
        else:
            await self._pauses.wait_shortly()  # it can't be told the reason either

    def _decide(self, head: Request) -> FinishStep | ChangeStep:
        is_doubted = self._doubts.of(self._lane.store) != self._doubted
        if is_doubted:
            self._memory.broken()
        store_id = self._kept.store_id if self._kept else ""
        now, today = self._clock.monotonic(), self._clock.now()
        if head.kind is RequestKind.FINISH:
            finishing = self._finisher.memory(head)
            if is_doubted:
                finishing.broken()
            return decide_finish(self._memory, finishing, head, store_id, now, today)
        if head.base is not None:
            return decide_change(self._memory, self._applied, head, store_id, now, today)
        return decide(self._memory, head, store_id, now, today)

    async def _do(self, step: FinishStep | ChangeStep, head: Request) -> Request:
        """Do a step after which the request still has to become a version; return it as it is then."""
        match step:
            case Confirm():
                await self._confirm()
            case ReadType():
                await self._claim(head)
            case Read(numbers):
                await self._read(head, numbers)
            case LookAgain():
                await self._look_again(head)
            case Attempt(number):
                return await self._attempt(head, number)
            case Put(number):
                await self._put(head, number)
            case Apply():
                return await self._apply(step, head)
            case ApplyAgain():
                return await self._apply_again(head)
            case _:
                store_id, tick = self._known.store_id, self._memory.tick
                return await self._finisher.do(step, head, store_id, tick)
        return head

    async def _end(self, step: Settle | Fail | FailLate | Stop, head: Request) -> None:
        match step:
            case FailLate(error, reason):
                _BEFORE_FAIL_LATE()
                await self._queue.fail_late(head.row, error, reason)
            case Settle(version):
                await self._settle(head, version)
            case Fail(error, reason):
                await self._queue.fail(head.row, error, reason)
            case Stop(reason):
                await self._queue.wait_until(head.row, StoreChanged.__name__, reason, None)
                await self._queue.stop_lane(self._lane, reason, self._known.store_id)

    @property
    def _known(self) -> Known:
        """What the queue keeps of the artifact; asked for by the first step."""
        assert self._kept is not None
        return self._kept

    # ── steps that ask ─────────────────────────────────────────────────────────────────────────
    async def _confirm(self) -> None:
        self._kept = kept = await self._queue.known(self._lane)
        tick = self._memory.ask()
        await self._registry.check_identity(kept.store_id)
        above = await self._registry.list_versions(
            self._lane.project, self._lane.name, after=kept.highest
        )
        doubted = self._doubts.of(self._lane.store)  # this look is after all trouble so far
        record = await self._read_highest(kept, above)
        self._doubted = doubted
        self._memory.confirmed(kept, record, above, tick, self._clock.monotonic())
        _AFTER_CONFIRM()

    async def _read_highest(self, kept: Known, above: Sequence[Stamp]) -> StoredVersion | None:
        """Read the highest number kept; what a listing showed may be another store's, so look for it too."""
        numbers = [number for number in (kept.highest, *_last(above)) if number >= 0]
        found = dict(zip(numbers, await self._read_in(numbers), strict=True))
        for number in _last(above):
            if found[number] is None:
                raise StoreUnavailable(
                    f"v{number} of {self._lane.name!r} was listed and is not there"
                )
        return found.get(kept.highest)

    async def _read_in(self, numbers: Sequence[int]) -> list[StoredVersion | None]:
        lane = self._lane
        store_id = self._known.store_id
        return await self._registry.read_versions(lane.project, lane.name, numbers, store_id)

    async def _claim(self, head: Request) -> None:
        store_id = self._known.store_id
        try:
            self._memory.type = await claimed_type(self._registry, head, store_id)
        except UsageError as error:  # the store folds case, and has the name in another one
            await self._queue.fail(head.row, public_name(error), str(error))
            raise WrongState("failed") from error
        _AFTER_CLAIM()
        await self._learn()

    async def _read(self, head: Request, numbers: tuple[int, ...]) -> None:
        tick = self._memory.ask()
        found = await self._read_in(numbers)
        bare = [
            number
            for number, stored in zip(numbers, found, strict=True)
            if stored is None and self._memory.is_refused(number)
        ]
        for number, stored in zip(numbers, found, strict=True):
            self._memory.read(number, stored, tick)
        if head.base is not None:
            await self._learn()  # else what was read of deleted versions is forgotten each time
        if bare:
            refusal = StoreUnavailable(
                f"{self._lane.store} refuses v{bare[0]}, and has nothing there"
            )
            await self._pauses.wait_refused(head.row, refusal)

    async def _look_again(self, head: Request) -> None:
        if not await self._looker.is_whole(head, self._registry, self._known.store_id):
            self._memory.lost()
            raise WrongState("sent back")
        self._memory.whole(head, self._clock.monotonic())

    # ── steps that change ──────────────────────────────────────────────────────────────────────
    async def _attempt(self, head: Request, number: int) -> Request:
        await self._learn()
        self._pauses.not_refused()
        sealed = self._sealed(head)
        record = make_draft_record(sealed, number) if sealed else make_record(head, number)
        _BEFORE_ATTEMPT()
        await self._queue.attempt(head.row, number, record)
        return msgspec.structs.replace(head, state=State.SENDING, number=number, record=record)

    async def _apply(self, step: Apply, head: Request) -> Request:
        begun, store_id = self._clock.monotonic(), self._known.store_id
        before = self._applied.before(head, begun)
        made = await self._applier.apply(step, head, self._registry, store_id, before)
        if isinstance(made, Fail):
            await self._queue.fail(head.row, made.error, made.reason)
            raise WrongState("failed")
        now = self._clock.monotonic()
        self._applied.note(made, step, now, before)
        self._memory.applied(head, now - begun)
        return made

    async def _apply_again(self, head: Request) -> Request:
        """The number is known before it is let go of: else a store put back would get it with other bytes."""
        await self._learn()
        _BEFORE_AGAIN()
        await self._queue.apply_again(head.row)
        return msgspec.structs.replace(head, state=State.UPLOADED, number=None, record=None)

    async def _put(self, head: Request, number: int) -> None:
        assert head.record is not None
        self._memory.ask()
        _BEFORE_SEND()
        try:
            await self._registry.create_version(
                self._lane.project, self._lane.name, number, head.record
            )
        except ObjectExists:
            self._memory.refused(number)
        else:
            self._memory.created(number)
        _AFTER_SEND()

    async def _settle(self, head: Request, version: int) -> None:
        if not self._memory.was_created(version):
            lane, store_id = self._lane, self._known.store_id
            await self._registry.sync_version(lane.project, lane.name, version, store_id)
        _BEFORE_SETTLE()
        sealed = self._sealed(head)
        # Else the version's record names another run.
        is_own = self._memory.version_of(head) == version
        if sealed is not None:
            is_own = sealed.finisher == head.id and not sealed.same
        drafts, learned = sealed.aliases if sealed else None, self._learned()
        await self._queue.settle(
            head.row, version, drafts, is_own=is_own, learned=learned, may_end=True
        )
        self._kept = learned or self._kept
        _AFTER_SETTLE()

    def _sealed(self, head: Request) -> Sealed | None:
        """What the draft is that a request finishes."""
        return self._finisher.memory(head).sealed if head.kind is RequestKind.FINISH else None

    async def _learn(self) -> None:
        """Keep what was learned, where there is any."""
        if learned := self._learned():
            await self._queue.learn(self._lane, learned)
            self._kept = learned

    def _learned(self) -> Known | None:
        """The highest number that was read, and the type, where they are new."""
        memory, kept = self._memory, self._known
        top = memory.seen.get(memory.highest)
        if top is not None and memory.highest > kept.highest:
            return Known(kept.store_id, memory.type, memory.highest, top.request)
        if memory.type != kept.type:
            return Known(kept.store_id, memory.type, kept.highest, kept.highest_request)
        return None


def _last(stamps: Sequence[Stamp]) -> list[int]:
    """The highest number of a listing, if there is one."""
    return [stamp.version for stamp in stamps[-1:]]
