"""Applies a request's changes to its base: one manifest of both.

Owns: looking whether the store has what stays, whether all of it can be one version, putting the manifest,
noting it in the queue. Does not own: which version is the base (``changing``), the lines (``changed``), the
manifest's file (``manifest_file``), the request's own bytes (``transfer``, ``looking``). Memory: a page of
lines, and an item for each pack that they lie in.

What a kill leaves: a file beside the manifests, a manifest in the store that nobody names; the next start
applies the changes anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

import msgspec

from wherry.errors import BadPath, StoreDamaged
from wherry.wire.canonical import content_digest
from wherry.wire.failpoints import failpoint
from wherry.wire.secrets import masked
from wherryd.closing import in_batches
from wherryd.commit.changed import Forgotten, Line, lines_of
from wherryd.commit.changing import Apply
from wherryd.commit.gathering import Writer
from wherryd.commit.lane import Fail
from wherryd.commit.merging import Trees
from wherryd.commit.wanted import Wanted
from wherryd.model import State
from wherryd.progress import Progress
from wherryd.public import public_name
from wherryd.queue.base import Queue, Request, WrongState
from wherryd.registry.base import Registry

PAGE = 1000
_PAGE_BYTES = 1 << 20

_AFTER_LINES = failpoint("commit.base.after-lines")
_AFTER_MANIFEST = failpoint("commit.base.after-manifest")
_AFTER_QUEUE = failpoint("commit.base.after-queue")


class Applier:
    """Applies changes.

    Args:
        writer_for: makes the manifest's writer for a request's row.
        progress: is told how far it is.
    """

    def __init__(
        self, queue: Queue, writer_for: Callable[[int], Writer], progress: Progress | None = None
    ) -> None:
        self._queue = queue
        self._writer_for = writer_for
        self._progress = progress or Progress()

    async def apply(
        self, step: Apply, request: Request, registry: Registry, store_id: str, before: str = ""
    ) -> Request | Fail:
        """Give the request with the manifest that its changes come to; or why there is none.

        Args:
            before: what they came to a short while ago, for another base; "" for nothing.

        Raises ``StoreError``, ``Exchanged`` among them; ``QueueError``; ``WrongState`` where the request is
        not ``uploaded`` any more; ``SpoolFull`` or ``CaptureError`` where the manifest can't be written.
        """
        try:
            return await self._apply(step, request, registry, store_id, before)
        except Forgotten:
            return await self._apply(step, request, registry, store_id, "")

    async def _apply(
        self, step: Apply, request: Request, registry: Registry, store_id: str, before: str
    ) -> Request | Fail:
        project = request.lane.project
        async with self._writer_for(request.row) as writer:
            self._progress.start(request.row)
            try:
                why = await self._write(step, request, registry, store_id, writer, before)
            finally:
                self._progress.end(request.row)
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
        self,
        step: Apply,
        request: Request,
        registry: Registry,
        store_id: str,
        writer: Writer,
        before: str,
    ) -> Fail | None:
        """Write the manifest's lines; why that is no version, which is sure after the last one only."""
        wanted = Wanted(request.lane.project, registry, store_id)
        clashes = _Clashes(step, request, self._queue)
        why: Fail | None = None
        lines = lines_of(self._queue, registry, store_id, request, step.manifest, before)
        try:
            async with aclosing(in_batches(lines, PAGE, _size_of, _PAGE_BYTES)) as pages:
                async for page in pages:
                    await self._go_on(request, page)
                    why = why or await clashes.find(page) or await _write_page(page, wanted, writer)
            if why is None:
                await wanted.look([], is_last=True)
        except StoreDamaged as error:
            return _damaged(step, request, error.message)
        return why or (_damaged(step, request, lost) if (lost := wanted.lost()) else None)

    async def _go_on(self, request: Request, page: Sequence[Line]) -> None:
        """Tell that a page has come; raises ``WrongState`` where nobody wants it any more."""
        size = sum(each.line.size or 0 for each in page)
        self._progress.add(request.row, max(size, 1))
        now = await self._queue.get(request.row)
        if now.state is not State.UPLOADED:
            raise WrongState(f"request {request.id} is {now.state}")


async def _write_page(page: Sequence[Line], wanted: Wanted, writer: Writer) -> Fail | None:
    await wanted.look([each.line for each in page if not (each.is_own or each.is_known)])
    try:
        await writer.add([each.line for each in page])
    except BadPath as error:
        return Fail(public_name(error), str(error))
    return None


class _Clashes:
    """Whether what a request has itself can be where it is to be, beside what its base has.

    What clashes within either of the two was no error when that was logged: keys of a bucket may.
    """

    def __init__(self, step: Apply, request: Request, queue: Queue) -> None:
        self._title = _title(step)
        self._request = request
        self._queue = queue
        self._own, self._kept = Trees(), Trees()

    async def find(self, page: Sequence[Line]) -> Fail | None:
        """The first clash of the next lines."""
        for each in page:
            mine, others = (self._own, self._kept) if each.is_own else (self._kept, self._own)
            if above := others.above(each.line.path):
                return self._below(each, above)
            mine.file_above(each.line.path)
            if await self._is_taken(each):
                return self._taken(each)
        return None

    async def _is_taken(self, each: Line) -> bool:
        """Whether a draft's user can't have known that a reference comes in place of what stays."""
        there, ref = each.replaced, each.line.ref
        if there is None or ref is None or there.ref == ref:
            return False
        is_draft = self._request.base is not None and bool(self._request.base.manifest)
        return is_draft and await self._queue.was_found(self._request.row, each.line.path)

    def _below(self, each: Line, above: str) -> Fail:
        path = each.line.path
        if each.is_own:
            what = f"{path!r}, which this adds, would lie below {above!r}, a file of {self._title}"
        else:
            what = f"{path!r} of {self._title}, would lie below {above!r}, which this adds"
        return Fail(
            "PathTaken",
            f"{what}\n  Take out the one with remove(), or add the other elsewhere, and log a new Artifact.",
        )

    def _taken(self, each: Line) -> Fail:
        path, ref = each.line.path, masked(each.line.ref or "")
        return Fail(
            "PathTaken",
            f"{ref} would be {path!r}, of which {self._title}, has another\n"
            "  Take that out with remove() before, or give the reference another name, and log a new Artifact.",
        )


def _size_of(each: Line) -> int:
    """Bytes of what may be long in a line, and a few for the rest."""
    line = each.line
    words = line.path, line.digest or "", line.ref or "", line.version or "", *line.sums
    return 100 + sum(map(len, words))


def _title(step: Apply) -> str:
    """The base; there is one wherever something is wrong with it."""
    return f"v{step.base}, which this changes"


def _damaged(step: Apply, request: Request, what: str) -> Fail:
    return Fail(
        "StoreDamaged",
        f"{_title(step)}, can't be read whole: {what}\n"
        f"  Put it back as it was, then: wherry retry {request.id}. Or log a new Artifact: changes that add what is"
        " lost again, with overwrite=True, or all files.",
    )
