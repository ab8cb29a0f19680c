"""Changes to versions in the simulation: a lane in which most requests change another version."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.simulation.contents import ENTRY_BYTES, LINED, lines_in
from tests.simulation.daemon import Home
from tests.simulation.loop import SimClock
from tests.simulation.plan import Plan
from tests.simulation.promises import VERSION, Broken, Logged, Promises, require
from tests.simulation.store import Change, SimStore, World
from wherry.errors import NotFoundError, StoreError
from wherryd.commit.editing import Editor
from wherryd.model import Base, Entry, Lane, RunInfo, Source, State
from wherryd.queue.base import NewRequest, Request
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry import layout
from wherryd.registry.objects import ObjectRegistry
from wherryd.stores.base import EtagMismatch, WriteConflict

LANE = Lane(SimStore.address, "p", f"{LINED}0")
FOLDER = f"{LANE.project}/artifacts/{LANE.name}"
_PATHS = ("a", "b", "dir/c", "dir/d")

#: Digests by path.
Held = dict[str, str]


@dataclass
class Asked:
    """What one request changes."""

    base: Base | None
    own: Held
    removed: frozenset[str]
    called: float

    def applied(self, held: Held) -> Held:
        """What it makes out of a version."""
        if self.base is None:
            return self.own
        left = {path: digest for path, digest in held.items() if not self._takes(path)}
        return left | self.own

    def _takes(self, path: str) -> bool:
        """Whether it takes out a path; only what changes the version before takes out folders."""
        is_open = self.base is not None and not self.base.manifest
        return path in self.removed or (is_open and path.partition("/")[0] in self.removed)


class Incrementing:
    """All who change versions."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        homes: Sequence[Home],
        lanes: Sequence[Lane],
        promises: Promises,
    ) -> None:
        del lanes
        self._world = world
        self._plan = plan
        self._homes = homes
        self._promises = promises
        self._chance = world.chance
        self.asked: dict[str, Asked] = {}
        #: By number: what each version has, and its manifest.
        self._versions: list[tuple[Held, str]] = []
        self._manifests: dict[str, bytes] = {}  # by key, also those that were removed
        world.watchers.append(self._watch)

    def actors(self) -> list[Coroutine[Any, Any, None]]:
        """One coroutine for each of them; each ends by itself."""
        processes = [home for home in self._homes for _ in range(self._plan.incrementers)]
        return [
            *(self._process(home) for home in processes),
            *(self._deleter() for _ in range(self._plan.buried if processes else 0)),
        ]

    async def _process(self, home: Home) -> None:
        for _ in range(self._plan.logs):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s)
            request, entries, removed = self._new()
            log = self._log_of(request, home)
            self._promises.logged[request.id] = log
            await home.ask(partial(_accept, request, entries, removed))
            log.is_durable = True
            log.held_returned = log.returned = self._world.now()

    async def _deleter(self) -> None:
        clock = SimClock(self._world.loop, self._chance)
        for _ in range(3 * self._plan.logs):
            await asyncio.sleep(self._chance.random() * self._plan.spread_s)
            if not self._versions:
                continue
            registry = ObjectRegistry(SimStore(self._world, "user-buries", lambda: None))
            editor, top = Editor(LANE, registry, clock), len(self._versions) - 1
            with suppress(NotFoundError, StoreError, EtagMismatch, WriteConflict):
                await editor.delete(top, with_aliases=True)

    def _new(self) -> tuple[NewRequest, list[Entry], list[str]]:
        id_ = f"change{len(self.asked)}"
        entries = [
            _entry(path, str(self._chance.randrange(self._plan.contents)))
            for path in _PATHS
            if self._chance.random() < 0.4
        ]
        if (
            self._plan.copies and not entries
        ):  # else its changes may be none to one home, and some to its copy
            entries = [_entry(_PATHS[0], str(self._chance.randrange(self._plan.contents)))]
        removed = [path for path in (*_PATHS, "dir") if self._chance.random() < 0.2]
        base = self._some_base()
        is_bad = self._chance.random() < self._plan.bad
        own = {entry.path: entry.digest or "" for entry in entries}
        self.asked[id_] = Asked(base, own, frozenset(removed), self._world.now())
        self._promises.changed_by.add(id_)
        request = NewRequest(
            id=id_,
            body=id_.encode(),
            lane=LANE,
            type=self._plan.types[0],
            description=None,
            metadata='{"bad":true}' if is_bad else "{}",
            aliases=[],
            tags=[],
            inputs=[],
            run=RunInfo("run"),
            client="simulation",
            folder="",
            entries=len(entries),
            size=ENTRY_BYTES * len(entries),
            base=base,
        )
        return request, entries, removed if base is not None else []

    def _some_base(self) -> Base | None:
        """The version before its own, mostly; or one that is there; or none."""
        likely = self._chance.random()
        if likely < 0.1:
            return None
        if likely < 0.25 and self._versions:
            number = self._chance.randrange(len(self._versions))
            return Base(number, self._versions[number][1])
        return Base()

    def _log_of(self, request: NewRequest, home: Home) -> Logged:
        now = self._world.now()
        return Logged(
            home=home.name,
            lane=FOLDER,
            id=request.id,
            type=request.type,
            content="",
            aliases=(),
            is_bad=request.metadata != "{}",
            is_offline=False,
            held_called=now,
            called=now,
        )

    # ── what must hold ─────────────────────────────────────────────────────────────────────────
    def _watch(self, change: Change) -> None:
        if "/manifests/" in change.key and change.body:
            self._manifests[change.key] = change.body
        match = VERSION.match(change.key)
        if match is None or match["lane"] != FOLDER:
            return
        record = json.loads(change.body or b"{}")
        if "manifest" not in record or int(match["number"]) != len(self._versions):
            return  # a tombstone; or ``promises`` tells what is wrong
        try:
            self._watch_version(change, int(match["number"]), record)
        except Broken as broken:
            self._promises.broken.append(broken)

    def _watch_version(self, change: Change, number: int, record: Mapping[str, str]) -> None:
        """A version has what its base has, with its changes; and the store has all of it, or had it when
        it was asked, since the request came in.
        """
        request, manifest, writer = record["request"], record["manifest"], change.writer
        key = layout.manifest_key(LANE.project, manifest)
        body = self._manifests.get(key)
        held = {line.path: line.digest or "" for line in lines_in(body)} if body else {}
        self._versions.append((held, manifest))
        asked = self.asked[request]
        is_missed = self._world.is_missed(key, writer, asked.called)
        require(not is_missed, f"v{number} names a manifest that is not there")
        for digest in held.values():
            key = layout.blob_key(LANE.project, digest)
            is_missed = self._world.is_missed(key, writer, asked.called)
            require(not is_missed, f"v{number} names bytes that are not there")
        may = [asked.applied(base) for base in self._bases(asked, number)]
        require(held in may, f"v{number} of {request} is {held}, not one of {may}: other changes")

    def _bases(self, asked: Asked, number: int) -> Iterator[Held]:
        """What the request may have changed: what was the highest that is not deleted since it came in."""
        if asked.base is not None and asked.base.manifest:
            deleted = self._promises.lives[FOLDER][asked.base.version].deleted
            if deleted is None or deleted > asked.called:
                yield self._versions[asked.base.version][0]
            return
        for below in range(number - 1, -1, -1):
            deleted = self._promises.lives[FOLDER][below].deleted
            if deleted is None or deleted > asked.called:
                yield self._versions[below][0]
            if deleted is None:
                return
        yield {}

    def judge(self, rows: Mapping[str, Sequence[Request]]) -> None:
        """Raise ``Broken`` where a request is a version that was there, and changes something of it.

        Then each request's content is known: what its changes came to.
        """
        found = [row for some in rows.values() for row in some if row.id in self.asked]
        lives = self._promises.lives[FOLDER]
        self._promises.may_fail = {row.id: self._may_fail(self.asked[row.id]) for row in found}
        for row in found:
            self._promises.logged[row.id].content = row.content or ""
            if row.state is not State.DONE or row.version is None:
                continue
            held, asked = self._versions[row.version][0], self.asked[row.id]
            if lives[row.version].request != row.id and not (asked.base and asked.base.manifest):
                no_change = asked.applied(held) == held
                require(no_change, f"{row.id} is v{row.version}, and has other changes")

    def _may_fail(self, asked: Asked) -> set[str]:
        """With what a request may fail for its base: for a hole that somebody made, or as it was deleted."""
        if asked.base is None:
            return set()
        errors = {"StoreDamaged"} if self._plan.removals else set[str]()
        lives, number = self._promises.lives[FOLDER], asked.base.version
        if asked.base.manifest and lives[number].deleted is not None:
            errors.add("NotFoundError")
        return errors


def _entry(path: str, text: str) -> Entry:
    data = hashlib.sha256(f"{path} {text}".encode()).digest()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return Entry(path, ENTRY_BYTES, digest=digest, source=Source(data.hex(), 0))


async def _accept(
    request: NewRequest, entries: Sequence[Entry], removed: Sequence[str], queue: SqliteQueue
) -> None:
    row = queue.new_row()
    await queue.stage(row, entries)
    if removed:
        await queue.stage_removed(row, removed)
    await queue.accept(row, request)
