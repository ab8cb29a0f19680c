"""Gives settled versions their aliases.

Owns: writing alias objects for requests that are settled (the row first, then the alias). Does not own:
what an alias becomes (``aliases``), what users say of aliases (``editing``), or the lane's order: a move that
comes late or twice changes nothing.
"""

from __future__ import annotations

from wherry.errors import QueueError, StoreDamaged, StoreError, UsageError
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.commit.aliases import given_by_logging, worth_giving
from wherryd.commit.pauses import FEW, Pauses
from wherryd.defects import NoteDefect, note_defect
from wherryd.log import get_logger
from wherryd.model import Lane
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.registry.base import Registry
from wherryd.stores.base import EtagMismatch, ObjectExists, WriteConflict
from wherryd.stores.retry import watched

_BEFORE_MOVE = failpoint("commit.alias.before-move")
_AFTER_MOVE = failpoint("commit.alias.after-move")

_log = get_logger("commit")

_DAMAGED_HINT = (
    "Another program may have changed it: put it back or remove it, then give the alias again."
)
_RACED = (EtagMismatch, ObjectExists, WriteConflict)


class Namer:
    """Moves the aliases of one artifact."""

    def __init__(
        self,
        lane: Lane,
        registry: Registry,
        queue: Queue,
        clock: Clock,
        pauses: Pauses,
        note_defect: NoteDefect = note_defect,
    ) -> None:
        self._lane = lane
        self._registry = registry
        self._queue = queue
        self._clock = clock
        self._pauses = pauses
        self._note_defect = note_defect
        self._damages = 0  # how often the alias that is being given was read and made no sense
        self._refused: dict[str, UsageError | StoreDamaged] = {}

    async def name(self, request: Request) -> None:
        """Give a settled request's version its aliases, and mark the request done."""
        self._refused.clear()
        for alias in worth_giving(request.aliases):
            self._damages = 0
            while not await self._tried_give(request, alias):
                pass
        while not await self._tried_end(request):
            pass

    async def _tried_give(self, request: Request, alias: str) -> bool:
        assert request.version is not None
        try:
            with watched(self._pauses.watcher(request)):
                given = await self._give(alias, request.version)
        except UsageError as error:  # the store folds case, and has the alias in another one
            return self._refuse(request, alias, error)
        except StoreDamaged as error:
            self._damages += 1
            if self._damages >= FEW:  # not a bad day of the network: later requests go on
                return self._refuse(request, alias, StoreDamaged(error.message, hint=_DAMAGED_HINT))
            await self._pauses.wait_after(request.row, error)
            return False
        except (StoreError, QueueError) as error:
            await self._pauses.wait_after(request.row, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the other lanes must go on
            await self._pauses.wait_after(request.row, self._note_defect(error, request.id))
            return False
        if given:
            self._pauses.went_well()
        else:
            await self._pauses.wait_shortly()
        return given

    def _refuse(self, request: Request, alias: str, error: UsageError | StoreDamaged) -> bool:
        self._refused[alias] = error
        _log.warning("alias can't be given", request=request.id, alias=alias, error=str(error))
        return True

    async def _give(self, alias: str, version: int) -> bool:
        """Move the alias where it must move; False when somebody else moved it meanwhile.

        What was written counts when it is read, in the store that counts.
        """
        lane = self._lane
        while True:
            store_id = await self._queue.store_id(lane.store)
            stored = await self._registry.read_alias(lane.project, lane.name, alias, store_id)
            there = stored.alias if stored else None
            moved = given_by_logging(there, alias, version, self._clock.token())
            if moved is None:
                return True
            _BEFORE_MOVE()
            try:
                await self._registry.write_alias(
                    lane.project, lane.name, moved, stored.etag if stored else None
                )
            except _RACED:
                return False
            _AFTER_MOVE()

    async def _tried_end(self, request: Request) -> bool:
        try:
            await self._queue.done(request.row, request.aliases, *self._why_refused())
        except WrongState:
            return True
        except QueueError:
            await self._pauses.wait_shortly()
            return False
        return True

    def _why_refused(self) -> tuple[str, str]:
        """What the request's row says for ever of aliases that it can't have."""
        if not self._refused:
            return "", ""
        errors = self._refused.items()
        reasons = "; ".join(f"it is not called {alias!r}: {error}" for alias, error in errors)
        return public_name(next(iter(self._refused.values()))), reasons
