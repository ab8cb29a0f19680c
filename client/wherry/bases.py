"""What an artifact that changes another version has of that.

Owns: which entries stay as they are, and which are taken out. Does not own: the entries that the artifact has
itself (``contents``), applying one to the other: the daemon does, without fetching or sending what stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wherry import capture
from wherry import messages as pb
from wherry.rows import Kind, Row, Table, packed
from wherry.stored import StoredEntry, StoredVersion


class Base:
    """The version that is changed.

    Args:
        stored: None: whichever comes before the one that the artifact becomes.
    """

    def __init__(self, stored: StoredVersion | None = None) -> None:
        self.stored = stored
        self._removed: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet which version it is."""
        return self.stored is None

    def fill(self, table: Table) -> None:
        """Put all its entries into an empty table."""
        if self.stored is not None:
            entries = self.stored.entries()
            table.put_many(entries, b"".join(map(_packed, entries.values())))

    def remove(self, path: str) -> None:
        """Take out an entry, or all entries below a folder, of a version that nobody knows yet."""
        self._removed.add(path)

    def entry(self, path: str) -> StoredEntry:
        """Give an entry that stays as it is."""
        assert self.stored is not None
        return self.stored.entries()[path]

    def has_bytes(self, path: str, local: str) -> bool:
        """Tell whether a file on this machine has the bytes of an entry; raises as ``capture.sha256_of``."""
        entry = self.entry(path)
        return entry.ref is None and entry.digest == capture.sha256_of(local)

    def removed(self, table: Table) -> list[str]:
        """List what is taken out, sorted. What the table has itself is replaced, and not among it.

        But for what the daemon looks up: that would replace whatever it leads to.
        """
        if self.stored is None:
            return sorted(self._removed)
        rows = ((path, table.get(path)) for path in self.stored.entries())
        return [path for path, row in rows if row is None or row.kind == Kind.LOOKUP]

    def message(self) -> pb.Base:
        """Name it to the daemon."""
        if self.stored is None:
            return pb.Base()
        record = self.stored.record
        return pb.Base(
            store=record.store,
            project=record.project,
            version=record.version,
            manifest=record.manifest,
        )


def kept(table: Table, paths: Iterable[str]) -> list[str]:
    """List those of the paths that stay as they are."""
    return [path for path in paths if (row := table.get(path)) and row.kind == Kind.KEPT]


def in_batches(paths: Iterable[str], size_bytes: int) -> Iterator[pb.PathBatch]:
    """Cut paths into messages."""
    batch, size = pb.PathBatch(), 0
    for path in paths:
        batch.paths.append(path)
        size += 8 + 4 * len(path)
        if size >= size_bytes:
            yield batch
            batch, size = pb.PathBatch(), 0
    if size:
        yield batch


def _packed(entry: StoredEntry) -> bytes:
    size = -1 if entry.size is None else entry.size
    return packed(Row(Kind.KEPT, 0, -1, 0, size, 0, 0, 0))
