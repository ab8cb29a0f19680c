"""Which step brings a lane's first request nearer to its version (docs/commit.md).

Owns: the rules. Pure functions of what was seen in the store and of the request's row.
Does not own: doing the step (``worker``), which request is first (``queue.line``), aliases.

``decide`` names the next step; the worker does it and tells the outcome to ``Memory``; and so on
until the step is ``Settle``, ``Fail`` or ``Stop``. Nothing here is kept over a restart: what must
be is in the queue before it is acted on.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wherryd.model import State, Tombstone
from wherryd.queue.base import Known, Request
from wherryd.registry.base import Stamp, StoredVersion

#: Seconds after which the store is asked again whether it is what it was.
FRESH_S = 60.0
#: A record that the store dates this much before a request was accepted can't be that request's.
OLD_S = 86_400.0
#: What a request has put itself within this time is not looked at again.
TRUSTED_S = 86_400.0
#: Records read at once while looking for our own id.
READ_AT_ONCE = 16


class Confirm(msgspec.Struct, frozen=True):
    """Read the store's id and the highest number kept, and list what lies above."""


class ReadType(msgspec.Struct, frozen=True):
    """Read to which type the name belongs, and claim it where it is free."""


class Read(msgspec.Struct, frozen=True):
    """Read these numbers."""

    numbers: tuple[int, ...]


class LookAgain(msgspec.Struct, frozen=True):
    """Look whether the store still has what the request names."""


class Attempt(msgspec.Struct, frozen=True):
    """Make the record for this number, and put both into the queue."""

    number: int


class Put(msgspec.Struct, frozen=True):
    """Send the record that is in the queue at its number."""

    number: int


class Settle(msgspec.Struct, frozen=True):
    """The request is this version."""

    version: int


class Fail(msgspec.Struct, frozen=True):
    """The request can't succeed."""

    error: str
    reason: str


class Stop(msgspec.Struct, frozen=True):
    """The store is not what it was: the lane waits for the user."""

    reason: str


Step = Confirm | ReadType | Read | LookAgain | Attempt | Put | Settle | Fail | Stop


class Seen(msgspec.Struct, frozen=True):
    """What one number holds, and when the question was sent that told so."""

    request: str
    content: str
    deleted: bool
    tick: int
    manifest: str = ""  # of a version that is not deleted


class Memory:
    """What a lane's worker knows of the store; told by the worker, asked by ``decide``.

    Ticks count the questions that were sent. A request is noticed at a tick; what was asked at a
    later tick was asked after the request was accepted.
    """

    def __init__(self) -> None:
        self.tick = 0
        self.highest = -1
        self.type: str | None = None
        self.seen: dict[int, Seen] = {}
        self.gone: int | None = None
        self.changed: str | None = None
        self._confirmed_at: float | None = None
        self._created: set[int] = set()
        self._by_request: dict[str, int] = {}
        self._dated: dict[int, float] = {}
        self._absent: tuple[int, int] = (-1, -1)
        self._refused: int | None = None
        self._noticed: dict[int, int] = {}
        self._whole: tuple[int, float] = (-1, 0.0)
        self._run_from = 0  # every number from here to the highest is in ``seen``

    # ── told by the worker ─────────────────────────────────────────────────────────────────────
    def notice(self, requests: list[Request]) -> None:
        """Note requests that are in the queue now."""
        rows = {request.row for request in requests}
        self._noticed = {row: tick for row, tick in self._noticed.items() if row in rows}
        for row in rows:
            self._noticed.setdefault(row, self.tick)

    def ask(self) -> int:
        """The tick of a question that is sent now."""
        self.tick += 1
        return self.tick

    def broken(self) -> None:
        """A store error: the store is asked again whether it is what it was."""
        self._confirmed_at = None
        self._whole = (-1, 0.0)

    def whole(self, request: Request, now: float) -> None:
        """The store still has all that the request names."""
        self._whole = request.row, now

    def applied(self, request: Request, took_s: float) -> None:
        """Its changes were applied, which may take long: what was whole before is so after it."""
        row, at = self._whole
        if row == request.row:
            self._whole = row, at + took_s

    def lost(self) -> None:
        """The store has lost something: the type's claim may be gone as well."""
        self.broken()
        self.type = None

    def confirmed(
        self, kept: Known, record: StoredVersion | None, above: list[Stamp], tick: int, now: float
    ) -> None:
        """The store is the one we know; tells what the highest number kept holds, and what came since.

        What was read above that number is forgotten: nothing tells whether it is there still.
        """
        self.type = self.type or kept.type
        highest = max(kept.highest, *(stamp.version for stamp in above), -1)
        if highest < self.highest:
            self.gone = self.highest
        self._rise(highest)
        self._forget_above(kept.highest)
        self._dated.update((stamp.version, stamp.modified) for stamp in above)
        if kept.highest >= 0:
            self.read(kept.highest, record, tick)
            if record is not None and record.record.request != kept.highest_request:
                self.changed = f"v{kept.highest} in the store is not the one that was there before"
        self._confirmed_at = now

    def read(self, number: int, stored: StoredVersion | None, tick: int) -> None:
        """What a read of one number told; None: nothing is there."""
        if number == self._refused:
            self._refused = None
        if stored is None:
            self._created.discard(number)
            self._read_nothing(number, tick)
            return
        record = stored.record
        deleted = isinstance(record, Tombstone)
        manifest = "" if isinstance(record, Tombstone) else record.manifest
        self._see(number, Seen(record.request, record.content, deleted, tick, manifest))

    def created(self, number: int) -> None:
        """Our record was made this number; whether in the store that we know, is seen when it is read."""
        self._created.add(number)

    def refused(self, number: int) -> None:
        """The store says that something is there already (412)."""
        self._refused = number

    def _see(self, number: int, seen: Seen) -> None:
        self.seen[number] = seen
        self._by_request[seen.request] = number
        self._rise(number)
        self._lengthen_run()

    def _lengthen_run(self) -> None:
        while self._run_from > 0 and self._run_from - 1 in self.seen:
            self._run_from -= 1

    def _rise(self, number: int) -> None:
        if number > self.highest:
            follows = number == self.highest + 1 and number in self.seen
            self.highest = number
            self._run_from = self._run_from if follows else number + 1

    def _forget_above(self, number: int) -> None:
        self.seen = {each: seen for each, seen in self.seen.items() if each <= number}
        self._by_request = {seen.request: each for each, seen in self.seen.items()}
        self._created = {each for each in self._created if each <= number}
        self._run_from = self.highest + 1
        self._lengthen_run()

    def _read_nothing(self, number: int, tick: int) -> None:
        if number <= self.highest:
            self.gone = number
        self._absent = (number, tick)

    # ── asked by decide ────────────────────────────────────────────────────────────────────────
    def is_fresh(self, now: float) -> bool:
        """Whether the store was found to be the one we know within the last 60 s, with no error since."""
        return self._confirmed_at is not None and now - self._confirmed_at < FRESH_S

    def is_whole(self, request: Request, now: float, lasts_s: float = FRESH_S) -> bool:
        """Whether the store was found to have all that the request names, so long ago at most."""
        row, at = self._whole
        return row == request.row and now - at < lasts_s

    def version_of(self, request: Request) -> int | None:
        """The version that bears the request's id, as far as was read."""
        return self._by_request.get(request.id)

    def was_created(self, number: int) -> bool:
        """Whether the store has answered that our record made this number, and lasts."""
        return number in self._created

    def is_refused(self, number: int) -> bool:
        """Whether the number was refused, and not read since."""
        return number == self._refused

    def unread(self, floor: int, accepted: float) -> Iterator[int]:
        """The numbers above ``floor`` that may bear the id of a request that was logged then."""
        for number in range(floor + 1, self._run_from):
            if number not in self.seen and self._may_be_younger(number, accepted):
                yield number

    def _may_be_younger(self, number: int, accepted: float) -> bool:
        return self._dated.get(number, accepted) > accepted - OLD_S

    def was_noticed(self, request: Request) -> int:
        """The tick before which nothing asked counts as asked after the request was accepted."""
        return self._noticed[request.row]

    def was_absent_after(self, number: int, tick: int) -> bool:
        """Whether the number was looked for, and not found, by a question after this one."""
        return self._absent[0] == number and self._absent[1] > tick


def is_recent(since: float | None, now: float) -> bool:
    """Whether what was put then, both by the wall clock, is not to be looked at again."""
    return since is not None and 0 <= now - since < TRUSTED_S


def decide(memory: Memory, request: Request, store_id: str, now: float, today: float) -> Step:
    """Name the next step for a lane's first request, which is ``uploaded`` or ``sending``.

    Args:
        memory: what was seen in the store so far.
        request: the row as it is in the queue now.
        store_id: of the store that counts; numbers known in another store say nothing.
        now: the monotonic clock, seconds.
        today: the wall clock.
    """
    first = confirm(memory, now)
    if first is not None:
        return first
    if request.state is State.SENDING:
        return settle_attempt(memory, request) or _next(memory, request, store_id)
    step = claim(memory, request) or _next(memory, request, store_id)
    return step if _is_whole(memory, request, step, now, today) else LookAgain()


def confirm(memory: Memory, now: float) -> Stop | Confirm | None:
    """Before all else: the store is the one that is known; None: it was found to be, a moment ago."""
    if memory.changed is not None or memory.gone is not None:
        return Stop(memory.changed or f"v{memory.gone} was in the store and is gone")
    return None if memory.is_fresh(now) else Confirm()


def is_whole(
    memory: Memory, request: Request, now: float, today: float, lasts_s: float = FRESH_S
) -> bool:
    """Whether the store has all that the request names, as far as that need be known (rule 6).

    Args:
        lasts_s: for how long a look at it counts.
    """
    return is_recent(request.sent_since, today) or memory.is_whole(request, now, lasts_s)


def _is_whole(memory: Memory, request: Request, step: Step, now: float, today: float) -> bool:
    """Whether the step may be done: only what is whole becomes a version (rule 6)."""
    if not isinstance(step, Attempt | Settle) or memory.version_of(request) is not None:
        return True
    return is_whole(memory, request, now, today)


def claim(memory: Memory, request: Request) -> ReadType | Fail | None:
    """The name has to belong to the request's type before anything bears it; None: it does."""
    if memory.type is None:
        return ReadType()
    if memory.type != request.type:
        return type_taken(request, memory.type)
    return None


def type_taken(request: Request, there: str) -> Fail:
    """The failure of a request whose artifact belongs to another type."""
    name = request.lane.name
    return Fail("TypeTaken", f"{name!r} belongs to type {there!r}, not {request.type!r}")


def settle_attempt(memory: Memory, request: Request) -> Step | None:
    """A number that may have been sent is settled before anything else is tried (rule 5)."""
    number = request.number
    assert number is not None
    if number in memory.seen:
        return None
    if number <= memory.highest or memory.is_refused(number) or memory.was_created(number):
        return Read((number,))
    if number > memory.highest + 1:
        return Stop(f"v{number - 1} was in the store and is gone")
    return Put(number)


def _next(memory: Memory, request: Request, store_id: str) -> Step:
    """Compared or tried only when no record can be ours."""
    return next_number(memory, request, store_id) or to_number(memory, request)


def to_number(memory: Memory, request: Request) -> Step:
    """Compare a request with the highest number, which was read and is not its own, or try the next one."""
    if memory.highest < 0:
        return Attempt(0)
    return _compare(memory, request) or Attempt(memory.highest + 1)


def next_number(memory: Memory, request: Request, store_id: str) -> Settle | Read | None:
    """Find the request's own record (rule 2); None: there is none, and the highest number was read."""
    ours = memory.version_of(request)
    if ours is not None:
        return Settle(ours)
    floor = request.floor if request.floor_store == store_id else -1
    unread = memory.unread(floor, request.logged)
    numbers = tuple(number for number, _ in zip(unread, range(READ_AT_ONCE), strict=False))
    if numbers:
        return Read(numbers)
    if memory.highest >= 0 and memory.highest not in memory.seen:
        return Read((memory.highest,))
    return None


def _compare(memory: Memory, request: Request) -> Step | None:
    """Same content, same version (rule 3): not deleted, seen since accepted, and still the highest."""
    top = memory.seen[memory.highest]
    if top.deleted or top.content != request.content:
        return None
    if top.tick <= memory.was_noticed(request):
        return Read((memory.highest,))
    if not memory.was_absent_after(memory.highest + 1, top.tick):
        return Read((memory.highest + 1,))
    return Settle(memory.highest)
