"""Does the steps that finish a draft, at the head of its lane.

Owns: each step of ``drafts`` that a commit does not have. Does not own: the rules (``drafts``), the version's
record (``worker``), what the parts come to (``gathering``).

What a kill leaves: before ``queue.keep_sealed`` returned, at most a mark that lets writers wait, and a
manifest; after it, bytes that count as sent, and the next start sends them again or follows another's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from wherry.errors import BadPath, StoreDamaged, StoreUnavailable, UpsertsPending
from wherry.wire.failpoints import failpoint
from wherryd.clock import rfc3339
from wherryd.commit.drafts import (
    AwaitParts,
    BeginSealing,
    CompareOwn,
    Finishing,
    FinishStep,
    Gather,
    KeepSealed,
    LookForManifest,
    LookForSealed,
    PutSealed,
    TellConflict,
)
from wherryd.commit.gathering import Gatherer
from wherryd.commit.lane import Fail
from wherryd.commit.merging import is_same
from wherryd.model import DraftMark, ManifestEntry, Sealed, State
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request
from wherryd.registry.base import Kind, Named, Registry
from wherryd.registry.records import encode

_BEFORE_MARK = failpoint("commit.draft.before-mark")
_AFTER_MARK = failpoint("commit.draft.after-mark")
_AFTER_CONFLICT = failpoint("commit.draft.after-conflict")
_BEFORE_KEEP = failpoint("commit.draft.before-keep")
_BEFORE_SEAL = failpoint("commit.draft.before-seal")
_AFTER_SEAL = failpoint("commit.draft.after-seal")


class PartsMissing(Exception):
    """Upserts that were accepted before have not put their parts: the lane waits for news of them."""


class Finisher:
    """Finishes the drafts of one lane, one after the other."""

    def __init__(self, registry: Registry, queue: Queue, gatherer: Gatherer) -> None:
        self._registry = registry
        self._queue = queue
        self._gatherer = gatherer
        self._of: object = None  # what ``_finishing`` is about
        self._finishing = Finishing()

    def memory(self, request: Request) -> Finishing:
        """What is known of a request's draft; nothing, where it was retried or prepared anew."""
        key = request.row, request.place, request.manifest
        if self._of != key:
            self._of, self._finishing = key, Finishing()
        return self._finishing

    async def do(self, step: FinishStep, request: Request, store_id: str, tick: int) -> Request:
        """Do a step; return the request as it is then. Raises ``PartsMissing``.

        Args:
            tick: of the last question about the lane.
        """
        match step:
            case LookForSealed():
                await self._look(request, store_id, tick)
            case AwaitParts():
                await self._await_parts(request)
            case BeginSealing():
                await self._begin_sealing(request, store_id)
            case Gather():
                await self._gather(request, store_id)
            case TellConflict(reason):
                await self._tell_conflict(request, reason)
            case KeepSealed(sealed):
                _BEFORE_KEEP()
                await self._queue.keep_sealed(request.row, sealed)
                return msgspec.structs.replace(request, state=State.SENDING, sealed=sealed)
            case PutSealed():
                await self._put_sealed(request)
            case LookForManifest(manifest):
                await self._look_for_manifest(request, manifest, store_id)
            case CompareOwn():
                await self._compare(request)
        return request

    async def _look(self, request: Request, store_id: str, tick: int) -> None:
        finishing = self.memory(request)
        seen = await self._registry.drafts.look(*_place(request), store_id)
        was_put = finishing.is_put
        finishing.looked(seen.sealed, tick)
        if was_put and seen.sealed is None:
            raise StoreUnavailable("sealed.json of the draft was put, and is not there")

    async def _await_parts(self, request: Request) -> None:
        missing = await self._queue.parts_missing(request.row)
        if missing:
            count = "An upsert" if missing == 1 else f"{missing:,} upserts"
            verb = "is" if missing == 1 else "are"
            why = f"{count} that this machine took before {verb} not in the draft yet"
            await self._tell(request, UpsertsPending(why))
            raise PartsMissing
        await self._tell(request, None)
        self.memory(request).has_parts = True

    async def _tell(self, request: Request, why: UpsertsPending | None) -> None:
        """Say in the row why the finish waits; or no more."""
        told = (public_name(why), str(why)) if why else ("", "")
        if (request.error, request.reason) != told:
            await self._queue.wait_until(request.row, *told, None)

    async def _begin_sealing(self, request: Request, store_id: str) -> None:
        """The mark counts when it was seen in this very store: writers there see it from then on."""
        drafts = self._registry.drafts
        _BEFORE_MARK()
        await drafts.begin_sealing(*_place(request), encode(_mark(request)))
        _AFTER_MARK()
        seen = await drafts.look(*_place(request), store_id)
        if not seen.is_sealing:
            raise StoreUnavailable("sealing.json of the draft was put, and is not there")
        self.memory(request).is_sealing = True

    async def _gather(self, request: Request, store_id: str) -> None:
        finishing = self.memory(request)
        try:
            await self._gatherer.gather(request, self._registry, store_id, finishing)
        except BadPath as error:
            finishing.conflicts(Fail(public_name(error), str(error)))

    async def _tell_conflict(self, request: Request, reason: str) -> None:
        mark = msgspec.structs.replace(_mark(request), reason=reason)
        await self._registry.drafts.put_conflict(*_place(request), encode(mark))
        _AFTER_CONFLICT()
        self.memory(request).is_told = True

    async def _put_sealed(self, request: Request) -> None:
        assert request.sealed is not None
        _BEFORE_SEAL()
        await self._registry.drafts.put_sealed(*_place(request), request.sealed)
        _AFTER_SEAL()
        self.memory(request).is_put = True

    async def _look_for_manifest(self, request: Request, manifest: str, store_id: str) -> None:
        named = [Named(Kind.MANIFEST, manifest)]
        if await self._registry.lost(request.lane.project, named, store_id):
            raise StoreDamaged(
                f"the store has lost {manifest}, the manifest of a draft that is sealed"
            )
        self.memory(request).has_manifest = True

    async def _compare(self, request: Request) -> None:
        finishing = self.memory(request)
        assert finishing.sealed is not None and request.manifest is not None
        missing = _missing_words(request, finishing.sealed)
        if not missing and request.manifest != finishing.sealed.manifest:
            project = request.lane.project
            own = self._registry.open_manifest(project, request.manifest)
            result = self._registry.open_manifest(project, finishing.sealed.manifest)
            async with aclosing(own), aclosing(result):
                missing = await _first_missing(own, result)
        finishing.missing = missing


def _place(request: Request) -> tuple[str, str]:
    return request.lane.project, request.draft


def _mark(request: Request) -> DraftMark:
    lane, created = request.lane, rfc3339(request.accepted)
    return DraftMark(1, lane.project, lane.name, request.id, created)


def _missing_words(request: Request, sealed: Sealed) -> str:
    """What of a finish beside its entries is not in the draft as it was sealed; "" for nothing."""
    for key, value in msgspec.json.decode(request.metadata).items():
        if key not in sealed.metadata or sealed.metadata[key] != value:
            return f"the metadata {key!r} of this finish"
    return ""


async def _first_missing(
    own: AsyncIterator[ManifestEntry], result: AsyncIterator[ManifestEntry]
) -> str:
    """The first of one manifest's entries that another does not have with the same content; "" for none."""
    there = await anext(result, None)
    async for line in own:
        while there is not None and there.path.encode() < line.path.encode():
            there = await anext(result, None)
        if there is None or not is_same(there, line):
            return f"{line.path!r} of this finish"
    return ""
