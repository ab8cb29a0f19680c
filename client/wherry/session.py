"""This process's folder in the spool: ``spool/sessions/<id>/``, with a lock that says it lives.

Owns: making the session and holding its lock. Does not own: what lies in it (``spool``), sweeping it
(the daemon).

The lock is a flock on ``<session>/lock``, held by an open file that forked children inherit and
executed programs do not: it is free when the last of them is gone. Whoever sweeps takes the lock
first and keeps it while it deletes; a folder without a lock file may be removed if it is empty.
So the three steps here (folder, file, lock) need no luck: that the session was swept between them
shows in its path, which then names another file or none, and another session is made.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

from wherry import forks
from wherry.wire import places
from wherry.wire.failpoints import failpoint

_FOLDER_MADE = failpoint("session.folder.made")
_FILE_MADE = failpoint("session.lock.made")
_LOCKED = failpoint("session.lock.taken")


class Session(NamedTuple):
    """A session that this process, or the one it was forked from, holds."""

    id: str
    path: str
    lock: int  # open file
    inode: int  # of the lock file

    def lives(self) -> bool:
        """Tell whether the lock is still ours and still lies in the session's folder."""
        try:
            ours, there = os.fstat(self.lock), os.stat(f"{self.path}/lock")
        except OSError:
            return False
        return ours.st_ino == there.st_ino == self.inode


_sessions: dict[str, Session] = {}
_lock = forks.ForkLock()


def current(home: str) -> Session:
    """Give this process's session in a home; the first call makes it.

    Args:
        home: ``WHERRY_HOME``, absolute; it is there.

    Raises:
        OSError: the spool can't be written; the caller knows what was to be captured.
    """
    with _lock.held():
        session = _sessions.get(home)
        if session is None or not session.lives():
            session = _sessions[home] = _make(home)
        return session


def random_id() -> str:
    """Make a name that nobody has, in forked children too: the bits are the system's."""
    return os.urandom(12).hex()


def _make(home: str) -> Session:
    parent = os.path.join(home, places.SESSIONS)
    for folder in (os.path.dirname(parent), parent):
        if not os.path.isdir(folder):
            os.makedirs(folder, 0o700, exist_ok=True)
    while True:
        session = _try_to_make(parent)
        if session is not None:
            return session


def _try_to_make(parent: str) -> Session | None:
    name = random_id()
    path = f"{parent}/{name}"
    os.mkdir(path, 0o700)
    _FOLDER_MADE()
    try:
        lock = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    _FILE_MADE()
    fcntl.flock(lock, fcntl.LOCK_EX)
    session = Session(name, path, lock, os.fstat(lock).st_ino)
    if not session.lives():
        os.close(lock)
        return None
    _LOCKED()
    return session
