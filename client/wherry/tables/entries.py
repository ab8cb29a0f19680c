"""Tables as entries of artifacts: what ``artifact.add`` and ``artifact.get`` do.

Owns: the entries' names, adding under a name that is taken, which object a name gives back. Does not own:
tables, the forms of files.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, TypeAlias, cast

from wherry import listings
from wherry.contents import Contents
from wherry.errors import BadTable, BadValue, NotYet, PathTaken
from wherry.tables import scanned, written
from wherry.tables.partitioned import PartitionedTable
from wherry.tables.table import Table
from wherry.tables.written import Head

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from wherry.held import Held

Thing: TypeAlias = Table | PartitionedTable

JSON, PARQUET, PARTS = ".table.json", ".table.parquet", ".partitioned-table.json"
#: Of W&B's other objects.
_LATER = (".joined-table.json", ".image-file.json")
#: Bytes of parts that are fetched at once.
_FETCH_BYTES = 32 << 20
_FETCH_COUNT = 200


class Artifact(Protocol):
    """An artifact, as its tables need it."""

    def has_entry(self, path: str) -> bool:
        """Whether there is such an entry."""
        ...

    def entry_sizes(self) -> dict[str, int]:
        """All paths in order, with the bytes of each."""
        ...

    def hold(self, paths: Sequence[str]) -> list[Held]:
        """Bring entries' bytes here."""
        ...

    def added(self, path: str) -> object:
        """Give the object that was added under a path, while it is one's own and still there."""
        ...


# ── adding ─────────────────────────────────────────────────────────────────────────────────────
def add(contents: Contents, thing: object, name: str, *, overwrite: bool) -> str:
    """Write an object into an artifact; return its path.

    Raises:
        BadValue: it is nothing that can be added.
        PathTaken: there is something else under its name.
        As ``Contents.new_file``.
    """
    if not isinstance(thing, Table | PartitionedTable):
        raise BadValue(
            f"A {type(thing).__name__} can't be added to an artifact.",
            hint="Add a Table or a PartitionedTable; save anything else to a file, and use add_file.",
        )
    path = _path(thing, name)
    try:
        with contents.new_file(path, "wb" if overwrite else "xb", None) as opened:
            if contents.keeps:
                _save(thing, cast("IO[bytes]", opened))
    except PathTaken:
        if not _is_there(contents, thing, path):
            raise
        return path
    contents.note(path, thing)
    return path


def _path(thing: Thing, name: str) -> str:
    if isinstance(thing, PartitionedTable):
        suffix = PARTS
    else:
        suffix = PARQUET if thing.format == "parquet" else JSON
    return name if name.endswith(suffix) else name + suffix


def _save(thing: Thing, opened: IO[bytes]) -> None:
    if isinstance(thing, PartitionedTable):
        said = {"_type": "partitioned-table", "parts_path": thing.parts_path}
        opened.write(json.dumps(said).encode())
    elif thing.format == "parquet":
        from wherry.tables import parquet

        parquet.save(thing, opened)
    else:
        for chunk in written.written(thing.head, (row for _, row in thing.iterrows())):
            opened.write(chunk)


def _is_there(contents: Contents, thing: Thing, path: str) -> bool:
    """Whether these very bytes are what was added."""
    row = contents.table.get(path)
    if row is None or not contents.keeps:
        return False
    into = _Digest()
    _save(thing, into)
    return listings.entry_digest(contents, path, row) == f"sha256:{into.sha256.hexdigest()}"


class _Digest(io.BytesIO):
    """A file of which only the digest is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()
        self._size = 0

    def write(self, data: ReadableBuffer, /) -> int:
        self.sha256.update(data)
        count = memoryview(data).nbytes
        self._size += count
        return count

    def tell(self) -> int:
        return self._size


# ── giving back ────────────────────────────────────────────────────────────────────────────────
def get(artifact: Artifact, name: str) -> Thing | None:
    """Read back what ``add`` put in; None where there is nothing of the name.

    Raises:
        NotYet: it is an object of W&B's that is not built yet.
        BadTable: the entry is no table. LibraryMissing: it is Parquet, and there is no pyarrow.
    """
    for suffix in (JSON, PARQUET, PARTS):
        path = name if name.endswith(suffix) else name + suffix
        if artifact.has_entry(path):
            return _get(artifact, path)
    for suffix in _LATER:
        if artifact.has_entry(name if name.endswith(suffix) else name + suffix):
            raise NotYet(f"Reading {name!r} back is not built yet.", hint="Use get_entry().")
    return None


def _get(artifact: Artifact, path: str) -> Thing:
    found = artifact.added(path)
    if isinstance(found, Table):
        return found
    if isinstance(found, PartitionedTable):
        return PartitionedTable.of(_Parts(artifact), found.parts_path)
    (held,) = artifact.hold([path])
    if not path.endswith(PARTS):
        return _table(path, held)
    with held.open() as opened:
        said = scanned.read_object(opened, repr(path))
    parts_path = said.get("parts_path")
    if not isinstance(parts_path, str):
        raise BadTable(f"{path!r} names no folder of parts.")
    return PartitionedTable.of(_Parts(artifact), parts_path)


def _table(path: str, held: Held) -> Table:
    if path.endswith(PARQUET):
        from wherry.tables import parquet

        return Table.read_from(_File(held, path, parquet.read_head, parquet.read_rows), "parquet")
    return Table.read_from(_File(held, path, scanned.read_head, scanned.read_rows), "json")


class _File:
    """A table's file, which is read as often as its rows are asked for."""

    def __init__(
        self,
        held: Held,
        path: str,
        read_head: Callable[[BinaryIO, str], Head],
        read_rows: Callable[[BinaryIO, str, Head], Iterator[list[object]]],
    ) -> None:
        self._held = held
        self._path = path
        self._read_rows = read_rows
        with held.open() as opened:
            self.head = read_head(opened, repr(path))

    def rows(self) -> Iterator[list[object]]:
        """Read the rows, from the first one on."""
        with self._held.open() as opened:
            yield from self._read_rows(opened, repr(self._path), self.head)


class _Parts:
    """An artifact's tables as parts; those of a few megabytes together are fetched at once."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def paths(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        sizes = self._artifact.entry_sizes()
        return [path for path in sizes if path.startswith(start) and path.endswith((JSON, PARQUET))]

    def tables(self, paths: list[str]) -> Iterator[Table]:
        sizes = self._artifact.entry_sizes()
        batch: list[str] = []
        size = 0
        for path in paths:
            batch.append(path)
            size += sizes[path]
            if size >= _FETCH_BYTES or len(batch) == _FETCH_COUNT:
                yield from self._batch(batch)
                batch, size = [], 0
        yield from self._batch(batch)

    def _batch(self, paths: list[str]) -> Iterator[Table]:
        own = {
            path: found for path in paths if isinstance(found := self._artifact.added(path), Table)
        }
        others = [path for path in paths if path not in own]
        held = dict(zip(others, self._artifact.hold(others), strict=True))
        for path in paths:
            yield own[path] if path in own else _table(path, held.pop(path))
