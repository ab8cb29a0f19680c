"""Sweeping what processes left in the spool that ended before they logged it.

Owns: sessions that no process locks, and in them every folder that neither a request nor a running
stream needs. Does not own: folders of ended requests (``freeing``). A session is never swept because a
connection or a pid is gone: the flock on ``<session>/lock``, which forked children share, tells.

The lock is taken and kept while a session is swept; a client that made the folder and had not locked
it yet then finds it gone, and makes another. A kill leaves a session with fewer files; the lock file
goes last, so the next sweep goes on. A folder without a lock file is removed where it is empty.

While a damaged queue lies aside nothing is deleted: nobody knows which bytes its requests need.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable

import anyio.to_thread
import msgspec

from wherry.errors import QueueError
from wherry.wire.failpoints import failpoint
from wherryd.capture.streams import Streams
from wherryd.log import get_logger
from wherryd.queue.base import Queue

_LOCK = "lock"

_BEFORE_DELETE = failpoint("capture.sweep.before-delete")
_BEFORE_LOCK_GOES = failpoint("capture.sweep.before-lock-goes")
_LOCK_GONE = failpoint("capture.sweep.lock-gone")

_log = get_logger("capture")


class _Abandoned(msgspec.Struct, frozen=True):
    """A session that no process holds; we do, until ``lock`` is closed."""

    path: str
    lock: int
    folders: list[str]  # artifact folders, by name


class Sweeper:
    """Sweeps the sessions of a spool.

    Args:
        spool: the spool's folder; sessions lie in ``sessions`` there.
        is_kept: whether all has to stay; blocks for a moment.
        swept: told of sessions that hold nothing any more but what requests need.
    """

    def __init__(
        self,
        spool: str,
        queue: Queue,
        streams: Streams,
        is_kept: Callable[[], bool] = lambda: False,
        swept: Callable[[Iterable[str]], object] = lambda _: None,
    ) -> None:
        self._swept = swept
        self._spool = spool
        self._sessions = os.path.join(spool, "sessions")
        self._queue = queue
        self._streams = streams
        self._is_kept = is_kept

    async def sweep(self) -> bool:
        """Delete what nobody needs any more; return whether a process holds a session."""
        abandoned, are_held = await anyio.to_thread.run_sync(self._lock_abandoned)
        try:
            if await anyio.to_thread.run_sync(self._is_kept):
                return are_held
            with self._streams.sweeping():
                folders = [folder for session in abandoned for folder in self._below(session)]
                doomed = self._streams.doom(folders, await self._queue.folders())
                if doomed:
                    await self._queue.take_off_folders([*doomed])
                await anyio.to_thread.run_sync(self._delete, abandoned, doomed)
                self._swept(os.path.basename(session.path) for session in abandoned)
        except QueueError as error:
            _log.warning("sweep is put off", error=str(error))
        finally:
            for session in abandoned:
                os.close(session.lock)
        return are_held

    def _below(self, session: _Abandoned) -> list[str]:
        """The session's folders as requests name them."""
        name = os.path.basename(session.path)
        return [f"sessions/{name}/{folder}" for folder in session.folders]

    # ── in a worker thread ─────────────────────────────────────────────────────────────────────
    def _lock_abandoned(self) -> tuple[list[_Abandoned], bool]:
        abandoned, are_held = [], False
        for path in _folders(self._sessions):
            try:
                lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                _remove_empty(path)
                continue
            except OSError as error:
                _log.warning("session can't be looked at", session=path, error=str(error))
                continue
            if _try_lock(lock):
                folders = [os.path.basename(folder) for folder in _folders(path)]
                abandoned.append(_Abandoned(path, lock, folders))
            else:
                os.close(lock)
                are_held = True
        return abandoned, are_held

    def _delete(self, abandoned: Iterable[_Abandoned], doomed: set[str]) -> None:
        for session in abandoned:
            below = self._below(session)
            for folder in doomed.intersection(below):
                _BEFORE_DELETE()
                shutil.rmtree(os.path.join(self._spool, folder), ignore_errors=True)
            if doomed.issuperset(below):
                _remove_session(session.path)


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as found:
            return [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_session(path: str) -> None:
    for name in os.listdir(path):
        if name != _LOCK:
            _remove_file(os.path.join(path, name))
    _BEFORE_LOCK_GOES()
    _remove_file(os.path.join(path, _LOCK))
    _LOCK_GONE()
    _remove_empty(path)


def _remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or a folder that could not be deleted: the next sweep tries again


def _remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # not empty: its lock file came meanwhile, or something that is not ours
