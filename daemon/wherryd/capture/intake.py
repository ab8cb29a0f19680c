"""One Log stream, from its header to its place in line.

Owns: staging entries and lookups in bounded pieces, their order, that the captured files are there, giving
up a stream that is cut. Does not own: messages (``rpc``), the transaction that makes the request durable
(``queue.accept``), what was never logged (``sessions``).

What a kill leaves: staged rows without a request, which the queue sweeps at its start; the captured
files stay with their session, and the client, if it lives, sends the stream again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext

import anyio
import anyio.to_thread
import msgspec

from wherry.errors import (
    FileChanged,
    FileMissing,
    PathTaken,
    ProtocolError,
    QueueError,
    QueueLocked,
)
from wherry.wire.failpoints import failpoint
from wherry.wire.room import NOTHING, Room
from wherryd.capture.streams import Streams
from wherryd.log import get_logger
from wherryd.model import Base, Entry, Lane, Lookup, RequestKind, RunInfo
from wherryd.queue.base import Accepted, Filter, NewRequest, Queue

STAGE_AT_ONCE = 1000
_FEW = 16

_BEFORE_STAGE = failpoint("capture.log.before-stage")
_AFTER_STAGE = failpoint("capture.log.after-stage")
_BEFORE_ACCEPT = failpoint("capture.log.before-accept")
_AFTER_ACCEPT = failpoint("capture.log.after-accept")

_log = get_logger("capture")


TookIn = Callable[[Room, bool], object]
"""Told what a request holds of the spool, and whether it is held by offline mode."""


class Header(msgspec.Struct, frozen=True):
    """What a request is, but for its entries."""

    id: str
    lane: Lane
    type: str
    description: str | None
    metadata: str
    aliases: list[str]
    tags: list[str]
    inputs: list[str]
    run: RunInfo
    client: str
    folder: str  # below the spool; "" where nothing was captured
    offline: bool
    power: bool
    kind: RequestKind = RequestKind.LOG
    draft: str = ""  # <hex>; of an upsert or a finish
    newest: bool = False
    base: Base | None = None


class Intake:
    """Takes requests in.

    Args:
        spool: the spool's folder.
        took_in: told of a request when it is durable, and nobody knows yet.
    """

    def __init__(
        self,
        spool: str,
        queue: Queue,
        streams: Streams,
        took_in: TookIn = lambda _, __: None,
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._streams = streams
        self._took_in = took_in

    @asynccontextmanager
    async def receive(self, header: Header) -> AsyncIterator[Stream]:
        """Take one stream; unless it has come to its end, nothing is left of it.

        Raises ``FileMissing`` where the captured files are being swept.
        """
        row = self._queue.new_row()
        with self._streams.taking(header.folder) if header.folder else nullcontext():
            folder = os.path.join(self._spool, header.folder)
            stream = Stream(row, header, folder, self._queue, self._took_in)
            patience_s = None
            try:
                yield stream
            except QueueLocked:
                patience_s = (
                    0  # the client hears of it at once, and deleting waits for the same database
                )
                raise
            finally:
                if not stream.is_accepted:
                    await self._abandon(row, patience_s)

    async def _abandon(self, row: int, patience_s: float | None) -> None:
        """Delete what was staged; what is handed to the queue is done even if nobody waits for it."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(patience_s):
            try:
                await self._queue.abandon(row)
            except QueueError as error:
                _log.warning("staged rows stay until the next start", error=str(error))


class Stream:
    """A stream that is coming in."""

    def __init__(
        self,
        row: int,
        header: Header,
        folder: str,
        queue: Queue,
        took_in: TookIn,
    ) -> None:
        self._took_in = took_in
        self._row = row
        self._header = header
        self._folder = folder
        self._queue = queue
        self._waiting: list[Entry] = []
        self._last = ""
        self._lookups: list[Lookup] = []
        self._count = 0
        self._lookup_count = 0
        self._removed: list[str] = []
        self._removed_count = 0
        self._size = 0
        self._is_known = False
        self._has_files = False
        self.is_accepted = False

    def place_of(self, name: str) -> str:
        """The path of a spool file of this request. Raises ``ProtocolError`` for what is no plain name."""
        if not self._header.folder or name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ProtocolError(f"{name!r} is no file of the request's folder")
        return os.path.join(self._folder, name)

    async def add(self, entries: Iterable[Entry]) -> None:
        """Take the next entries.

        Raises:
            PathTaken: a path came before.
            ProtocolError: paths do not ascend.
            FileMissing, FileChanged: captured bytes are not there.
        """
        for entry in entries:
            self._check_order(entry.path)
            self._count += 1
            self._size += max(0, entry.size)
            self._has_files |= bool(entry.source and entry.source.file)
            self._waiting.append(entry)
            if len(self._waiting) >= STAGE_AT_ONCE:
                await self._stage()

    async def add_lookups(self, lookups: Iterable[Lookup]) -> None:
        """Take the next lookups; they are numbered as they come."""
        for lookup in lookups:
            self._lookups.append(msgspec.structs.replace(lookup, number=self._lookup_count))
            self._lookup_count += 1
            if len(self._lookups) > STAGE_AT_ONCE:
                staged, self._lookups = self._lookups[:-1], self._lookups[-1:]
                _BEFORE_STAGE()
                await self._queue.stage_lookups(self._row, staged)
                _AFTER_STAGE()

    async def remove(self, paths: Iterable[str]) -> None:
        """Take the next paths to be taken out of the base. Raises ``ProtocolError`` where there is none."""
        for path in paths:
            if self._header.base is None:
                raise ProtocolError(f"{path!r} is taken out of nothing")
            self._removed_count += 1
            self._removed.append(path)
            if len(self._removed) >= STAGE_AT_ONCE:
                await self._stage_removed()

    async def end(
        self,
        count: int,
        body: bytes,
        lookup_count: int = 0,
        spooled: Room = NOTHING,
        removed_count: int = 0,
    ) -> Accepted:
        """Make the request durable and give it its place in line; raises as ``queue.accept``.

        Args:
            count: how many entries the client has sent.
            body: SHA-256 of what was asked.
            lookup_count: how many lookups it has sent.
            spooled: what the request's folder holds of the spool.
            removed_count: how many paths it has sent that are taken out of the base.
        """
        announced = count, lookup_count, removed_count
        if announced != (self._count, self._lookup_count, self._removed_count):
            raise ProtocolError(
                f"{count} entries, {lookup_count} lookups and {removed_count} removed paths were announced; "
                f"{self._count}, {self._lookup_count} and {self._removed_count} came"
            )
        await self._stage()
        await self._stage_removed()
        header = self._header
        request = NewRequest(
            id=header.id,
            body=body,
            lane=header.lane,
            type=header.type,
            description=header.description,
            metadata=header.metadata,
            aliases=header.aliases,
            tags=header.tags,
            inputs=header.inputs,
            run=header.run,
            client=header.client,
            folder=header.folder,
            entries=self._count,
            size=self._size,
            offline=header.offline,
            synced=header.power or not self._has_files,  # the queue itself is synced
            lookups=self._lookup_count,
            spooled=spooled,
            kind=header.kind,
            draft=header.draft,
            newest=header.newest,
            base=header.base,
        )
        _BEFORE_ACCEPT()
        accepted = await self._queue.accept(self._row, request, self._lookups)
        self.is_accepted = True
        if not accepted.again:
            self._took_in(spooled, accepted.place is None)
        _AFTER_ACCEPT()
        return accepted

    def _check_order(self, path: str) -> None:
        # Code points and UTF-8 bytes have the same order.
        if path <= self._last:
            if path == self._last:
                raise PathTaken(f"{path!r} is in the artifact twice")
            raise ProtocolError(f"{path!r} comes after {self._last!r}: paths must ascend")
        self._last = path

    async def _stage(self) -> None:
        entries, self._waiting = self._waiting, []
        if not entries:
            return
        await self._verify(entries)
        _BEFORE_STAGE()
        await self._queue.stage(self._row, entries)
        _AFTER_STAGE()

    async def _stage_removed(self) -> None:
        paths, self._removed = self._removed, []
        if paths:
            _BEFORE_STAGE()
            await self._queue.stage_removed(self._row, paths)
            _AFTER_STAGE()

    async def _verify(self, entries: Sequence[Entry]) -> None:
        """Look whether the captured bytes are there, unless the request was accepted before: then they
        may have been sent and freed, and the client only missed the answer.
        """
        if self._is_known:
            return
        try:
            if len(entries) <= _FEW:  # a look at a local disk is cheaper than the way to a thread
                check_captured(entries, self._folder)
            else:
                await anyio.to_thread.run_sync(check_captured, entries, self._folder)
        except (FileMissing, FileChanged):
            self._is_known = bool(await self._queue.find(Filter(ids=(self._header.id,))))
            if not self._is_known:
                raise


def check_captured(entries: Iterable[Entry], folder: str) -> None:
    """Look whether spool files are there and long enough. Blocks.

    Args:
        entries: those whose source lies in ``folder`` are looked at.

    Raises ``FileMissing`` or ``FileChanged``.
    """
    path, size = "", 0
    for entry in entries:
        source = entry.source
        if source is None or os.path.dirname(source.file) != folder:
            continue
        if source.file != path:
            path, size = source.file, _size_of(source.file)
        if size < source.offset + entry.size:
            raise FileChanged(f"{path} has {size} bytes; {entry.path!r} ends beyond")


def _size_of(path: str) -> int:
    try:
        seen = os.lstat(path)
    except FileNotFoundError as exc:
        raise FileMissing(f"the captured file {path} is not there") from exc
    if not stat.S_ISREG(seen.st_mode):
        raise FileChanged(f"{path} is no regular file")
    return seen.st_size
