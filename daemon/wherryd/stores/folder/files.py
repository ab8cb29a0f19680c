"""What the verbs do to files. Everything here blocks.

Owns: each verb's steps and their order. Does not own: threads (``store``), single steps (``landing``,
``temporary``, ``copying``).

A record is written to a temporary file, synced, named by ``link``, and its folder is synced, with those
above it that nobody here has synced yet. What a kill leaves after each step: a temporary file (swept);
the same, synced; the object, which a reader may see and a power loss may take, and whose writer does not
know of it: whoever sends the same again finds it there. ``put`` leaves the folders to ``sync``; the bytes
are synced before they have a name, so that a power loss takes an object whole or leaves it whole, and whoever
sees one may trust it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from wherry.wire.failpoints import failpoint
from wherryd.stores.base import Body, EtagMismatch, Found, Object, ObjectExists, ObjectStat, Sizes
from wherryd.stores.folder.copying import fill
from wherryd.stores.folder.landing import name_new
from wherryd.stores.folder.problems import check_root, missing, naming, reading, unknown, writing
from wherryd.stores.folder.roots import Root, is_at, read_at, size_at
from wherryd.stores.folder.temporary import RESERVED, Temporary, Workshop, stat_of

_PUT_BEFORE_SYNC = failpoint("stores.folder.put.before-sync")
_PUT_BEFORE_NAME = failpoint("stores.folder.put.before-name")
_PUT_AFTER_NAME = failpoint("stores.folder.put.after-name")
_CREATE_BEFORE_SYNC = failpoint("stores.folder.create.before-sync")
_CREATE_BEFORE_LINK = failpoint("stores.folder.create.before-link")
_CREATE_AFTER_LINK = failpoint("stores.folder.create.after-link")
_REPLACE_BEFORE_RENAME = failpoint("stores.folder.replace.before-rename")
_REPLACE_AFTER_RENAME = failpoint("stores.folder.replace.after-rename")
_SYNC_BEFORE_FOLDERS = failpoint("stores.folder.sync.before-folders")
_FOLDER_MADE = failpoint("stores.folder.folder.made")


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
        self._root = Root(root)
        self._workshop = Workshop(root)

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
            _PUT_BEFORE_SYNC()
            new.sync()
            _PUT_BEFORE_NAME()
            try:
                self._name(new, path)
            except FileExistsError:
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
                self._sync_folder_of(key)
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
                    self._sync_folder_of(key)
                return new.stat(key).etag

    def remove(self, key: str) -> None:
        """Remove an object if it is there."""
        with writing(self.root, f"removing {key}"):
            try:
                os.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                check_root(self.root)

    def read_all(self, keys: Iterable[str]) -> dict[str, Object]:
        """Read objects, those that are there, in one and the same folder."""
        for key in keys:
            self._path(key)
        with writing(self.root, "reading"), self._root.opened() as root:
            found = {key: read_at(root, key) for key in keys}
            return {key: there for key, there in found.items() if there}

    def sync(self, keys: Iterable[str], witness: str) -> Found:
        """Bring the names of objects that were put to the disk, each folder once; see which are there."""
        with writing(self.root, "syncing folders"), self._root.opened() as root:
            there = [key for key in keys if is_at(root, key)]
            _SYNC_BEFORE_FOLDERS()
            self._root.sync_folders(root, {os.path.dirname(key) for key in there})
            seen = read_at(root, witness)
            missing = {*keys} - {*there}
            return Found(seen.body if seen else None, tuple(sorted(missing)))

    def sizes(self, keys: Iterable[str], witness: str) -> Sizes:
        """Look at objects, in one and the same folder."""
        with writing(self.root, "looking"), self._root.opened() as root:
            found = {key: size_at(root, key) for key in keys}
            seen = read_at(root, witness)
            there = {key: size for key, size in found.items() if size is not None}
            return Sizes(seen.body if seen else None, there)

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
        _FOLDER_MADE()
        self._root.made(folder.removeprefix(f"{self.root}/"))

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

    def _sync_folder_of(self, key: str) -> None:
        with self._root.opened() as root:
            self._root.sync_folders(root, [os.path.dirname(key)])
