"""A body on its way into a temporary file: reflinked or copied, and hashed.

Owns: that the bytes that land are those of the given digest. Does not own: the file's name.

A file is never linked in or renamed, since it may share its inode with a file of the user's. What is
hashed is what lands: the pieces that are written, or the reflinked copy, read back. (copy_file_range(2)
and hashing what it wrote was measured to be slower than one pass of read, hash, write.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

from wherryd.stores.base import Body, FileBody, PackBody
from wherryd.stores.bodies import CHUNK_BYTES, changed, check, gathered, opened, pieces
from wherryd.stores.folder.landing import clone
from wherryd.stores.folder.temporary import Temporary

_HOLE = bytes(CHUNK_BYTES)


def fill(temporary: Temporary, body: Body, may_go_on: Callable[[], object]) -> None:
    """Write a body to an empty temporary file.

    Args:
        temporary: where to.
        body: what; a file is read in bounded pieces.
        may_go_on: called between the pieces of a file; raises to stop.

    Raises:
        FileChanged: the file is not what its digest says.
        FileUnreadable: it can't be read.
        OSError: the temporary file can't be written.
    """
    if isinstance(body, bytes):
        temporary.write(body)
        return
    if isinstance(body, PackBody) or body.data is not None:
        _write(gathered(body), temporary, body, may_go_on)
        return
    with opened(body) as source:
        whole = body.offset == 0 and os.fstat(source).st_size == body.size
        if whole and clone(source, temporary.fd):
            _check_clone(temporary, body, may_go_on)
        else:
            _write(pieces(source, body), temporary, body, may_go_on)


def _write(
    read: Iterator[bytes],
    temporary: Temporary,
    body: FileBody | PackBody,
    may_go_on: Callable[[], object],
) -> None:
    sha256, done = hashlib.sha256(), 0
    for piece in read:
        body.told(done)
        may_go_on()
        sha256.update(piece)
        if piece == _HOLE:
            os.lseek(temporary.fd, len(piece), os.SEEK_CUR)
        else:
            temporary.write(piece)
        done += len(piece)
    os.ftruncate(temporary.fd, body.size)
    check(body, sha256.digest())


def _check_clone(temporary: Temporary, body: FileBody, may_go_on: Callable[[], object]) -> None:
    sha256, done = hashlib.sha256(), 0
    for piece in pieces(temporary.fd, body):
        body.told(done)
        may_go_on()
        sha256.update(piece)
        done += len(piece)
    if os.fstat(temporary.fd).st_size != body.size:
        raise changed(body, "is longer than it was")
    check(body, sha256.digest())
