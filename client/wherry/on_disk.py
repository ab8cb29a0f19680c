"""Compares a folder with a version. Owns: ``verify``, and what ``checkout`` removes.

Does not own: bringing files there (``download``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from wherry.capture import unreadable
from wherry.errors import DownloadError, NotAsLogged
from wherry.safe_root import is_temporary
from wherry.stored import StoredEntry
from wherry.wire.failpoints import failpoint

_BEFORE_REMOVE = failpoint("checkout.others.before-remove")


def verify(root: str, entries: Mapping[str, StoredEntry], label: str) -> None:
    """Make sure that a folder holds exactly these files; references are left out, and what a download
    that was killed left behind.

    Raises:
        NotAsLogged: names a file that differs, is missing, or is no entry.
        FileUnreadable: one can't be read.
    """
    found = set(_files_below(root))
    for path, entry in entries.items():
        if entry.ref is not None:
            found.discard(path)
        elif path not in found:
            raise NotAsLogged(f"{root} has no {path!r} of {label}.", hint=_AGAIN)
        elif _digest(f"{root}/{path}") != entry.digest:
            raise NotAsLogged(f"{root}/{path} differs from {label}.", hint=_AGAIN)
        else:
            found.discard(path)
    others = [path for path in found if not is_temporary(os.path.basename(path))]
    if others:
        raise NotAsLogged(
            f"{root} has {min(others)!r}, which is no entry of {label}.",
            hint="checkout() removes what does not belong there.",
        )


def remove_others(root: str, entries: Mapping[str, StoredEntry]) -> None:
    """Delete the files below a folder that are no entries, and folders that are left empty.

    Raises ``DownloadError`` where one can't be deleted.
    """
    try:
        for path in _files_below(root):
            if path not in entries:
                _BEFORE_REMOVE()
                os.unlink(f"{root}/{path}")
        for folder, _, _ in os.walk(root, topdown=False):
            if folder != root and not os.listdir(folder):
                os.rmdir(folder)
    except OSError as error:
        raise DownloadError(
            f"{error.filename} does not belong there, and can't be removed: {error.strerror}.",
            hint="Remove it yourself, or check out to another root.",
        ) from error


_AGAIN = "Get it again with download()."


def _files_below(root: str) -> list[str]:
    """List files, and symbolic links as such; nothing is followed."""
    found = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]
        found += [os.path.relpath(f"{folder}/{name}", root) for name in (*files, *links)]
    return found


def _digest(path: str) -> str:
    if not os.path.isfile(path) or os.path.islink(path):
        return ""
    try:
        with open(path, "rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError as error:
        raise unreadable(path, error) from error
