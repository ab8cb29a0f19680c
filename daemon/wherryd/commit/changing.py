"""Which step brings a request that changes another version nearer to its own (docs/commit.md).

Owns: the rules of such a request, beside those that it shares with every commit (``lane``): which version it
changes, when its changes are applied, and when once more. Pure functions of what was seen in the store and of
the request's row. Does not own: applying them (``applying``).

``decide_change`` names the next step, until it is ``Settle``, ``Fail`` or ``Stop``.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from wherryd.commit.lane import (
    READ_AT_ONCE,
    Fail,
    LookAgain,
    Memory,
    Read,
    Step,
    claim,
    confirm,
    is_whole,
    next_number,
    settle_attempt,
    to_number,
)
from wherryd.model import Base, State
from wherryd.queue.base import Request

#: Seconds for which the objects of a base count as looked at, and meanwhile those of the request itself.
LOOKED_S = 600.0


class Apply(msgspec.Struct, frozen=True):
    """Make the manifest that the changes come to, and put it, and both into the queue."""

    base: int  # -1: there is none
    manifest: str  # the base's; "" where there is none


class ApplyAgain(msgspec.Struct, frozen=True):
    """Another has the number: back to where the changes are applied."""


ChangeStep = Step | Apply | ApplyAgain


class Applied:
    """What the worker of a lane has applied the changes of the lane's first request to.

    Told by the worker, asked by ``decide_change``. Nothing of it is kept over a restart: the store may have
    lost what the base names.
    """

    def __init__(self) -> None:
        self._made: tuple[int, str, Apply] | None = None
        self._at = 0.0  # when all was there that it names of its base, and of those before it

    def note(self, request: Request, step: Apply, now: float, before: str = "") -> None:
        """The request's manifest is what its changes come to; all that the base names was there just now.

        Args:
            before: what ``before`` gave, of which nothing was asked for again.
        """
        self._made = request.row, request.manifest or "", step
        self._at = self._at if before else now

    def before(self, request: Request, now: float) -> str:
        """What the request was made into for another base, if that was not long ago; else ""."""
        if self._made is None or self._made[0] != request.row or now - self._at >= LOOKED_S:
            return ""
        return self._made[1]

    def is_done(self, request: Request, step: Apply, now: float) -> bool:
        """Whether the request's manifest is made of this base, and was not long ago."""
        is_made = self._made == (request.row, request.manifest or "", step)
        return is_made and now - self._at < LOOKED_S


def decide_change(
    memory: Memory, applied: Applied, request: Request, store_id: str, now: float, today: float
) -> ChangeStep:
    """Name the next step for a lane's first request, which has a base and is ``uploaded`` or ``sending``.

    Args:
        memory: what was seen of the lane.
        applied: what its changes were applied to.
        request: the row as it is in the queue now.
        store_id: of the store that counts.
        now: the monotonic clock, seconds.
        today: the wall clock.
    """
    assert request.base is not None
    first = confirm(memory, now)
    if first is not None:
        return first
    if request.state is State.SENDING:
        step = settle_attempt(memory, request) or next_number(memory, request, store_id)
        if step is not None:
            return step
        return to_number(memory, request) if request.base.manifest else ApplyAgain()
    step = claim(memory, request) or next_number(memory, request, store_id)
    if step is not None:
        return step
    if not is_whole(memory, request, now, today, LOOKED_S):
        return LookAgain()
    base = find_base(memory, request)
    if not isinstance(base, Apply) or not applied.is_done(request, base, now):
        return base
    return to_number(memory, request)


def find_base(memory: Memory, request: Request) -> Read | Apply | Fail:
    """Find what a request changes: a version that is named, or the highest that is not deleted (rule 3).

    Either was found not to be deleted after the request was accepted; what is deleted stays so.
    """
    assert request.base is not None
    if request.base.manifest:
        return _named_base(memory, request, request.base)
    for number in range(memory.highest, -1, -1):
        seen = memory.seen.get(number)
        if seen is None:
            below = (each for each in range(number, -1, -1) if each not in memory.seen)
            return Read(tuple(islice(below, READ_AT_ONCE)))
        if not seen.deleted:
            is_asked = seen.tick > memory.was_noticed(request)
            return Apply(number, seen.manifest) if is_asked else Read((number,))
    return Apply(-1, "")


def _named_base(memory: Memory, request: Request, base: Base) -> Read | Apply | Fail:
    number, noticed = base.version, memory.was_noticed(request)
    seen = memory.seen.get(number)
    if seen is None and memory.was_absent_after(number, noticed):
        return _other_base(request, number, "is not there")
    if seen is None or seen.tick <= noticed:
        return Read((number,))
    if seen.deleted:
        name = request.lane.name
        return Fail(
            "NotFoundError",
            f"v{number} of {name!r}, which this changes, was deleted\n"
            "  Make a draft of another version, or log all files in a new Artifact.",
        )
    if seen.manifest != base.manifest:
        return _other_base(request, number, "is another one by now")
    return Apply(number, base.manifest)


def _other_base(request: Request, number: int, what: str) -> Fail:
    return Fail(
        "StoreDamaged",
        f"v{number} of {request.lane.name!r}, which this changes, {what}\n"
        f"  Put the store back as it was, then: wherry retry {request.id}. Or make a draft of another version.",
    )
