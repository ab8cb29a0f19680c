"""Writes files below a folder and never beside it, whatever their paths say.

Owns: opening each folder below the root without following symbolic links, and the temporary file that
becomes the real one by a rename. Does not own: where the bytes come from.

A manifest comes from a store that others can write. So its paths are checked again here, and a
symbolic link inside the root is no folder of ours, wherever it leads.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from wherry.errors import BadPath, DownloadError, WherryError
from wherry.session import random_id
from wherry.wire import names

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class SafeRoot:
    """A folder to write below; the root itself is the user's choice, links and all.

    Raises:
        DownloadError: it can't be made or opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._folder = ""  # the one that is open, relative
        try:
            self.root = os.path.abspath(root)
            os.makedirs(self.root, exist_ok=True)
            self._root = os.open(self.root, _FOLDER)
        except OSError as error:
            raise refused(self.root, error) from error
        except ValueError as error:
            raise DownloadError(f"{root!r} contains NUL, as no folder's name does.") from error
        self._open = os.dup(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._open)
        os.close(self._root)

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[int]:
        """Open a new file for writing; it replaces what is at ``path`` when the block ends well.

        Raises:
            BadPath: the path leads out of the root, or through a symbolic link.
            DownloadError: a folder is at the path, a file where a folder is needed, a full disk.
        """
        folder, _, name = names.check_path(path).rpartition("/")
        where = f"{self.root}/{path}"
        temporary = f".wherry-{random_id()}"
        try:
            self._enter(folder)
            opened = os.open(temporary, _NEW_FILE, 0o666, dir_fd=self._open)
            try:
                try:
                    yield opened
                finally:
                    os.close(opened)
                os.rename(temporary, name, src_dir_fd=self._open, dst_dir_fd=self._open)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=self._open)
                raise
        except OSError as error:
            if isinstance(error, WherryError):
                raise
            raise refused(where, error) from error

    def _enter(self, folder: str) -> None:
        if folder == self._folder:
            return
        here = os.dup(self._root)
        try:
            for segment in folder.split("/") if folder else ():
                below = _open_below(here, segment)
                os.close(here)
                here = below
        except OSError as error:
            os.close(here)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._in_the_way(folder) from error
            raise
        os.close(self._open)
        self._open, self._folder = here, folder

    def _in_the_way(self, folder: str) -> BadPath | DownloadError:
        path = self.root
        for segment in folder.split("/"):
            path = f"{path}/{segment}"
            if os.path.islink(path):
                return BadPath(
                    f"{path} is a symbolic link; nothing is written through it.",
                    hint="Remove it, or download to another root.",
                )
        return DownloadError(
            f"{self.root}/{folder} should be a folder, and a file is in its way.",
            hint="Remove the file, or download to another root.",
        )


def refused(path: str, error: OSError) -> DownloadError:
    """Make the error for a place on the user's disk that can't be written."""
    in_the_way = error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
    return DownloadError(
        f"{path} can't be written: {error.strerror}.",
        hint="Remove what is in the way, or download to another root." if in_the_way else None,
    )


def _open_below(parent: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
