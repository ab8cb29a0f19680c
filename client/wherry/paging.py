"""Lists that are read when somebody looks.

Owns: how far a list has been read, and W&B's ways to go through it. Does not own: what is in it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Paged(Sequence[T]):
    """A list of which only so much is read as was looked at; what was read stays as it was.

    Every look may raise what reading raises; the next one goes on where it was.
    """

    def __init__(self) -> None:
        self._found: list[T] = []
        self._more = True
        self._walk: Iterator[T] | None = None

    @abstractmethod
    def _load(self) -> None:
        """Add a page to ``_found``, and say in ``_more`` whether another may follow."""

    def _reach(self, count: int) -> bool:
        """Read until there are so many; whether there are."""
        while self._more and len(self._found) < count:
            self._load()
        return len(self._found) >= count

    def _whole(self) -> list[T]:
        while self._more:
            self._load()
        return self._found

    def __len__(self) -> int:
        return len(self._whole())

    def __bool__(self) -> bool:
        return self._reach(1)

    def __iter__(self) -> Iterator[T]:
        at = 0
        while self._reach(at + 1):
            yield self._found[at]
            at += 1

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._whole())

    def __next__(self) -> T:
        """Give the next one, of a walk of the list's own: W&B's lists are iterators as well."""
        self._walk = self._walk or iter(self)
        return next(self._walk)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            ends = (index.start or 0, -1 if index.stop is None else index.stop, index.step or 1)
            return (self._whole() if min(ends) < 0 else self._read_to(index.stop))[index]
        return (self._whole() if index < 0 else self._read_to(index + 1))[index]

    def _read_to(self, count: int) -> list[T]:
        self._reach(count)
        return self._found
