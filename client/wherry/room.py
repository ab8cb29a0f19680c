"""Room in the spool: what this process holds of it, and waiting where there is none.

Owns: this process's line in the home's room file, when to wait and when to give up, what is said of it.
Does not own: the file (``wire.room``), the captured bytes (``spool``), the quota (the daemon). Who is to
wait, and for how long, stands in docs/promises.md, promise 8.

What the line says is added up from the claims each time it is written. So whatever interrupts a capture, a
claim that was given back is not counted any more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wherry import active, forks, leftovers, session
from wherry.errors import SpoolFull, WherryError
from wherry.notices import say
from wherry.wire import places
from wherry.wire.failpoints import failpoint
from wherry.wire.room import NOTHING, Head, Line, Quota, Room, RoomFile, State, added_up, quota_of

if TYPE_CHECKING:
    from wherry.wire.settings import Settings

_CLAIMED = failpoint("room.claim.written")

#: Taken ahead where a step goes on taking, and given back at its end.
_AHEAD = Room(1 << 20, 16)
#: Likewise for a file that a user writes, which mostly is small.
AHEAD_OF_FILE = Room(64 << 10, 1)
#: Of a small quota no more than this part.
_AHEAD_PART = 1024
_LONGEST_PAUSE_S = 0.25
#: While it waits, a client looks so often whether a daemon runs.
_ROUSE_S = 10.0


class Claim:
    """What one artifact, or one file that is being written, holds of the spool. No I/O."""

    __slots__ = ("_ahead", "home", "taken", "used")

    def __init__(self, ahead: Room = NOTHING) -> None:
        self.home = ""  # "" while it holds nothing
        self.used = NOTHING
        self.taken = NOTHING  # at least what is used; what is ahead of it goes back soon
        self._ahead = ahead

    def use(self, amount: Room) -> None:
        """Count what was written."""
        self.used = used = self.used.plus(amount)
        if used[0] > self.taken[0] or used[1] > self.taken[1]:
            self.taken = Room(max(used[0], self.taken[0]), max(used[1], self.taken[1]))

    def covers(self, amount: Room) -> bool:
        """Whether so much more is taken already."""
        used, taken = self.used, self.taken  # asked for each file of a folder
        return used[0] + amount[0] <= taken[0] and used[1] + amount[1] <= taken[1]

    def to_take(self, amount: Room, quota: Quota) -> Iterator[Room]:
        """What to take for so much more: something ahead as well, if there is room for it."""
        need = self.used.plus(amount)
        if self._ahead.bytes:
            yield need.plus(_within(self._ahead, quota))
        self._ahead = _AHEAD
        yield need

    def settle(self) -> None:
        """Keep no more than what is used."""
        self.taken, self._ahead = self.used, NOTHING

    def empty(self) -> None:
        """Hold nothing any more; the next that is written says so."""
        self.used = NOTHING
        self.settle()


def reserve(home: str, claim: Claim, amount: Room) -> bool:
    """Make sure that so much more finds room; wait for it if need be. Returns whether it was waited for.

    Raises:
        SpoolFull: it can't find room, or nothing has left the spool for too long.
        OSError: the room file can't be used.
    """
    return _shared(home).take(claim, amount)


def settle(claim: Claim) -> None:
    """Give back what was taken ahead. Raises ``OSError``."""
    claim.settle()
    _tell(claim)


def give_back(claim: Claim, used: Room = NOTHING) -> None:
    """Keep no more than ``used``."""
    claim.used = used
    claim.settle()
    with suppress(OSError):  # the next that is written counts it
        _tell(claim)


def _tell(claim: Claim) -> None:
    shared = _rooms.get(claim.home)
    if shared is not None and shared.is_ours:
        shared.tell(claim)


class _Shared:
    """One home's room, as this process shares in it."""

    def __init__(self, home: str, file: RoomFile) -> None:
        self.home = home
        self.file = file
        self._generation = forks.generation()
        self._lock = forks.ForkLock()
        self._claims: set[Claim] = set()
        self._session = session.current(home).id
        self._line = file.take_line(self._session)
        self._written = Line("")

    @property
    def is_ours(self) -> bool:
        """Whether this process has made it, and not the one that it was forked from."""
        return self._generation == forks.generation()

    def tell(self, claim: Claim) -> None:
        """Say anew what this process holds."""
        with self._lock.held():
            self._claims = {each for each in {*self._claims, claim} if any(each.taken)}
            self._write()

    def take(self, claim: Claim, amount: Room) -> bool:
        """Take room for a claim, and wait for it where there is none; whether it was waited for."""
        claim.home = self.home
        if self._try(claim, amount) is None:
            return False
        leftovers.remove()
        waiting = _Waiting(self.home, amount)
        try:
            while (state := self._try(claim, amount)) is not None:
                waiting.go_on(state, claim, self._own())
                with self._lock.held():
                    self._write(wanted=amount)
                waiting.pause()
        finally:
            with self._lock.held():
                self._write()
        waiting.over()
        return True

    def _try(self, claim: Claim, amount: Room) -> State | None:
        """Take it; where there is no room, how full the spool is without it."""
        with self._lock.held():
            before, self._claims = claim.taken, {*self._claims, claim}
            state = self.file.read()
            others, quota = state.held.minus(self._written.held), _quota(self.home, state)
            try:
                for taken in claim.to_take(amount, quota):
                    claim.taken = taken
                    # Who only looks takes room from nobody, not even for a moment.
                    if quota.has_room_for(others.plus(self._held())):
                        self._write()
                        _CLAIMED()
                        if quota.has_room_for(self.file.read().held):
                            return None
            except BaseException:
                claim.taken = before
                raise
            claim.taken = before
            self._write()
            return state

    def _own(self) -> Room:
        with self._lock.held():
            return added_up(claim.used for claim in self._claims)

    def _held(self) -> Room:
        return added_up(claim.taken for claim in self._claims)

    def _write(self, wanted: Room = NOTHING) -> None:
        line = Line(self._session, self._held(), wanted)
        if line != self._written:
            self._written = Line("")  # written anew, should this be interrupted
            self.file.write_line(self._line, line)
            self._written = line


_rooms: dict[str, _Shared] = {}
_opening = forks.ForkLock()


def _shared(home: str) -> _Shared:
    """This process's share of a home's room; the first call makes it."""
    with _opening.held():
        shared = _rooms.get(home)
        if shared is None or not shared.is_ours or not shared.file.is_there():
            # A forked child may use the file that is open; its lines are the parent's.
            has_file = shared is not None and shared.file.is_there()
            file = shared.file if shared and has_file else RoomFile(f"{home}/{places.ROOM}")
            shared = _rooms[home] = _Shared(home, file)
        return shared


class _Waiting:
    """One wait for room."""

    def __init__(self, home: str, amount: Room) -> None:
        self._home = home
        self._amount = amount
        self._began_s = self._moved_s = time.monotonic()
        self._rouse_s = self._began_s
        self._last: tuple[object, ...] | None = None
        self._pause_s = 0.01
        self._is_told = False

    def go_on(self, state: State, claim: Claim, own: Room) -> None:
        """Look at how things stand. Raises ``SpoolFull`` where there is no point in going on."""
        look = _Look(state, _quota(self._home, state), claim, own, self._amount)
        if why := look.never():
            raise self._full(look, *why)
        now_s, moved = time.monotonic(), _moved(state)
        if moved != self._last:
            self._last, self._moved_s = moved, now_s
        timeout_s = _timeout_s(state.head)
        if now_s - self._moved_s >= timeout_s:
            for_s = f"for {timeout_s:.0f} s" if timeout_s else "now"
            raise self._full(look, f"Nothing leaves it {for_s}.", _SENT)
        if not self._is_told:
            self._is_told = True
            say(f"{self._says(look)} Waiting until some of it is sent. {_SENT}")
        if now_s >= self._rouse_s:
            self._rouse_s = now_s + _ROUSE_S
            _rouse(self._home)

    def pause(self) -> None:
        """Let some time pass."""
        # Not all who wait come at the same moment; ``random`` would be the same in forked children.
        time.sleep(self._pause_s * (0.5 + time.monotonic_ns() % 1000 / 1000))
        self._pause_s = min(self._pause_s * 1.5, _LONGEST_PAUSE_S)

    def over(self) -> None:
        """There is room again."""
        if self._is_told:
            passed_s = time.monotonic() - self._began_s
            say(f"There is room in the spool again, after {passed_s:.0f} s.")

    def _full(self, look: _Look, why: str, hint: str) -> SpoolFull:
        return SpoolFull(f"{self._says(look)} {why}", hint=hint)

    def _says(self, look: _Look) -> str:
        return f"The spool {self._home}/{places.SPOOL} is full: {look.text()}"


class _Look(NamedTuple):
    """How things stand for one who needs room."""

    state: State
    quota: Quota
    claim: Claim
    own: Room  # captured by this process, and not logged
    amount: Room

    def never(self) -> tuple[str, str] | None:
        """Why no waiting helps, and what does; None where it may help."""
        fits = self.quota.has_room_for
        if not fits(self.claim.used.plus(self.amount)):
            return "This artifact alone needs more than the quota.", _LARGER
        if not fits(self.own.plus(self.amount)):
            return (
                "Artifacts of this program that are not logged hold what is missing.",
                f"Log them, or drop them, before more is added. {_RAISE}",
            )
        resting = self.state.head.resting if self.state.head else Room()
        if not fits(self.own.plus(resting).plus(self.amount)):
            return (
                "Requests that wait for you, held by offline mode or failed, hold what is missing.",
                _RESTING,
            )
        return None

    def text(self) -> str:
        """Say how full it is, who holds that, and what is needed."""
        from wherry.progress import size_text

        state, quota = self.state, self.quota
        logged = state.head.logged if state.head else Room()
        others = state.unlogged.minus(self.own)
        of_bytes = "" if quota.bytes is None else f" of {size_text(quota.bytes)}"
        of_files = "" if quota.files is None else f" of {quota.files:,}"
        holders = (
            ("logged requests", logged),
            ("this program's artifacts that are not logged", self.own),
            ("other programs' artifacts that are not logged", others),
        )
        told = ", ".join(f"{who} {size_text(room.bytes)}" for who, room in holders if room.bytes)
        files = state.held.files + self.amount.files
        is_of_files = quota.files is not None and files > quota.files
        needed = f", in {self.amount.files} more files" if is_of_files else ""
        return (
            f"it holds {size_text(state.held.bytes)}{of_bytes} in {state.held.files:,}{of_files} files"
            f"{f' ({told})' if told else ''}, and room for {size_text(self.amount.bytes)} more is"
            f" needed{needed}."
        )


_RAISE = (
    "A larger spool_quota_bytes or spool_quota_inodes in the home's config.toml counts within"
    " seconds, without a new start."
)
_SENT = f"`wherry status` shows what waits to be sent, and why. {_RAISE}"
_RESTING = (
    "`wherry sync` sends what is held; `wherry status` names what failed, for `wherry retry` or"
    f" `wherry acknowledge`. {_RAISE}"
)
_LARGER = (
    f"Log it in several artifacts, or add files that stay as they are with policy='immutable'."
    f" {_RAISE}"
)


def _moved(state: State) -> tuple[object, ...]:
    """What changes as long as room may come: something is sent, hashed, freed, logged or dropped."""
    head = state.head
    return (head.beat, head.quota) if head else ()


def _timeout_s(head: Head | None) -> float:
    run = active.current()
    if run is not None and run.offline:
        return 0.0
    return head.timeout_s if head else 60.0


def _quota(home: str, state: State) -> Quota:
    """The quota that the daemon gives; before the first daemon the one that it would give."""
    if state.head is not None:
        return state.head.quota
    settings = _settings(home)
    return quota_of(home, settings.spool_quota_bytes, settings.spool_quota_inodes, state.held)


def _settings(home: str) -> Settings:
    from wherry.wire.settings import load

    return load({}, os.environ, Path(home))


def _rouse(home: str) -> None:
    """Make sure that a daemon runs, which alone makes room."""
    from wherry.connection import connect

    with suppress(WherryError):
        connect(Path(home)).hello()


def _within(ahead: Room, quota: Quota) -> Room:
    most_bytes, most_files = (
        most if each is None else each // _AHEAD_PART
        for each, most in ((quota.bytes, ahead.bytes), (quota.files, ahead.files))
    )
    return Room(min(ahead.bytes, most_bytes), min(ahead.files, most_files))
