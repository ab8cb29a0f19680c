"""What a user says of requests: ``Retry``, ``Cancel``, ``Acknowledge``, ``Sync``.

Owns: which requests and lanes are meant. Does not own: what becomes of them (``queue``, ``commit``).

A client that missed the answer says it again. So a named request that is already as it was wished is not
counted, and not complained of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from wherry.errors import StoreError, UsageError
from wherry.wire import wherry_pb2 as pb
from wherryd.model import Lane, State
from wherryd.queue.base import Filter, Queue, Request, WrongState
from wherryd.rpc.messages import ENDED, store_of

_MOST = 100_000
_OPEN = tuple(state for state in State if state not in ENDED)
_CANCELLABLE = (State.HELD, State.ACCEPTED, State.PREPARED, State.UPLOADED)
_TAKEN_UP = (*(state for state in _OPEN if state is not State.HELD), State.DONE)

RestartLane = Callable[[Lane], Awaitable[None]]


class _Chosen(msgspec.Struct):
    """Requests that were meant, and why others that were named are left out."""

    requests: list[Request]
    left_out: list[str] = []
    wished: tuple[State, ...] = ()  # a request in one of these is as it was wished already

    def leave_out(self, request: Request, is_named: bool) -> None:
        if is_named and request.state not in self.wished:
            self.left_out.append(f"{request.id}: it is {request.state}{_put_away(request)}")


def _put_away(request: Request) -> str:
    if not request.acknowledged:
        return ""
    return " and was acknowledged; its files may be gone, so log it again"


class ChoosingCalls:
    """The calls.

    Args:
        restart_lane: sets a stopped lane going; raises ``StoreError``.
        nudge: lets what waits for a store try again now.
    """

    def __init__(
        self, queue: Queue, restart_lane: RestartLane, nudge: Callable[[str], None]
    ) -> None:
        self._queue = queue
        self._restart_lane = restart_lane
        self._nudge = nudge

    async def retry(self, request: pb.SelectRequest) -> pb.CountReply:
        """Give failed requests a new place, set stopped lanes going, and let waiting ones try now.

        Acknowledged failures stay put away: nobody wants them, and their files may be gone.
        """
        chosen = await self._choose(request, (*_OPEN, State.FAILED), (State.DONE,))
        failed = [each for each in chosen.requests if each.state is State.FAILED]
        count = await self._each(failed, self._queue.retry, chosen, request)
        stopped = await self._queue.stopped()
        lanes = await self._lanes(request, chosen.requests, stopped)
        for lane in lanes:
            count += await self._restart(lane, chosen)
        waiting = [each for each in chosen.requests if each.error and each.state in _OPEN]
        for address in {each.lane.store for each in waiting}:
            self._nudge(address)
        count += sum(each.lane not in stopped for each in waiting)
        return _reply(count, chosen)

    async def cancel(self, request: pb.SelectRequest) -> pb.CountReply:
        """Take back requests that have not been sent to the store yet."""
        chosen = await self._choose(request, _CANCELLABLE, (State.CANCELLED,))
        if request.all and not request.request_ids:
            await self._queue.drop_runs()  # nothing else takes them back
        return _reply(
            await self._each(chosen.requests, self._queue.cancel, chosen, request), chosen
        )

    async def acknowledge(self, request: pb.SelectRequest) -> pb.CountReply:
        """Mark failures as seen."""
        chosen = await self._choose(request, (State.FAILED,), (State.FAILED,))
        rows = [each.row for each in chosen.requests]
        return _reply(await self._queue.acknowledge(rows) if rows else 0, chosen)

    async def sync(self, request: pb.SelectRequest) -> pb.CountReply:
        """Give requests held by offline mode their places, in the order in which they were logged."""
        chosen = _Chosen([])
        if not request.runs or _names_some(request):
            chosen = await self._choose(request, (State.HELD,), _TAKEN_UP)
        # First: said again after a kill, this would find none that are held.
        run_ids = [each.run.id for each in chosen.requests]
        await self._queue.release_runs(None if request.runs else run_ids)
        rows = [each.row for each in chosen.requests]
        return _reply(await self._queue.sync(rows) if rows else 0, chosen)

    async def _choose(
        self,
        request: pb.SelectRequest,
        states: tuple[State, ...],
        wished: tuple[State, ...] = (),
    ) -> _Chosen:
        """The requests that are meant and in one of these states."""
        if request.request_ids:
            return await self._choose_named(request, states, wished)
        if not _names_some(request):
            raise UsageError("no request is named", hint="Name requests, or say 'all'.")
        wanted = Filter(
            states=states,
            project=request.project,
            name=request.name,
            not_acknowledged=True,
            limit=_MOST,
        )
        found = await self._queue.find(wanted)
        if request.store:
            store = store_of(request.store, "")
            found = [each for each in found if each.lane.store == store]
        return _Chosen(found, [])

    async def _choose_named(
        self, request: pb.SelectRequest, states: tuple[State, ...], wished: tuple[State, ...]
    ) -> _Chosen:
        ids = tuple(dict.fromkeys(request.request_ids))
        found = await self._queue.find(Filter(ids=ids, limit=len(ids)))
        unknown = set(ids) - {each.id for each in found}
        meant = [each for each in found if each.state in states and not each.acknowledged]
        chosen = _Chosen(
            meant,
            [f"{id_}: not known" for id_ in ids if id_ in unknown],
            wished,
        )
        for each in found:
            if each not in meant:
                chosen.leave_out(each, is_named=True)
        return chosen

    async def _each(
        self,
        requests: Iterable[Request],
        change: Callable[[int], Awaitable[object]],
        chosen: _Chosen,
        request: pb.SelectRequest,
    ) -> int:
        """Do it to one after the other, so that new places keep the old order; how many were done."""
        count = 0
        for each in requests:
            try:
                await change(each.row)
                count += 1
            except WrongState:
                now = await self._queue.get(each.row)
                chosen.leave_out(now, is_named=bool(request.request_ids))
        return count

    async def _lanes(
        self, request: pb.SelectRequest, requests: Iterable[Request], stopped: Iterable[Lane]
    ) -> list[Lane]:
        """The stopped lanes that are meant: by their names, or by a request in them."""
        if request.request_ids:
            meant = {each.lane for each in requests}
            return [lane for lane in stopped if lane in meant]
        store = store_of(request.store, "")
        return [
            lane
            for lane in stopped
            if lane.store == (store or lane.store)
            and lane.project == (request.project or lane.project)
            and lane.name == (request.name or lane.name)
        ]

    async def _restart(self, lane: Lane, chosen: _Chosen) -> int:
        try:
            await self._restart_lane(lane)
            return 1
        except StoreError as error:
            chosen.left_out.append(f"{lane.project}/{lane.name}: {error}")
            return 0


def _names_some(request: pb.SelectRequest) -> bool:
    by_place = request.store or request.project or request.name
    return bool(request.request_ids or request.all or by_place)


def _reply(count: int, chosen: _Chosen) -> pb.CountReply:
    return pb.CountReply(count=count, left_out=chosen.left_out)
