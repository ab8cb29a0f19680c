"""The half of ``wherry.Artifact`` that gives things back.

Owns: the methods' names, defaults and documentation. Does not own: what they do (``download``,
``on_disk``, ``listings``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry import download, listings, on_disk, unlogged
from wherry.contents import Contents
from wherry.entries import ManifestEntry
from wherry.errors import ArtifactNotLoggedError, EntryMissing, UsageError
from wherry.life import Life
from wherry.manifest import Manifest
from wherry.stored import StoredVersion

if TYPE_CHECKING:
    from wherry.held import Held
    from wherry.tables.partitioned import PartitionedTable
    from wherry.tables.table import Table

StrPath = str | os.PathLike[str]


class Reading:
    """Looking at entries, and bringing them to this machine."""

    _life: Life

    def download(
        self,
        root: StrPath | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: StrPath | None = None,
        multipart: bool | None = None,
        *,
        hard_links: bool = False,
    ) -> str:
        """Bring the files to this machine; waits until the artifact is committed.

        Args:
            root: folder; ``./artifacts/<name>:<version>`` by default. Nothing is written outside.
            allow_missing_references: pass over references that are gone.
            skip_cache: leave no copy in this machine's cache, and use none.
            path_prefix: only entries whose paths begin so.
            multipart: accepted, without effect: big files always come in parts.
            hard_links: make files from a bucket that are not in packs (1 MiB and more) hard links into this
                machine's cache, where ``root`` is on its disk: no bytes are copied, and the files are
                read-only, for all but root. Who changes one all the same changes all links to it; the
                cache compares it before it is used again.

        Returns:
            The folder.

        Raises:
            StoreDamaged: bytes are not those that were logged; that file is not written.
            ReferenceFailed, BadPath, DownloadError, StoreError, CommError.
        """
        del multipart
        if self._life.nowhere:
            folder = self._root(root)
            os.makedirs(folder, exist_ok=True)
            return folder
        if (draft := self._draft()) is not None:
            folder, prefix = self._root(root), os.fspath(path_prefix or "")
            unlogged.write(
                draft,
                folder,
                [path for path in draft.table.paths() if path.startswith(prefix)],
                allow_missing=allow_missing_references,
                skip_cache=bool(skip_cache),
            )
            return folder
        stored, paths = self._stored(), None
        if path_prefix is not None:
            prefix = os.fspath(path_prefix)
            paths = [path for path in stored.entries() if path.startswith(prefix)]
        folder = self._root(root)
        download.download(
            stored,
            folder,
            paths,
            allow_missing=allow_missing_references,
            skip_cache=bool(skip_cache),
            hard_links=hard_links,
        )
        return folder

    def checkout(self, root: StrPath | None = None) -> str:
        """Make a folder hold exactly this version: download, and delete files that are no entries.

        Args:
            root: the folder; ``./artifacts/<name>`` by default, the same for every version.
        """
        if root is None:
            root = os.path.join(".", "artifacts", self._life.name)
        entries = {} if self._life.nowhere else self._stored().entries()
        folder = self.download(root)
        if not self._life.nowhere:
            on_disk.remove_others(folder, entries)
        return folder

    def verify(self, root: StrPath | None = None) -> None:
        """Make sure that a folder holds exactly this version, and references are what was logged.

        Servers are asked, and no bytes of theirs are fetched.

        Raises:
            NotAsLogged: a file differs, is missing, or is no entry.
            ReferenceFailed: a reference is gone or has changed.
            ReferenceUnavailable: a server gives no answer.
        """
        if not self._life.nowhere:
            stored = self._stored()
            entries = stored.entries()
            on_disk.verify(self._root(root), entries, self._life.label)
            download.verify_references(stored, entries)

    def file(self, root: StrPath | None = None) -> str:
        """Download the only file of a single-file artifact; return its path.

        Raises:
            UsageError: it has none, or several.
        """
        paths = list(self.manifest.entries)
        if len(paths) != 1:
            raise UsageError(
                f"{self._life.label} has {len(paths):,} files.", hint="Use download()."
            )
        return self.download_entry(paths[0], None if root is None else os.fspath(root))

    def get_entry(self, name: StrPath) -> ManifestEntry:
        """Find the entry of a path. Raises ``EntryMissing``, which is a ``KeyError`` too."""
        path = os.fspath(name)
        entry = self._find(path)
        if entry is None:
            raise EntryMissing(f"{self._life.label} has no entry {path!r}.")
        return entry

    get_path = get_entry

    def get(self, name: StrPath) -> Table | PartitionedTable | None:
        """Read back what ``add`` put in; None where ``name`` is no such thing.

        Of a version it fetches that entry, into a temporary file; before it is logged, it gives the
        object that was added.

        Raises:
            BadTable: the entry is no table.
            LibraryMissing: it is Parquet, and there is no pyarrow.
            NotYet: it is another of W&B's objects.
            As ``download``.
        """
        from wherry.tables import entries

        return entries.get(self, os.fspath(name))

    def __getitem__(self, name: StrPath) -> Table | PartitionedTable | None:
        return self.get(name)

    def files(self, names: Sequence[str] | None = None, per_page: int = 50) -> list[ManifestEntry]:
        """List the entries, or those of ``names``; ``per_page`` has no effect.

        Raises:
            EntryMissing: there is none of such a name.
        """
        del per_page
        if names:
            return [self.get_entry(path) for path in names]
        return list(self.manifest.entries.values())

    @property
    def manifest(self) -> Manifest:
        """What the artifact contains: ``manifest.entries`` maps paths to entries."""
        return Manifest(self._listing(), self._life.label)

    def entry_digest(self, path: str) -> str | None:
        """Find an entry's digest; what ``entry.digest`` calls."""
        contents = self._life.built
        row = contents.table.get(path) if contents else None
        if contents is None or row is None or (self._life.is_logged and contents.keeps):
            entry = self._stored().entries().get(path)
            return entry.digest if entry else None
        return listings.entry_digest(contents, path, row)

    def download_entry(self, path: str, root: str | None) -> str:
        """Bring one entry to this machine; what ``entry.download`` calls."""
        if (draft := self._draft()) is not None:
            folder = self._root(root)
            unlogged.write(draft, folder, [path])
            return os.path.join(folder, path)
        stored, folder = self._stored(), self._root(root)
        download.download(stored, folder, [path], allow_missing=False)
        return os.path.join(folder, path)

    def has_entry(self, path: str) -> bool:
        """Whether there is such an entry; what tables call, as the three that follow."""
        contents = self._unlogged()
        return path in (contents.table if contents else self._stored().entries())

    def entry_sizes(self) -> dict[str, int]:
        """List all paths with their bytes."""
        contents = self._unlogged()
        if contents is None:
            return {path: entry.size or 0 for path, entry in self._stored().entries().items()}
        rows = ((path, contents.table.get(path)) for path in contents.table.paths())
        return {path: max(row.size, 0) for path, row in rows if row}

    def hold(self, paths: Sequence[str]) -> list[Held]:
        """Bring entries' bytes to this machine, into no folder of the user's."""
        from wherry import held

        contents = self._unlogged()
        if contents is None:
            return held.fetch(self._stored(), paths)
        return unlogged.hold(contents, paths)

    def added(self, path: str) -> object:
        """Give the object that was added under a path; None where it is gone, or a version's."""
        contents = self._unlogged()
        return contents.added(path) if contents else None

    def entry_url(self, path: str) -> str:
        """Name an entry of this version; what ``entry.ref_url`` calls."""
        version, (_, project) = self._life.version(), self._life.owner()
        return f"wherry-artifact://{project}/{self._life.name}:{version}/{path}"

    def _stored(self) -> StoredVersion:
        if not self._life.is_logged:
            raise ArtifactNotLoggedError(
                f"{self._life.label} was not logged.", hint="run.log_artifact(artifact).wait()"
            )
        return self._life.stored()

    def _unlogged(self) -> Contents | None:
        """What was built here, while it is no version; None where the store has to be asked."""
        life = self._life
        return life.contents if life.nowhere or not life.is_logged else None

    def _draft(self) -> Contents | None:
        """What is built from a version that is known, while it is none itself."""
        contents = self._unlogged()
        if contents is None or contents.base is None or contents.base.is_open:
            return None
        return None if self._life.nowhere else contents

    def _listing(self) -> listings.BuiltListing | listings.StoredListing:
        contents = self._life.built
        if contents is None or (self._life.is_logged and contents.keeps and contents.has_lookups):
            return listings.StoredListing(self, self._stored())
        return listings.BuiltListing(self, contents)

    def _find(self, path: str) -> ManifestEntry | None:
        return self._listing().entry(path)

    def _root(self, root: StrPath | None) -> str:
        if root is not None:
            return os.fspath(root)
        if self._draft() is not None:
            return os.path.join(".", "artifacts", self._life.name)
        return os.path.join(".", "artifacts", f"{self._life.name}:{self._life.version()}")
