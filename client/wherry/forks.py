"""Lets objects survive a fork. Owns: which side of a fork this process is on. No I/O.

A training program forks whenever it likes, in the middle of another thread's call too. What was
made before the fork is shared with the parent afterwards (files, locks that nobody will release),
so objects remember the generation in which they were made and look whether it is still that one.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager


class _Forks:
    """What is known of forks in this process."""

    def __init__(self) -> None:
        self.generation = 0
        self.count = 0
        self.renewing = threading.Lock()

    def begin_any(self) -> None:
        self.count += 1

    def begin_child(self) -> None:
        self.generation += 1
        self.renewing = threading.Lock()


_forks = _Forks()
os.register_at_fork(before=_forks.begin_any, after_in_child=_forks.begin_child)


def generation() -> int:
    """Count the forks between the process that imported this module and this one."""
    return _forks.generation


def count() -> int:
    """Count the forks on either side: those that led here, and those that this process made."""
    return _forks.count


class ForkLock:
    """A re-entrant lock that a forked child finds free, whoever held it in the parent."""

    __slots__ = ("_generation", "_lock")

    def __init__(self) -> None:
        self._generation = _forks.generation
        self._lock = threading.RLock()

    def held(self) -> AbstractContextManager[object]:
        """Hold it: ``with lock.held():``.

        What is entered and left is Python's own lock, in C: a signal handler that raises (Ctrl-C) can't
        come between taking it and the block, or between the block and giving it back.
        """
        if self._generation != _forks.generation:
            self._renew()
        return self._lock

    def _renew(self) -> None:
        with _forks.renewing:
            if self._generation != _forks.generation:
                self._lock = threading.RLock()
                self._generation = _forks.generation
