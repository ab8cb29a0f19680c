"""Writing a manifest: entries in, one zstd file of JSON lines and its digests out.

Owns: order, the file's bytes, the digest of its plain bytes, and the digest of the entries.
Does not own: where entries come from (``queue``), sending the file (``transfer``), one line's rules
(``lines``), reading (``manifest_reader``).

Memory does not grow with the number of entries. The same entries give the same file. A process that is
killed leaves ``<path>.tmp`` or the whole file; making it again does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

import msgspec
import zstandard

from wherry.errors import BadPath
from wherry.wire.canonical import EntriesDigest
from wherryd.model import Entry, Manifest, ManifestEntry
from wherryd.registry.atomic import AtomicFile
from wherryd.registry.lines import LINE_LIMIT_BYTES, line_of, problem

LEVEL = 3
_FLUSH_BYTES = 1 << 18


class Sink(Protocol):
    """Where a manifest's bytes go: as ``AtomicFile``."""

    def write(self, data: bytes) -> None:
        """Append bytes."""
        ...

    def land(self) -> None:
        """All was written."""
        ...

    def discard(self) -> None:
        """Remove what was written, unless it has landed."""
        ...


class ManifestWriter:
    """Write a version's manifest to a file on this machine.

    Blocks (a million entries take seconds): call it in a worker thread. ::

        with ManifestWriter(path) as writer:
            writer.add_batch(entries)  # as often as it takes
            manifest = writer.finish()

    Args:
        path: where the file shall appear, whole and durable, at ``finish``; or what takes its bytes.
        compressor: kept by the caller, as ``make_compressor`` gives it: a new one takes longer than a line.

    Raises:
        SpoolFull, CaptureError: the file can't be written.
    """

    def __init__(
        self, path: str | Sink, compressor: zstandard.ZstdCompressor | None = None
    ) -> None:
        self._file: Sink = AtomicFile(path) if isinstance(path, str) else path
        self._zstd = (compressor or make_compressor()).compressobj()
        self._plain = hashlib.sha256()
        self._digest = EntriesDigest()
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._entries = 0
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._file.discard()

    def add(self, entry: Entry) -> None:
        """Write the next entry.

        Args:
            entry: with its digest. A reference may have none (no checksum), and a negative size (its
                server gave none).

        Raises:
            ValueError: out of order, no digest, or not what a manifest's line may be.
            BadPath: path and reference are too long for one line.
        """
        self.add_line(line_of(entry))

    def add_batch(self, entries: Iterable[Entry]) -> None:
        """Write the next entries; raises as ``add``."""
        for entry in entries:
            self.add(entry)

    def add_line(self, line: ManifestEntry) -> None:
        """Write the next line as it is; raises as ``add``."""
        why = problem(line)
        if why:
            raise ValueError(f"{line.path!r} can't stand in a manifest: {why}")
        plain = _encode(line)
        self._digest.add(line.path, line.digest, line.size, line.ref, line.version)
        self._lines.append(plain)
        self._entries += 1
        self._size += line.size or 0
        self._waiting_bytes += len(plain)
        if self._waiting_bytes >= _FLUSH_BYTES:
            self._flush()

    def finish(self) -> Manifest:
        """Make the file appear, durably, and return what it came to. Call it once, last."""
        self._flush()
        self._file.write(self._zstd.flush())
        self._file.land()
        return Manifest(
            manifest=f"sha256:{self._plain.hexdigest()}",
            digest=self._digest.value(),
            entries=self._entries,
            size=self._size,
        )

    def _flush(self) -> None:
        plain = b"".join(self._lines)
        self._plain.update(plain)
        self._file.write(self._zstd.compress(plain))
        self._lines.clear()
        self._waiting_bytes = 0


def make_compressor() -> zstandard.ZstdCompressor:
    """Make what compresses manifests, one after another, in one thread."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=False)


def _encode(line: ManifestEntry) -> bytes:
    plain = msgspec.json.encode(line)
    if len(plain) > LINE_LIMIT_BYTES:
        raise BadPath(
            f"The path {line.path[:100]!r}… and its reference take {len(plain):,} bytes in the manifest; "
            f"{LINE_LIMIT_BYTES:,} are the most.",
            hint="Give it a shorter path.",
        )
    return plain + b"\n"
