"""Applies a request's changes to its base: one manifest of both.

Owns: reading the base's manifest, leaving out what the request removes or has itself, looking whether the
store has what is left, putting the manifest, noting it in the queue. Does not own: which version is the base
(``changing``), the manifest's file (``manifest_file``), the request's own bytes (``transfer``, ``looking``).
Memory: a page of entries.

What a kill leaves: a file beside the manifests, a manifest in the store that nobody names; the next start
applies the changes anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import msgspec

from wherry.errors import StoreDamaged
from wherry.wire.canonical import content_digest
from wherry.wire.failpoints import failpoint
from wherryd.clock import rfc3339
from wherryd.closing import in_batches
from wherryd.commit.changing import Apply
from wherryd.commit.gathering import Writer
from wherryd.commit.lane import Fail
from wherryd.commit.merging import Trees
from wherryd.commit.wanted import Wanted
from wherryd.model import Entry, ManifestEntry
from wherryd.queue.base import Queue, Request
from wherryd.registry.base import Registry
from wherryd.registry.lines import line_of

PAGE = 1000

_AFTER_LINES = failpoint("commit.base.after-lines")
_AFTER_MANIFEST = failpoint("commit.base.after-manifest")
_AFTER_QUEUE = failpoint("commit.base.after-queue")


class Line(msgspec.Struct, frozen=True):
    """A line of the manifest that is made."""

    line: ManifestEntry
    is_own: bool  # the request's; else its base's


class Applier:
    """Applies changes.

    Args:
        writer_for: makes the manifest's writer for a request's row.
    """

    def __init__(self, queue: Queue, writer_for: Callable[[int], Writer]) -> None:
        self._queue = queue
        self._writer_for = writer_for

    async def apply(
        self, step: Apply, request: Request, registry: Registry, store_id: str
    ) -> Request | Fail:
        """Give the request with the manifest that its changes come to; or why there is none.

        Raises ``StoreError``, ``Exchanged`` among them; ``QueueError``; ``WrongState`` where the request is
        not ``uploaded`` any more; ``SpoolFull`` or ``CaptureError`` where the manifest can't be written.
        """
        project = request.lane.project
        async with self._writer_for(request.row) as writer:
            why = await self._write(step, request, registry, store_id, writer)
            if why is not None:
                return why
            manifest, body = await writer.finish()
            _AFTER_LINES()
            await registry.put_manifest(project, manifest.manifest, body)
            await registry.sync(project, [], [manifest.manifest], store_id)
            _AFTER_MANIFEST()
        metadata = msgspec.json.decode(request.metadata)
        content = content_digest(manifest.digest, request.type, request.description, metadata)
        await self._queue.applied(request.row, manifest, content)
        _AFTER_QUEUE()
        return msgspec.structs.replace(
            request,
            manifest=manifest.manifest,
            digest=manifest.digest,
            content=content,
            entries=manifest.entries,
            size=manifest.size,
        )

    async def _write(
        self, step: Apply, request: Request, registry: Registry, store_id: str, writer: Writer
    ) -> Fail | None:
        """Write the manifest's lines; why that is no version."""
        wanted, trees = Wanted(request.lane.project, registry, store_id), Trees()
        try:
            async with aclosing(in_batches(self._lines(step, request, registry), PAGE)) as pages:
                async for page in pages:
                    for each in page:
                        if above := trees.file_above(each.line.path):
                            return _clash(step, each.line.path, above)
                    await wanted.look([each.line for each in page if not each.is_own])
                    await writer.add([each.line for each in page])
            await wanted.look([], is_last=True)
        except StoreDamaged as error:
            return _damaged(step, request, error.message)
        return _damaged(step, request, lost) if (lost := wanted.lost()) else None

    async def _lines(
        self, step: Apply, request: Request, registry: Registry
    ) -> AsyncGenerator[Line]:
        """What is left of the base, and what the request has itself, by path."""
        async with (
            aclosing(self._kept(step, request, registry)) as kept,
            aclosing(self._own(request)) as own,
        ):
            mine = await anext(own, None)
            async for line in kept:
                # Code points and UTF-8 bytes have the same order.
                while mine is not None and mine.path < line.path:
                    yield Line(mine, is_own=True)
                    mine = await anext(own, None)
                if mine is None or mine.path != line.path:
                    yield Line(line, is_own=False)
            while mine is not None:
                yield Line(mine, is_own=True)
                mine = await anext(own, None)

    async def _kept(
        self, step: Apply, request: Request, registry: Registry
    ) -> AsyncGenerator[ManifestEntry]:
        """The base's lines that the request does not take out."""
        if not step.manifest:
            return
        entries = registry.open_manifest(request.lane.project, step.manifest)
        async with aclosing(in_batches(entries, PAGE)) as pages:
            async for page in pages:
                asked = {each for line in page for each in _with_folders(line.path)}
                removed = await self._queue.removed(request.row, sorted(asked))
                for line in page:
                    if removed.isdisjoint(_with_folders(line.path)):
                        yield line

    async def _own(self, request: Request) -> AsyncGenerator[ManifestEntry]:
        page = await self._queue.entries(request.row, None, PAGE)
        while page:
            for entry in page:
                yield line_of(_resolved(entry, request.accepted))
            page = await self._queue.entries(request.row, page[-1].path, PAGE)


def _resolved(entry: Entry, accepted: float) -> Entry:
    """A reference that was looked at on this machine, or by nobody, was resolved after it was accepted."""
    reference = entry.reference
    if reference is None or reference.resolved:
        return entry
    size = entry.size if entry.digest else entry.size or -1
    reference = msgspec.structs.replace(reference, resolved=rfc3339(accepted))
    return msgspec.structs.replace(entry, size=size, reference=reference)


def _with_folders(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _title(step: Apply) -> str:
    return f"v{step.base}, which this changes"


def _clash(step: Apply, path: str, above: str) -> Fail:
    return Fail(
        "PathTaken",
        f"{path!r} would lie below the file {above!r}: one of them is of {_title(step)}\n"
        "  Take that out with remove(), or add the other elsewhere, and log a new Artifact.",
    )


def _damaged(step: Apply, request: Request, what: str) -> Fail:
    return Fail(
        "StoreDamaged",
        f"{_title(step)}, can't be read whole: {what}\n"
        f"  Put it back as it was, then: wherry retry {request.id}. Or log all files in an Artifact of their own.",
    )
