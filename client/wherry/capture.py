"""How a user's file gets into the spool (docs/promises.md, promise 4).

Owns: reading it as it is at this moment, and the errors of a file that can't be. Does not own: the
spool's files (``spool``), which path the file gets (``contents``).

A file is looked at (fstat) before and after it is read; if size or mtime differ, or another number of
bytes came, it changed meanwhile. Where stamps can't tell (``stillness``), it is read again and compared. A
file that is replaced by another (rename) is read as it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator

from wherry import copying, stillness
from wherry.errors import CaptureError, FileChanged, FileMissing, FileUnreadable, NotAFile
from wherry.rows import Kind, Row
from wherry.spool import FULL, SMALL_BYTES, Spool, gone

# Without O_NONBLOCK a FIFO would keep us waiting for its writer.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_FIRST_LOOK = _READ | os.O_NONBLOCK
_CHUNK_BYTES = 1 << 20


def capture(spool: Spool, local: str, origin: int, *, immutable: bool) -> Row:
    """Make a file's bytes safe in the spool: by a copy, or by a link where it is ``immutable``.

    Args:
        spool: in a step.
        local: absolute path; symbolic links are followed.
        origin: the row's.

    Raises:
        FileMissing, FileUnreadable, NotAFile, FileChanged: the file.
        SpoolFull, CaptureError: the spool.
    """
    return _link(spool, local, origin) if immutable else _copy(spool, local, origin)


def same_bytes(spool: Spool, row: Row, local: str) -> bool:
    """Tell whether a file on this machine has the bytes that an entry was captured with."""
    source = _open(local)
    try:
        seen = _look(source, local)
        if seen.st_size != row.size:
            return False
        if row.kind != Kind.COPIED:
            return (seen.st_dev, seen.st_ino, seen.st_mtime_ns) == row[-3:]
        captured = read_captured(spool, row)
        return all(os.read(source, len(data)) == data for data in captured)
    except OSError as error:
        raise unreadable(local, error) from error
    finally:
        os.close(source)


def read_captured(spool: Spool, row: Row) -> Iterator[bytes]:
    """Read an entry's captured bytes back in chunks.

    Raises ``FileChanged`` where some are gone, ``ArtifactStateError`` where all are: a forked child's
    parent has logged them.
    """
    data = spool.from_memory(row.file, row.offset, row.size)
    if data is not None:
        yield data
        return
    try:
        yield from _chunks(spool.file(row.file), row.offset, row.size)
    except FileNotFoundError as error:
        raise gone() from error


def sha256_of(local: str) -> str:
    """Hash a file as it is, as ``sha256:<hex>``. Raises ``FileMissing``, ``FileUnreadable``, ``NotAFile``."""
    source = _open(local)
    try:
        _look(source, local)
        with os.fdopen(os.dup(source), "rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError as error:
        raise unreadable(local, error) from error
    finally:
        os.close(source)


def sha256(spool: Spool, row: Row, local: str) -> str:
    """Hash what an entry was captured with, as hex digits.

    Args:
        local: the user's file, which is read where nothing was copied or linked.
    """
    is_in_place = row.kind == Kind.IN_PLACE
    digest = hashlib.sha256()
    for data in _chunks(local, 0, row.size) if is_in_place else read_captured(spool, row):
        digest.update(data)
    return digest.hexdigest()


def _chunks(path: str, offset: int, size: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as opened:
        left = size
        while left:
            data = os.pread(opened.fileno(), min(left, _CHUNK_BYTES), offset)
            if not data:
                raise FileChanged(f"{path} ended before its time.")
            yield data
            left -= len(data)
            offset += len(data)


def unreadable(local: str, error: OSError) -> CaptureError:
    """Make the error for a file that can't be opened or read."""
    shown = _shown(local)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(local):
            return FileMissing(f"{shown} is a symbolic link to nothing: {_target(local)}.")
        return FileMissing(f"There is no file {shown}.")
    if error.errno == errno.ELOOP:
        return FileUnreadable(f"{shown} is a symbolic link that leads back to itself.")
    if error.errno == errno.ENXIO:
        return not_a_file(local, "a socket")
    return FileUnreadable(f"{shown} can't be read: {error.strerror}.")


def contains_nul(local: str) -> FileMissing:
    """Make the error for a path that no file can have."""
    return FileMissing(f"{local!r} contains NUL, as no file's name does.")


def not_a_file(local: str, what: str) -> NotAFile:
    """Make the error for what is no regular file."""
    hint = "Use add_dir for a folder." if what == "a folder" else "Only regular files can be added."
    return NotAFile(f"{_shown(local)} is {what}.", hint=hint)


def kind_of(mode: int) -> str:
    """Say what a file that is not regular is, by its ``st_mode``."""
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "no regular file")


def _copy(spool: Spool, local: str, origin: int) -> Row:
    source = _open(local)
    try:
        before = _look_with_room(spool, source, local)
        copied: Iterable[bytes]
        if before.st_size < SMALL_BYTES:
            data = _read(source, before, local)
            is_doubtful = stillness.is_recent(before)  # another read costs no more than a lease
            (file, offset), copied = spool.append(data), (data,)
        else:
            stillness.let_stamps_move(before)
            is_doubtful = stillness.is_recent(before) and stillness.may_be_written(source)
            file, offset = _copy_alone(spool, source, before, local), 0
            copied = _chunks(spool.file(file), 0, before.st_size)
        after = os.fstat(source)
        if after.st_mtime_ns != before.st_mtime_ns or after.st_size != before.st_size:
            raise _changed(local)
        # The ctime alone moves where a stamp was set back, and also where another file took the name.
        is_doubtful |= after.st_ctime_ns != before.st_ctime_ns
        if is_doubtful and not _has(source, copied, local):
            raise _changed(local)
    finally:
        os.close(source)
    return _row(Kind.COPIED, file, origin, offset, before)


def _has(source: int, copied: Iterable[bytes], local: str) -> bool:
    """Read a file again and compare. What is the same in both was so at the moment between them."""
    offset = 0
    try:
        for data in copied:
            if os.pread(source, len(data), offset) != data:
                return False
            offset += len(data)
    except OSError as error:
        raise unreadable(local, error) from error
    return True


def _read(source: int, seen: os.stat_result, local: str) -> bytes:
    """Read a small file whole, and no more than one byte that should not be there."""
    wanted = seen.st_size + 1
    try:
        data = os.read(source, wanted)
        while len(data) < seen.st_size:
            more = os.read(source, wanted - len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise unreadable(local, error) from error
    if len(data) != seen.st_size:
        raise _changed(local)
    return data


def _copy_alone(spool: Spool, source: int, seen: os.stat_result, local: str) -> int:
    number, target = spool.create(seen.st_size)
    try:
        copying.copy(source, target, seen)
    except copying.EndedEarly as error:
        raise _changed(local) from error
    except copying.WriteFailed as error:
        raise spool.refused(error.cause) from error
    except OSError as error:
        if error.errno in FULL:
            raise spool.refused(error) from error
        raise unreadable(local, error) from error
    finally:
        os.close(target)
    return number


def _link(spool: Spool, local: str, origin: int) -> Row:
    source = _open(local)
    try:
        seen = _look(source, local)
    finally:
        os.close(source)
    spool.reserve_link()
    try:
        number = spool.link(os.path.realpath(local) if os.path.islink(local) else local)
    except OSError as error:
        raise unreadable(local, error) from error
    if number is None:
        return _in_place(local, origin, seen)
    linked = os.stat(spool.file(number))
    if (linked.st_dev, linked.st_ino) != (seen.st_dev, seen.st_ino):
        raise _changed(local)
    return _row(Kind.LINKED, number, origin, 0, seen)


def _in_place(local: str, origin: int, seen: os.stat_result) -> Row:
    try:
        local.encode()
    except UnicodeEncodeError as error:
        raise FileUnreadable(
            f"{_shown(local)} can't be linked into the spool, and its path is not UTF-8.",
            hint="Add it with policy='mutable', which copies.",
        ) from error
    return _row(Kind.IN_PLACE, 0, origin, 0, seen)


def _row(kind: Kind, file: int, origin: int, offset: int, seen: os.stat_result) -> Row:
    return Row(kind, file, origin, offset, seen.st_size, seen.st_dev, seen.st_ino, seen.st_mtime_ns)


def _open(local: str) -> int:
    try:
        try:
            return os.open(local, _FIRST_LOOK)
        except BlockingIOError:  # another process has a lease on it, and must give it up first
            return os.open(local, _READ)
    except OSError as error:
        raise unreadable(local, error) from error
    except ValueError as error:
        raise contains_nul(local) from error


def _look(source: int, local: str) -> os.stat_result:
    seen = os.fstat(source)
    if not stat.S_ISREG(seen.st_mode):
        raise not_a_file(local, kind_of(seen.st_mode))
    return seen


def _look_with_room(spool: Spool, source: int, local: str) -> os.stat_result:
    """Look at a file for which there is room: as it is when the waiting for that is over."""
    seen = _look(source, local)
    while spool.reserve(seen.st_size):
        seen = _look(source, local)
    return seen


def _changed(local: str) -> FileChanged:
    return FileChanged(
        f"{_shown(local)} changed while it was captured.",
        hint="Add it when nobody writes to it any more, or write it elsewhere and rename it.",
    )


def _shown(local: str) -> str:
    """Name a file in a message; what is not UTF-8 in its name is escaped."""
    return local.encode("utf-8", "backslashreplace").decode()


def _target(local: str) -> str:
    try:
        return _shown(os.readlink(local))
    except OSError:
        return "?"
