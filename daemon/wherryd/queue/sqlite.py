"""The queue on SQLite.

Owns: which change and which look each verb of ``base.Queue`` is, cutting bulk work into bounded
changes, sweeping what cut streams left. Does not own: the changes (``changes``, ``staging``,
``findings``, ``knowledge``), the looks (``looks``), commits (``writer``), the file (``files``, ``database``).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TypeVar

from wherry.errors import QueueError
from wherry.wire.room import Room
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.model import (
    Entry,
    Lane,
    Lookup,
    Manifest,
    PartSums,
    Place,
    RunInfo,
    State,
    Upload,
)
from wherryd.news import News
from wherryd.queue import changes, drafts, findings, knowledge, looks, run_notes, staging, uploads
from wherryd.queue.base import (
    Accepted,
    DoneRecord,
    Filter,
    Finding,
    Gathered,
    GivenUp,
    KeptRecord,
    Known,
    Link,
    NewRequest,
    Note,
    Packed,
    QueueFull,
    Request,
    RunPlace,
    Sent,
)
from wherryd.queue.database import Database
from wherryd.queue.group import Changed, Kind
from wherryd.queue.queries import change, one_row
from wherryd.queue.streams import Streams
from wherryd.queue.writer import BULK_ROWS, Writer, until_free

T = TypeVar("T")

_STAGE = Kind.named("stage", is_new_work=True, is_call=True)
_ACCEPT = Kind.named("accept", is_new_work=True, is_call=True)
_ABANDON = Kind.named("abandon")
_LINK = Kind.named("link", is_call=True)
_DIGESTS = Kind.named("digests")
_PLACES = Kind.named("places")
_PLAN = Kind.named("plan")
_FOUND = Kind.named("found")
_PREPARED = Kind.named("prepared")
_UPLOAD = Kind.named("upload")
_PART = Kind.named("part")
_SENT = Kind.named("sent")
_UPLOADED = Kind.named("uploaded")
_BACK = Kind.named("back")
_LOST = Kind.named("lost")
_LEARN = Kind.named("learn")
_STORE = Kind.named("store")
_ATTEMPT = Kind.named("attempt")
_APPLIED = Kind.named("applied")
_AGAIN = Kind.named("again")
_SETTLE = Kind.named("settle")
_GATHER = Kind.named("gather", is_new_work=True)
_KEEP_PART = Kind.named("keep-part")
_PART_PUT = Kind.named("part-put")
_SEAL = Kind.named("seal")
_FAIL_LATE = Kind.named("fail-late")
_NOTE_RUN = Kind.named("note-run", is_call=True)
_RELEASE_RUN = Kind.named("release-run", is_call=True)
_KEEP_RUN = Kind.named("keep-run-record")
_RUN_PUT = Kind.named("run-record-put")
_DONE = Kind.named("done")
_WAIT = Kind.named("wait")
_FAIL = Kind.named("fail")
_CANCEL = Kind.named("cancel", is_call=True)
_RETRY = Kind.named("retry", is_call=True)
_SYNC = Kind.named("sync", is_call=True)
_ACKNOWLEDGE = Kind.named("acknowledge", is_call=True)
_STOP = Kind.named("stop")
_RESTART = Kind.named("restart", is_call=True)
_FORGET = Kind.named("forget")
_DROP = Kind.named("drop")
_FREED = Kind.named("freed")
_SYNCED = Kind.named("synced")
_DISTRUST = Kind.named("distrust")
_META = Kind.named("meta")

#: Up to so many rows are asked for on the loop: a millisecond at most.
_FEW_ROWS = 32
_FEW_REQUESTS = 200
_FEW_LANES = 16

_log = get_logger("queue")


class SqliteQueue:
    """One home's queue; see ``base.Queue`` for what each verb promises.

    Args:
        first_row: of the row numbers that this start may give.
    """

    def __init__(self, database: Database, news: News, clock: Clock, first_row: int) -> None:
        self._database = database
        self._clock = clock
        self._writer = Writer(database, news, clock)
        self._rows = count(first_row)
        self._streams = Streams()
        self._closing = False
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep(first_row))

    @classmethod
    async def open(cls, database: Database, news: News, clock: Clock) -> SqliteQueue:
        """Begin a start of the queue.

        Raises ``QueueLocked`` while another program holds it, ``QueueFull`` where not even the reserve
        gives room for this. The database stays the caller's to close.
        """
        try:
            first_row = await database.run(staging.begin)
        except QueueFull:
            await database.make_room()
            first_row = await database.run(staging.begin)
        return cls(database, news, clock, first_row)

    # ── coming in ──────────────────────────────────────────────────────────────────────────────
    def new_row(self) -> int:
        row = next(self._rows)
        self._streams.begin(row)
        return row

    async def stage(self, row: int, entries: Sequence[Entry]) -> None:
        for part in _parts(self._streams.add(row, entries)):
            await self._bulk(_STAGE, partial(staging.stage, row=row, entries=part), len(part))

    async def stage_lookups(self, row: int, lookups: Sequence[Lookup]) -> None:
        for part in _parts(lookups):
            stage = partial(staging.stage_lookups, row=row, lookups=part)
            await self._bulk(_STAGE, stage, len(part))

    async def stage_removed(self, row: int, paths: Sequence[str]) -> None:
        for part in _parts(paths):
            stage = partial(staging.stage_removed, row=row, paths=part)
            await self._bulk(_STAGE, stage, len(part))

    async def accept(
        self, row: int, request: NewRequest, lookups: Sequence[Lookup] = ()
    ) -> Accepted:
        held, now = self._streams.held(row), self._clock.now()
        accept = partial(
            staging.accept, row=row, entries=held, lookups=lookups, request=request, now=now
        )
        kind = _STAGE + _ACCEPT if held or lookups else _ACCEPT
        accepted = await self._writer.change(kind, accept)
        self._streams.end(row)
        if accepted.row != row:
            await self.abandon(row)
        return accepted

    async def abandon(self, row: int) -> None:
        self._streams.end(row)
        # Also where nothing was written: a caller that was cancelled may have a batch on its way.
        await self._while_some_left(_ABANDON, partial(staging.abandon, row=row, limit=BULK_ROWS))

    async def link(
        self, request_id: str, run: RunInfo, aliases: Sequence[str], project: str = ""
    ) -> None:
        link = partial(
            changes.link,
            request_id=request_id,
            run=run,
            aliases=aliases,
            project=project,
            now=self._clock.now(),
        )
        await self._writer.change(_LINK, link)

    async def links(self, request_id: str) -> list[Link]:
        return await self._look(partial(looks.links, request_id=request_id))

    @property
    def locked(self) -> str:
        return self._writer.locked

    # ── looking ────────────────────────────────────────────────────────────────────────────────
    async def find(self, filter_: Filter) -> list[Request]:
        ask = self._look if filter_.limit <= _FEW_REQUESTS else self._read
        return await ask(partial(looks.find, wanted=filter_))

    async def get(self, row: int) -> Request:
        return await self._look(partial(looks.get, row=row))

    async def counts(self) -> dict[State, int]:
        return await self._read(looks.counts)

    async def spooled(self) -> dict[State, Room]:
        return await self._look(looks.spooled)

    async def entries(self, row: int, after: str | None = None, limit: int = 1000) -> list[Entry]:
        return await self._some(partial(looks.entries, row=row, after=after), limit)

    async def entries_in_place(
        self, row: int, spool: str, after: str | None = None, limit: int = 1000
    ) -> list[Entry]:
        look = partial(looks.entries_in_place, row=row, spool=spool, after=after)
        return await self._some(look, limit)

    async def rows_in_place(self, rows: Sequence[int], spool: str) -> set[int]:
        return await self._read(partial(looks.rows_in_place, rows=rows, spool=spool))

    async def removed(self, row: int, after: str | None = None, limit: int = 1000) -> list[str]:
        look = partial(looks.removed, row=row, after=after)
        return await self._some(look, limit)

    async def was_found(self, row: int, path: str) -> bool:
        return await self._look(partial(looks.was_found, row=row, path=path))

    async def ahead(self, row: int) -> int:
        return await self._read(partial(looks.ahead, row=row))

    async def folders(self) -> set[str]:
        return await self._read(looks.folders)

    # ── prepare ────────────────────────────────────────────────────────────────────────────────
    async def save_digests(self, row: int, digests: Sequence[tuple[str, str, int]]) -> None:
        for part in _parts(digests):
            save = partial(staging.save_digests, row=row, digests=part)
            await self._bulk(_DIGESTS, save, len(part))

    async def last_place(self) -> int:
        return await self._look(findings.last_place)

    async def lookups(self, row: int, after: int = -1, limit: int = 1000) -> list[Lookup]:
        return await self._some(partial(findings.lookups, row=row, after=after), limit)

    async def save_found(self, row: int, findings_: Sequence[Finding]) -> None:
        save = partial(findings.save_found, row=row, findings=findings_)
        await self._bulk(_FOUND, save, sum(1 + len(finding.entries) for finding in findings_))

    async def forget_found(self, row: int, number: int) -> None:
        forget = partial(findings.forget_found, row=row, number=number, limit=BULK_ROWS)
        await self._while_some_left(_FOUND, forget)

    async def places(self, lane: Lane, digests: Sequence[str]) -> dict[str, Place]:
        ask = self._look_once if len(digests) <= _FEW_ROWS else self._read
        return await ask(partial(knowledge.places, lane=lane, digests=digests))

    async def save_places(
        self, row: int, places: Sequence[Packed], pack: tuple[str, int] | None = None
    ) -> None:
        save = partial(staging.save_places, row=row, places=places, pack=pack)
        await self._bulk(_PLACES, save, len(places))

    async def prepared(
        self,
        row: int,
        manifest: Manifest,
        content: str,
        digests: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        prepared = partial(
            staging.prepared, row=row, manifest=manifest, content=content, digests=digests
        )
        await self._writer.change(_PREPARED, prepared)

    async def keep_part_sums(self, row: int, digest: str, sums: PartSums) -> None:
        keep = partial(uploads.keep_part_sums, row=row, digest=digest, sums=sums)
        await self._writer.change(_DIGESTS, keep)

    # ── transfer ───────────────────────────────────────────────────────────────────────────────
    async def part_sums(self, row: int, digest: str) -> PartSums | None:
        return await self._look(partial(uploads.part_sums, row=row, digest=digest))

    async def take_upload(self, row: int, lane: Lane, digest: str) -> Upload | None:
        take = partial(uploads.take_upload, row=row, lane=lane, digest=digest)
        return await self._writer.change(_UPLOAD, take)

    async def begin_upload(
        self, row: int, lane: Lane, digest: str, store_id: str, name: str, part_bytes: int
    ) -> Upload:
        begin = partial(
            uploads.begin_upload,
            row=row,
            lane=lane,
            digest=digest,
            store_id=store_id,
            name=name,
            part_bytes=part_bytes,
        )
        return await self._writer.change(_UPLOAD, begin)

    async def note_part(self, upload: int, number: int, etag: str) -> None:
        note = partial(uploads.note_part, upload=upload, number=number, etag=etag)
        await self._writer.change(_PART, note)

    async def forget_upload(self, upload: int) -> None:
        await self._writer.change(_UPLOAD, partial(uploads.forget_upload, upload=upload))

    async def given_up(self, limit: int = 100) -> list[GivenUp]:
        ask = self._look_once if limit <= _FEW_REQUESTS else self._read
        return await ask(partial(uploads.given_up, limit=limit))

    async def uploads_at(self, address: str) -> set[str]:
        return set(await self._read(partial(uploads.uploads_at, address=address)))

    async def sent_already(self, lane: Lane, digests: Sequence[str]) -> set[str]:
        ask = self._look_once if len(digests) <= _FEW_ROWS else self._read
        return await ask(partial(knowledge.sent_already, lane=lane, digests=digests))

    async def packs(self, row: int) -> dict[str, int]:
        return await self._look(partial(staging.packs, row=row))

    async def plan_again(self, row: int) -> None:
        await self._writer.change(_PLAN, partial(changes.plan_again, row=row))

    async def note_sent(
        self, lane: Lane, sent: Sequence[Sent], store_id: str | None = None
    ) -> None:
        note = partial(knowledge.note_sent, lane=lane, sent_to=store_id, now=self._clock.now())
        for part in _parts(sent):
            await self._bulk(_SENT, partial(note, sent=part), len(part))

    async def uploaded(
        self,
        row: int,
        store_id: str | None = None,
        since: float | None = None,
        sent: Sequence[Sent] = (),
    ) -> None:
        uploaded = partial(
            changes.uploaded,
            row=row,
            sent_to=store_id,
            since=since,
            sent=sent,
            now=self._clock.now(),
        )
        await self._writer.change(_SENT + _UPLOADED if sent else _UPLOADED, uploaded)

    # ── commit ─────────────────────────────────────────────────────────────────────────────────
    async def lanes(
        self, after: Lane | None = None, limit: int | None = None, *, upserts: bool = True
    ) -> list[Lane]:
        few = partial(looks.lanes, after=after, limit=limit or _FEW_LANES, upserts=upserts)
        found = await self._look(few)
        if limit is not None or len(found) < _FEW_LANES:
            return found
        return await self._read(partial(looks.lanes, after=after, upserts=upserts))

    async def line(self, lane: Lane, limit: int = 100, *, upserts: bool = True) -> list[Request]:
        return await self._look_once(partial(looks.line, lane=lane, limit=limit, upserts=upserts))

    async def unaliased(self) -> list[Request]:
        return await self._look(looks.unaliased)

    async def known(self, lane: Lane) -> Known:
        return await self._look(partial(knowledge.known, lane=lane))

    async def learn(self, lane: Lane, known: Known) -> None:
        await self._writer.change(_LEARN, partial(knowledge.learn, lane=lane, news=known))

    async def store_id(self, address: str) -> str:
        return await self._look(partial(knowledge.store_id, address=address))

    async def set_store_id(self, address: str, store_id: str, *, probed: bool) -> None:
        note = partial(knowledge.set_store_id, address=address, new=store_id, passed_probe=probed)
        await self._writer.change(_STORE, note)

    async def probed(self, address: str) -> bool:
        return await self._look(partial(knowledge.probed, address=address))

    async def attempt(self, row: int, number: int, record: bytes) -> None:
        attempt = partial(changes.attempt, row=row, number=number, record=record)
        await self._writer.change(_ATTEMPT, attempt)

    async def done_records(self, lane: Lane, names: Sequence[str]) -> dict[str, DoneRecord]:
        ask = self._look_once if len(names) <= _FEW_ROWS else self._read
        return await ask(partial(knowledge.done_records, lane=lane, names=names))

    async def forget_sent(self, lane: Lane, names: Sequence[str], store_id: str) -> None:
        for part in _parts(names):
            forget = partial(knowledge.forget_lost, lane=lane, names=part, lost_in=store_id)
            await self._bulk(_LOST, forget, len(part))

    async def send_back(self, row: int, error: str, reason: str, *, is_planned: bool) -> None:
        back = partial(
            changes.send_back, row=row, error=error, reason=reason, is_planned=is_planned
        )
        await self._writer.change(_BACK, back)

    async def settle(
        self,
        row: int,
        version: int,
        aliases: Sequence[str] | None = None,
        *,
        is_own: bool = True,
        learned: Known | None = None,
        may_end: bool = False,
    ) -> None:
        settle = partial(
            changes.settle,
            row=row,
            version=version,
            aliases=aliases,
            now=self._clock.now(),
            is_own=is_own,
            learned=learned,
            may_end=may_end,
        )
        kind = _SETTLE + _DONE if may_end else _SETTLE
        await self._writer.change(kind + _LEARN if learned else kind, settle)

    # ── changes to a base ──────────────────────────────────────────────────────────────────────
    async def applied(self, row: int, manifest: Manifest, content: str) -> None:
        applied = partial(changes.applied, row=row, manifest=manifest, content=content)
        await self._writer.change(_APPLIED, applied)

    async def apply_again(self, row: int) -> None:
        await self._writer.change(_AGAIN, partial(changes.apply_again, row=row))

    # ── drafts ─────────────────────────────────────────────────────────────────────────────────
    async def upserts(self, limit: int) -> list[tuple[int, Lane]]:
        return await self._look(partial(drafts.upserts, limit=limit))

    async def keep_part(self, row: int, part: bytes) -> None:
        await self._writer.change(_KEEP_PART, partial(drafts.keep_part, row=row, part=part))

    async def part_put(self, row: int) -> None:
        await self._writer.change(_PART_PUT, partial(drafts.part_put, row=row))

    async def parts_missing(self, row: int) -> int:
        return await self._look(partial(drafts.parts_missing, row=row))

    async def gather(self, row: int, lines: Sequence[Gathered]) -> None:
        for part in _parts(lines):
            gather = partial(drafts.gather, row=row, lines=part)
            await self._bulk(_GATHER, gather, len(part))

    async def gathered(
        self, row: int, after: tuple[str, int] = ("", -1), limit: int = 1000
    ) -> list[Gathered]:
        return await self._some(partial(drafts.gathered, row=row, after=after), limit)

    async def forget_gathered(self, row: int) -> None:
        forget = partial(drafts.forget_gathered, row=row, limit=BULK_ROWS)
        await self._while_some_left(_GATHER, forget)

    async def keep_sealed(self, row: int, sealed: bytes) -> None:
        await self._writer.change(_SEAL, partial(drafts.keep_sealed, row=row, sealed=sealed))

    async def fail_late(self, row: int, error: str, reason: str) -> None:
        now = self._clock.now()
        fail = partial(drafts.fail_late, row=row, error=error, reason=reason, now=now)
        await self._writer.change(_FAIL_LATE, fail)

    async def done(self, row: int, given: Sequence[str], error: str = "", reason: str = "") -> None:
        now = self._clock.now()
        done = partial(changes.done, row=row, given=given, now=now, error=error, reason=reason)
        await self._writer.change(_DONE, done)

    # ── what goes wrong, and what the user says ────────────────────────────────────────────────
    async def wait_until(self, row: int, error: str, reason: str, next_try: float | None) -> None:
        note = partial(changes.wait_until, row=row, error=error, reason=reason, next_try=next_try)
        await self._writer.change(_WAIT, note)

    async def fail(self, row: int, error: str, reason: str) -> None:
        now = self._clock.now()
        fail = partial(changes.fail, row=row, error=error, reason=reason, now=now)
        await self._writer.change(_FAIL, fail)

    async def cancel(self, row: int) -> None:
        await self._writer.change(_CANCEL, partial(changes.cancel, row=row, now=self._clock.now()))

    async def retry(self, row: int) -> int:
        retry = partial(changes.retry, row=row, now=self._clock.now())
        return await self._writer.change(_RETRY, retry)

    async def sync(self, rows: Sequence[int]) -> int:
        synced = 0
        for part in _parts(sorted(rows)):
            sync = partial(changes.sync, rows=part, now=self._clock.now())
            synced += await self._bulk(_SYNC, sync, len(part))
        return synced

    async def acknowledge(self, rows: Sequence[int]) -> int:
        marked = 0
        for part in _parts(rows):
            mark = partial(changes.acknowledge, rows=part)
            marked += await self._bulk(_ACKNOWLEDGE, mark, len(part))
        return marked

    async def stop_lane(self, lane: Lane, reason: str, store_id: str | None = None) -> None:
        stop = partial(knowledge.stop_lane, lane=lane, reason=reason, counted=store_id)
        await self._writer.change(_STOP, stop)

    async def stopped(self) -> dict[Lane, str]:
        return await self._look_once(knowledge.stopped)

    async def restart_lane(
        self, lane: Lane, store_id: str, highest: int, request: str, there: Sequence[int] = ()
    ) -> None:
        restart = partial(
            knowledge.restart_lane,
            lane=lane,
            new=store_id,
            highest=highest,
            request=request,
            there=there,
        )
        await self._writer.change(_RESTART, restart)

    # ── runs ───────────────────────────────────────────────────────────────────────────────────
    async def note_run(self, notes: Sequence[Note], *, held: bool = False) -> None:
        note = partial(run_notes.note, notes=notes, now=self._clock.now(), held=held)
        await self._writer.change(_NOTE_RUN, note)

    async def release_runs(self, run_ids: Sequence[str] | None) -> None:
        await self._writer.change(_RELEASE_RUN, partial(run_notes.release, run_ids=run_ids))

    async def run_places(self) -> list[tuple[str, str]]:
        return await self._look(run_notes.places)

    async def open_notes(self, address: str, place: str, limit: int) -> list[tuple[int, Note]]:
        look = partial(run_notes.open_notes, address=address, place=place, limit=limit)
        return await self._read(look)

    async def keep_run_record(self, place: RunPlace, body: bytes, numbers: Sequence[int]) -> int:
        keep = partial(run_notes.keep_record, place=place, body=body, numbers=numbers)
        return await self._writer.change(_KEEP_RUN, keep)

    async def run_records(self, address: str, place: str, limit: int) -> list[KeptRecord]:
        look = partial(run_notes.kept_records, address=address, place=place, limit=limit)
        return await self._read(look)

    async def run_record_put(self, number: int) -> None:
        await self._writer.change(_RUN_PUT, partial(run_notes.record_put, number=number))

    async def run_record_again(self, number: int) -> int:
        return await self._writer.change(_KEEP_RUN, partial(run_notes.record_again, number=number))

    async def drop_runs(self, address: str | None = None, place: str | None = None) -> None:
        drop = partial(run_notes.drop, address=address, place=place)
        await self._writer.change(_RUN_PUT, drop)

    async def runs_waiting(self) -> tuple[int, int]:
        return await self._look(run_notes.waiting)

    async def is_run_open(self, address: str, project: str, run_id: str) -> bool:
        look = partial(run_notes.is_open, address=address, project=project, run_id=run_id)
        return await self._look(look)

    # ── upkeep ─────────────────────────────────────────────────────────────────────────────────
    async def forget_ended(self, before: float) -> int:
        forgotten = 0
        while True:
            forget = partial(staging.forget_ended, before=before)
            some, rows = await self._bulk(_FORGET, forget, staging.FORGET_AT_ONCE)
            for row in rows:
                await self.abandon(row)
            forgotten += some
            if not some:
                break
        await self._while_some_left(
            _FORGET, partial(run_notes.forget, before=before, limit=BULK_ROWS)
        )
        return forgotten

    async def unfreed(self, limit: int = 100) -> list[Request]:
        return await self._look(partial(looks.some, query="unfreed", limit=limit))

    async def going_on(self, rows: Sequence[int]) -> set[int]:
        return await self._read(partial(looks.going_on, rows=rows))

    async def drop_entries(self, row: int) -> None:
        await self._while_some_left(_DROP, partial(staging.drop_entries, row=row, limit=BULK_ROWS))

    async def note_freed(self, row: int) -> None:
        await self._writer.change(_FREED, partial(staging.free, row=row))

    async def take_off(self, row: int, left: Room) -> None:
        await self._writer.change(_FREED, partial(staging.take_off, row=row, left=left))

    async def take_off_folders(self, folders: Sequence[str]) -> None:
        for part in _parts(folders):
            await self._bulk(_FREED, partial(staging.take_off_folders, folders=part), len(part))

    async def unsynced(self, limit: int = 100) -> list[Request]:
        return await self._look(partial(looks.some, query="unsynced", limit=limit))

    async def note_synced(self, rows: Sequence[int]) -> None:
        for part in _parts(rows):
            await self._bulk(_SYNCED, partial(staging.note_synced, rows=part), len(part))

    async def distrust(self, row: int, paths: Sequence[str]) -> None:
        for part in _parts(paths):
            distrust = partial(staging.distrust, row=row, paths=part)
            await self._bulk(_DISTRUST, distrust, len(part))

    async def home_id(self) -> str:
        make = partial(_kept_or_made, key="home_id", value=self._clock.token())
        return await self._writer.change(_META, make)

    async def boot(self) -> str:
        return await self._look(partial(looks.meta, key="boot"))

    async def note_boot(self, boot: str) -> None:
        await self._writer.change(_META, partial(_set_meta, key="boot", value=boot))

    async def aclose(self) -> None:
        self._closing = True
        self._sweeping.cancel()
        await asyncio.wait({self._sweeping})
        await self._writer.aclose()
        await self._database.aclose()

    # ── how ────────────────────────────────────────────────────────────────────────────────────
    async def _look(self, look: Callable[[sqlite3.Connection], T], *, is_one: bool = False) -> T:
        """Ask for a few rows; ``is_one``: by one statement."""
        return await until_free(
            partial(self._database.look, look, is_one=is_one), self._clock, lambda: self._closing
        )

    async def _look_once(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Ask for a few rows by one statement."""
        return await self._look(look, is_one=True)

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Ask for many rows, or go through many for a few."""
        return await until_free(
            partial(self._database.read, look), self._clock, lambda: self._closing
        )

    async def _some(self, look: Callable[..., list[T]], limit: int) -> list[T]:
        """Ask for up to ``limit`` rows, which mostly are few, by one statement."""
        few = await self._look_once(partial(look, limit=min(limit, _FEW_ROWS)))
        if len(few) < _FEW_ROWS:
            return few
        return await self._read(partial(look, limit=limit)) if limit > _FEW_ROWS else few

    async def _bulk(
        self, kind: Kind, change_: Callable[[sqlite3.Connection], Changed[T]], rows: int
    ) -> T:
        return await self._writer.change(kind, change_, rows)

    async def _while_some_left(
        self, kind: Kind, delete: Callable[[sqlite3.Connection], Changed[bool]]
    ) -> None:
        while await self._bulk(kind, delete, BULK_ROWS):
            pass

    async def _sweep(self, first_row: int) -> None:
        """Delete what streams left that were cut by the end of an earlier start."""
        try:
            for row in await self._read(partial(staging.orphans, below=first_row)):
                await self.abandon(row)
        except QueueError as error:
            _log.warning("cut streams not swept; the next start tries again", error=str(error))


def _kept_or_made(db: sqlite3.Connection, key: str, value: str) -> Changed[str]:
    kept = one_row(db, "meta", key=key)
    return Changed(kept["value"]) if kept else _set_meta(db, key, value)


def _set_meta(db: sqlite3.Connection, key: str, value: str) -> Changed[str]:
    change(db, "set_meta", key=key, value=value)
    return Changed(value)


def _parts(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + BULK_ROWS] for start in range(0, len(rows), BULK_ROWS)]
