"""Folders in the spool of artifacts that were dropped without being logged.

Owns: noticing that one is dropped, and removing its folder later. Does not own: what processes leave
that have ended, which the daemon sweeps.

A finalizer may run anywhere: in any thread, in the middle of any call, in a forked child. So it only
makes a note, and whoever makes the next folder removes what is noted, unless there was a fork meanwhile:
then a child may still want it.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable
from typing import TypeVar

from wherry import forks
from wherry.wire.failpoints import failpoint

_EMPTIED = failpoint("spool.dropped.emptied")

_Watched = TypeVar("_Watched")

_dropped: list[tuple[str, int, Callable[[], object]]] = []


def watch(
    owner: _Watched, path: str, removed: Callable[[], object]
) -> weakref.finalize[..., _Watched]:
    """Note when ``owner`` is dropped; ``detach()`` what is returned when its folder is given away.

    Args:
        removed: called when the folder is gone; knows nothing of ``owner``.
    """
    noted = weakref.finalize(owner, _dropped.append, (path, forks.count(), removed))
    noted.atexit = False
    return noted


def remove() -> None:
    """Remove the folders of what was dropped since the last call."""
    while _dropped:
        try:
            path, count, removed = _dropped.pop()
        except IndexError:  # another thread was faster
            return
        if count == forks.count():
            _remove_folder(path)
            removed()


def _remove_folder(path: str) -> None:
    with contextlib.suppress(OSError):
        for item in os.scandir(path):
            os.unlink(item)
        _EMPTIED()
        os.rmdir(path)
