"""Processes that use a queue until they are killed. Run as a module; one life on each line of stdin.

Each order forks, so that a process costs a few milliseconds, and answers twice: the child's pid, then
how it ended. The child writes each step that has returned to a file, by one write and no buffer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.queue.lives import ADDRESS, LIVES, PATHS, STORE_ID, lane_of
from wherry.wire.failpoints import DECLARED
from wherryd.clock import SystemClock
from wherryd.log import configure
from wherryd.model import Base, Entry, Manifest, NoteKind, RequestKind, RunInfo, Source
from wherryd.news import News
from wherryd.queue.base import (
    Finding,
    Gathered,
    Known,
    NewRequest,
    Note,
    Packed,
    RunPlace,
    Sent,
)
from wherryd.queue.database import ThreadDatabase
from wherryd.queue.sqlite import SqliteQueue
from wherryd.queue.streams import HELD_PER_STREAM

WORKERS = 3
LONG_AGO_S = 5.0


class Order(msgspec.Struct):
    """What a process shall do: each of its workers lives that many lives.

    It is killed at ``place`` when it passes for the ``times``-th time, or right after it has said
    ``lines`` lines, before anything else can happen.
    """

    home: str
    said: str
    lives: int
    place: str = ""
    times: int = 1
    lines: int = 0


class Clock(SystemClock):
    """What a forgotten life does, happened long ago."""

    long_ago: ContextVar[bool] = ContextVar("long_ago", default=False)

    def now(self) -> float:
        return LONG_AGO_S if self.long_ago.get() else time.time()


class Diary:
    """Where it is said what was done."""

    def __init__(self, order: Order) -> None:
        self._file = os.open(order.said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._left = order.lines

    def say(self, **what: Any) -> None:
        os.write(self._file, json.dumps(what).encode() + b"\n")
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Worker:
    """Lives one life after the other."""

    def __init__(self, queue: SqliteQueue, diary: Diary, name: str) -> None:
        self.queue = queue
        self.diary = diary
        self.name = name
        self.id = ""
        self.row = 0

    def say(self, **what: Any) -> None:
        self.diary.say(worker=self.name, **what)

    async def work(self, lives: int) -> None:
        kinds = itertools.cycle(LIVES)
        for number, life in zip(range(lives), kinds, strict=False):
            Clock.long_ago.set(life == "forgotten")
            self.id = f"{self.name}-{number}-{life}"
            await self._be_cut()
            for step, (verb, _) in enumerate(LIVES[life], start=1):
                place = await getattr(self, verb)()
                self.say(id=self.id, life=life, row=self.row, step=step, place=place)

    async def _be_cut(self) -> None:
        cut = self.queue.new_row()
        await self.queue.stage(cut, [Entry(f"{n}", 1) for n in range(HELD_PER_STREAM + 1)])
        await self.queue.abandon(cut)
        self.say(cut=cut)

    # ── steps ──────────────────────────────────────────────────────────────────────────────────
    async def accept(self, offline: bool = False) -> int | None:
        self.row = self.queue.new_row()
        await self.queue.stage(self.row, [Entry(path, 3, None, Source("/x")) for path in PATHS])
        request = request_for(self.id, offline)
        return (await self.queue.accept(self.row, request)).place

    async def accept_upsert(self) -> int | None:
        self.row = self.queue.new_row()
        await self.queue.stage(self.row, [Entry(path, 3, None, Source("/x")) for path in PATHS])
        return (await self.queue.accept(self.row, request_for(self.id))).place

    accept_finish = accept_upsert

    async def accept_changes(self) -> int | None:
        self.row = self.queue.new_row()
        await self.queue.stage(self.row, [Entry(path, 3, None, Source("/x")) for path in PATHS])
        await self.queue.stage_removed(self.row, ["gone"])
        return (await self.queue.accept(self.row, request_for(self.id))).place

    async def applied(self) -> None:
        await self.queue.applied(self.row, Manifest("sha256:b", "sha256:d", 5, 15), "sha256:c")

    async def apply_again(self) -> None:
        await self.queue.apply_again(self.row)

    async def keep_part(self) -> None:
        await self.queue.keep_part(self.row, b"part")

    async def part_put(self) -> None:
        await self.queue.part_put(self.row)

    async def restart_with_part(self) -> None:
        await self.queue.restart_lane(lane_of(self.id), STORE_ID, -1, "", [self.row])

    async def fail_late(self) -> None:
        await self.queue.fail_late(self.row, "DraftFinished", "finished as v5")

    async def gather(self) -> None:
        lines = [Gathered(path, part, b"{}") for path in PATHS for part in range(2)]
        await self.queue.gather(self.row, lines)

    async def forget_gathered(self) -> None:
        await self.queue.forget_gathered(self.row)

    async def keep_sealed(self) -> None:
        await self.queue.keep_sealed(self.row, b"sealed")

    async def settle_draft(self) -> None:
        await self.queue.settle(self.row, 5, ["of the draft"])

    async def done_draft(self) -> None:
        await self.queue.done(self.row, ["of the draft"])

    async def accept_offline(self) -> None:
        await self.accept(offline=True)

    async def digests(self) -> None:
        await self.queue.save_found(self.row, [Finding(0, [], found=0)])
        await self.queue.save_digests(self.row, [(path, f"sha256:{path}", 3) for path in PATHS])

    async def place(self) -> None:
        places = [Packed(path, "aa", 3 * number) for number, path in enumerate(PATHS)]
        await self.queue.save_places(self.row, places, ("aa", 9))

    async def plan_again(self) -> None:
        await self.queue.plan_again(self.row)

    async def prepare(self) -> None:
        await self.queue.prepared(self.row, Manifest("sha256:m", "sha256:d", 3, 9), "sha256:c")

    async def send(self) -> None:
        lane, digest = lane_of(self.id), f"sha256:{self.id}"
        upload = await self.queue.begin_upload(self.row, lane, digest, STORE_ID, "name", 2)
        await self.queue.note_part(upload.number, 1, "etag")
        await self.queue.note_sent(lane, [Sent(digest, 3)])

    async def upload(self) -> None:
        await self.queue.uploaded(self.row)

    async def forget_sent(self) -> None:
        await self.queue.forget_sent(lane_of(self.id), [f"sha256:{self.id}"], STORE_ID)

    async def send_back(self) -> None:
        await self.queue.send_back(self.row, "StoreDamaged", "gone", is_planned=True)

    async def send_back_to_plan(self) -> None:
        await self.queue.send_back(self.row, "StoreDamaged", "gone", is_planned=False)

    async def attempt(self) -> None:
        await self.queue.attempt(self.row, 4, b"v4")

    async def attempt_next(self) -> None:
        await self.queue.attempt(self.row, 5, b"v5")

    async def settle(self) -> None:
        await self.queue.settle(self.row, 5)

    async def learn(self) -> None:
        await self.queue.learn(lane_of(self.id), Known(STORE_ID, "model", 5, self.id))

    async def link(self) -> None:
        await self.queue.link(self.id, RunInfo("run-2"), ["best"])

    async def note_run(self) -> None:
        place = RunPlace(ADDRESS, "cats", "cats", "run-3")
        note = Note(place, RunInfo("run-3"), NoteKind.USED, f"cats/{self.id}:v5")
        await self.queue.note_run([note], held=True)

    async def release_runs(self) -> None:
        await self.queue.release_runs(["run-3"])

    async def keep_run_record(self) -> None:
        found = await self.queue.open_notes(ADDRESS, "cats", 1)
        place = RunPlace(ADDRESS, "cats", "cats", "run-3")
        await self.queue.keep_run_record(place, b"{}", [number for number, _ in found])

    async def run_record_put(self) -> None:
        for record in await self.queue.run_records(ADDRESS, "cats", 1):
            await self.queue.run_record_put(record.number)

    async def done(self) -> None:
        await self.queue.done(self.row, ["best"])  # which the link gave

    async def drop(self) -> None:
        await self.queue.drop_entries(self.row)

    async def free(self) -> None:
        await self.queue.note_freed(self.row)

    async def sync(self) -> int | None:
        await self.queue.sync([self.row])
        return (await self.queue.get(self.row)).place

    async def wait(self) -> None:
        await self.queue.wait_until(self.row, "StoreUnavailable", "503", 1.0)

    async def fail(self) -> None:
        await self.queue.fail(self.row, "FileChanged", "it changed")

    async def acknowledge(self) -> None:
        await self.queue.acknowledge([self.row])

    async def retry(self) -> int:
        return await self.queue.retry(self.row)

    async def synced(self) -> None:
        await self.queue.note_synced([self.row])

    async def distrust(self) -> None:
        await self.queue.distrust(self.row, PATHS)

    async def cancel(self) -> None:
        await self.queue.cancel(self.row)

    async def stop(self) -> None:
        await self.queue.stop_lane(lane_of(self.id), "emptied")

    async def restart(self) -> None:
        await self.queue.restart_lane(lane_of(self.id), STORE_ID, -1, "")

    async def forget(self) -> None:
        await self.queue.forget_ended(LONG_AGO_S + 1)


def request_for(id_: str, offline: bool = False) -> NewRequest:
    """The request of one life, whose kind its id tells."""
    kinds = {
        "upserted": RequestKind.UPSERT,
        "late": RequestKind.UPSERT,
        "finished": RequestKind.FINISH,
    }
    life = id_.rpartition("-")[2]
    kind = kinds.get(life, RequestKind.LOG)
    return NewRequest(
        id=id_,
        body=id_.encode(),
        lane=lane_of(id_),
        type="model",
        description=None,
        metadata="{}",
        aliases=[],
        tags=[],
        inputs=[],
        run=RunInfo("run-1"),
        client="test",
        folder=f"sessions/s/{id_}",
        entries=len(PATHS),
        size=9,
        offline=offline,
        kind=kind,
        draft="" if kind is RequestKind.LOG else "ab" * 32,
        base=Base() if life == "changed" else None,
    )


async def live(order: Order) -> None:
    """Open the queue, work, close it."""
    database = await ThreadDatabase.open(Path(order.home) / "queue.db", Clock())
    queue = await SqliteQueue.open(database, News(), Clock())
    await queue.home_id()
    await queue.set_store_id(ADDRESS, STORE_ID, probed=True)
    await queue._sweeping
    diary = Diary(order)
    workers = [Worker(queue, diary, f"{queue.new_row()}-{n}") for n in range(WORKERS)]
    await asyncio.gather(*(worker.work(order.lives) for worker in workers))
    await queue.aclose()


def main() -> None:
    """Serve orders until stdin ends."""
    configure("warning")  # standard output is for the answers
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        child = os.fork()
        if child == 0:
            if order.place:
                DECLARED[order.place]._left = order.times
            asyncio.run(live(order))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
