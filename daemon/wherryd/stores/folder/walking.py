"""Listing a folder in the order of whole keys.

Owns: order, prefix and where to start; that one listing shows one and the same opened folder (``roots``).
Does not own: threads; the walk blocks, a few files at a time.

``a/x`` comes after ``a-b`` though the folder ``a`` comes before it: the keys below a folder compare as if
its name ended with ``/``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from wherryd.stores.base import ObjectStat
from wherryd.stores.folder.temporary import RESERVED, stat_of

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def walk(root: str, prefix: str, start_after: str) -> Iterator[ObjectStat]:
    """List the objects below ``prefix`` (empty, or with ``/`` at its end) after the key given.

    Raises ``OSError``; a folder that is not there has no objects.
    """
    with _opened(root) as fd:
        yield from _walk(fd, prefix, start_after)


def walk_folders(root: str, prefix: str) -> Iterator[str]:
    """List the names of the folders right below ``prefix`` that have objects somewhere below them."""
    with _opened(root) as fd:
        for name, is_folder in _names(fd, prefix):
            if is_folder and any(True for _ in _walk(fd, f"{prefix}{name}/", "")):
                yield name


@contextmanager
def _opened(root: str) -> Iterator[int]:
    fd = os.open(root, _OPEN_FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def _walk(root: int, prefix: str, start_after: str) -> Iterator[ObjectStat]:
    after = start_after.encode()
    for name, is_folder in _names(root, prefix):
        key = prefix + name
        if is_folder:
            if _may_follow(f"{key}/".encode(), after):
                yield from _walk(root, f"{key}/", start_after)
        elif key.encode() > after and (stat := _stat(root, key)):
            yield stat_of(key, stat)


def _may_follow(folder: bytes, after: bytes) -> bool:
    """Whether a key below ``folder`` can come after ``after``."""
    return folder > after or after.startswith(folder)


def _names(root: int, prefix: str) -> list[tuple[str, bool]]:
    """Names in a folder, and which are folders, in the order of the keys."""
    try:
        folder = os.open(prefix or ".", _OPEN_FOLDER, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        with os.scandir(folder) as found:
            names = [(item.name, item.is_dir()) for item in found if _is_key(item.name, prefix)]
    finally:
        os.close(folder)
    return sorted(names, key=lambda item: item[0].encode() + b"/" * item[1])


def _is_key(name: str, prefix: str) -> bool:
    """Whether the name can be a key's: not of our own files, and UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(prefix) or name != RESERVED


def _stat(root: int, path: str) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=root)
    except FileNotFoundError:  # deleted since
        return None
