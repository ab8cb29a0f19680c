"""An artifact's entries as a mapping.

Owns: the view. Does not own: the entries, which are made when somebody asks for one: a million of them
are a table in ``rows`` or ``stored``, not objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from wherry.entries import ManifestEntry
from wherry.errors import EntryMissing


class Listing(Protocol):
    """Where entries come from."""

    def paths(self) -> list[str]:
        """All paths by their UTF-8 bytes."""
        ...

    def entry(self, path: str) -> ManifestEntry | None:
        """One entry; None where there is none."""
        ...

    def __len__(self) -> int: ...


class Entries(Mapping[str, ManifestEntry]):
    """Entries by path, in order of the paths' UTF-8 bytes."""

    def __init__(self, listing: Listing, label: str) -> None:
        self._listing = listing
        self._label = label

    def __getitem__(self, path: str) -> ManifestEntry:
        entry = self._listing.entry(path)
        if entry is None:
            raise EntryMissing(f"{self._label} has no entry {path!r}.")
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._listing.paths())

    def __len__(self) -> int:
        return len(self._listing)

    def __repr__(self) -> str:
        return f"<{len(self)} entries of {self._label}>"


class Manifest:
    """What an artifact contains: ``manifest.entries`` maps paths to entries."""

    def __init__(self, listing: Listing, label: str) -> None:
        self.entries = Entries(listing, label)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<Manifest: {self.entries!r}>"

    def get_entry_by_path(self, path: str) -> ManifestEntry | None:
        """Give one entry; None where there is none."""
        return self.entries.get(path)

    def get_entries_in_directory(self, directory: str) -> list[ManifestEntry]:
        """List the entries below a folder of the artifact; "" is the whole."""
        start = f"{directory.rstrip('/')}/" if directory else ""
        return [entry for path, entry in self.entries.items() if path.startswith(start)]
