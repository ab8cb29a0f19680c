"""Whether a store still has what a request names, before it becomes a version (docs/commit.md, rule 6).

Owns: which objects are asked for: those that the request has not put itself within the last day; how many at
once; forgetting those that are gone, and sending the request back to be uploaded. Does not own: when this is
done (``lane``), sending again (``transfer``; ``prepare``, where packs of others are gone).

What a kill leaves: some done-records are forgotten, and the request waits for its commit: the next start
looks again. Once it is sent back, it goes the way of any other that is not uploaded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import anyio

from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock
from wherryd.commit.lane import is_recent
from wherryd.log import get_logger
from wherryd.lost import LOST, why_back
from wherryd.model import Entry
from wherryd.queue.base import DoneRecord, Queue, Request
from wherryd.registry.base import Kind, Lost, Named, Registry

PAGE = 1000
#: Objects that are asked for at once, and how often that at once of one store.
BATCH = 32
BATCHES_AT_ONCE = 4
#: Keys that are told.
_TOLD = 3

_AFTER_ASK = failpoint("commit.look.after-ask")
_BEFORE_FORGET = failpoint("commit.look.before-forget")
_BEFORE_BACK = failpoint("commit.look.before-back")

_log = get_logger("commit")


class Looker:
    """Looks again at what requests name; shared by all lanes."""

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._limits = defaultdict[str, anyio.Semaphore](lambda: anyio.Semaphore(BATCHES_AT_ONCE))

    async def is_whole(self, request: Request, registry: Registry, store_id: str) -> bool:
        """Whether all is there; if not, the request has been sent back.

        Raises ``StoreError``, ``Exchanged`` among them, where the store can't be asked; ``WrongState`` where
        the request is not ``uploaded`` any more.
        """
        own = await self._queue.packs(request.row) if request.entries > 1 else {}
        losses, names = _Losses(own), _Names(own)
        # What a request with a base comes to is put after this look, and right before the record.
        named = [Named(Kind.MANIFEST, request.manifest or "")] if request.base is None else []
        page = await self._queue.entries(request.row, None, PAGE)
        while page:
            named += await self._not_put_lately(request, names.take(page))
            last = len(page) < PAGE
            page = [] if last else await self._queue.entries(request.row, page[-1].path, PAGE)
            if page:
                ready, named = _whole_batches(named)
                await self._ask(request, ready, registry, store_id, losses)
        await self._ask(request, named, registry, store_id, losses)
        if losses.count:
            await self._send_back(request, losses)
        return not losses.count

    async def _not_put_lately(self, request: Request, named: Mapping[str, Named]) -> list[Named]:
        """Those that the request has not put itself within the last day, with what is known of their size."""
        if not named:
            return []
        records = await self._queue.done_records(request.lane, [*named])
        now = self._clock.now()
        return [
            _sized(each, records.get(name))
            for name, each in named.items()
            if not _is_put_lately(records.get(name), request, now)
        ]

    async def _ask(
        self,
        request: Request,
        named: Sequence[Named],
        registry: Registry,
        store_id: str,
        losses: _Losses,
    ) -> None:
        lane = request.lane
        for batch in (named[first : first + BATCH] for first in range(0, len(named), BATCH)):
            async with self._limits[lane.store]:
                lost = await registry.lost(lane.project, batch, store_id)
            _AFTER_ASK()
            if lost:
                losses.add(lost)
                _BEFORE_FORGET()
                gone = [_record_of(each.named) for each in lost]
                await self._queue.forget_sent(lane, gone, store_id)

    async def _send_back(self, request: Request, losses: _Losses) -> None:
        reason = why_back(losses.told, losses.count)
        _log.warning("sent again", request=request.id, store=request.lane.store, why=reason)
        _BEFORE_BACK()
        await self._queue.send_back(request.row, LOST, reason, is_planned=losses.are_own)


class _Names:
    """The objects that entries name, each once; blobs once a page.

    Args:
        own: the packs that the request makes: sizes by name.
    """

    def __init__(self, own: Mapping[str, int]) -> None:
        self._own = own
        self._packs: set[str] = set()

    def take(self, page: Sequence[Entry]) -> dict[str, Named]:
        """The objects of the next entries that were not named before, by the names of their done-records."""
        return {_record_of(named): named for named in self._of(page)}

    def _of(self, page: Sequence[Entry]) -> Iterator[Named]:
        for entry in page:
            if entry.source is None or entry.digest is None:
                continue
            if entry.pack is None:
                yield Named(Kind.BLOB, entry.digest, entry.size)
            elif entry.pack not in self._packs:
                self._packs.add(entry.pack)
                yield Named(Kind.PACK, entry.pack, self._own.get(entry.pack))


class _Losses:
    """What is gone."""

    def __init__(self, own: Mapping[str, int]) -> None:
        self._own = own
        self.count = 0
        self.told: list[str] = []
        #: Whether the request can put all of it as it is planned: no packs of others are among it.
        self.are_own = True

    def add(self, lost: Sequence[Lost]) -> None:
        """Note some more."""
        self.count += len(lost)
        self.told += [each.key for each in lost][: _TOLD - len(self.told)]
        packs = {each.named.name for each in lost if each.named.kind is Kind.PACK}
        self.are_own = self.are_own and packs <= self._own.keys()


def _whole_batches(named: list[Named]) -> tuple[list[Named], list[Named]]:
    whole = len(named) - len(named) % BATCH
    return named[:whole], named[whole:]


def _is_put_lately(record: DoneRecord | None, request: Request, now: float) -> bool:
    return record is not None and record.sender == request.row and is_recent(record.seen, now)


def _sized(named: Named, record: DoneRecord | None) -> Named:
    """A pack of another request has the size that was noted of it."""
    if named.size is not None or record is None:
        return named
    return Named(named.kind, named.name, record.size)


def _record_of(named: Named) -> str:
    """The name of an object's done-record."""
    return f"pack:{named.name}" if named.kind is Kind.PACK else named.name
