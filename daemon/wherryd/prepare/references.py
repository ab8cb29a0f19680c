"""Where the bytes of ``file://`` references lie, as they are now.

Owns: URI to path, and the file's signature before it is hashed. Does not own: hashing (``hashing``),
other schemes (``lookups``). Blocks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from wherry.errors import ReferenceFailed
from wherryd.model import Entry, FileStat, Reference, Source


def locate(entries: Sequence[Entry]) -> list[Entry]:
    """Give references a source to hash, with the size and signature that the file has now.

    Raises:
        ReferenceFailed: the file is missing, no regular file, or the URI's scheme is not supported.
    """
    return [_locate(entry, entry.reference) for entry in entries if entry.reference is not None]


def _locate(entry: Entry, reference: Reference) -> Entry:
    path, seen = _find(reference.uri)
    if not stat.S_ISREG(seen.st_mode):
        raise ReferenceFailed(f"{reference.uri} is no regular file")
    signature = FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    source = Source(path, 0, signature)
    return msgspec.structs.replace(entry, size=seen.st_size, source=source)


def _find(uri: str) -> tuple[str, os.stat_result]:
    plain = _plain_path(uri)
    # Programs write URIs with and without percent-encoding; a file that is there decides.
    for path in dict.fromkeys((plain, unquote(plain))):
        try:
            return path, os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as exc:
            raise ReferenceFailed(f"{uri} can't be read: {exc}") from exc
    raise ReferenceFailed(f"{uri} is missing", hint="Put the file back, then: wherry retry --all")


def _plain_path(uri: str) -> str:
    for start in ("file:///", "file://localhost/"):
        if uri.startswith(start):
            return "/" + uri[len(start) :]
    raise ReferenceFailed(
        f"{uri} names no file of this machine",
        hint="Write file:///absolute/path.",
    )
