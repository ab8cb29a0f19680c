"""Files of a version, taken out of what the daemon has brought to this machine.

Owns: asking the daemon where the bytes are, copying them, going on where it ended. Does not own: where
exactly they may be written (``safe_root``), what can't be had this way (``download`` has the daemon send it).

The daemon keeps what it names until this side ends the call. Only a whole file of its cache that bears the
entry's digest is copied as it is; everything else is compared on its way.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Self

from wherry import messages as pb
from wherry.ahead import Ahead
from wherry.compared import write_compared
from wherry.connection import connect
from wherry.copying import EndedEarly, WriteFailed, copy
from wherry.cut_off import CutOff
from wherry.errors import DaemonLeaving, ProtocolError, StoreDamaged
from wherry.safe_root import SafeRoot, refused
from wherry.stored import StoredEntry, StoredVersion
from wherry.wire.status import ConnectionLost

_READ_BYTES = 1 << 20
#: Errors of a copy that can only be the source's.
_OF_SOURCES = (errno.EIO, errno.ESTALE)


def take(
    stored: StoredVersion,
    wanted: Mapping[str, StoredEntry],
    names: Sequence[str],
    target: SafeRoot,
    note: Callable[[int], object],
    *,
    links: bool = False,
) -> dict[str, StoredEntry]:
    """Write entries as files; return those whose bytes lie nowhere on this machine.

    Args:
        wanted: no references.
        names: of all of them, to be asked for by name; none: they are all that the version has.
        note: told now and then how many of their bytes are on this machine.
        links: make hard links, where that can be.

    Raises:
        StoreDamaged: the store gives other bytes than were logged; that file is not written.
        BadPath, DownloadError, StoreError, CommError.
    """
    cut_off = CutOff(stored.home)
    has_more = True
    with _Sources() as sources, Ahead(target) as ahead:
        taking = _Taking(wanted, target, note, ahead)
        while taking.left and has_more:
            has_more = False
            before = taking.begin_call()
            left = [name for name in names if name in taking.left]
            try:
                with closing(_ask(stored, left, taking.after, links=links)) as replies:
                    for reply in replies:
                        taking.take(reply, sources)
                        has_more = reply.more
            except (ConnectionLost, DaemonLeaving) as error:
                has_more = True
                if taking.progress > before:
                    cut_off.note_progress()
                cut_off.wait_again(error)
            else:
                has_more = has_more and taking.progress > before
    if taking.left:
        raise ProtocolError(f"The daemon did not tell of {len(taking.left):,} files.")
    return taking.elsewhere


class _Taking:
    """What is to be taken, and how far that is."""

    def __init__(
        self,
        wanted: Mapping[str, StoredEntry],
        target: SafeRoot,
        note: Callable[[int], object],
        ahead: Ahead,
    ) -> None:
        self.left = dict(wanted)
        self.elsewhere: dict[str, StoredEntry] = {}
        self.after = ""
        """The last path that was told of."""
        self._target = target
        self._note = note
        self._ahead = ahead
        self._taken = 0  # bytes
        self._before = 0  # those of earlier calls
        self._fetched = 0  # bytes that the daemon has, at most

    def begin_call(self) -> tuple[int, int]:
        """A call begins, of which the daemon counts anew; what is the progress until now."""
        self._before = self._taken
        return self.progress

    @property
    def progress(self) -> tuple[int, int]:
        """Grows with each file that is taken, and with what the daemon has fetched."""
        return -len(self.left), self._fetched

    def take(self, reply: pb.FetchReply, sources: _Sources) -> None:
        """Take what an answer names."""
        self._fetched = max(self._fetched, self._before + reply.bytes)
        self._note(self._before + reply.bytes)
        if reply.HasField("coming") and reply.coming.path in self.left:
            self._ahead.follow(reply.coming)
        for file in reply.files:
            self.after = file.path
            entry = self.left.pop(file.path, None)
            if entry is None:
                continue
            if not self._take(file, entry, sources):
                self.elsewhere[file.path] = entry
            self._taken += entry.size or 0
            self._note(self._taken)

    def _take(self, file: pb.FetchedFile, entry: StoredEntry, sources: _Sources) -> bool:
        is_whole = file.checked and _is_of(file, entry)
        if is_whole and self._ahead.finish(file.path, file.file, entry.size or 0):
            return True
        return _take_one(file, entry, sources, self._target)


def _ask(
    stored: StoredVersion, names: Sequence[str], after: str, *, links: bool
) -> Generator[pb.FetchReply, None, None]:
    """Give the daemon's answers up to the last; then the call ends, and with it the daemon's hold."""
    record = stored.record
    request = pb.FetchFilesRequest(
        store=record.store,
        project=record.project,
        manifest=record.manifest,
        paths=names,
        after="" if names else after,
        links=links,
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
                file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise _NotThere from error
            if not stat.S_ISREG(os.fstat(file).st_mode):
                os.close(file)
                raise _NotThere
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
        if file.linkable and target.link(file.path, file.file):
            return True
        with target.create(file.path) as opened:
            if source < 0:
                write_compared(file.path, entry, (file.data,), opened)
            elif file.checked and _is_of(file, entry):
                _copy(source, size, opened)
            else:
                pieces = _read(source, file.offset, size)
                write_compared(file.path, entry, pieces, opened)
    except _NotThere:
        return False
    except StoreDamaged:
        if (
            file.checked or file.cached
        ):  # whether it is the cache that is damaged shows what the daemon sends
            return False
        raise
    except WriteFailed as error:
        raise refused(file.path, error.cause) from error
    return True


def _is_of(file: pb.FetchedFile, entry: StoredEntry) -> bool:
    """Whether the file is named by the entry's digest, and so all of it is the entry's."""
    return not file.offset and f"sha256:{os.path.basename(file.file)}" == entry.digest


def _copy(source: int, size: int, opened: int) -> None:
    """Copy all of a file, by whatever is fastest."""
    seen = os.fstat(source)
    if seen.st_size != size:
        raise _NotThere
    try:
        copy(source, opened, seen)
    except EndedEarly as error:
        raise _NotThere from error
    except OSError as error:
        if error.errno in _OF_SOURCES:
            raise _NotThere from error
        raise


class _NotThere(Exception):
    """The bytes are not where they should be, or can't be read there."""


def _read(source: int, offset: int, size: int) -> Iterator[bytes]:
    while size:
        try:
            data = os.pread(source, min(size, _READ_BYTES), offset)
        except (OSError, OverflowError) as error:
            raise _NotThere from error
        if not data:
            raise _NotThere
        yield data
        offset, size = offset + len(data), size - len(data)
