"""What a run has logged, and is logging, as far as its own processes know it. No I/O.

Owns: whether there is anything to wait for at the run's end. Does not own: what became of it (the daemon
knows), waiting (``finishing``).
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class _Call(NamedTuple):
    pid: int  # a forked child has no part in the calls of its parent's threads
    thread: int
    label: str


class Logged:
    """Of one run. Threads and forked children may share it."""

    def __init__(self) -> None:
        # Two bytes that forked children share: whether any of them has logged in this run, has upserted.
        self._anything = mmap.mmap(-1, 2)
        self._labels: dict[str, None] = {}
        self._calls: dict[object, _Call] = {}

    @property
    def anything(self) -> bool:
        """Whether this process or a forked child may have logged something."""
        return bool(self._anything[0])

    @property
    def upserts(self) -> bool:
        """Whether this process or a forked child may have put something into a draft."""
        return bool(self._anything[1])

    @property
    def labels(self) -> list[str]:
        """The artifacts that this process has logged, by name."""
        return list(self._labels)

    def note(self, label: str, *, upsert: bool = False) -> None:
        """Remember that a request is about to be sent: its answer may get lost."""
        self._anything[0] = 1
        if upsert:
            self._anything[1] = 1
        self._labels[label] = None

    @contextmanager
    def call(self, label: str) -> Iterator[None]:
        """Show for a block's time that this thread is logging something."""
        key = object()
        self._calls[key] = _Call(os.getpid(), threading.get_ident(), label)
        try:
            yield
        finally:
            del self._calls[key]

    def calls(self) -> list[str]:
        """What other threads of this process are logging just now."""
        pid, thread = os.getpid(), threading.get_ident()
        return [
            call.label
            for call in tuple(self._calls.values())
            if call.pid == pid and call.thread != thread
        ]
