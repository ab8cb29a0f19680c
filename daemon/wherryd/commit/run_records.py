"""Writes what is noted of runs into the store, in records of the runs' own (decision 0028).

Owns: when a record is written, what is in it, pauses where the store can't be written. Does not own: what is
noted (``queue.run_notes``), what several records of a run come to (``lineage``).

What a kill leaves: notes that are in no record yet; or a record whose bytes and number are in the queue,
which the next start sends again. A record that arrives twice is one object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from wherry.errors import QueueError, StoreError, UsageError
from wherry.wire import VERSION
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock, full_jitter, rfc3339
from wherryd.defects import NoteDefect, note_defect
from wherryd.log import get_logger
from wherryd.model import NoteKind, RunFacts, RunRecord
from wherryd.news import News
from wherryd.nudge import Nudge
from wherryd.queue.base import RUNS, KeptRecord, Note, Queue, RunPlace
from wherryd.registry.base import Registry
from wherryd.registry.records import FORMAT, encode
from wherryd.stores.base import WriteConflict

#: What a run does within this time goes into one record; its end is written at once.
GATHER_S = 2.0
#: After trouble: the first and the longest pause before a store is tried again.
_FIRST_S = 0.5
_LONGEST_S = 60.0

_BEFORE_KEEP = failpoint("commit.run.before-keep")
_BEFORE_SEND = failpoint("commit.run.before-send")
_AFTER_SEND = failpoint("commit.run.after-send")

_log = get_logger("runs")
_FACTS = msgspec.json.Decoder(RunFacts)
ForWriting = Callable[[str], Awaitable[Registry]]


class Recorder:
    """Writes the records of all runs.

    Args:
        for_writing: gives the registry of a store that is known to be fit for writing.
        note_defect: is told of exceptions that nobody expected.
    """

    def __init__(
        self,
        queue: Queue,
        for_writing: ForWriting,
        news: News,
        clock: Clock,
        note_defect: NoteDefect = note_defect,
    ) -> None:
        self._queue = queue
        self._for_writing = for_writing
        self._news = news
        self._clock = clock
        self._note_defect = note_defect
        self._nudges: defaultdict[str, Nudge] = defaultdict(Nudge)
        self._arrived = Nudge()
        self._working: set[str] = set()  # addresses at which records are being written
        self._troubles: dict[str, str] = {}  # what was met there last, until something goes well
        self.is_leaving = False

    async def run(self) -> None:
        """Work until cancelled."""
        self._working = set()  # those of an earlier call have ended with it
        async with anyio.create_task_group() as tasks:
            with self._news.watch(RUNS) as watch:
                while True:
                    await watch.wait_news()
                    self._arrived.nudge()
                    if not self.is_leaving:
                        await self._start(tasks, watch.wake)

    @property
    def why_waiting(self) -> str:
        """What keeps records from their store; "" where nothing does."""
        return next(iter(self._troubles.values()), "")

    def nudge(self, address: str) -> None:
        """Let what waits for this store try again now."""
        self._nudges[address].nudge()

    async def _start(self, tasks: TaskGroup, wake: Callable[[], None]) -> None:
        try:
            waiting = {record.store for record in await self._queue.run_records()}
            waiting |= {note.place.store for _, note in await self._queue.open_notes()}
        except QueueError as error:
            _log.warning("queue can't be read", error=str(error))
            tasks.start_soon(self._wake_later, wake)
            return
        for address in sorted(waiting - self._working):
            self._working.add(address)
            tasks.start_soon(self._work_at, address, wake)

    async def _wake_later(self, wake: Callable[[], None]) -> None:
        await self._clock.sleep(GATHER_S)
        wake()

    async def _work_at(self, address: str, wake: Callable[[], None]) -> None:
        """Write all that is noted for one store."""
        failures = 0
        while not self.is_leaving:
            try:
                if not await self._write_next(address):
                    break
                failures = 0
                self._troubles.pop(address, None)
            except UsageError as error:  # there can be no store at such an address
                _log.warning("runs can't be recorded", store=address, error=str(error))
                await self._queue.drop_notes(address)
            except (StoreError, QueueError, WriteConflict) as error:
                _log.warning("records of runs are put off", store=address, error=str(error))
                self._troubles[address] = str(error)
                await self._pause(address, failures)
                failures += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the other stores' must go on
                defect = self._note_defect(error, f"the runs of {address}")
                self._troubles[address] = str(defect)
                await self._pause(address, failures)
                failures += 1
        self._working.discard(address)
        self._troubles.pop(address, None)
        wake()  # something may have come in since

    async def _pause(self, address: str, failures: int) -> None:
        pause_s = full_jitter(self._clock, failures, _FIRST_S, _LONGEST_S)
        await self._nudges[address].wait_nudged(self._clock, pause_s)

    async def _write_next(self, address: str) -> bool:
        """Write what is due, or wait for that; False where nothing is noted."""
        for record in await self._queue.run_records():
            if record.store == address:
                await self._put(record)
        found = await self._queue.open_notes()
        here = [(number, note) for number, note in found if note.place.store == address]
        if not here:
            return False
        wait_s = min(_due(note) for _, note in here) - self._clock.now()
        if 0 < wait_s <= GATHER_S:  # more: the clock was set back
            await self._arrived.wait_nudged(self._clock, wait_s)
            return True
        await self._for_writing(address)  # else records would pile up that can't be sent
        for place, notes in _by_run(here).items():
            await self._keep(place, notes)
        return True

    async def _keep(self, place: RunPlace, notes: Sequence[tuple[int, Note]]) -> None:
        body = encode(make_record(place, [note for _, note in notes], self._clock.now()))
        _BEFORE_KEEP()
        numbers = [number for number, _ in notes]
        number = await self._queue.keep_run_record(place, body, numbers)
        await self._put(KeptRecord(number, place.store, place.place, place.run_id, body))

    async def _put(self, record: KeptRecord) -> None:
        registry, home = await self._for_writing(record.store), await self._queue.home_id()
        number = record.number
        _BEFORE_SEND()
        runs = registry.runs
        while not await runs.put_record(record.place, record.run_id, home, number, record.body):
            number = await self._queue.run_record_again(number)
        _AFTER_SEND()
        await self._queue.run_record_put(number)


def make_record(place: RunPlace, notes: Sequence[Note], now: float) -> RunRecord:
    """Make the record of what was noted of one run.

    Args:
        notes: in the order in which they were noted.
        now: seconds since 1970.
    """
    facts = RunFacts(notes[-1].run)
    values: dict[NoteKind, list[str]] = {kind: [] for kind in NoteKind}
    for note in notes:
        if note.kind is NoteKind.FACTS:
            facts = _FACTS.decode(note.value)
        else:
            values[note.kind].append(note.value)
    return RunRecord(
        format=FORMAT,
        project=place.project,
        run=facts.run,
        written=rfc3339(now),
        used=values[NoteKind.USED],
        logged=values[NoteKind.LOGGED],
        drafts=values[NoteKind.DRAFT],
        started=facts.started,
        ended=facts.ended,
        exit_code=facts.exit_code,
        notes=facts.notes,
        tags=facts.tags,
        config=facts.config,
        client=facts.client or f"wherry {VERSION}",
    )


def _due(note: Note) -> float:
    """When to write a note down: what follows at once goes with it, but for a run's end nobody waits."""
    has_ended = note.kind is NoteKind.FACTS and bool(_FACTS.decode(note.value).ended)
    return note.noted + (0.0 if has_ended else GATHER_S)


def _by_run(
    notes: Iterable[tuple[int, Note]],
) -> dict[RunPlace, list[tuple[int, Note]]]:
    runs: defaultdict[RunPlace, list[tuple[int, Note]]] = defaultdict(list)
    for number, note in notes:
        runs[note.place].append((number, note))
    return runs
