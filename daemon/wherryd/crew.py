"""Works on the requests that are in one state, a bounded number at once.

Owns: looking for requests when there is news, one task each, ending the tasks of cancelled requests,
whose turn it is, the queue's own trouble (a full disk), pauses of a request that meets a defect, leaving.
Does not own: how many are worked on at once (``choose``, a pure function of its stage), what is done with a
request, or pauses after a store's errors.

Lanes take turns: a lane with many requests, or of a program that logs fast, keeps none with few behind its
own. The first requests by place are looked at, and at each look the heads of a few further lanes.

A task is started only for a request that the queue shows in the state, and moves it out of that state
in the queue; so a killed daemon finds it there again, and a step may be done twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter

import anyio
from anyio.abc import TaskGroup

from wherry.errors import Defect, QueueError
from wherryd.clock import Clock, full_jitter
from wherryd.defects import NoteDefect, note_defect
from wherryd.log import get_logger
from wherryd.model import Lane, State
from wherryd.news import News, Watch
from wherryd.public import public_name
from wherryd.queue.base import Filter, Queue, Request, WrongState

#: Requests looked at beyond those that are worked on; and when none of them could be started.
LOOK_AHEAD = 16
LOOK_FURTHER = 64
LOOK_AHEAD_IN_LANE = 16
_TURNS_A_LOOK = 2
#: Lanes whose last turn is known; beyond that all begin anew.
_MOST_TURNS = 10_000
#: While many requests come in: so few starts after each look.
_COURTESY_STARTS = 2
_COURTESY_STEP_S = 0.1
#: The disk is full, say: longest pause before the same step is tried again.
_QUEUE_PAUSE_S = 2.0
#: After a defect the request rests for up to 1, 2, 4, … 600 s; all others go on.
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 600.0
#: Timers may fire a little early.
_MARGIN_S = 0.05

Choose = Callable[[Sequence[Request], Sequence[Request]], Sequence[Request]]


def in_turn(
    candidates: Iterable[Request], busy: Iterable[Request], turns: Mapping[Lane, int]
) -> list[Request]:
    """Sort requests: those of the lane with the fewest under way first, then of the one that waits longest.

    Args:
        candidates: a lane's in their order.
        busy: what is under way.
        turns: lanes by their last turns.
    """
    ahead = Counter(request.lane for request in busy)
    keyed: list[tuple[tuple[int, int, float], Request]] = []
    for request in candidates:
        place = request.place if request.place is not None else math.inf
        keyed.append(((ahead[request.lane], turns.get(request.lane, 0), place), request))
        ahead[request.lane] += 1
    return [request for _, request in sorted(keyed, key=itemgetter(0))]


class Crew:
    """One stage's tasks.

    Args:
        state: the requests to work on are in this one.
        choose: gives, out of (candidates in turn, requests that are worked on), those to start.
        work: brings one request to its next state and returns True, or returns False with the request
            where it was; then ``wake`` or ``wake_in`` is its to call.
        left_out: addresses of stores whose requests are not to be looked at now.
        asking: only requests with lookups that are not done, or only those without; None: all.
        is_blocked: whether a lane's requests can't be started now, for a reason finer than its store.
        stand_back_s: how long to wait before the next look, for requests that come in.
        note_defect: is told of exceptions that nobody expected.
    """

    def __init__(
        self,
        state: State,
        choose: Choose,
        work: Callable[[Request], Awaitable[bool]],
        queue: Queue,
        news: News,
        clock: Clock,
        left_out: Callable[[], tuple[str, ...]] = tuple,
        is_blocked: Callable[[Lane], bool] = lambda _: False,
        stand_back_s: Callable[[], float] = lambda: 0.0,
        asking: bool | None = None,
        note_defect: NoteDefect = note_defect,
    ) -> None:
        self._state = state
        self._asking = asking
        self._choose = choose
        self._work = work
        self._queue = queue
        self._news = news
        self._clock = clock
        self._left_out = left_out
        self._is_blocked = is_blocked
        self._stand_back_s = stand_back_s
        self._note_defect = note_defect
        self._busy: dict[int, tuple[Request, anyio.CancelScope]] = {}
        self._defects: dict[int, int] = {}  # how many a request's row has met
        self._resting: dict[int, float] = {}  # until when, by the monotonic clock
        self._turns: dict[Lane, int] = {}  # lanes by their last turns: the higher the later
        self._turn = 0
        self._after: Lane | None = None  # whose head was looked at last
        self._watch: Watch | None = None
        self._tasks: TaskGroup | None = None
        self._leaving = False
        self._is_more = False  # the last look saw more than could be started
        self._is_stuck = False  # it saw some, and none could be
        self._idle = anyio.Event()
        self._log = get_logger(str(state))

    async def run(self) -> None:
        """Work until cancelled."""
        self._busy.clear()  # the tasks of an earlier call have ended with it
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._end_cancelled)
            with self._news.watch(self._state) as self._watch:
                while True:
                    await self._watch.wait_news()
                    await self._stand_back()
                    if not self._leaving:
                        await self._start_tasks(tasks)

    def wake(self) -> None:
        """Look again for what can be done."""
        if self._watch is not None:
            self._watch.wake()

    def nudge(self) -> None:
        """Try again now what rests: the user said so."""
        self._resting.clear()
        self.wake()

    def rest(self, row: int, seconds: float) -> None:
        """Leave a request alone for a while; others get its place."""
        self._resting[row] = self._clock.monotonic() + seconds
        self.wake_in(seconds + _MARGIN_S)

    def wake_in(self, seconds: float) -> None:
        """Look again after a pause."""
        if self._tasks is not None:
            self._tasks.start_soon(self._wake_later, seconds)

    async def leave(self) -> None:
        """Start nothing more, and return when nothing runs."""
        self._leaving = True
        while self._busy:
            self._idle = anyio.Event()
            await self._idle.wait()

    @property
    def leaving(self) -> bool:
        """Whether a task should end at its next step."""
        return self._leaving

    async def _wake_later(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.wake()

    async def _stand_back(self) -> None:
        waited_s = 0.0
        while waited_s < self._stand_back_s():
            await self._clock.sleep(_COURTESY_STEP_S)
            waited_s += _COURTESY_STEP_S

    async def _start_tasks(self, tasks: TaskGroup) -> None:
        try:
            chosen = await self._choose_next()
        except QueueError as error:
            await self._pause(error)
            self.wake()
            return
        if self._stand_back_s():
            self._is_more |= len(chosen) > _COURTESY_STARTS
            chosen = chosen[:_COURTESY_STARTS]
        for request in chosen:
            scope = anyio.CancelScope()
            self._busy[request.row] = request, scope
            self._note_turn(request.lane)
            tasks.start_soon(self._run_task, request, scope)

    async def _choose_next(self) -> Sequence[Request]:
        # One that ends while the queue is asked may be in the answer all the same.
        begun = set(self._busy)
        now = self._clock.monotonic()
        self._resting = {row: until for row, until in self._resting.items() if now < until}
        found, is_all = await self._find(LOOK_FURTHER if self._is_stuck else LOOK_AHEAD)
        candidates = [each for each in found if each.row not in begun]
        if not candidates and not is_all:
            found = await self._find_beyond()
            candidates = [each for each in found if each.row not in begun]
        elif not is_all:
            lanes = {each.lane for each in found} | {each.lane for each, _ in self._busy.values()}
            heads = await self._find_heads(lanes)
            candidates += [each for each in heads if each.row not in begun]
        busy = [request for request, _ in self._busy.values()]
        chosen = self._choose(in_turn(candidates, busy, self._turns), busy)
        self._is_more = not is_all or len(chosen) < len(candidates)
        self._is_stuck = self._is_more and not chosen
        return chosen

    async def _find(self, ahead: int) -> tuple[list[Request], bool]:
        """Look at the first requests; gives those that are free, and whether there are no others."""
        wanted = Filter(
            states=(self._state,),
            without_stores=self._left_out(),
            asking=self._asking,
            without_rows=(*self._busy, *self._resting),
            limit=ahead,
        )
        found = await self._queue.find(wanted)
        return self._free(found), len(found) < ahead

    async def _find_beyond(self) -> list[Request]:
        """Look lane by lane: all that stands in front is blocked."""
        found: list[Request] = []
        for lane in await self._queue.lanes():
            found += await self._find_in(lane)
        return found

    async def _find_heads(self, known: Collection[Lane]) -> list[Request]:
        """Look at the first request of a few lanes but for these, other ones at each look."""
        lanes = await self._queue.lanes(self._after, _TURNS_A_LOOK)
        self._after = lanes[-1] if len(lanes) == _TURNS_A_LOOK else None
        heads: list[Request] = []
        for lane in lanes:
            if lane not in known:
                heads += (await self._find_in(lane))[:1]
        return heads

    async def _find_in(self, lane: Lane) -> list[Request]:
        """Look at the first requests of one lane; gives those that are free."""
        if self._is_blocked(lane) or lane.store in self._left_out():
            return []
        line = self._free(await self._queue.line(lane, LOOK_AHEAD_IN_LANE))
        return [request for request in line if request.state is self._state]

    def _note_turn(self, lane: Lane) -> None:
        if len(self._turns) >= _MOST_TURNS:
            self._turns.clear()
        self._turn += 1
        self._turns[lane] = self._turn

    def _free(self, found: Sequence[Request]) -> list[Request]:
        return [
            request
            for request in found
            if request.row not in self._resting
            and not self._is_blocked(request.lane)
            and self._asking in (None, request.lookups > 0)
        ]

    async def _run_task(self, request: Request, scope: anyio.CancelScope) -> None:
        is_done = True
        try:
            with scope:
                is_done = await self._work(request)
            self._defects.pop(request.row, None)
        except WrongState:
            self._log.info("request has moved on", request=request.id)
        except QueueError as error:
            await self._pause(error)
            is_done = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
            await self._rest(request, self._note_defect(error, request.id))
            is_done = False
        finally:
            del self._busy[request.row]
            self._idle.set()
        # A look costs a question to the queue: not where nothing can have changed for us.
        if self._is_more or not is_done:
            self.wake()

    async def _end_cancelled(self) -> None:
        with self._news.watch(State.CANCELLED) as watch:
            while True:
                await watch.wait_news()
                ids = tuple(request.id for request, _ in self._busy.values())
                if not ids:
                    continue
                try:
                    cancelled = await self._queue.find(Filter(states=(State.CANCELLED,), ids=ids))
                except QueueError:
                    continue  # the task itself will hear it from the queue
                for request in cancelled:
                    if request.row in self._busy:
                        self._busy[request.row][1].cancel()

    async def _rest(self, request: Request, defect: Defect) -> None:
        met = self._defects.get(request.row, 0)
        self._defects[request.row] = met + 1
        pause_s = full_jitter(self._clock, met, _FIRST_REST_S, _LONGEST_REST_S)
        next_try = self._clock.now() + pause_s
        with suppress(WrongState, QueueError):  # it rests, whether or not the row can say so
            await self._queue.wait_until(request.row, public_name(defect), str(defect), next_try)
        self.rest(request.row, pause_s)

    async def _pause(self, error: QueueError) -> None:
        self._log.warning("queue can't be written", error=str(error))
        await self._clock.sleep(self._clock.random() * _QUEUE_PAUSE_S)
