"""Captured bytes leave the spool as soon as their object is confirmed, before the version is committed.

Owns: which spool files may go, and that the request's row says so first. Does not own: what is confirmed
(``blobs``), what is left when the request ends (``capture.freeing``).

Whose upload it was makes the difference. What this very try has put, and the store has confirmed, may go at
once. What was found there, or is only known to be there, nobody tells of here: it stays until the commit, so
that it can be sent again if it is gone by then. A file goes when all of its bytes are confirmed, never by
part.

What a kill leaves: behind the row, a file that is counted no more and goes with its request's folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import anyio.to_thread
import msgspec

from wherry.wire.failpoints import failpoint
from wherry.wire.room import Room, added_up
from wherryd.log import get_logger
from wherryd.queue.base import Queue, Request
from wherryd.transfer.items import Item

#: Less than this waits for the end of its request, which mostly is a moment away and costs nothing more.
LEAST_BYTES = 64 << 10

_BEFORE_ROW = failpoint("transfer.spool.before-row")
_BEFORE_FILES = failpoint("transfer.spool.before-files")

_log = get_logger("transfer")


class _Whole(msgspec.Struct, frozen=True):
    """A spool file all of whose bytes are confirmed."""

    path: str
    spooled: Room  # nothing where the user has the bytes, too


class Emptying:
    """What one try to send a request has confirmed.

    Args:
        spool: the spool's folder; "" where nothing is to leave.
    """

    def __init__(self, request: Request, spool: str, queue: Queue) -> None:
        self._row = request.row
        self._folder = os.path.join(spool, request.folder) if spool and request.folder else ""
        self._queue = queue
        self._confirmed: dict[str, int] = {}  # bytes by file
        self._shared: set[str] = set()
        self._waiting_bytes = 0

    def confirm(self, items: Sequence[Item]) -> None:
        """Take objects that this try has put and that are noted as sent to the store that counts."""
        for entry in (entry for item in items for entry in item.entries):
            source = entry.source
            if not source or not source.file or source.file.rpartition("/")[0] != self._folder:
                continue  # in the queue, or where the user has it
            if source.stat is not None:
                self._shared.add(source.file)
            self._confirmed[source.file] = self._confirmed.get(source.file, 0) + entry.size
            self._waiting_bytes += entry.size

    async def empty(self) -> None:
        """Delete the files that are whole with what was confirmed since the last call."""
        if self._waiting_bytes < LEAST_BYTES:
            return
        self._waiting_bytes = 0
        whole = await anyio.to_thread.run_sync(self._take_whole)
        if not whole:
            return
        left = added_up(file.spooled for file in whole)
        _BEFORE_ROW()
        await self._queue.take_off(self._row, left)
        _BEFORE_FILES()
        await anyio.to_thread.run_sync(_remove, [file.path for file in whole])

    def _take_whole(self) -> list[_Whole]:
        whole = []
        for path, confirmed_bytes in [*self._confirmed.items()]:
            try:
                size = os.lstat(path).st_size
            except OSError:  # gone with the request's folder
                del self._confirmed[path]
                continue
            if size == confirmed_bytes:
                del self._confirmed[path]
                whole.append(_Whole(path, Room() if path in self._shared else Room(size, files=1)))
        return whole


def _remove(files: Sequence[str]) -> None:
    for file in files:
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("a file goes with its request only", file=file, error=str(error))
