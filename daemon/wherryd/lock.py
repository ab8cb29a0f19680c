"""The instance lock: one daemon per home.

Owns: ``daemon.lock`` in the home. The kernel's flock is the truth; the pid in the file is for people.
Does not own: who starts a daemon (the client's spawn lock), or the socket.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from wherry.errors import DaemonNotStarted

#: A leaving daemon takes 10 s at most; its successor waits a little longer than that.
PATIENCE_S = 12.0
_PAUSE_S = 0.05


class InstanceLock:
    """Hold the home for this process; as a context manager, until the block's end."""

    def __init__(self, home: Path, patience_s: float = PATIENCE_S) -> None:
        self._path = home / "daemon.lock"
        self._patience_s = patience_s
        self._file = -1

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for_lock()
        except BaseException:
            os.close(self._file)
            raise
        with suppress(OSError):  # for people only; a full disk keeps no daemon from starting
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            os.ftruncate(self._file, 0)
        os.close(self._file)

    def is_ours(self) -> bool:
        """Whether the home's lock file is still the one that this process holds.

        A home that was removed, or removed and made anew, belongs to nobody or to another daemon.
        """
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file))

    def _wait_for_lock(self) -> None:
        # Before there is an event loop, hence the plain clock.
        end = time.monotonic() + self._patience_s  # noqa: TID251
        while not self._try_lock():
            if time.monotonic() >= end:  # noqa: TID251
                raise DaemonNotStarted(
                    f"another daemon ({self._holder()}) serves {self._path.parent}",
                    hint="'wherry daemon status' shows it, 'wherry daemon stop' ends it",
                )
            time.sleep(_PAUSE_S)  # noqa: TID251

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> str:
        return "pid " + (
            os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
        )
