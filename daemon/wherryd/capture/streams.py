"""Artifact folders that a running Log stream, or a sweep, has its hands on. In memory: no I/O.

Owns: that a sweep and a stream never have the same folder. Does not own: either of them, or the
folders that requests need (``queue.folders``).

A stream takes its folder before it looks whether the captured files are there, and gives it up after
its request is durable. A sweep remembers each folder that was taken at any time since before it asked
the queue. So a folder that it may delete belonged to no stream that the queue's answer left out, and
a stream that comes later finds it taken, or the files gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from wherry.errors import FileMissing


class Streams:
    """Folders below ``spool/`` in use, by their relative paths."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._doomed: set[str] = set()
        self._seen: set[str] | None = None

    @property
    def are_running(self) -> bool:
        """Whether a stream is coming in."""
        return bool(self._taken)

    @contextmanager
    def taking(self, folder: str) -> Iterator[None]:
        """Keep a folder from sweeps.

        Raises ``FileMissing`` where a sweep is deleting it: the client that made it has ended.
        """
        if folder in self._doomed:
            raise FileMissing(f"the captured files in {folder} are gone: their process has ended")
        if self._seen is not None:
            self._seen.add(folder)
        self._taken[folder] += 1
        try:
            yield
        finally:
            self._taken[folder] -= 1
            if not self._taken[folder]:
                del self._taken[folder]

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Begin before the queue is asked which folders it needs; one sweep at a time."""
        assert self._seen is None, "two sweeps at once"
        self._seen = set(self._taken)
        try:
            yield
        finally:
            self._seen = None
            self._doomed.clear()

    def doom(self, folders: Iterable[str], needed: set[str]) -> set[str]:
        """Choose the folders that the sweep may delete, and keep streams from them until it ends."""
        assert self._seen is not None, "no sweep"
        self._doomed = set(folders) - needed - self._seen
        return self._doomed
