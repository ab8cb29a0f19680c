"""Writes files below a folder and never beside it, whatever their paths say.

Owns: opening each folder below the root without following symbolic links, and the temporary file that
becomes the real one by a rename; removing those of processes that were killed. Does not own: where the
bytes come from.

A manifest comes from a store that others can write. So its paths are checked again here, and a
symbolic link inside the root is no folder of ours, wherever it leads.

A kill leaves a temporary file, at most one for each process. It is locked while it is written, so whoever
comes into its folder next can tell, and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from wherry.errors import BadPath, DownloadError, WherryError
from wherry.session import random_id
from wherry.wire import names
from wherry.wire.failpoints import failpoint

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\.wherry-[0-9a-f]{24}")

#: Another process may take a link that is not renamed yet for what a killed one has left.
_LINK_TRIES = 3
#: No hard links from there to here.
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)

_BEFORE_TIDY = failpoint("download.folder.before-tidy")
_BEFORE_RENAME = failpoint("download.file.before-rename")


class SafeRoot:
    """A folder to write below; the root itself is the user's choice, links and all.

    Raises:
        DownloadError: it can't be made or opened.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._folder = ""  # the one that is open, relative
        self._tidied: set[str] = set()
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
            self._tidy(folder)
            opened = os.open(temporary, _NEW_FILE, 0o666, dir_fd=self._open)
            _try_lock(opened)
            try:
                yield opened
                self._enter(folder)  # which others may have left meanwhile
                _BEFORE_RENAME()
                os.rename(temporary, name, src_dir_fd=self._open, dst_dir_fd=self._open)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._enter(folder)
                    os.unlink(temporary, dir_fd=self._open)
                raise
            finally:
                os.close(opened)  # and with it the lock
        except OSError as error:
            if isinstance(error, WherryError):
                raise
            raise refused(where, error) from error

    def link(self, path: str, file: str) -> bool:
        """Make a hard link to a file in place of what is at ``path``; False where that can't be.

        Raises as ``create``.
        """
        folder, _, name = names.check_path(path).rpartition("/")
        try:
            self._enter(folder)
            self._tidy(folder)
            for _ in range(_LINK_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    return self._link(name, file)
        except OSError as error:
            if isinstance(error, WherryError):
                raise
            if error.errno in _NO_LINKS:
                return False
            raise refused(f"{self.root}/{path}", error) from error
        return False

    def _link(self, name: str, file: str) -> bool:
        """Raises ``FileNotFoundError`` where the file is gone, or somebody has tidied up."""
        temporary = f".wherry-{random_id()}"
        os.link(file, temporary, dst_dir_fd=self._open)
        try:
            _BEFORE_RENAME()
            os.rename(temporary, name, src_dir_fd=self._open, dst_dir_fd=self._open)
        finally:
            # Also where all went well: rename(2) does nothing where both are one file already.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._open)
        return True

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

    def _tidy(self, folder: str) -> None:
        """Remove what killed processes left in the folder that is open."""
        if folder in self._tidied:
            return
        self._tidied.add(folder)
        for name in filter(is_temporary, os.listdir(self._open)):
            with contextlib.suppress(OSError):
                left = _open_left(name, self._open)
                try:
                    if _try_lock(left):
                        _BEFORE_TIDY()
                        os.unlink(name, dir_fd=self._open)
                finally:
                    os.close(left)

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


def is_temporary(name: str) -> bool:
    """Whether a file bears the name of one that is being downloaded, or was when its process ended."""
    return bool(_TEMPORARY.fullmatch(name))


def refused(path: str, error: OSError) -> DownloadError:
    """Make the error for a place on the user's disk that can't be written."""
    in_the_way = error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
    return DownloadError(
        f"{path} can't be written: {error.strerror}.",
        hint="Remove what is in the way, or download to another root." if in_the_way else None,
    )


def _try_lock(file: int) -> bool:
    """Lock it unless a living process has; False as well where the filesystem knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open_left(name: str, folder: int) -> int:
    """Open a temporary file; a link to a file of the cache can be read only."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, os.O_RDWR | flags, dir_fd=folder)
    except PermissionError:
        return os.open(name, os.O_RDONLY | flags, dir_fd=folder)


def _open_below(parent: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
