"""The lines that a request's changes come to: what is left of its base, and what it has itself, by path.

Owns: reading the base's manifest, leaving out what the request removes or has itself, which of what is left
was looked at a short while ago. Does not own: what becomes of the lines (``applying``), which version is the
base (``changing``). Memory: a page of the request's own entries, and of the paths that it removes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from wherry.errors import StoreDamaged
from wherryd.clock import rfc3339
from wherryd.commit.damage import read_surely
from wherryd.commit.merging import Trees
from wherryd.model import Entry, ManifestEntry
from wherryd.queue.base import Queue, Request
from wherryd.registry.base import Registry
from wherryd.registry.lines import line_of

PAGE = 1000


class Line(msgspec.Struct, frozen=True):
    """A line of the manifest that is made."""

    line: ManifestEntry
    is_own: bool  # the request's; else its base's
    is_known: bool = False  # what it names was there a short while ago
    replaced: ManifestEntry | None = None  # what its base has in its place


class Forgotten(Exception):
    """What was made a short while ago can't be read any more, so that nothing is known."""


async def lines_of(
    queue: Queue, registry: Registry, store_id: str, request: Request, base: str, before: str
) -> AsyncGenerator[Line]:
    """The lines.

    Args:
        base: the manifest of what is changed; "" for nothing.
        before: what the same request has been made into a short while ago, for another base; "" for nothing.

    Raises ``StoreDamaged`` where the base is, surely; ``StoreUnavailable``, ``Exchanged`` where that can't be
    told; ``Forgotten``. Nothing is sure before the last line was given.
    """
    known = _Known(registry, request.lane.project, before)
    kept = _kept(queue, registry, store_id, request, base)
    async with aclosing(kept), aclosing(_own(queue, request)) as own, aclosing(known.read) as _:
        mine = await anext(own, None)
        async for line in kept:
            # Code points and UTF-8 bytes have the same order.
            while mine is not None and mine.path < line.path:
                yield Line(mine, is_own=True)
                mine = await anext(own, None)
            if mine is not None and mine.path == line.path:
                yield Line(mine, is_own=True, replaced=line)
                mine = await anext(own, None)
            else:
                yield Line(line, is_own=False, is_known=await known.has(line))
        while mine is not None:
            yield Line(mine, is_own=True)
            mine = await anext(own, None)
        await known.end()


async def _kept(
    queue: Queue, registry: Registry, store_id: str, request: Request, base: str
) -> AsyncGenerator[ManifestEntry]:
    """The base's lines that the request does not take out."""
    if not base:
        return
    removed = Removed(queue, request)
    project = request.lane.project
    async with aclosing(read_surely(registry, project, base, store_id)) as entries:
        async for line in entries:
            if not await removed.has(line.path):
                yield line


class Removed:
    """What a request takes out of its base; paths are asked for by their UTF-8 bytes.

    Changes to a version that nobody knew take out folders as well, those to one that was known just entries:
    there a folder's are all named, and one of them may be called as a folder is (in a bucket, say).
    """

    def __init__(self, queue: Queue, request: Request) -> None:
        self._queue = queue
        self._row = request.row
        self._with_folders = request.base is not None and not request.base.manifest
        self._page: list[str] = []
        self._at = 0  # of the first of the page that is above what was asked for
        self._is_all = False
        self._last: str | None = None
        self._folders = Trees()

    async def has(self, path: str) -> bool:
        """Whether it takes out this path."""
        while (there := await self._next()) is not None and there <= path:
            self._last = there
            self._at += 1
            if self._with_folders:
                self._folders.file_above(there)
        return self._last == path or self._folders.above(path) is not None

    async def _next(self) -> str | None:
        if self._at == len(self._page) and not self._is_all:
            self._page, self._at = await self._queue.removed(self._row, self._last, PAGE), 0
            self._is_all = len(self._page) < PAGE
        return self._page[self._at] if self._at < len(self._page) else None


class _Known:
    """The lines of a manifest all of which was there a short while ago; asked for by path."""

    def __init__(self, registry: Registry, project: str, manifest: str) -> None:
        self.read = registry.open_manifest(project, manifest) if manifest else _nothing()
        self._line: ManifestEntry | None = None
        self._is_begun = False

    async def has(self, line: ManifestEntry) -> bool:
        """Whether it names the same bytes at the same path."""
        while not self._is_begun or (self._line is not None and self._line.path < line.path):
            self._line, self._is_begun = await self._after(), True
        return self._line is not None and _place(self._line) == _place(line)

    async def end(self) -> None:
        """Read the rest: it is what its name says, or nothing of it was known."""
        while await self._after() is not None:
            pass

    async def _after(self) -> ManifestEntry | None:
        try:
            return await anext(self.read, None)
        except StoreDamaged as error:
            raise Forgotten from error


async def _nothing() -> AsyncGenerator[ManifestEntry]:
    for line in list[ManifestEntry]():
        yield line


def _place(line: ManifestEntry) -> tuple[object, ...]:
    return line.path, line.digest, line.size, line.pack, line.offset


async def _own(queue: Queue, request: Request) -> AsyncGenerator[ManifestEntry]:
    page = await queue.entries(request.row, None, PAGE)
    while page:
        for entry in page:
            yield line_of(_resolved(entry, request.accepted))
        page = await queue.entries(request.row, page[-1].path, PAGE) if len(page) == PAGE else []


def _resolved(entry: Entry, accepted: float) -> Entry:
    """As ``prepare`` completes it: what was looked at on this machine was so after it was accepted."""
    reference = entry.reference
    if reference is None or reference.resolved:
        return entry
    if entry.digest is None:  # nobody looks at it, so nobody knows its size
        return msgspec.structs.replace(entry, size=entry.size or -1)
    reference = msgspec.structs.replace(reference, resolved=rfc3339(accepted))
    return msgspec.structs.replace(entry, reference=reference)
