"""What is told of requests: ``Wait`` and ``ListRequests``.

Owns: when a state is told again. Does not own: the states (``queue``), progress (the stages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import anyio
import msgspec

from wherry.errors import DraftConflict, StoreChanged, UsageError
from wherry.wire import wherry_pb2 as pb
from wherryd.clock import Clock
from wherryd.life import LEAVING, Life
from wherryd.model import Lane, RequestKind, State
from wherryd.news import News, Watch
from wherryd.progress import Progress
from wherryd.queue.base import Filter, Queue, Request
from wherryd.rpc.messages import ENDED, state_message
from wherryd.rpc.service import Send
from wherryd.transfer.troubles import Trouble

OPEN = (
    State.HELD,
    State.ACCEPTED,
    State.PREPARED,
    State.UPLOADED,
    State.SENDING,
    State.SETTLED,
)
#: A stopped lane holds these up.
STOPPABLE = (State.ACCEPTED, State.PREPARED, State.UPLOADED, State.SENDING)
#: So many requests of a run are told of.
_MOST = 100_000
#: With more requests than this to watch, changes are gathered for a moment.
_FEW = 16
_GATHER_S = 0.05

#: Why the requests of a lane wait, where it is known without a row.
TroubleOf = Callable[[Lane], Trouble | None]


class Teller:
    """Says how requests stand."""

    def __init__(self, queue: Queue, progress: Progress, trouble_of: TroubleOf) -> None:
        self._queue = queue
        self._progress = progress
        self._trouble_of = trouble_of

    async def tell(self, request: Request) -> pb.RequestState:
        """Make the message for one request."""
        ahead = 0 if request.state in ENDED else await self._queue.ahead(request.row)
        if request.state in STOPPABLE:
            request = _with_stop(request, await self._queue.stopped())
        if request.state is State.PREPARED and not request.error:
            request = self._with_trouble(request)
        return state_message(request, self._progress.done(request.row), ahead)

    def _with_trouble(self, request: Request) -> Request:
        """Its turn has not come, but its store is known to be in trouble."""
        trouble = self._trouble_of(request.lane)
        if trouble is None:
            return request
        return msgspec.structs.replace(
            request, error=trouble.error, reason=trouble.reason, next_try=trouble.next_try
        )


def _with_stop(request: Request, stopped: Mapping[Lane, str]) -> Request:
    """Whatever it waited for before, now it waits for the user."""
    if request.lane not in stopped:
        return request
    return msgspec.structs.replace(
        request, error=StoreChanged.__name__, reason=stopped[request.lane], next_try=None
    )


class TellingCalls:
    """The calls."""

    def __init__(self, teller: Teller, queue: Queue, news: News, clock: Clock, life: Life) -> None:
        self._teller = teller
        self._queue = queue
        self._news = news
        self._clock = clock
        self._life = life

    async def list_requests(self, request: pb.ListRequestsRequest, send: Send) -> None:
        """The requests that the queue knows, oldest first; those of ``Status`` where no state is named."""
        try:
            states = tuple(State(state) for state in request.states)
        except ValueError as exc:
            raise UsageError(str(exc), hint=f"states are {', '.join(State)}") from exc
        wanted = Filter(
            states=states or (*OPEN, State.FAILED),
            not_acknowledged=not states,
            project=request.project,
            name=request.name,
            limit=request.limit if request.limit > 0 else _MOST,
        )
        if request.id_part:
            wanted = Filter(id_part=request.id_part, limit=wanted.limit)
        for found in await self._queue.find(wanted):
            await send(await self._teller.tell(found))

    async def wait(self, request: pb.WaitRequest, send: Send) -> None:
        """Tell the state of requests at once and at each change, until all of them have ended.

        A run's requests are those that it has logged when the call comes in. What offline mode holds of
        them is told once: only the user's word sets it going; and so is an upsert whose part is there, where
        a finish of its draft has failed.
        """
        ids = await self._ids_of(request)
        over = (*ENDED, State.HELD) if request.run_ids else ENDED
        told: dict[str, object] = {}
        with self._news.watch(*ids, LEAVING) as watch:
            while ids:
                is_change = await self._next_look(watch, len(ids), request.every_s)
                found = await self._queue.find(Filter(ids=tuple(ids), limit=len(ids)))
                for each in found:
                    if not is_change or told.get(each.id) != _telling(each):
                        await send(await self._teller.tell(each))
                    told[each.id] = _telling(each)
                ids = [
                    each.id
                    for each in found
                    if each.state not in over and not _is_put(each, request)
                ]
                if ids:
                    self._life.check_staying()

    async def _ids_of(self, request: pb.WaitRequest) -> Sequence[str]:
        if not request.run_ids:
            return list(dict.fromkeys(request.request_ids))
        runs = [Filter(run_id=run_id, limit=_MOST) for run_id in request.run_ids]
        found = [each for run in runs for each in await self._queue.find(run)]
        kinds = (RequestKind.UPSERT,) if request.only_upserts else tuple(RequestKind)
        # Several of the runs may be linked to one request.
        return list(dict.fromkeys(each.id for each in found if each.kind in kinds))

    async def _next_look(self, watch: Watch, count: int, every_s: float) -> bool:
        """Wait for news or until all is to be told again; whether it was news."""
        is_change = False
        with anyio.move_on_after(every_s if every_s > 0 else None):
            await watch.wait_news()
            is_change = True
        if is_change and count > _FEW:
            await self._clock.sleep(_GATHER_S)
        return is_change


def _is_put(request: Request, asked: pb.WaitRequest) -> bool:
    """Whether a run need not wait for an upsert: it is there for the next finish to take."""
    is_put = request.kind is RequestKind.UPSERT and request.state is State.SETTLED
    return bool(asked.run_ids) and is_put and request.error == DraftConflict.__name__


def _telling(request: Request) -> object:
    """What makes a difference to those who wait."""
    return (
        request.state,
        request.place,
        request.version,
        request.error,
        request.reason,
        request.next_try,
        request.acknowledged,
    )
