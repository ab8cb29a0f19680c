"""What ``add_reference`` records.

Owns: which entries a URI stands for, as far as the call can tell, and their names. Does not own:
checksums, and what a bucket holds: the daemon asks for both after the call that logged the artifact.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote

from wherry import capture, folders, schemes
from wherry.errors import BadURI, UsageError
from wherry.rows import Kind
from wherry.wire import names
from wherry.wire.object_uri import BUCKETS, server_of, split_object
from wherry.wire.secrets import masked

MAX_OBJECTS = 10_000
UNKNOWN_SIZE = -1
_URLS = ("http", "https")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


class Reference(NamedTuple):
    """Where an entry's bytes are; ``size`` in bytes, -1 where nobody asked."""

    uri: str
    size: int
    kind: Kind


class Bucket(NamedTuple):
    """What a URI names in a bucket: an object, or all below a prefix."""

    uri: str
    server: str  # address, complete
    name: str  # as it was given; "" for the URI's own
    path: str  # of the entry, if it is one object
    max_objects: int


Found = dict[str, Reference]


def is_uri(text: str) -> bool:
    """Tell a URI from a path."""
    return _URI.fullmatch(text) is not None


def find(uri: str, name: str | None, *, checksum: bool, max_objects: int) -> Found | Bucket:
    """Find the entries that a URI stands for, by path, or what only the daemon can tell.

    Args:
        uri: of a file, or a folder whose files become one entry each.
        name: the entry's path, or for a folder what comes before its files' paths.
        checksum: False records the URI as it is, of whatever scheme, and nobody looks at it.
        max_objects: how many files a folder may have.

    Raises:
        BadURI: no URI, a ``file://`` one of another host, a scheme that nobody resolves, a bucket
            without a name, or a URL that names no file.
        UsageError: a folder has more files than ``max_objects``.
        FileMissing, FileUnreadable, NotAFile, BadPath: as ``add_file`` and ``add_dir``.
    """
    scheme, rest = _split(uri)
    if not checksum:
        path = name or unquote(_base_name(_without_query(rest)))
        return {names.check_path(path): Reference(uri, UNKNOWN_SIZE, Kind.UNCHECKED)}
    if scheme in _URLS:
        return _find_url(uri, rest, name)
    if scheme != "file":
        if scheme not in BUCKETS:
            schemes.check(scheme, uri)
        return _find_in_bucket(uri, scheme, name, max_objects)
    return _find_file(uri, name, max_objects)


def _find_url(uri: str, rest: str, name: str | None) -> Found:
    host, _, path = _without_query(rest).partition("/")
    name = name or unquote(_base_name(path))
    if not host.rpartition("@")[2].partition(":")[0] or not name:
        missing = "file" if host else "host"
        raise BadURI(f"{masked(uri)!a} names no {missing}.", hint="Give the entry's path: name=…")
    return {names.check_path(name): Reference(uri, UNKNOWN_SIZE, Kind.LOOKUP)}


def _find_in_bucket(uri: str, scheme: str, name: str | None, max_objects: int) -> Bucket:
    key = split_object(uri).key if scheme in BUCKETS else _without_query(uri.partition("://")[2])
    path = names.check_path(name) if name else _base_name(key)
    return Bucket(uri, server_of(uri, os.environ), name or "", path, max_objects)


def _find_file(uri: str, name: str | None, max_objects: int) -> Found:
    local, seen, encoded = locate(uri)
    if stat.S_ISDIR(seen.st_mode):
        return _find_below(uri, local, name, max_objects, quote if encoded else str)
    if not stat.S_ISREG(seen.st_mode):
        raise capture.not_a_file(local, capture.kind_of(seen.st_mode))
    path = names.check_path(name or _base_name(local))
    return {path: Reference(uri, seen.st_size, Kind.REFERENCE)}


def locate(uri: str) -> tuple[str, os.stat_result, bool]:
    """Find the file or folder that a ``file://`` URI means (RFC 8089).

    Programs write such URIs with and without percent-encoding: what is there decides, as in the
    daemon.

    Returns:
        Its path, what ``stat`` says of it, and whether the URI is percent-encoded.

    Raises:
        BadURI: it names another host, or no path.
        FileMissing, FileUnreadable: it is not there, or may not be looked at.
    """
    scheme, rest = _split(uri)
    host, slash, path = rest.partition("/")
    if scheme != "file" or host not in ("", "localhost") or not slash or "\0" in unquote(path):
        raise BadURI(f"{uri!a} names no file of this machine.", hint="Write file:///absolute/path.")
    plain, decoded = slash + path, slash + unquote(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return plain, os.stat(plain), False
    try:
        return decoded, os.stat(decoded), True
    except OSError as error:
        raise capture.unreadable(decoded, error) from error


def _find_below(
    uri: str, local: str, name: str | None, max_objects: int, write: Callable[[str], str]
) -> Found:
    prefix = f"{names.check_path(name)}/" if name else ""
    base, folder = uri.rstrip("/"), local.rstrip("/")
    found: Found = {}
    for path in folders.files_below(folder or "/"):
        if len(found) == max_objects:
            raise UsageError(
                f"{uri} has more than {max_objects:,} files; nothing was added.",
                hint="Raise max_objects, or reference its folders one by one.",
            )
        size = _size(f"{folder}/{path}")
        found[prefix + path] = Reference(f"{base}/{write(path)}", size, Kind.REFERENCE)
    return found


def _size(local: str) -> int:
    try:
        return os.stat(local).st_size
    except OSError as error:
        raise capture.unreadable(local, error) from error


def _split(uri: str) -> tuple[str, str]:
    found = _URI.fullmatch(uri)
    if found is None:
        raise BadURI(f"{uri!a} is no URI.", hint="Write scheme://…; add_file takes paths.")
    if not names.is_utf8(uri):
        raise BadURI(f"{uri!a} is not UTF-8.", hint="Percent-encode what is not.")
    return found[1].lower(), found[2]


def _without_query(rest: str) -> str:
    return re.split("[?#]", rest, maxsplit=1)[0]


def _base_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
