"""Drafts in the simulation: writers and finishers in all homes, and what must hold of what they do."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import zstandard

from tests.simulation.contents import ENTRY_BYTES
from tests.simulation.daemon import Home
from tests.simulation.plan import Plan
from tests.simulation.promises import Promises, require
from tests.simulation.store import World
from tests.simulation.users import cancel
from wherry.errors import TypeTaken
from wherry.wire.canonical import draft_id
from wherryd.model import (
    Entry,
    Lane,
    ManifestEntry,
    RequestKind,
    RunInfo,
    Sealed,
    Source,
    State,
)
from wherryd.queue.base import NewRequest, Request
from wherryd.queue.sqlite import SqliteQueue
from wherryd.registry import layout, records

_UNFINISHED = """
    SELECT 1 FROM requests WHERE draft > '' AND state NOT IN ('done', 'failed', 'cancelled')
"""


@dataclass
class Asked:
    """One upsert or finish of one process, as that process saw it."""

    home: str
    lane: Lane
    id: str
    draft: str
    kind: RequestKind
    path: str
    data: str  # stands for the bytes at the path
    is_newest: bool
    is_bad: bool
    called: float
    returned: float | None = None
    cancelled: bool = False

    @property
    def folder(self) -> str:
        """Where its artifact lies."""
        return f"{self.lane.project}/artifacts/{self.lane.name}"

    @property
    def entry(self) -> Entry:
        """The one entry that it brings."""
        data = hashlib.sha256(f"{self.path} {self.data}".encode()).digest()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return Entry(self.path, ENTRY_BYTES, digest=digest, source=Source(data.hex(), 0))

    @property
    def metadata(self) -> dict[str, object]:
        """The metadata that it brings."""
        return {"bad": True} if self.is_bad else {}


class Drafting:
    """All who write to drafts, and finish them."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        homes: Sequence[Home],
        lanes: Sequence[Lane],
        promises: Promises,
    ) -> None:
        self._world = world
        self._plan = plan
        self._homes = homes
        self._lanes = lanes
        self._promises = promises
        self._chance = world.chance
        self.asked: dict[str, Asked] = {}
        self._count = 0

    def actors(self) -> list[Coroutine[Any, Any, None]]:
        """One coroutine for each of them; each ends by itself."""
        plan = self._plan
        everywhere = [(n, home) for n in range(plan.drafts) for home in self._homes]
        return [
            *(self._writer(n, home) for n, home in everywhere for _ in range(plan.writers)),
            *(self._finisher(n, home) for n, home in everywhere for _ in range(plan.finishers)),
            *(self._canceller() for _ in range(plan.cancels if plan.drafts else 0)),
            *(self._some_rest() for _ in range(min(plan.drafts, 1))),
        ]

    async def finish_all(self) -> None:
        """Finish what nobody has finished, or could."""
        for n in range(self._plan.drafts):
            await self._ask(n, self._chance.choice(self._homes), RequestKind.FINISH, is_last=True)

    async def _writer(self, n: int, home: Home) -> None:
        await asyncio.sleep(self._chance.random() * self._plan.spread_s)
        await self._ask(n, home, RequestKind.UPSERT)

    async def _finisher(self, n: int, home: Home) -> None:
        await asyncio.sleep(self._chance.random() * 2 * self._plan.spread_s)
        await self._ask(n, home, RequestKind.FINISH)

    async def _some_rest(self) -> None:
        """Faults end with the actors: let them last until what was asked for is done, or for a while."""
        for _ in range(20):
            await asyncio.sleep(self._plan.spread_s)
            if not any(home.connection.execute(_UNFINISHED).fetchone() for home in self._homes):
                return

    async def _canceller(self) -> None:
        await asyncio.sleep(self._chance.random() * 4 * self._plan.spread_s)
        there = [each for each in self.asked.values() if each.returned is not None]
        if there:
            chosen = self._chance.choice(there)
            home = next(home for home in self._homes if home.name == chosen.home)
            was_cancelled = await home.ask(partial(cancel, chosen.id))
            chosen.cancelled = chosen.cancelled or was_cancelled

    async def _ask(self, n: int, home: Home, kind: RequestKind, *, is_last: bool = False) -> None:
        asked = self._new(n, home, kind, is_last=is_last)
        self.asked[asked.id] = asked
        self._promises.drafted[asked.folder].add(self._plan.types[0])
        try:
            entry = None if _is_empty(asked) else asked.entry
            await home.ask(partial(_accept, self._request(asked), entry=entry))
        except TypeTaken:
            del self.asked[asked.id]
            return
        asked.returned = self._world.now()

    def _new(self, n: int, home: Home, kind: RequestKind, *, is_last: bool) -> Asked:
        lane = self._lanes[n % len(self._lanes)]
        self._count += 1
        id_ = f"{kind}{self._count}"
        is_shared = self._chance.random() < self._plan.clashes
        return Asked(
            home=home.name,
            lane=lane,
            id=id_,
            draft=draft_id(lane.project, lane.name, str(n)),
            kind=kind,
            path="shared" if is_shared else f"by {id_}",
            data=str(self._chance.randrange(2)),
            is_newest=is_last or self._chance.random() < 0.5,
            is_bad=not is_last and self._chance.random() < self._plan.bad,
            called=self._world.now(),
        )

    def _request(self, asked: Asked) -> NewRequest:
        given = [alias for alias in self._plan.aliases if self._chance.random() < 0.5]
        return NewRequest(
            id=asked.id,
            body=asked.id.encode(),
            lane=asked.lane,
            type=self._plan.types[0],
            description=None,
            metadata=json.dumps(asked.metadata, separators=(",", ":")),
            aliases=given,
            tags=[],
            inputs=[],
            run=RunInfo(f"run of {asked.id}"),
            client="simulation",
            folder="",
            entries=0 if _is_empty(asked) else 1,
            size=0 if _is_empty(asked) else ENTRY_BYTES,
            kind=asked.kind,
            draft=asked.draft,
            newest=asked.is_newest,
        )

    # ── what must hold ─────────────────────────────────────────────────────────────────────────
    def judge(self, rows: Mapping[str, Sequence[Request]]) -> None:
        """Raise ``Broken`` for the first promise about drafts that does not hold.

        Args:
            rows: all upserts and finishes at rest, by home.
        """
        ended = {request.id: request for some in rows.values() for request in some}
        drafts = defaultdict[str, list[Asked]](list)
        for asked in self.asked.values():
            drafts[asked.draft].append(asked)
        for draft, some in drafts.items():
            self._judge_draft(draft, some, ended)

    def _judge_draft(self, draft: str, some: list[Asked], ended: Mapping[str, Request]) -> None:
        found = self._world.objects.get(layout.sealed_key("p", draft))
        sealed = records.decode_sealed("sealed", found[0]) if found else None
        for asked in some:
            require(asked.id in ended, f"{asked.id} was accepted and is lost")
            self._judge_end(asked, ended[asked.id], sealed)
        if sealed is not None:
            self._judge_version(sealed, some, ended)

    def _judge_end(self, asked: Asked, request: Request, sealed: Sealed | None) -> None:
        what = f"{asked.id} is {request.state} at rest: {request.error} {request.reason}"
        require(request.state in (State.DONE, State.FAILED, State.CANCELLED), what)
        require(
            asked.cancelled == (request.state is State.CANCELLED), f"{what}; {asked.cancelled=}"
        )
        parts = sealed.parts if sealed else []
        if asked.kind is RequestKind.UPSERT:
            is_in = sealed is None or asked.id in parts
            is_done = request.state is State.DONE
            require(is_in == is_done or sealed is None, f"{what}; and it is in it: {is_in}")
            require(parts.count(asked.id) <= 1, f"{asked.id} is in the draft twice")
        if request.state is State.FAILED:
            require(request.error in self._may_fail(asked), f"{what}; and nothing is wrong with it")

    def _may_fail(self, asked: Asked) -> set[str]:
        errors = {"DraftFinished"}
        if asked.is_bad:
            errors |= {"FileChanged"}
        if self._promises.types[asked.folder] - {self._plan.types[0]}:
            errors |= {"TypeTaken"}
        others = [each.path for each in self.asked.values() if each.draft == asked.draft]
        if asked.kind is RequestKind.FINISH and others.count("shared") > 1 and not asked.is_newest:
            errors |= {"DraftConflict"}
        return errors

    def _judge_version(
        self, sealed: Sealed, some: list[Asked], ended: Mapping[str, Request]
    ) -> None:
        by_id = {asked.id: asked for asked in some}
        finisher = by_id[sealed.finisher]
        lives = self._promises.lives[finisher.folder]
        versions = [number for number, life in enumerate(lives) if life.request == sealed.draft]
        require(len(versions) == (0 if sealed.same else 1), f"the draft became {versions}")
        version = sealed.start - 1 if sealed.same else versions[0]
        require(version >= sealed.start - sealed.same, f"v{version} is below {sealed.start}")
        require(lives[version].content == sealed.content, f"v{version} is of another content")
        if sealed.same:
            was_highest = version + 1 == len(lives) or lives[version + 1].created > finisher.called
            require(was_highest, f"the draft is v{version}, which was not the highest then")
        state = ended[finisher.id].state
        require(state is State.DONE, f"{finisher.id} has sealed the draft and is {state}")
        self._judge_entries(sealed, by_id)
        for asked in some:
            if asked.kind is RequestKind.FINISH and ended[asked.id].state is State.DONE:
                told = ended[asked.id].version
                require(told == version, f"{asked.id} was told v{told}, and is v{version}")
        for asked in some:  # what this home had accepted before is in it
            came_before = asked.returned is not None and asked.returned < finisher.called
            is_own = asked.kind is RequestKind.UPSERT and asked.home == finisher.home
            if is_own and came_before and ended[asked.id].state is not State.CANCELLED:
                is_in = asked.id in sealed.parts or ended[asked.id].error in (
                    "FileChanged",
                    "TypeTaken",
                )
                require(is_in, f"{asked.id} came before {finisher.id}, and is not in the draft")

    def _judge_entries(self, sealed: Sealed, by_id: Mapping[str, Asked]) -> None:
        body, *_ = self._world.objects[layout.manifest_key("p", sealed.manifest)]
        lines = zstandard.decompress(body, max_output_size=1 << 20).splitlines()
        there = {line.path: line.digest for line in map(_line, lines)}
        own = by_id[sealed.finisher]
        expected = [by_id[id_] for id_ in sealed.parts]
        paths = {each.path for each in expected} | (
            {own.path} - {""} if not _is_empty(own) else set()
        )
        require(there.keys() == paths, f"the draft has {sorted(there)}, not {sorted(paths)}")
        for path, digest in there.items():
            may = {each.entry.digest for each in [*expected, own] if each.path == path}
            require(digest in may, f"{path!r} has bytes of nobody")


def _is_empty(asked: Asked) -> bool:
    """A finish may bring nothing: then it may be done any number of times."""
    return asked.kind is RequestKind.FINISH and asked.path != "shared"


def _line(line: bytes) -> ManifestEntry:
    return msgspec.json.decode(line, type=ManifestEntry)


async def _accept(request: NewRequest, queue: SqliteQueue, *, entry: Entry | None = None) -> None:
    row = queue.new_row()
    if entry is not None:
        await queue.stage(row, [entry])
    await queue.accept(row, request)
