"""Reading the bodies that are put: files on this machine, in bounded pieces, checked.

Owns: opening and reading a ``FileBody``, or the many of a ``PackBody``, and the errors of their files. Does
not own: where the bytes go.
Everything here blocks, but for what is in memory; an adapter calls it in a worker thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby

import msgspec

from wherry.errors import FileChanged, FileUnreadable
from wherryd.files import NotRegular, open_regular
from wherryd.stores.base import FileBody, PackBody

CHUNK_BYTES = 1 << 20
"""How much of a file is in memory at a time. Measured: smaller and larger pieces copy more slowly."""


@contextmanager
def opened(body: FileBody) -> Iterator[int]:
    """Open the body's file for reading; give its descriptor.

    Raises:
        FileChanged: it is gone, or no regular file any more.
        FileUnreadable: it is there and can't be read.
    """
    try:
        fd = open_regular(body.path)
    except FileNotFoundError as exc:
        raise changed(body, "is gone") from exc
    except NotRegular as exc:
        raise changed(body, "is no regular file any more") from exc
    except OSError as exc:
        raise FileUnreadable(f"{body.path} can't be read: {exc.strerror}") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def pieces(fd: int, body: FileBody) -> Iterator[bytes]:
    """Read the body from its opened file, at most ``CHUNK_BYTES`` at a time.

    Raises:
        FileChanged: the file is shorter than the body.
        FileUnreadable: the disk fails.
    """
    offset, end = body.offset, body.offset + body.size
    while offset < end:
        piece = _read(fd, body, offset, min(CHUNK_BYTES, end - offset))
        offset += len(piece)
        yield piece


def read_piece(body: FileBody | PackBody, offset: int, size: int) -> bytes:
    """Read one piece of a body, opening its files for it.

    Args:
        body: the body.
        offset: bytes from the body's start.
        size: bytes.
    """
    stretches = (body.stretches or body.files) if isinstance(body, PackBody) else (body,)
    return b"".join(_gathered(stretches, offset, size))


def is_in_memory(body: FileBody | PackBody) -> bool:
    """Whether reading it touches no file: then no thread is worth its way."""
    return not any(file.path for file in _files(body))


def joined(files: Iterable[FileBody]) -> tuple[FileBody, ...]:
    """Make one of neighbours that lie back to back in one file, to be read in as few calls as may be."""
    stretches: list[FileBody] = []
    for file in files:
        last = stretches[-1] if stretches else None
        if last and last.path == file.path != "" and last.offset + last.size == file.offset:
            stretches[-1] = msgspec.structs.replace(last, size=last.size + file.size)
        else:
            stretches.append(file)
    return tuple(stretches)


def gathered(body: FileBody | PackBody) -> Iterator[bytes]:
    """Read the body's files, about ``CHUNK_BYTES`` at a time. Raises as ``opened`` and ``pieces``."""
    for offset in range(0, body.size, CHUNK_BYTES):
        yield read_piece(body, offset, min(CHUNK_BYTES, body.size - offset))


def read_whole(body: FileBody | PackBody) -> bytes:
    """Read a small body whole and check it. Raises ``FileChanged``, ``FileUnreadable``."""
    whole = read_piece(body, 0, body.size)
    check(body, hashlib.sha256(whole).digest())
    return whole


def find_changed(body: FileBody | PackBody) -> FileBody | None:
    """Hash the files again: the first that is not what its digest says."""
    for file in _files(body):
        sha256 = hashlib.sha256()
        try:
            for piece in gathered(file):
                sha256.update(piece)
        except FileChanged:
            return file
        if sha256.digest() != file.sha256:
            return file
    return None


def check(body: FileBody | PackBody, sha256: bytes) -> None:
    """Compare what was read with the digest that was given. Raises ``FileChanged``."""
    if sha256 != body.sha256:
        file = body if isinstance(body, FileBody) else find_changed(body) or body.files[0]
        raise changed(file, "is not what it was when it was hashed")


def changed(body: FileBody, how: str) -> FileChanged:
    """Make the error that says how the file changed."""
    return FileChanged(
        f"{body.path or 'Bytes in the queue'} {how}; it was to be sent as sha256:{body.sha256.hex()}.",
        hint="Log it again, and leave a file added with policy='immutable' as it is until then.",
    )


class Checked:
    """A body on its way to a server that may not check it: the last piece is given only if all are right.

    Without it the server has fewer bytes than it was told, and keeps what it had. Pieces are read in order.
    """

    def __init__(self, body: FileBody | PackBody) -> None:
        self._body = body
        self._sha256 = hashlib.sha256()

    @property
    def size(self) -> int:
        return self._body.size

    def told(self, left: int) -> None:
        self._body.told(left)

    def read(self, offset: int, size: int) -> bytes:
        if offset == 0:
            self._sha256 = hashlib.sha256()
        piece = read_piece(self._body, offset, size)
        self._sha256.update(piece)
        if offset + size == self.size:
            check(self._body, self._sha256.digest())
        return piece


def _files(body: FileBody | PackBody) -> tuple[FileBody, ...]:
    return body.files if isinstance(body, PackBody) else (body,)


def _gathered(files: tuple[FileBody, ...], offset: int, size: int) -> Iterator[bytes]:
    """Read ``size`` bytes from ``offset`` on of files that lie back to back."""
    wanted = (
        (file, *reach) for file, reach in zip(files, _reaches(files, offset, size), strict=True)
    )
    parts = ((file, start, count) for file, start, count in wanted if count)
    for path, group in groupby(parts, key=lambda part: part[0].path):
        if not path:
            yield from (_data(file)[start : start + count] for file, start, count in group)
            continue
        first, *others = group
        with opened(first[0]) as fd:
            for file, start, count in (first, *others):
                yield from pieces(
                    fd, msgspec.structs.replace(file, offset=file.offset + start, size=count)
                )


def _data(body: FileBody) -> bytes:
    if body.data is None or len(body.data) != body.size:
        raise changed(body, "are not whole")
    return body.data


def _reaches(files: tuple[FileBody, ...], offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Of each file, from where on and how many of its bytes lie in a stretch of them all."""
    begin, end = 0, offset + size
    for file in files:
        start = max(0, offset - begin)
        yield start, max(0, min(file.size, end - begin) - start)
        begin += file.size


def _read(fd: int, body: FileBody, offset: int, size: int) -> bytes:
    try:
        piece = os.pread(fd, size, offset)
    except OSError as exc:
        raise FileUnreadable(f"{body.path} can't be read: {exc.strerror}") from exc
    if not piece:
        raise changed(body, "is shorter than it was")
    return piece
