"""Walks a folder for ``add_dir``. Owns: which files it finds, and what it refuses.

Does not own: what happens to the files. Symbolic links are followed, to files and to folders; a link
that leads back to a folder above it is refused, and so is whatever is neither file nor folder.
Folders without files leave no trace.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from wherry.capture import contains_nul, kind_of, not_a_file, unreadable
from wherry.errors import BadPath, NotAFile


def files_below(root: str) -> Iterator[str]:
    """Find all regular files below a folder.

    Args:
        root: absolute path of the folder; may be a symbolic link to one.

    Returns:
        Paths relative to ``root``; each folder's files in order, before what lies deeper.

    Raises:
        FileMissing, FileUnreadable: the folder, one below it, or where a symbolic link leads.
        NotAFile: no folder; or a FIFO, socket or device below it; or a link that makes a circle.
        BadPath: a name is not UTF-8.
    """
    _check_folder(root)
    folders = [""]
    while folders:
        prefix = folders.pop()
        deeper = []
        for item in _listing(f"{root}/{prefix}" if prefix else root):
            path = prefix + item.name
            if _is_folder(root, prefix, item):
                deeper.append(f"{path}/")
            else:
                yield path
        folders += reversed(deeper)


def _check_folder(root: str) -> None:
    try:
        seen = os.stat(root)
    except OSError as error:
        raise unreadable(root, error) from error
    except ValueError as error:
        raise contains_nul(root) from error
    if not stat.S_ISDIR(seen.st_mode):
        what = "a file" if stat.S_ISREG(seen.st_mode) else kind_of(seen.st_mode)
        raise NotAFile(f"{root} is {what}, not a folder.", hint="Use add_file for a file.")


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=_name)
    except OSError as error:
        raise unreadable(folder, error) from error
    for item in found:
        _check_name(item)
    return found


def _name(item: os.DirEntry[str]) -> str:
    return item.name


def _check_name(item: os.DirEntry[str]) -> None:
    if item.name.isascii():
        return
    try:
        item.name.encode()
    except UnicodeEncodeError as error:
        raise BadPath(
            f"The name of the file {os.fsencode(item.path)!r} is not UTF-8.",
            hint="Rename it, or add it by add_file with a name.",
        ) from error


def _is_folder(root: str, prefix: str, item: os.DirEntry[str]) -> bool:
    """Tell a folder from a file; raise for anything else."""
    if item.is_file(follow_symlinks=False):
        return False
    if item.is_dir(follow_symlinks=False):
        return True
    try:
        seen = os.stat(item.path)
    except OSError as error:
        raise unreadable(item.path, error) from error
    if stat.S_ISREG(seen.st_mode):
        return False
    if not stat.S_ISDIR(seen.st_mode):
        raise not_a_file(item.path, kind_of(seen.st_mode))
    _check_no_circle(root, prefix, item.path, seen)
    return True


def _check_no_circle(root: str, prefix: str, link: str, target: os.stat_result) -> None:
    """Only a link can lead back up, so only links pay for the look at all folders above.

    Those above the root count too: a link to one leads to the root again, and to all beside it first.
    """
    folder = f"{root}/{prefix}".rstrip("/")
    while folder:
        if os.path.samestat(_seen(folder), target):
            raise NotAFile(
                f"The symbolic link {link} leads back to {folder}, above it.",
                hint="Remove the link, or add the folders one by one.",
            )
        folder = folder.rpartition("/")[0] or ("/" if len(folder) > 1 else "")


def _seen(folder: str) -> os.stat_result:
    try:
        return os.stat(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
