"""Hands an artifact's request over to the daemon: one call, whose answer is the promise.

Owns: the request's id, its messages, syncing before them where ``power`` is asked for. Does not own:
what the artifact contains (``contents``), what happens then (``ticket``).

The header is made once and kept: whatever is cut off or repeated, the daemon sees the same request
under the same id, and takes it once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wherry import bases
from wherry import messages as pb
from wherry.connection import connect
from wherry.contents import Contents
from wherry.errors import FileUnreadable, ProtocolError, UsageError
from wherry.rows import IN_SPOOL, NOT_ENTRIES, REFERENCES, Kind, Row
from wherry.spool import sync_path
from wherry.wire.address import credentials_from
from wherry.wire.failpoints import failpoint

_BEFORE_SYNC = failpoint("log.sync.before")
_BEFORE_CALL = failpoint("log.call.before")
_BEFORE_ENTRIES = failpoint("log.entries.before")
_BEFORE_END = failpoint("log.end.before")
_ANSWERED = failpoint("log.call.answered")

_BATCH_BYTES = 128 << 10
_FEW = 64
_ENTRY_BYTES = 64  # of an entry's message, beside its texts
_TIMEOUT_S = 600.0


class Submission:
    """One artifact's request.

    Args:
        home: whose daemon gets it.
        contents: sealed.
        header: complete but for the id and the captured files' folder, if they need one.

    Raises:
        UsageError: the contents were captured in another home.
    """

    def __init__(self, home: Path, contents: Contents, header: pb.LogHeader) -> None:
        spool = contents.spool
        if spool.has_folder and spool.home != str(home):
            raise UsageError(
                f"{contents.label} was captured in {spool.home}, and the run belongs to {home}.",
                hint="Set WHERRY_HOME before the first Artifact is made, and leave it.",
            )
        self._home = home
        self._contents = contents
        self._removed = contents.base.removed(contents.table) if contents.base else []
        self.header = header
        self.synced = False
        header.request_id = new_request_id()

    def send(self) -> pb.LogReply:
        """Send the request, again if need be, and return when it is durable.

        The lock of the contents is held.

        Raises:
            TypeTaken: the name belongs to another type.
            QueueLocked: another program holds the daemon's queue; nothing was logged.
            CommError: there is no daemon, or its answer got lost; calling again sends the same request.
            ProtocolError: the answer is another request's.
            SpoolFull, CaptureError: with ``power``, the disk took no sync.
        """
        contents, spool = self._contents, self._contents.spool
        spool.home = str(self._home)
        if spool.has_folder:
            spool.path()  # with all that is captured in it
            self.header.session, self.header.folder = spool.session, spool.folder
        if self.header.power and not self.synced:
            self._sync()
        with spool.handing_over():
            reply = self._call()
            if reply.request_id != self.header.request_id:
                connect(self._home).close()
                raise ProtocolError(
                    f"The daemon answered for {reply.request_id or 'no request'}, and"
                    f" {contents.label} was sent as {self.header.request_id}.",
                    hint="Log the same Artifact again: that is safe, whatever became of the first call.",
                )
            _ANSWERED()
        return reply

    def _call(self) -> pb.LogReply:
        contents = self._contents
        _BEFORE_CALL()
        connection = connect(self._home)
        for server in {bucket.server for bucket in contents.buckets.values() if bucket.server}:
            connection.offer_credentials(server, credentials_from(os.environ, server))
        if self._count() <= _FEW:
            return connection.exchange("LogMany", self._whole, pb.LogReply, _TIMEOUT_S)
        return connection.client_stream("Log", self._messages, pb.LogReply, _TIMEOUT_S)

    def _count(self) -> int:
        """How many things the request names."""
        own = sum(row.kind != Kind.KEPT for row in self._contents.table.rows())
        return own + len(self._contents.buckets) + len(self._removed)

    def _sync(self) -> None:
        _BEFORE_SYNC()
        table, spool = self._contents.table, self._contents.spool
        spool.sync(self._contents.used_files())
        for path in table.paths():
            row = table.get(path)
            if row is not None and row.kind == Kind.IN_PLACE:
                _sync_in_place(table.origin(path, row) or "")
        self.synced = True

    def _messages(self) -> Iterator[pb.LogMessage]:
        """All of it, part by part."""
        yield pb.LogMessage(header=self.header)
        _BEFORE_ENTRIES()
        for batch in self._batches():
            yield pb.LogMessage(entries=batch)
        _BEFORE_END()
        for lookups in self._lookup_batches():
            yield pb.LogMessage(lookups=lookups)
        for removed in bases.in_batches(self._removed, _BATCH_BYTES):
            yield pb.LogMessage(removed=removed)
        yield pb.LogMessage(end=self._end())

    def _whole(self) -> pb.LogWhole:
        """All of it in one message."""
        whole = pb.LogWhole(header=self.header, end=self._end())
        _BEFORE_ENTRIES()
        for batch in self._batches():
            whole.entries.entries.extend(batch.entries)
        _BEFORE_END()
        for lookups in self._lookup_batches():
            whole.lookups.lookups.extend(lookups.lookups)
        if self._removed:
            whole.removed.paths.extend(self._removed)
        return whole

    def _end(self) -> pb.LogEnd:
        table = self._contents.table
        kinds = Counter(row.kind for row in table.rows())
        asked = kinds[Kind.LOOKUP]
        held = self._contents.spool.claim.used
        return pb.LogEnd(
            entries=len(table) - asked - kinds[Kind.KEPT],
            lookups=asked + len(self._contents.buckets),
            spooled_bytes=held.bytes,
            spooled_files=held.files,
            removed=len(self._removed),
        )

    def _batches(self) -> Iterator[pb.EntryBatch]:
        batch, size = pb.EntryBatch(), 0
        for path in self._contents.table.paths():
            entry = self._entry(path)
            if entry is None:
                continue
            batch.entries.append(entry)
            size += _ENTRY_BYTES + 4 * len(path) + len(entry.data)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = pb.EntryBatch(), 0
        if size:
            yield batch

    def _lookup_batches(self) -> Iterator[pb.LookupBatch]:
        batch, size = pb.LookupBatch(), 0
        for lookup in self._lookups():
            batch.lookups.append(lookup)
            size += _ENTRY_BYTES + 4 * (len(lookup.uri) + len(lookup.name))
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = pb.LookupBatch(), 0
        if size:
            yield batch

    def _lookups(self) -> Iterator[pb.Lookup]:
        table = self._contents.table
        for path in table.paths():
            row = table.get(path)
            if row is not None and row.kind == Kind.LOOKUP:
                yield pb.Lookup(uri=table.origin(path, row) or "", name=path, max_objects=1)
        for bucket in self._contents.buckets.values():
            yield pb.Lookup(
                uri=bucket.uri,
                server=bucket.server,
                name=bucket.name,
                max_objects=bucket.max_objects,
            )

    def _entry(self, path: str) -> pb.Entry | None:
        """One entry's message; None for what the daemon has to look up, or to keep as it is."""
        table = self._contents.table
        row = table.get(path)
        assert row is not None, path
        if row.kind in NOT_ENTRIES:
            return None
        if row.kind in IN_SPOOL:
            data = self._contents.spool.from_memory(row.file, row.offset, row.size)
            if data is not None:
                return pb.Entry(path=path, size=row.size, data=data)
            return pb.Entry(path=path, size=row.size, captured=self._captured(row))
        origin = table.origin(path, row) or ""
        if row.kind in REFERENCES:
            checksum = row.kind == Kind.REFERENCE
            reference = pb.Reference(uri=origin, checksum=checksum, max_objects=1, named=True)
            return pb.Entry(path=path, size=row.size, reference=reference)
        return pb.Entry(path=path, size=row.size, in_place=pb.InPlace(file=origin, stat=_stat(row)))

    def _captured(self, row: Row) -> pb.Captured:
        file = self._contents.spool.files[row.file]
        if row.kind == Kind.LINKED:
            return pb.Captured(file=file, linked=True, stat=_stat(row))
        return pb.Captured(file=file, offset=row.offset)


def new_request_id() -> str:
    """Make a UUID of version 7 (RFC 9562 section 5.7); its random bits are the system's."""
    number = int.from_bytes(_milliseconds().to_bytes(6) + os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _stat(row: Row) -> pb.Stat:
    return pb.Stat(device=row.device, inode=row.inode, size=row.size, mtime_ns=row.mtime_ns)


def _sync_in_place(local: str) -> None:
    try:
        sync_path(local)
    except OSError as error:
        raise FileUnreadable(f"{local} can't be synced: {error.strerror}.") from error
