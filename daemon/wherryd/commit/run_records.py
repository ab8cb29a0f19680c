"""Writes what is noted of runs into the store, in records of the runs' own (decision 0028).

Owns: when a record is written, what is in it, pauses where the store can't be written. Does not own: what is
noted (``queue.run_notes``), what several records of a run come to (``lineage``).

What a kill leaves: notes that are in no record yet; or a record whose bytes and number are in the queue,
which the next start sends again. A record that arrives twice is one object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup

from wherry.errors import AccessRefused, QueueError, StoreError, UsageError
from wherry.wire import VERSION
from wherry.wire.failpoints import failpoint
from wherryd.clock import Clock, full_jitter, rfc3339
from wherryd.defects import NoteDefect, note_defect
from wherryd.doubts import Doubts
from wherryd.log import get_logger
from wherryd.model import NoteKind, RunFacts, RunRecord
from wherryd.news import News
from wherryd.nudge import Nudge, Patience
from wherryd.queue.base import RUNS, KeptRecord, Note, Queue, RunPlace
from wherryd.registry.base import Registry
from wherryd.registry.records import FORMAT, decode_run, encode
from wherryd.stores.base import WriteConflict
from wherryd.together import all_of

#: What a run does within this time goes into one record; its end is written at once.
GATHER_S = 2.0
#: After trouble: the first and the longest pause before a store is tried again.
_FIRST_S = 0.5
_LONGEST_S = 60.0
#: Read at once, and records that are sent side by side.
_NOTES = 2_000
_AT_ONCE = 8

_BEFORE_KEEP = failpoint("commit.run.before-keep")
_BEFORE_SEND = failpoint("commit.run.before-send")
_AFTER_SEND = failpoint("commit.run.after-send")

_log = get_logger("runs")
_FACTS = msgspec.json.Decoder(RunFacts)


class Writable(msgspec.Struct, frozen=True):
    """A store that is known to be fit for writing."""

    registry: Registry
    store_id: str


ForWriting = Callable[[str], Awaitable[Writable]]


class Recorder:
    """Writes the records of all runs; those below one project of one store wait for no others.

    Args:
        for_writing: gives the store at an address.
        doubts: shared with whoever else uses the stores.
        note_defect: is told of exceptions that nobody expected.
    """

    def __init__(
        self,
        queue: Queue,
        for_writing: ForWriting,
        news: News,
        clock: Clock,
        doubts: Doubts,
        note_defect: NoteDefect = note_defect,
    ) -> None:
        self._queue = queue
        self._for_writing = for_writing
        self._news = news
        self._clock = clock
        self._doubts = doubts
        self._note_defect = note_defect
        self._nudges: defaultdict[str, Nudge] = defaultdict(Nudge)
        self._arrived = Nudge()
        self._working: set[tuple[str, str]] = set()  # where records are being written
        self._troubles: dict[tuple[str, str], str] = {}  # what was met there last

    async def run(self) -> None:
        """Work until cancelled."""
        self._working = set()  # those of an earlier call have ended with it
        async with anyio.create_task_group() as tasks:
            with self._news.watch(RUNS) as watch:
                while True:
                    await watch.wait_news()
                    self._arrived.nudge()
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
            waiting = await self._queue.run_places()
        except QueueError as error:
            _log.warning("queue can't be read", error=str(error))
            tasks.start_soon(self._wake_later, wake)
            return
        for where in waiting:
            if where not in self._working:
                self._working.add(where)
                tasks.start_soon(self._work_at, *where, wake)

    async def _wake_later(self, wake: Callable[[], None]) -> None:
        await self._clock.sleep(GATHER_S)
        wake()

    async def _work_at(self, address: str, place: str, wake: Callable[[], None]) -> None:
        """Write all that is noted for one project of one store."""
        failures, where = 0, (address, place)
        while True:
            try:
                if not await self._write_next(address, place):
                    break
                failures = 0
                self._troubles.pop(where, None)
                continue
            except UsageError as error:  # there can be no store at such an address
                _log.warning("runs can't be recorded", store=address, error=str(error))
                with suppress(QueueError):
                    await self._queue.drop_runs(address, place)
                self._troubles[where] = str(error)
            except (StoreError, QueueError, WriteConflict) as error:
                _log.warning("records of runs are put off", store=address, error=str(error))
                self._troubles[where] = str(error)
                if isinstance(error, StoreError):
                    self._doubts.note(address)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others' must go on
                defect = self._note_defect(error, f"the runs of {address}")
                self._troubles[where] = str(defect)
            pause_s = full_jitter(self._clock, failures, _FIRST_S, _LONGEST_S)
            await self._nudges[address].wait_nudged(self._clock, pause_s)
            failures += 1
        self._working.discard(where)
        self._troubles.pop(where, None)
        wake()  # something may have come in since

    async def _write_next(self, address: str, place: str) -> bool:
        """Write what is due, or wait for that; False where nothing is noted."""
        kept = await self._queue.run_records(address, place, _AT_ONCE)
        if kept:
            await all_of(*(partial(self._put, record) for record in kept))
            return True
        arrived = Patience(self._arrived, self._clock)  # what comes while notes are read counts
        notes = await self._queue.open_notes(address, place, _NOTES)
        if not notes:
            return False
        wait_s = min(_due(note) for _, note in notes) - self._clock.now()
        if 0 < wait_s <= GATHER_S:  # more: the clock was set back
            await arrived.wait(wait_s)
            return True
        await self._for_writing(address)  # else records would pile up that can't be sent
        for run, noted in [*_by_run(notes).items()][:_AT_ONCE]:
            await self._keep(run, noted)
        return True

    async def _keep(self, place: RunPlace, notes: Sequence[tuple[int, Note]]) -> None:
        body = encode(make_record(place, [note for _, note in notes], self._clock.now()))
        _BEFORE_KEEP()
        await self._queue.keep_run_record(place, body, [number for number, _ in notes])

    async def _put(self, record: KeptRecord) -> None:
        store, home = await self._for_writing(record.store), await self._queue.home_id()
        number, runs = record.number, store.registry.runs
        _BEFORE_SEND()
        try:
            while not await runs.put_record(record.place, record.run_id, home, number, record.body):
                number = await self._queue.run_record_again(number)
        except AccessRefused as error:
            if not _is_elsewhere(record):
                raise
            # That the run used it stands in its own project, too.
            _log.warning(
                "who used a version stays unsaid there", key=record.place, error=str(error)
            )
        else:
            await store.registry.check_identity(store.store_id)
        _AFTER_SEND()
        await self._queue.run_record_put(number)


def _is_elsewhere(record: KeptRecord) -> bool:
    """Whether it lies below another project than the run's, for those who look there for users."""
    return decode_run("the record", record.body).project != record.place


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
    return note.noted + (0.0 if note.is_end else GATHER_S)


def _by_run(
    notes: Iterable[tuple[int, Note]],
) -> dict[RunPlace, list[tuple[int, Note]]]:
    runs: defaultdict[RunPlace, list[tuple[int, Note]]] = defaultdict(list)
    for number, note in notes:
        runs[note.place].append((number, note))
    return runs
