"""What the parts of a draft come to: one manifest, and the bytes of ``sealed.json``.

Owns: reading the parts, sorting their entries by path (in the queue, so that memory stays bounded), putting
the manifest, looking whether the store has all that it names, the number from which on the version is looked
for. Does not own: the rules path by path (``merging``), the manifest's file (``manifest_file``), when this is
done (``drafts``).

What a kill leaves: lines in the queue, a file beside the manifests, a manifest in the store that nobody
names. Doing it again begins with none of the lines.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Protocol, Self, TypeVar

import msgspec

from wherry.errors import StoreDamaged, StoreUnavailable
from wherry.wire.canonical import content_digest
from wherry.wire.failpoints import failpoint
from wherryd.clock import rfc3339
from wherryd.commit.aliases import worth_giving
from wherryd.commit.damage import read_surely
from wherryd.commit.drafts import Finishing
from wherryd.commit.lane import Fail
from wherryd.commit.looking import BATCH
from wherryd.commit.merging import (
    TOLD,
    Chosen,
    Claim,
    Conflict,
    Trees,
    choose,
    in_order,
    merged_description,
    merged_metadata,
    union,
)
from wherryd.commit.wanted import Wanted
from wherryd.model import DraftPart, Manifest, ManifestEntry, Sealed, Tombstone
from wherryd.queue.base import Gathered, Queue, Request
from wherryd.registry.base import Registry
from wherryd.registry.records import encode
from wherryd.stores.base import FileBody
from wherryd.together import all_of

#: Parts that are read at once, and lines that are kept at once.
PARTS_AT_ONCE = 16
PAGE = 1000

_AFTER_LIST = failpoint("commit.draft.after-list")
_AFTER_LINES = failpoint("commit.draft.after-lines")
_AFTER_MANIFEST = failpoint("commit.draft.after-manifest")

T = TypeVar("T")

_LINES = msgspec.json.Decoder(ManifestEntry)


class Writer(Protocol):
    """Makes a draft's manifest; nothing of it is left on this machine after the block."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    async def add(self, lines: Sequence[ManifestEntry]) -> None:
        """Write the next lines; raises as ``ManifestWriter``, ``BadPath`` for what can't stand in one."""
        ...

    async def finish(self) -> tuple[Manifest, FileBody]:
        """Give what they came to, and the file to be put."""
        ...


class Gatherer:
    """Gathers drafts.

    Args:
        writer_for: makes the writer for a request's row.
    """

    def __init__(self, queue: Queue, writer_for: Callable[[int], Writer]) -> None:
        self._queue = queue
        self.writer_for = writer_for

    async def gather(
        self, request: Request, registry: Registry, store_id: str, finishing: Finishing
    ) -> None:
        """Tell ``finishing`` what the draft is to be, or why it can't be.

        Args:
            request: the finish; what it names itself is in the store.

        Raises ``StoreError``, ``Exchanged`` among them; ``QueueError``; ``WrongState`` where the request is
        not ``uploaded`` any more; ``SpoolFull`` or ``CaptureError`` where the manifest can't be written.
        """
        await self._queue.forget_gathered(request.row)
        made = await self._make(request, registry, store_id)
        await self._queue.forget_gathered(request.row)
        if isinstance(made, Fail):
            finishing.conflicts(made)
        else:
            finishing.made = encode(made)

    async def _make(self, request: Request, registry: Registry, store_id: str) -> Sealed | Fail:
        try:
            parts = await self._read_parts(request, registry, store_id)
            _AFTER_LIST()
            await self._read_lines(request, registry, store_id, parts)
        except StoreDamaged as error:
            return _lost(error.message)
        _AFTER_LINES()
        chooser = _Chooser(parts, newest=request.newest)
        async with self.writer_for(request.row) as writer:
            why = await self._merge(request, registry, store_id, chooser, writer)
            if why is not None:
                return why
            manifest, body = await writer.finish()
            await registry.put_manifest(request.lane.project, manifest.manifest, body)
            await registry.sync(request.lane.project, [], [manifest.manifest], store_id)
        _AFTER_MANIFEST()
        sealed = await self._seal(request, registry, store_id, parts, manifest)
        return msgspec.structs.replace(sealed, replaced=chooser.replaced)

    # ── reading ────────────────────────────────────────────────────────────────────────────────
    async def _read_parts(
        self, request: Request, registry: Registry, store_id: str
    ) -> list[DraftPart]:
        place = request.lane.project, request.draft
        listed = await registry.drafts.list_parts(*place)
        parts: list[DraftPart] = []
        for some in _batches(listed, BATCH):
            parts += await registry.drafts.read_parts(*place, some, store_id)
        return in_order(parts)

    async def _read_lines(
        self, request: Request, registry: Registry, store_id: str, parts: Sequence[DraftPart]
    ) -> None:
        assert request.manifest is not None
        manifests = [*(part.manifest for part in parts), request.manifest]
        for some in _batches([*enumerate(manifests)], PARTS_AT_ONCE):
            await all_of(
                *(partial(self._keep, request, registry, store_id, *each) for each in some)
            )

    async def _keep(
        self, request: Request, registry: Registry, store_id: str, part: int, manifest: str
    ) -> None:
        lines: list[Gathered] = []
        read = read_surely(registry, request.lane.project, manifest, store_id)
        async with aclosing(read) as entries:
            async for line in entries:
                lines.append(Gathered(line.path, part, msgspec.json.encode(line)))
                if len(lines) >= PAGE:
                    await self._queue.gather(request.row, lines)
                    lines = []
        if lines:
            await self._queue.gather(request.row, lines)

    # ── merging ────────────────────────────────────────────────────────────────────────────────
    async def _merge(
        self,
        request: Request,
        registry: Registry,
        store_id: str,
        chooser: _Chooser,
        writer: Writer,
    ) -> Fail | None:
        """Write what there is at each path; why that is no version."""
        wanted = Wanted(request.lane.project, registry, store_id)
        async with aclosing(self._pages(request.row)) as pages:
            async for lines in pages:
                chosen = [*chooser.choose(lines)]
                await wanted.look(chosen)
                await writer.add(chosen)
        await wanted.look([], is_last=True)
        lost = wanted.lost()
        return chooser.why() or (_lost(lost) if lost else None)

    async def _pages(self, row: int) -> AsyncGenerator[list[Gathered]]:
        """What was gathered, so many paths at once, each with all that has it."""
        left: list[Gathered] = []
        after = ("", -1)
        while True:
            page = await self._queue.gathered(row, after, PAGE)
            lines = left + page
            if len(page) < PAGE:
                if lines:
                    yield lines
                return
            after = page[-1].path, page[-1].part
            left = [line for line in lines if line.path == page[-1].path]
            if len(left) < len(lines):
                yield lines[: -len(left)]

    async def _seal(
        self,
        request: Request,
        registry: Registry,
        store_id: str,
        parts: Sequence[DraftPart],
        manifest: Manifest,
    ) -> Sealed:
        lane = request.lane
        metadata = merged_metadata(parts, msgspec.json.decode(request.metadata))
        description = merged_description(parts, request.description)
        content = content_digest(manifest.digest, request.type, description, metadata)
        start, is_same = await _start(request, registry, store_id, content)
        return Sealed(
            format=1,
            draft=request.draft,
            project=lane.project,
            name=lane.name,
            parts=[part.request for part in parts],
            finisher=request.id,
            start=start,
            same=is_same,
            type=request.type,
            description=description,
            metadata=metadata,
            entries=manifest.entries,
            size=manifest.size,
            manifest=manifest.manifest,
            digest=manifest.digest,
            content=content,
            run=request.run,
            inputs=union([*(part.inputs for part in parts), request.inputs]),
            aliases=worth_giving(union([*(part.aliases for part in parts), request.aliases])),
            created=rfc3339(request.accepted),
            client=request.client,
            tags=union([*(part.tags for part in parts), request.tags]),
        )


async def _start(
    request: Request, registry: Registry, store_id: str, content: str
) -> tuple[int, bool]:
    """The lowest number that the draft's version can have, and whether the one below has its content."""
    place = request.lane.project, request.lane.name
    stamps = await registry.list_versions(*place)
    if not stamps:
        return 0, False
    top = stamps[-1].version
    (stored,) = await registry.read_versions(*place, [top], store_id)
    if stored is None:
        raise StoreUnavailable(f"v{top} of {place[1]!r} was listed and is not there")
    is_deleted = isinstance(stored.record, Tombstone)
    return top + 1, not is_deleted and stored.record.content == content


class _Chooser:
    """Goes through the paths of a draft."""

    def __init__(self, parts: Sequence[DraftPart], *, newest: bool) -> None:
        self._parts: list[DraftPart | None] = [*parts, None]
        self._newest = newest
        self._trees = Trees()
        self._conflicts: list[str] = []
        self._count = 0
        #: Paths at which another run's part had other bytes; the first thousand.
        self.replaced: list[str] = []

    def choose(self, lines: Sequence[Gathered]) -> Iterator[ManifestEntry]:
        """What the version has at each of these paths; all lines of a path come together."""
        for path, group in groupby(lines, key=lambda line: line.path):
            claims = [Claim(self._parts[one.part], _LINES.decode(one.line)) for one in group]
            chosen = choose(claims, newest=self._newest)
            above = self._trees.file_above(path)
            if above is not None:
                self._note(f"{path!r} lies below the file {above!r}")
            elif isinstance(chosen, Conflict):
                self._note(str(chosen))
            else:
                yield self._taken(chosen)

    def why(self) -> Fail | None:
        """Why there is no version in it; None where there is."""
        if not self._count:
            return None
        more = f"; and {self._count - TOLD} more" if self._count > TOLD else ""
        return Fail(
            "DraftConflict",
            f"{'; '.join(self._conflicts)}{more}\n"
            '  Finish it by a new Artifact: one that has the right file, or with on_conflict="newest", or'
            " after the run that is wrong has upserted the right file.",
        )

    def _taken(self, chosen: Chosen) -> ManifestEntry:
        if chosen.is_replaced and len(self.replaced) < PAGE:
            self.replaced.append(chosen.line.path)
        return chosen.line

    def _note(self, text: str) -> None:
        self._count += 1
        if len(self._conflicts) < TOLD:
            self._conflicts.append(text)


def _lost(what: str) -> Fail:
    return Fail(
        "StoreDamaged",
        f"{what}: a part of the draft names it\n"
        "  Put it back as it was, then: wherry retry --all. Or use another distributed_id.",
    )


def _batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (things[first : first + size] for first in range(0, len(things), size))
