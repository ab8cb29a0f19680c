"""Which step brings a draft's finish nearer to its version (docs/drafts.md).

Owns: the rules of a finisher, beside those that it shares with every commit (``lane``). Pure functions of
what was seen in the store and of the request's row. Does not own: doing the steps (``finishing``), what the
parts come to (``merging``), writers (``upserts``).

``decide_finish`` names the next step, until it is ``Settle``, ``Fail``, ``FailLate`` or ``Stop``.
"""

from __future__ import annotations

import msgspec

from wherryd.commit.lane import (
    Attempt,
    Fail,
    LookAgain,
    Memory,
    Read,
    Settle,
    Step,
    Stop,
    claim,
    confirm,
    is_whole,
    next_number,
    settle_attempt,
    type_taken,
)
from wherryd.model import Sealed, State
from wherryd.queue.base import Request


class LookForSealed(msgspec.Struct, frozen=True):
    """Read ``sealed.json``: somebody may have finished the draft."""


class AwaitParts(msgspec.Struct, frozen=True):
    """Look whether the upserts that this home accepted before have put their parts; else wait for news."""


class BeginSealing(msgspec.Struct, frozen=True):
    """Put ``sealing.json``: whoever puts a part from then on sees it."""


class Gather(msgspec.Struct, frozen=True):
    """List and read the parts, write the manifest that they come to, and say what the draft is to be."""


class TellConflict(msgspec.Struct, frozen=True):
    """Put ``conflict.json``: writers need not wait for this finish."""

    reason: str


class KeepSealed(msgspec.Struct, frozen=True):
    """Put the bytes of ``sealed.json`` into the queue."""

    sealed: bytes


class PutSealed(msgspec.Struct, frozen=True):
    """Send the bytes that are in the queue."""


class LookForManifest(msgspec.Struct, frozen=True):
    """Look whether the store has the draft's manifest, before a record names it."""

    manifest: str


class CompareOwn(msgspec.Struct, frozen=True):
    """Look whether what this finish brings is in the draft that another one has sealed."""


class FailLate(msgspec.Struct, frozen=True):
    """The draft is a version, without all that this finish brings."""

    error: str
    reason: str


FinishStep = (
    Step
    | LookForSealed
    | AwaitParts
    | BeginSealing
    | Gather
    | TellConflict
    | KeepSealed
    | PutSealed
    | LookForManifest
    | CompareOwn
    | FailLate
)


class Finishing:
    """What the worker of a lane knows of the draft that the lane's first request finishes.

    Told by the worker, asked by ``decide_finish``. Nothing of it is kept over a restart.
    """

    def __init__(self) -> None:
        self.sealed: Sealed | None = None
        self.tick = 0  # of the last question about the lane before ``sealed`` was seen
        self.is_looked = False  # for ``sealed.json``, since the last trouble
        self.has_parts = False  # those that this home accepted before are put
        self.is_sealing = False
        self.is_put = False  # our ``sealed.json`` was sent and answered, and not looked for since
        self.made: bytes | None = None  # what the draft is to be
        self.conflict: Fail | None = None  # why it can't be
        self.is_told = False
        self.has_manifest = False  # the store has the manifest that ``sealed`` names
        self.missing: str | None = None  # what the draft lacks of what we bring; "": nothing

    def broken(self) -> None:
        """A store error: what was seen counts no more."""
        self.is_looked = self.is_put = False

    def looked(self, sealed: Sealed | None, tick: int) -> None:
        """What a look for ``sealed.json`` told, and the lane's tick then."""
        self.sealed, self.tick = sealed, tick
        self.is_looked = True
        self.is_put = False

    def conflicts(self, why: Fail) -> None:
        """The parts do not come to a version; somebody may have settled that meanwhile."""
        self.conflict = why
        self.is_looked = False


def decide_finish(
    memory: Memory, finishing: Finishing, request: Request, store_id: str, now: float, today: float
) -> FinishStep:
    """Name the next step for a lane's first request, a finish that is ``uploaded`` or ``sending``.

    Args:
        memory: what was seen of the lane.
        finishing: what was seen of the draft.
        request: the row as it is in the queue now.
        store_id: of the store that counts.
        now: the monotonic clock, seconds.
        today: the wall clock.
    """
    first = confirm(memory, now)
    if first is not None:
        return first
    if finishing.sealed is not None:
        return _follow(memory, finishing, finishing.sealed, request, store_id)
    if request.sealed is not None:
        return LookForSealed() if finishing.is_put else PutSealed()
    if not finishing.is_looked:
        return LookForSealed()
    return claim(memory, request) or _seal(memory, finishing, request, now, today)


def _seal(
    memory: Memory, finishing: Finishing, request: Request, now: float, today: float
) -> FinishStep:
    """Parts that were accepted before are put, then the mark, then the list: no part is lost between them."""
    if finishing.conflict is not None:
        return finishing.conflict if finishing.is_told else TellConflict(finishing.conflict.reason)
    if not finishing.has_parts:
        return AwaitParts()
    if not is_whole(memory, request, now, today):
        return (
            LookAgain()
        )  # before the mark, which lets writers wait, and again after a long gathering
    if not finishing.is_sealing:
        return BeginSealing()
    return Gather() if finishing.made is None else KeepSealed(finishing.made)


def _follow(
    memory: Memory, finishing: Finishing, sealed: Sealed, request: Request, store_id: str
) -> FinishStep:
    """Every finisher does what ``sealed.json`` says, whoever wrote it; content is not compared again."""
    step = _to_version(memory, finishing, sealed, request, store_id)
    if isinstance(step, Attempt) and not finishing.has_manifest:
        return LookForManifest(sealed.manifest)
    if not isinstance(step, Settle) or sealed.finisher == request.id:
        return step
    if sealed.type != request.type:
        why = type_taken(request, sealed.type)
        return FailLate(why.error, why.reason)
    if finishing.missing is None:
        return CompareOwn()
    if finishing.missing:
        return late(f"v{step.version}", finishing.missing)
    return step


def _to_version(
    memory: Memory, finishing: Finishing, sealed: Sealed, request: Request, store_id: str
) -> Step:
    below = sealed.start - 1
    if below >= 0 and below not in memory.seen:
        if memory.was_absent_after(below, finishing.tick):
            return Stop(f"v{below} was in the store and is gone")
        return Read((below,))
    if sealed.same:
        return Settle(below)
    # A version that bears the draft's id may be older than the request, and another home's.
    draft = msgspec.structs.replace(
        request, id=sealed.draft, floor=below, floor_store=store_id, logged=0.0
    )
    if request.state is State.SENDING and request.number is not None:
        step = settle_attempt(memory, draft)
        if step is not None:
            return step
    step = next_number(memory, draft, store_id)
    return step if step is not None else Attempt(memory.highest + 1)


def late(version: str, missing: str) -> FailLate:
    """The failure of what came to a draft that was finished without it.

    Args:
        version: what it is.
        missing: what it lacks.
    """
    return FailLate(
        "DraftFinished",
        f"the draft is finished as {version}, without {missing}\n"
        '  Use another distributed_id, for instance f"{group}-{epoch}".',
    )
