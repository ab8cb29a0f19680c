"""Bytes on their way into a file, compared with what they should be.

Owns: writing, hashing, what is said when they are others. Does not own: where they come from, the file's
name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from wherry.copying import WriteFailed, write_all
from wherry.errors import StoreDamaged
from wherry.safe_root import refused
from wherry.stored import StoredEntry


def write_compared(path: str, entry: StoredEntry, data: Iterable[bytes], opened: int) -> None:
    """Write a file of a version.

    Args:
        path: of the entry.
        data: its bytes, in pieces.
        opened: an empty file.

    Raises:
        StoreDamaged: they are not the bytes that were logged.
        DownloadError: the disk does not take them.
    """
    digest, size = write_hashed(path, data, opened)
    if digest != entry.digest or size != entry.size:
        raise StoreDamaged(
            f"{path!r} came with {size:,} bytes and {digest}, and was logged with {entry.size}"
            f" and {entry.digest}; it was not written.",
            hint="The store's object is damaged: put it back from a copy of the store.",
        )


def write_hashed(path: str, data: Iterable[bytes], opened: int) -> tuple[str, int]:
    """Write likewise; return the digest (``sha256:<hex>``) and the size, in bytes, of what came."""
    sha256 = hashlib.sha256()
    size = 0
    for piece in data:
        sha256.update(piece)
        try:
            write_all(opened, piece, size)
        except WriteFailed as error:
            raise refused(path, error.cause) from error
        size += len(piece)
    return f"sha256:{sha256.hexdigest()}", size
