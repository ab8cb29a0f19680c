"""The rules of changes to versions with one sentence taken out (``mutations``)."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from tests.simulation.mutations import Applied, mutation
from wherry.wire.canonical import content_digest
from wherryd.commit import changing, lane, worker
from wherryd.commit.applying import Applier
from wherryd.commit.changing import Apply, ApplyAgain, ChangeStep
from wherryd.commit.lane import Memory, Seen
from wherryd.commit.wanted import Wanted
from wherryd.model import Base
from wherryd.queue.base import Request
from wherryd.registry.base import Registry

_RACE = {"homes": 2, "processes": 0, "logs": 4, "incrementers": 2, "contents": 100}
#: Requests that fail keep a lane busy with what was seen there, while its versions are deleted.
_HOLES = _RACE | {"removals": 6}
_BURIED = _RACE | {"homes": 1, "incrementers": 4, "buried": 3, "bad": 0.5, "spread_s": 0.8}


@mutation("the base was looked for before the request was accepted", "other changes", **_BURIED)
def _base_of_before() -> Applied:
    find = changing.find_base

    def find_base(memory: Memory, request: Request) -> Any:
        with patch.object(Memory, "was_noticed", lambda *_: -1):
            return find(memory, request)

    with patch.object(changing, "find_base", find_base):
        yield


@mutation("changes are not applied again when another has the number", "other changes", **_RACE)
def _not_again() -> Applied:
    original = changing.decide_change

    def decide(memory: Memory, applied: Any, request: Request, *rest: Any) -> ChangeStep:
        step = original(memory, applied, request, *rest)
        return lane.to_number(memory, request) if isinstance(step, ApplyAgain) else step

    with patch.object(worker, "decide_change", decide):
        yield


@mutation("what was applied to one base counts for another", "other changes", **_RACE)
def _any_base() -> Applied:
    def is_done(self: changing.Applied, request: Request, step: Apply, now: float) -> bool:
        del step, now
        return self._made is not None and self._made[:2] == (request.row, request.manifest)

    with patch.object(changing.Applied, "is_done", is_done):
        yield


@mutation("the base may be a deleted version", "other changes", **_BURIED)
def _deleted_base() -> Applied:
    original = Memory._see

    def see(self: Memory, number: int, seen: Seen) -> None:
        before = self.seen.get(number)
        if seen.deleted and before is not None:
            seen = msgspec.structs.replace(before, tick=seen.tick)
        original(self, number, seen)

    with patch.object(Memory, "_see", see):
        yield


@mutation("the record before the manifest", "a manifest that is not there", first=14, **_RACE)
def _no_manifest() -> Applied:
    async def apply(
        self: Applier,
        step: Apply,
        request: Request,
        registry: Registry,
        store_id: str,
        before: str = "",
    ) -> Any:
        async with self._writer_for(request.row) as writer:
            await self._write(step, request, registry, store_id, writer, "")
            made, _ = await writer.finish()
        content = content_digest(made.digest, request.type, request.description, {})
        await self._queue.applied(request.row, made, content)
        return msgspec.structs.replace(
            request, manifest=made.manifest, digest=made.digest, content=content
        )

    with patch.object(Applier, "apply", apply):
        yield


@mutation(
    "the base's objects are not looked at", "names bytes that are not there", first=8, **_HOLES
)
def _not_looked_at() -> Applied:
    async def look(self: Wanted, *_: Any, **__: Any) -> None:
        pass

    with patch.object(Wanted, "look", look):
        yield


@mutation("a draft brings back a deleted version", "other changes", first=23, **_BURIED)
def _deleted_draft() -> Applied:
    def named_base(memory: Memory, request: Request, base: Base) -> Apply:
        return Apply(base.version, base.manifest)

    with patch.object(changing, "_named_base", named_base):
        yield
