"""Files of a version, taken out of what the daemon has brought to this machine.

Owns: asking the daemon where the bytes are, copying them, going on where it ended. Does not own: where
exactly they may be written (``safe_root``), what can't be had this way (``download`` has the daemon send it).

The daemon keeps what it names until this side ends the call. What comes out of its cache was compared with
its digest on the way in; what lies in a store's folder is compared here, while it is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from wherry import messages as pb
from wherry.compared import write_compared
from wherry.connection import connect
from wherry.copying import EndedEarly, WriteFailed, copy, copy_part, write_all
from wherry.cut_off import CutOff
from wherry.errors import ProtocolError
from wherry.safe_root import SafeRoot, refused
from wherry.stored import StoredEntry, StoredVersion
from wherry.wire.status import ConnectionLost

_READ_BYTES = 1 << 20
#: Below this a read and a write cost less than what asks the kernel to copy.
_SMALL_BYTES = 64 << 10


def take(
    stored: StoredVersion,
    wanted: Mapping[str, StoredEntry],
    names: Sequence[str],
    target: SafeRoot,
) -> dict[str, StoredEntry]:
    """Write entries as files; return those whose bytes lie nowhere on this machine.

    Args:
        wanted: no references.
        names: of all of them, to be asked for by name; none: they are all that the version has.

    Raises:
        StoreDamaged: the store gives other bytes than were logged; that file is not written.
        BadPath, DownloadError, StoreError, CommError.
    """
    left, elsewhere = dict(wanted), dict[str, StoredEntry]()
    cut_off = CutOff(stored.home)
    after, has_more = "", True
    with _Sources() as sources:
        while left and has_more:
            count = len(left)
            try:
                for reply in _ask(stored, [name for name in names if name in left], after):
                    for file in reply.files:
                        after = file.path
                        entry = left.pop(file.path, None)
                        if entry is not None and not _take_one(file, entry, sources, target):
                            elsewhere[file.path] = entry
                    has_more = reply.more
            except ConnectionLost as error:
                has_more = True
                if len(left) < count:
                    cut_off.note_progress()
                cut_off.wait_again(error)
    if left:
        raise ProtocolError(f"The daemon did not tell of {len(left):,} files.")
    return elsewhere


def _ask(stored: StoredVersion, names: Sequence[str], after: str) -> Iterator[pb.FetchReply]:
    """Give the daemon's answers up to the last; then the call ends, and with it the daemon's hold."""
    record = stored.record
    request = pb.FetchFilesRequest(
        store=record.store,
        project=record.project,
        manifest=record.manifest,
        paths=names,
        after="" if names else after,
    )
    for reply in connect(stored.home).server_stream("FetchFiles", request, pb.FetchReply):
        yield reply
        if reply.last:
            return


class _Sources:
    """The file that is copied from: many entries may lie in it, one after the other."""

    def __init__(self) -> None:
        self._name = ""
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def open(self, name: str) -> int:
        """Open a file; its descriptor is good until another is opened. Raises ``_NotThere``."""
        if name != self._name:
            try:
                file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise _NotThere from error
            if self._file >= 0:
                os.close(self._file)
            self._name, self._file = name, file
        return self._file


def _take_one(
    file: pb.FetchedFile, entry: StoredEntry, sources: _Sources, target: SafeRoot
) -> bool:
    """Write one file; False where its bytes are not where the daemon says, or can't be read here."""
    size = entry.size or 0
    if not file.file and len(file.data) != size:
        return False
    try:
        source = sources.open(file.file) if file.file else -1
        with target.create(file.path) as opened:
            if source < 0:
                write_compared(file.path, entry, (file.data,), opened)
            elif file.checked:
                _copy(source, file.offset, size, opened)
            else:
                pieces = _read(source, file.offset, size)
                write_compared(file.path, entry, pieces, opened)
    except _NotThere:
        return False
    except WriteFailed as error:
        raise refused(file.path, error.cause) from error
    return True


def _copy(source: int, offset: int, size: int, opened: int) -> None:
    seen = os.fstat(source)
    if size < _SMALL_BYTES:
        for data in _read(source, offset, size):
            write_all(opened, data, 0)
        return
    try:
        if size == seen.st_size:
            copy(source, opened, seen)
        else:
            copy_part(source, offset, size, opened)
    except EndedEarly as error:
        raise _NotThere from error


class _NotThere(Exception):
    """The bytes are not where they should be, or can't be read there."""


def _read(source: int, offset: int, size: int) -> Iterator[bytes]:
    while size:
        try:
            data = os.pread(source, min(size, _READ_BYTES), offset)
        except OSError as error:
            raise _NotThere from error
        if not data:
            raise _NotThere
        yield data
        offset, size = offset + len(data), size - len(data)
