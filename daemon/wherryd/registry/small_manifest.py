"""The manifest of a few entries, made in memory whenever it is needed.

Owns: which manifests are small enough, and their bytes. Does not own: one line's rules (``lines``), larger
ones (``manifest``).

Most requests of a loop have one small file. A file for the manifest would take two syncs, two trips to a
thread and four names on the disk; the entries lie in the queue in any case, and give the same manifest again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import zstandard

from wherryd.model import Entry, Manifest
from wherryd.registry.manifest import ManifestWriter, make_compressor
from wherryd.stores.base import FileBody

#: Making a manifest of so many takes a tenth of a millisecond.
FEW_ENTRIES = 32


def is_small(entries: Sequence[Entry]) -> bool:
    """Whether these entries, which are all of a version's, give their manifest again at any time.

    References do not: when they were resolved stands in the manifest, and not always in the queue.
    """
    return len(entries) <= FEW_ENTRIES and not any(entry.reference for entry in entries)


def make_small(entries: Sequence[Entry]) -> tuple[Manifest, FileBody]:
    """Make the manifest of a few entries, on the loop's thread; raises as ``ManifestWriter.add``."""
    kept = _Kept()
    writer = ManifestWriter(kept, _compressor())
    writer.add_batch(entries)
    manifest = writer.finish()
    return manifest, FileBody(
        "", 0, len(kept.data), hashlib.sha256(kept.data).digest(), data=kept.data
    )


class _Kept:
    """Bytes in memory, as a file that appears at once."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def land(self) -> None:
        pass

    def discard(self) -> None:
        pass


@cache
def _compressor() -> zstandard.ZstdCompressor:
    return make_compressor()
