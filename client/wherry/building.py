"""The half of ``wherry.Artifact`` that puts things in.

Owns: the methods' names, defaults and documentation, and the user's paths made plain. Does not own:
what they do (``contents``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from wherry import borrowed, references
from wherry.contents import Contents
from wherry.entries import ManifestEntry
from wherry.errors import ArtifactStateError, BadPath, BadURI, FileMissing, UsageError
from wherry.reading import Reading, StrPath
from wherry.wire.secrets import has_secrets, masked


class Building(Reading):
    """Adding and removing entries until the artifact is logged."""

    def add_file(
        self,
        local_path: StrPath,
        name: str | None = None,
        is_tmp: bool = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> ManifestEntry:
        """Add one file, as it is at this moment.

        Args:
            local_path: the file; symbolic links are followed.
            name: its path in the artifact; the file's own name by default.
            is_tmp: the name is made unique by the file's digest.
            skip_cache: accepted, without effect.
            policy: "mutable": the bytes are copied now. "immutable": the file will stay as it is;
                nothing is copied, and a change before it is sent fails the request.
            overwrite: replace what was added under this name.

        Raises:
            PathTaken: another file was added under this name; the same bytes are fine.
            FileMissing, FileUnreadable, NotAFile, FileChanged: the file.
            SpoolFull: no room for the copy.
            ArtifactFinalizedError: the artifact was logged.
        """
        del skip_cache
        local = _local(local_path)
        path = os.path.basename(local) if name is None else _name(name)
        contents, immutable = self._building(), _is_immutable(policy)
        if is_tmp:
            path = contents.add_tmp_file(local, path, immutable=immutable, overwrite=overwrite)
        else:
            contents.add_file(local, path, immutable=immutable, overwrite=overwrite)
        return self.get_entry(path)

    def add_dir(
        self,
        local_path: StrPath,
        name: str | None = None,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Add all files below a folder; symbolic links are followed, empty folders leave no trace.

        Args:
            local_path: the folder.
            name: comes before the files' paths; nothing by default.
            skip_cache: accepted, without effect.
            policy: as in ``add_file``.
            merge: replace what was added under the same names.

        Raises:
            NotAFile: no folder; a FIFO, socket or device in it; or a link that makes a circle.
            BadPath: a file's name is not UTF-8.
            As ``add_file``. Whatever is raised, nothing was added.
        """
        del skip_cache
        contents, immutable = self._building(), _is_immutable(policy)
        contents.add_folder(_local(local_path), _prefix(name), immutable=immutable, overwrite=merge)

    def new_file(
        self,
        name: str,
        mode: str = "x",
        encoding: str | None = None,
        policy: str | None = "mutable",
    ) -> AbstractContextManager[IO[Any]]:
        """Write a new file straight into the artifact: ``with artifact.new_file("a.txt") as f:``.

        Args:
            name: its path in the artifact.
            mode: "x" refuses a name that is taken, "w" replaces it; with "b" for bytes.
            encoding: of text, as ``open`` has it.
            policy: accepted, without effect.

        Raises:
            PathTaken: there is such an entry, and the mode is "x".
            SpoolFull: no room; also from the file's own ``write``.
            Whatever the block raises passes through, and nothing is added.
        """
        _is_immutable(policy)
        return self._building().new_file(_name(name), mode, encoding)

    def add_reference(
        self,
        uri: StrPath | ManifestEntry,
        name: str | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
        *,
        keep_secrets: bool = False,
    ) -> Sequence[ManifestEntry]:
        """Add what stays where it is; the daemon asks its server after the artifact was logged.

        Args:
            uri: ``https://…``; ``s3://bucket/key`` or ``gs://bucket/key`` of an object, or of a
                prefix whose objects become an entry each (``?versionId=`` and ``#generation`` pin a
                version); ``file://`` of a file or a folder. Of an entry of another artifact, or
                its ``ref_url()``, the bytes become this one's, too; a reference becomes one again.
            name: path of the entry, or what comes before the paths of what lies below a prefix.
            checksum: False records the URI as it is, of whatever scheme, and nobody is asked.
            max_objects: how many objects a prefix may have; 10,000 by default. More is an error,
                which fails the artifact when it is resolved.
            keep_secrets: record a URI that holds a password or a signature. Versions are kept for
                ever, and whoever reads them can use it.

        Returns:
            The entries as far as they are known now: what a bucket's URI stands for, and checksums,
            are known after ``wait()``.

        Raises:
            BadURI, FileMissing, NotAFile; PathTaken as ``add_file``; for another artifact's entry as
            ``download`` and ``new_file``.
        """
        if isinstance(uri, ManifestEntry):
            name = os.path.basename(uri.path) if name is None else _name(name)
            if uri.ref is None:
                return self._borrow(uri, name)
            uri = borrowed.pinned(uri, uri.ref)
        uri = os.fspath(uri)
        if not keep_secrets and has_secrets(uri):
            raise BadURI(
                f"{masked(uri)} holds a password or a signature, and a version is kept for ever.",
                hint="Leave it out, or say keep_secrets=True.",
            )
        contents = self._building()
        if not contents.keeps:  # in disabled mode nobody looks whether it is there
            contents.add_references({})
            return []
        if borrowed.is_url(uri):
            return self.add_reference(borrowed.find(uri), name, checksum, max_objects)
        limit = references.MAX_OBJECTS if max_objects is None else max_objects
        found = references.find(uri, _prefix(name) or None, checksum=checksum, max_objects=limit)
        if isinstance(found, references.Bucket):
            contents.add_bucket(found)
            return [ManifestEntry(self, found.path, None, ref=uri)] if found.path else []
        contents.add_references(found)
        return [entry for path in found if (entry := self._find(path))]

    def _borrow(self, entry: ManifestEntry, path: str) -> Sequence[ManifestEntry]:
        contents = self._building()
        if not contents.keeps:
            contents.add_references({})
            return []
        there = self._find(path)
        if there is None or there.digest != entry.digest:
            borrowed.add_bytes(contents, entry, path)
        return [self.get_entry(path)]

    def add(self, obj: object, name: StrPath, overwrite: bool = False) -> ManifestEntry:
        """Add a ``Table`` or a ``PartitionedTable``, as it is at this moment.

        Args:
            obj: the table; it is written row by row, with no second copy in memory.
            name: its path in the artifact, which ends in ``.table.json`` (``.table.parquet``,
                ``.partitioned-table.json``) or gets that ending.
            overwrite: replace what was added under this name.

        Raises:
            BadValue: it is no such thing.
            PathTaken: something else was added under this name; the same rows are fine.
            LibraryMissing: it shall be Parquet, and there is no pyarrow.
            SpoolFull, ArtifactFinalizedError: as ``new_file``.
        """
        from wherry.tables import entries

        return self.get_entry(entries.add(self._building(), obj, _name(name), overwrite=overwrite))

    def __setitem__(self, name: StrPath, obj: object) -> None:
        self.add(obj, name)

    def remove(self, item: StrPath | ManifestEntry) -> None:
        """Take out an entry, or all entries below a folder.

        Of an incremental artifact: let the version not have them, whoever put them into the one before.

        Raises ``EntryMissing``, but for an incremental artifact.
        """
        path = item.path if isinstance(item, ManifestEntry) else os.fspath(item)
        self._building().remove(path)

    def finalize(self) -> None:
        """Let nothing more be added; ``log_artifact`` does so too."""
        if self._life.contents is not None:
            self._life.contents.sealed = True

    def _building(self) -> Contents:
        if self._life.contents is None:
            raise ArtifactStateError(
                f"{self._life.label} is a version and can't be changed.",
                hint="Make a new Artifact of the same name.",
            )
        return self._life.contents


def _is_immutable(policy: str | None) -> bool:
    if policy not in ("mutable", "immutable", None):
        raise UsageError(f"There is no policy {policy!r}.", hint="Use 'mutable' or 'immutable'.")
    return policy == "immutable"


def _local(path: StrPath) -> str:
    local = os.fsdecode(os.fspath(path))
    try:
        return os.path.abspath(local)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no file {local}: the working folder is gone.") from error


def _name(name: StrPath) -> str:
    path = os.fspath(name)
    if not isinstance(path, str):
        raise BadPath(f"The name {path!r} is no string.")
    return path


def _prefix(name: str | None) -> str:
    """What comes before paths; ``images/`` is written as often as ``images``."""
    prefix = "" if name is None else _name(name)
    return "" if prefix in (".", "./") else prefix.removesuffix("/")
