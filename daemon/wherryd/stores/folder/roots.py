"""The store's folder, opened: what is seen and synced through one such opening lies in one folder.

Owns: looking at objects through an opened root, which folders' names survive a power loss. Does not own:
files and their bytes (``files``).

A path is no proof: between two calls its disk may be unmounted, and the empty mount point takes whatever is
written. An opened folder stays the one that it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from wherryd.stores.base import Object
from wherryd.stores.folder.landing import sync_folder
from wherryd.stores.folder.temporary import stat_of

_FOLDERS_KEPT = 10_000


class Root:
    """The root of one store.

    Args:
        path: the store's folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._opened: tuple[int, int] | None = None
        #: Folders, below the root, whose own names and those above this process has synced.
        self._synced: set[str] = set()

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the folder that is there now; give its descriptor. Raises ``OSError``."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._forget_another(os.fstat(fd))
            yield fd
        finally:
            os.close(fd)

    def sync_folders(self, root: int, folders: Iterable[str]) -> None:
        """Sync folders, and those above whose names in their parents are not known to be synced."""
        new = {above for folder in folders for above in _up(folder)} - self._synced
        for folder in {*folders, *map(os.path.dirname, new)}:
            sync_folder(folder or ".", root)
        if len(self._synced) > _FOLDERS_KEPT:
            self._synced.clear()
        self._synced |= new

    def made(self, folder: str) -> None:
        """A folder was made just now."""
        self._synced.discard(folder)

    def _forget_another(self, stat: os.stat_result) -> None:
        opened = (stat.st_dev, stat.st_ino)
        if opened != self._opened:
            self._opened = opened
            self._synced.clear()


def read_at(root: int, key: str) -> Object | None:
    """Read an object in an opened root; None where it is not there. Raises ``OSError``."""
    try:
        with io.FileIO(key, opener=partial(os.open, dir_fd=root)) as file:
            return Object(stat_of(key, os.fstat(file.fileno())), file.readall())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def is_at(root: int, key: str) -> bool:
    """Whether an object is in an opened root. Raises ``OSError``."""
    try:
        os.stat(key, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def size_at(root: int, key: str) -> int | None:
    """The size of an object in an opened root; None where it is not there. Raises ``OSError``.

    The file is opened: a network file system answers from its memory to less.
    """
    try:
        with io.FileIO(key, opener=partial(os.open, dir_fd=root)) as file:
            return os.fstat(file.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _up(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = os.path.dirname(folder)
