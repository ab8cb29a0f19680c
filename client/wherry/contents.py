"""What is put into an artifact before it is logged. Owns: the entries and the rules for their paths.

Does not own: how bytes get into the spool (``capture``, ``spool``), the request (``submit``).

Each call adds all it was asked to or nothing: rows are written when the step in the spool has ended.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import IO

from wherry import bases, capture, folders, forks, references
from wherry.bases import Base
from wherry.errors import ArtifactFinalizedError, EntryMissing, PathTaken
from wherry.rows import IN_SPOOL, Kind, Origin, Row, Table, packed
from wherry.spool import Spool
from wherry.spool_file import SpoolFile, open_spool_file
from wherry.wire import names


class Contents:
    """The entries of an artifact that is being built.

    Args:
        label: names the artifact in messages.
    """

    #: False where nothing is captured, since nothing shall be logged.
    keeps = True

    def __init__(self, label: str) -> None:
        self.label = label
        self.sealed = False
        self.spool = Spool()
        self.table = Table()
        self.buckets: dict[tuple[str, str], references.Bucket] = {}  # by URI and name
        self.base: Base | None = None  # what the entries are changes to
        self.lock = forks.ForkLock()
        # What entries were made of: theirs while the row is the same, and gone when its maker drops it.
        self._objects: dict[str, tuple[Row | None, weakref.ref[object]]] = {}

    def change(self, base: Base) -> None:
        """Be changes to a version from now on; nothing was added yet."""
        base.fill(self.table)
        self.base = base

    def add_file(self, local: str, path: str, *, immutable: bool, overwrite: bool) -> None:
        """Add one file under ``path``; raises as ``capture`` does, and ``PathTaken``."""
        self._add(local, Origin(local), (names.check_path(path),), immutable, overwrite)

    def add_tmp_file(self, local: str, path: str, *, immutable: bool, overwrite: bool) -> str:
        """Add one file as ``add_file`` does, under a name made of its digest; return that."""
        names.check_path(path)
        with self.changing():
            number = self.table.add_origin(Origin(local))
            with self.spool.step():
                row = capture.capture(self.spool, local, number, immutable=immutable)
            path = _tmp_name(path, capture.sha256(self.spool, row, local))
            try:
                is_there = not overwrite and self._there_already(path, local)
            except PathTaken:
                self._discard(row)
                raise
            if is_there:
                self._discard(row)
            else:
                self._put(path, row)
            return path

    def add_folder(self, local: str, prefix: str, *, immutable: bool, overwrite: bool) -> None:
        """Add all files below a folder, with ``prefix`` before their paths."""
        if prefix:
            prefix = f"{names.check_path(prefix)}/"
        paths = (prefix + path for path in folders.files_below(local))
        self._add(local, Origin(f"{local}/", len(prefix)), paths, immutable, overwrite)

    @property
    def has_lookups(self) -> bool:
        """Whether the daemon has to find out what some entries are."""
        return bool(self.buckets) or any(row.kind == Kind.LOOKUP for row in self.table.rows())

    def add_bucket(self, bucket: references.Bucket) -> None:
        """Add what may be one object or many; only the daemon can tell."""
        with self.changing():
            self.buckets[bucket.uri, bucket.name] = bucket

    def add_references(self, found: references.Found) -> None:
        """Add references; a path that is taken must have the same URI."""
        with self.changing():
            new = {}
            for path, reference in found.items():
                taken = self.table.get(names.check_path(path))
                if taken is None or self._refers_to(path, taken, reference.uri):
                    new[path] = reference
                elif self.table.origin(path, taken) != reference.uri:
                    raise self._taken(path)
            for path, reference in new.items():
                origin = self.table.add_origin(Origin(reference.uri))
                self.table.put(path, Row(reference.kind, 0, origin, 0, reference.size, 0, 0, 0))

    @contextlib.contextmanager
    def new_file(self, path: str, mode: str, encoding: str | None) -> Iterator[IO[str] | IO[bytes]]:
        """Open a new entry for writing; it is added when the block ends without an exception."""
        names.check_path(path)
        with self.changing():
            self._check_free(path, overwrite="x" not in mode)
        with open_spool_file(self.spool, self.lock, mode, encoding) as written:
            yield written.file
        try:
            with self.changing():
                self._check_free(path, overwrite="x" not in mode)
                with self.spool.step():
                    row = self._keep(written)
                self._put(path, row)
        except BaseException:
            written.drop()
            raise

    def note(self, path: str, thing: object) -> None:
        """Remember what object an entry was made of."""
        self._objects[path] = self.table.get(path), weakref.ref(thing)

    def added(self, path: str) -> object:
        """Give the object that an entry was made of; None where nobody has it any more."""
        row, thing = self._objects.get(path, (None, None))
        return thing() if thing and row == self.table.get(path) else None

    def remove(self, path: str) -> None:
        """Take out an entry, or all entries below a folder.

        Raises ``EntryMissing``, but where nobody knows yet which version is changed: it may be there.
        """
        folder = f"{path.rstrip('/')}/"
        with self.changing():
            below = [path] if path in self.table else self._below(folder)
            named = [
                key
                for key, bucket in self.buckets.items()
                if bucket.path == path or bucket.path.startswith(folder)
            ]
            if self.base is not None and self.base.is_open:
                self.base.remove(names.check_path(path.rstrip("/")))
            elif not below and not named:
                raise EntryMissing(f"{self.label} has no entry {path!r}.")
            for key in named:
                del self.buckets[key]
            for each in below:
                row = self.table.get(each)
                self.table.remove(each)
                self._discard(row)

    def check_tree(self, paths: Iterable[str]) -> None:
        """Make sure that no entry is also the folder of another, but for two that stay as they are.

        Args:
            paths: all of them, sorted.

        Raises:
            PathTaken: no folder on any machine could take a download of both.
        """
        last = "", False
        for path in paths:
            this = path.rpartition("/")[0], self.base is not None and self._stay(path)
            if this != last:
                last = this
                self._check_folder(this[0], path)

    def used_files(self) -> set[int]:
        """Find the spool files that entries use, by number."""
        return {row.file for row in self.table.rows() if row.kind in IN_SPOOL}

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the artifact for a change. Raises ``ArtifactFinalizedError`` after it was logged."""
        with self.lock.held():
            if self.sealed:
                raise ArtifactFinalizedError(
                    f"{self.label} was logged or finalized and can't be changed any more.",
                    hint="Make a new Artifact of the same name for the next version.",
                )
            self.own()
            yield

    def own(self) -> None:
        """In a forked child, make the captures the child's own; the lock is held."""
        if self.spool.generation != forks.generation():
            self.spool.adopt(self.used_files())

    def _add(
        self,
        local: str,
        origin: Origin,
        paths: Iterable[str],
        immutable: bool,
        overwrite: bool,
    ) -> None:
        with self.changing():
            number = self.table.add_origin(origin)
            added: list[str] = []
            rows = bytearray()
            with self.spool.step():
                for path in paths:
                    local = origin.at(path)
                    if not overwrite and self._there_already(path, local):
                        continue
                    row = capture.capture(self.spool, local, number, immutable=immutable)
                    rows += packed(row)
                    added.append(path)
            replaced = [self.table.get(path) for path in added] if overwrite else []
            self.table.put_many(added, rows)
            for old in replaced:
                self._discard(old)

    def _there_already(self, path: str, local: str) -> bool:
        taken = self.table.get(path)
        if taken is None:
            return False
        if taken.kind == Kind.KEPT and self.base is not None and self.base.has_bytes(path, local):
            return True
        if taken.kind <= Kind.IN_PLACE and capture.same_bytes(self.spool, taken, local):
            return True
        raise self._taken(path)

    def _refers_to(self, path: str, taken: Row, uri: str) -> bool:
        """Whether an entry of the version that is changed refers to this: its server is asked anew then."""
        return (
            taken.kind == Kind.KEPT and self.base is not None and self.base.entry(path).ref == uri
        )

    def _check_free(self, path: str, overwrite: bool) -> None:
        if not overwrite and path in self.table:
            raise self._taken(path)

    def _taken(self, path: str) -> PathTaken:
        return PathTaken(
            f"{self.label} has another entry {path!r} already.",
            hint="Add it under another name, remove() that entry first, or use overwrite=True.",
        )

    def _check_folder(self, folder: str, path: str) -> None:
        while folder:
            if folder in self.table and not self._stay(folder, path):
                raise PathTaken(
                    f"{self.label} has an entry {folder!r}, which {path!r} needs as a folder.",
                    hint="Remove one of the two, or make a new Artifact and add one elsewhere.",
                )
            folder = folder.rpartition("/")[0]

    def _stay(self, *paths: str) -> bool:
        return len(bases.kept(self.table, paths)) == len(paths)

    def _keep(self, written: SpoolFile) -> Row:
        file, offset = written.settle(self.spool)
        return Row(Kind.COPIED, file, -1, offset, written.size, 0, 0, 0)

    def _put(self, path: str, row: Row) -> None:
        old = self.table.get(path)
        self.table.put(path, row)
        self._discard(old)

    def _below(self, folder: str) -> list[str]:
        return [path for path in self.table.paths() if path.startswith(folder)]

    def _discard(self, row: Row | None) -> None:
        if row is not None and row.kind in IN_SPOOL:
            self.spool.discard(row.file)


def _tmp_name(path: str, digest: str) -> str:
    """W&B's way: the part before the first dot becomes the beginning of the digest."""
    folder, slash, base = path.rpartition("/")
    _, dot, suffix = base.partition(".")
    return f"{folder}{slash}{digest[:20]}{dot}{suffix}"
