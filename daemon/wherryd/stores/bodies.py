"""Reading the bodies that are put: files on this machine, in bounded pieces, checked.

Owns: opening and reading a ``FileBody`` and the errors of its file. Does not own: where the bytes go.
Everything here blocks; an adapter calls it in a worker thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.errors import FileChanged, FileUnreadable
from wherryd.files import NotRegular, open_regular
from wherryd.stores.base import FileBody

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


def read_piece(body: FileBody, offset: int, size: int) -> bytes:
    """Read one piece of a body, opening its file for it.

    Args:
        body: the body.
        offset: bytes from the body's start.
        size: bytes.
    """
    with opened(body) as fd:
        wanted, found = size, []
        while wanted:
            found.append(_read(fd, body, body.offset + offset + size - wanted, wanted))
            wanted -= len(found[-1])
    return b"".join(found)


def read_whole(body: FileBody) -> bytes:
    """Read a small body whole and check it. Raises ``FileChanged``, ``FileUnreadable``."""
    with opened(body) as fd:
        whole = b"".join(pieces(fd, body))
    check(body, hashlib.sha256(whole).digest())
    return whole


def is_changed(body: FileBody) -> bool:
    """Hash the file again: whether it is not what the body's digest says."""
    sha256 = hashlib.sha256()
    try:
        with opened(body) as fd:
            for piece in pieces(fd, body):
                sha256.update(piece)
    except FileChanged:
        return True
    return sha256.digest() != body.sha256


def check(body: FileBody, sha256: bytes) -> None:
    """Compare what was read with the digest that was given. Raises ``FileChanged``."""
    if sha256 != body.sha256:
        raise changed(body, "is not what it was when it was hashed")


def changed(body: FileBody, how: str) -> FileChanged:
    """Make the error that says how the file changed."""
    return FileChanged(
        f"{body.path} {how}; it was to be sent as sha256:{body.sha256.hex()}.",
        hint="Log it again, and leave a file added with policy='immutable' as it is until then.",
    )


def _read(fd: int, body: FileBody, offset: int, size: int) -> bytes:
    try:
        piece = os.pread(fd, size, offset)
    except OSError as exc:
        raise FileUnreadable(f"{body.path} can't be read: {exc.strerror}") from exc
    if not piece:
        raise changed(body, "is shorter than it was")
    return piece
