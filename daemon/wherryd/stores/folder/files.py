"""What the verbs do to files. Everything here blocks.

Owns: each verb's steps and their order. Does not own: threads (``store``), single steps (``landing``,
``temporary``, ``copying``).

A record is written to a temporary file, synced, named by ``link``, and its folder is synced, with those
above it that nobody here has synced yet. What a kill leaves after each step: a temporary file (swept);
the same, synced; the object, which a reader may see and a power loss may take, and whose writer does not
know of it: whoever sends the same again finds it there. ``put`` leaves out the syncing until ``sync``,
but never puts bytes that are not synced in the place of others.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from wherry.errors import StoreDamaged
from wherry.wire.failpoints import failpoint
from wherryd.stores.base import Body, EtagMismatch, Object, ObjectExists, ObjectStat
from wherryd.stores.folder.copying import fill
from wherryd.stores.folder.landing import name_new, sync_file, sync_folder
from wherryd.stores.folder.problems import check_root, missing, naming, reading, unknown, writing
from wherryd.stores.folder.temporary import RESERVED, Temporary, Workshop, stat_of

_PUT_BEFORE_NAME = failpoint("stores.folder.put.before-name")
_PUT_AFTER_NAME = failpoint("stores.folder.put.after-name")
_CREATE_BEFORE_SYNC = failpoint("stores.folder.create.before-sync")
_CREATE_BEFORE_LINK = failpoint("stores.folder.create.before-link")
_CREATE_AFTER_LINK = failpoint("stores.folder.create.after-link")
_REPLACE_BEFORE_RENAME = failpoint("stores.folder.replace.before-rename")
_REPLACE_AFTER_RENAME = failpoint("stores.folder.replace.after-rename")
_SYNC_BEFORE_FOLDERS = failpoint("stores.folder.sync.before-folders")

_FOLDERS_KEPT = 10_000


class Files:
    """The files of one store.

    Args:
        root: the store's folder.
        token: makes names that nobody else takes.
        may_go_on: called now and then during a long copy; raises to stop it.
    """

    def __init__(
        self, root: str, token: Callable[[], str], may_go_on: Callable[[], object]
    ) -> None:
        self.root = root
        self._token = token
        self._may_go_on = may_go_on
        self._workshop = Workshop(root)
        #: Folders whose own names, and those above, this process has synced.
        self._synced: set[str] = set()

    def read(self, key: str) -> Object:
        """Read an object whole."""
        with reading(self.root, key), io.FileIO(self._path(key)) as file:
            stat = stat_of(key, os.fstat(file.fileno()))
            return Object(stat=stat, body=file.readall())

    def open(self, key: str) -> io.FileIO:
        """Open an object for reading."""
        with reading(self.root, key):
            return io.FileIO(self._path(key))

    def stat(self, key: str) -> ObjectStat:
        """Look at an object."""
        with self.open(key) as file:
            return stat_of(key, os.fstat(file.fileno()))

    def put(self, key: str, body: Body) -> None:
        """Write or replace an object."""
        path, what = self._path(key), f"writing {key}"
        with writing(self.root, what), self._workshop.temporary(self._token()) as new:
            fill(new, body, self._may_go_on)
            _PUT_BEFORE_NAME()
            try:
                self._name(new, path)
            except FileExistsError:
                new.sync()
                os.rename(new.path, path)
            _PUT_AFTER_NAME()

    def create(self, key: str, body: bytes) -> str:
        """Create an object, durably; return its ETag."""
        path, what = self._path(key), f"creating {key}"
        with writing(self.root, what), self._workshop.temporary(self._token()) as new:
            new.write(body)
            _CREATE_BEFORE_SYNC()
            new.sync()
            _CREATE_BEFORE_LINK()
            try:
                with naming(what):
                    self._name(new, path)
            except FileExistsError as exc:
                raise ObjectExists(key) from exc
            _CREATE_AFTER_LINK()
            with unknown(what):
                self._sync_folders([os.path.dirname(path)])
            return new.stat(key).etag

    def replace(self, key: str, body: bytes, etag: str) -> str:
        """Replace the object that has ``etag``, durably; return the new ETag."""
        path, what = self._path(key), f"replacing {key}"
        with writing(self.root, what), self._workshop.lock(key):
            mtime_ns = self._check_etag(key, path, etag)
            with self._workshop.temporary(self._token()) as new:
                new.write(body)
                new.date_after(mtime_ns)
                new.sync()
                _REPLACE_BEFORE_RENAME()
                with naming(what):
                    os.rename(new.path, path)
                _REPLACE_AFTER_RENAME()
                with unknown(what):
                    self._sync_folders([os.path.dirname(path)])
                return new.stat(key).etag

    def remove(self, key: str) -> None:
        """Remove an object if it is there."""
        with writing(self.root, f"removing {key}"):
            try:
                os.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                check_root(self.root)

    def sync(self, keys: Iterable[str]) -> None:
        """Bring objects that were put to the disk, and their folders, each once."""
        paths = [self._path(key) for key in keys]
        for path in paths:
            self._may_go_on()
            self._sync_object(path)
        _SYNC_BEFORE_FOLDERS()
        with writing(self.root, "syncing folders"):
            self._sync_folders({os.path.dirname(path) for path in paths})

    def _path(self, key: str) -> str:
        segments = key.split("/")
        if segments[0] == RESERVED or any(part in ("", ".", "..") for part in segments):
            raise ValueError(f"{key!r} is no key")
        return f"{self.root}/{key}"

    def _name(self, new: Temporary, path: str) -> None:
        """Give a new file its name, making the folders above it where they are missing."""
        try:
            name_new(new.path, path, new.fd)
        except FileNotFoundError:
            self._make_folders(os.path.dirname(path))
            name_new(new.path, path, new.fd)

    def _make_folders(self, folder: str) -> None:
        if folder == self.root:
            raise missing(self.root)
        with suppress(FileExistsError):
            try:
                os.mkdir(folder)
            except FileNotFoundError:
                self._make_folders(os.path.dirname(folder))
                os.mkdir(folder)
        self._synced.discard(folder)

    def _check_etag(self, key: str, path: str, etag: str) -> int:
        """The time stamp of the object, whose ETag has to be ``etag``."""
        try:
            stat = os.stat(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            check_root(self.root)
            raise EtagMismatch(key) from exc
        if stat_of(key, stat).etag != etag:
            raise EtagMismatch(key)
        return stat.st_mtime_ns

    def _sync_object(self, path: str) -> None:
        """Sync a file; one that the disk fails to take is removed, as nobody can trust it any more."""
        try:
            with io.FileIO(path) as file:
                try:
                    sync_file(file.fileno())
                except OSError:
                    os.unlink(path)
                    raise
        except OSError as exc:
            check_root(self.root)
            raise StoreDamaged(f"{path} can't be synced: {exc.strerror}; it is put again.") from exc

    def _sync_folders(self, folders: Iterable[str]) -> None:
        """Sync folders, and those above whose names in their parents are not known to be synced."""
        new = {above for folder in folders for above in self._up(folder)} - self._synced
        for folder in {*folders, *map(os.path.dirname, new)}:
            sync_folder(folder)
        if len(self._synced) > _FOLDERS_KEPT:
            self._synced.clear()
        self._synced |= new

    def _up(self, folder: str) -> Iterator[str]:
        while folder != self.root:
            yield folder
            folder = os.path.dirname(folder)
