"""A request's manifest, written while its entries pass by.

Owns: pages from the queue, the digests that they miss, the manifest's file. Does not own: the file's
form (``registry.manifest``), which manifests need none (``registry.small_manifest``), which files travel
together (``packs``), which request is next (``stage``).
Memory: one page of entries, and those that wait for a pack.

A kill leaves the digests that were kept, and no file or a whole one: the next start makes what is
missing and writes the file anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import BadPath, FileChanged, FileMissing, FileUnreadable, ReferenceFailed
from wherryd.clock import Clock, rfc3339
from wherryd.hashing import Digest
from wherryd.model import Entry, Manifest
from wherryd.prepare.digests import Hashers, Parts
from wherryd.prepare.packs import Packer
from wherryd.prepare.references import locate
from wherryd.progress import Progress
from wherryd.queue.base import Queue, Request
from wherryd.registry.manifest import ManifestWriter
from wherryd.registry.small_manifest import is_small, make_small
from wherryd.stores.parts import cut_for, wants_crc32c

PAGE = 1000


class Made(msgspec.Struct, frozen=True):
    """A manifest whose file is there, if it needs one, and the digests that are not kept yet."""

    manifest: Manifest
    digests: list[Digest]


_T = TypeVar("_T")


class ManifestMaker:
    """Makes manifests out of what the queue and the spool hold.

    Args:
        folder: where the files go, ``<request row>.zst`` each.
    """

    def __init__(
        self, folder: str, queue: Queue, hashers: Hashers, progress: Progress, clock: Clock
    ) -> None:
        self._folder = folder
        self._queue = queue
        self._hashers = hashers
        self._progress = progress
        self._clock = clock

    async def make(self, request: Request) -> Made:
        """Make all missing digests, and the manifest's file, unless it is small.

        Raises ``CaptureError``, ``ReferenceFailed`` or ``BadPath`` where the request can't succeed, and
        ``SpoolFull`` where there is no room for the file now.
        """
        left: list[Digest] = []
        packer = Packer(request, self._queue, self._hashers.digest_pack)
        async with _File(os.path.join(self._folder, f"{request.row}.zst")) as file:
            page = await self._queue.entries(request.row, None, PAGE)
            while len(page) == PAGE:
                await file.add(await packer.add(await self._complete(request, page, None)))
                page = await self._queue.entries(request.row, page[-1].path, PAGE)
            last = await packer.add(await self._complete(request, page, left))
            return Made(await file.finish(last + await packer.finish()), left)

    async def _complete(
        self, request: Request, page: Sequence[Entry], left: list[Digest] | None
    ) -> list[Entry]:
        """The page's entries with their digests; ``left`` takes those that are not kept."""
        missing = [entry for entry in page if entry.digest is None]
        self._count(request.row, sum(entry.size for entry in page if entry.digest is not None))
        captured = [entry for entry in missing if entry.source]
        made = await self._hash(request, captured, left)
        checked = [entry for entry in missing if _is_local(entry)]
        made |= await self._resolve(request, checked, left)
        return [_completed(entry, made, self._clock.now(), request.accepted) for entry in page]

    async def _resolve(
        self, request: Request, entries: Sequence[Entry], left: list[Digest] | None
    ) -> dict[str, Digest]:
        if not entries:
            return {}
        located = await anyio.to_thread.run_sync(partial(locate, entries))
        try:
            return await self._hash(request, located, left)
        except (FileChanged, FileMissing, FileUnreadable) as exc:
            raise ReferenceFailed(
                f"a reference changed while it was read: {exc.message}",
                hint="Then: wherry retry --all",
            ) from exc

    async def _hash(
        self, request: Request, entries: Sequence[Entry], left: list[Digest] | None
    ) -> dict[str, Digest]:
        if not entries:
            return {}
        row = request.row
        save = partial(self._queue.save_digests, row)
        store = request.lane.store
        keep = partial(self._queue.keep_part_sums, row)
        parts = Parts(partial(cut_for, store), keep, wants_crc32c(store))
        return await self._hashers.make_digests(
            entries, save, partial(self._count, row), left, parts
        )

    def _count(self, row: int, size_bytes: int) -> None:
        self._progress.add(row, size_bytes)


def _is_local(entry: Entry) -> bool:
    """Whether this is a reference to a file that is to be hashed; a server's answer is kept as it is."""
    reference = entry.reference
    return reference is not None and reference.checksum and reference.resolved is None


def _completed(entry: Entry, made: dict[str, Digest], now: float, accepted: float) -> Entry:
    digest = made.get(entry.path)
    if digest is not None:
        entry = msgspec.structs.replace(entry, digest=digest[1], size=digest[2])
    if entry.reference is None or entry.reference.resolved:
        return entry
    if entry.digest is None:  # nobody looks at it, so nobody knows its size
        return msgspec.structs.replace(entry, size=entry.size or -1)
    # Kept by a daemon that was killed: it was resolved then, and not before it was accepted.
    resolved = rfc3339(now if digest is not None else accepted)
    reference = msgspec.structs.replace(entry.reference, resolved=resolved)
    return msgspec.structs.replace(entry, reference=reference)


class _File:
    """A ``ManifestWriter`` in a worker thread, but for a small manifest, which needs no file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: ManifestWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is not None and self._writer is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._writer.__exit__, kind, exc, tb)

    async def add(self, entries: Sequence[Entry]) -> None:
        await _in_thread(partial(self._add, entries))

    async def finish(self, entries: Sequence[Entry]) -> Manifest:
        if self._writer is None and is_small(entries):
            with _refused():
                return make_small(entries)[0]
        return await _in_thread(partial(self._finish, entries))

    def _add(self, entries: Sequence[Entry]) -> None:
        if self._writer is None:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            self._writer = ManifestWriter(self._path)
        self._writer.add_batch(entries)

    def _finish(self, entries: Sequence[Entry]) -> Manifest:
        self._add(entries)
        assert self._writer is not None
        with self._writer as writer:
            return writer.finish()


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Call it in a worker thread."""
    with _refused():
        return await anyio.to_thread.run_sync(call)


@contextmanager
def _refused() -> Iterator[None]:
    """What can't stand in a manifest is the request's fault."""
    try:
        yield
    except ValueError as exc:
        if isinstance(exc, BadPath):
            raise
        raise BadPath(str(exc)) from exc
