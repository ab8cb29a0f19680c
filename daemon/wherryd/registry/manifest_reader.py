"""Reading a manifest: compressed chunks in, entries out; or only a look whether it is the one.

Owns: what is refused, and how much memory hostile bytes can take (about 10 MiB). Does not own: where
the chunks come from (``stores``), what becomes of the entries (``read``).

Entries come before the digest is known, since a manifest may be larger than memory. Whoever acts on
them must be ready to hear at the end that they were not the right ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator

import anyio.lowlevel
import msgspec
import zstandard

from wherryd.model import ManifestEntry
from wherryd.registry.lines import LINE_LIMIT_BYTES, problem
from wherryd.registry.records import damaged

_WINDOW_BYTES = 8 << 20
_BATCH_BYTES = 1 << 16
_DECODER = msgspec.json.Decoder(ManifestEntry)

# A zstd block comes to 128 KiB of plain bytes at most and can be as short as 4 bytes (RFC 8878
# section 3.1.1.2), so this many compressed bytes come to 8 MiB at most.
_PIECE_BYTES = 256


async def read_manifest(
    chunks: AsyncIterator[bytes], manifest: str, key: str
) -> AsyncIterator[ManifestEntry]:
    """Decode a manifest as it arrives; its digest is checked at the end.

    Args:
        chunks: the object's bytes.
        manifest: ``sha256:<hex>`` of the plain bytes.
        key: where it lies, for the error.

    Raises:
        StoreDamaged: it is cut off, not a manifest, or not the one that was asked for.
    """
    reader = ManifestReader(manifest, key)
    async for chunk in chunks:
        for batch in reader.feed(chunk):
            for entry in batch:
                yield entry
            await anyio.lowlevel.checkpoint()
    for entry in reader.end():
        yield entry


async def is_manifest(chunks: AsyncIterator[bytes], manifest: str) -> bool:
    """Whether these compressed bytes are the manifest of this digest, without looking at its entries."""
    frame, sha256 = _frame(), hashlib.sha256()
    async for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            try:
                sha256.update(frame.decompress(chunk[start : start + _PIECE_BYTES]))
            except (zstandard.ZstdError, EOFError):
                return False
        await anyio.lowlevel.checkpoint()
    return frame.eof and not frame.unused_data and f"sha256:{sha256.hexdigest()}" == manifest


class ManifestReader:
    """The decoding, without I/O: ``feed`` every chunk, then ``end``."""

    def __init__(self, manifest: str, key: str) -> None:
        self._manifest = manifest
        self._key = key
        self._zstd = _frame()
        self._sha256 = hashlib.sha256()
        self._plain = bytearray()
        self._last = ""

    def feed(self, chunk: bytes) -> Iterator[list[ManifestEntry]]:
        """Take the next compressed bytes; give the entries that they complete, in batches."""
        for start in range(0, len(chunk), _PIECE_BYTES):
            self._decompress(chunk[start : start + _PIECE_BYTES])
            while batch := self._take():
                yield batch

    def end(self) -> list[ManifestEntry]:
        """Give the last entries, once the whole is known to be what was asked for."""
        if not self._zstd.eof:
            raise damaged(self._key, "it is cut off")
        if f"sha256:{self._sha256.hexdigest()}" != self._manifest:
            raise damaged(self._key, f"its plain bytes are sha256:{self._sha256.hexdigest()}")
        return self._decode(bytes(self._plain))

    def _decompress(self, piece: bytes) -> None:
        ended = self._zstd.eof
        try:
            plain = b"" if ended else self._zstd.decompress(piece)
        except zstandard.ZstdError as exc:
            raise damaged(self._key, str(exc)) from exc
        if ended or self._zstd.unused_data:
            raise damaged(self._key, "bytes follow its zstd frame")
        self._sha256.update(plain)
        self._plain += plain

    def _take(self) -> list[ManifestEntry]:
        """Decode one batch's whole lines; nothing while there are too few bytes."""
        if len(self._plain) < _BATCH_BYTES:
            return []
        cut = self._plain.rfind(b"\n", 0, _BATCH_BYTES) + 1
        cut = cut or self._plain.find(b"\n", 0, LINE_LIMIT_BYTES + 1) + 1
        if not cut and len(self._plain) > LINE_LIMIT_BYTES:
            raise damaged(self._key, f"a line is longer than {LINE_LIMIT_BYTES} bytes")
        lines = bytes(self._plain[:cut])
        del self._plain[:cut]
        return self._decode(lines)

    def _decode(self, lines: bytes) -> list[ManifestEntry]:
        try:
            entries = _DECODER.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise damaged(self._key, str(exc)) from exc
        if len(entries) != lines.count(b"\n"):
            raise damaged(self._key, "a line holds no entry, or several, or has no end")
        for entry in entries:
            self._check(entry)
        return entries

    def _check(self, entry: ManifestEntry) -> None:
        why = problem(entry)
        if why:
            raise damaged(self._key, why)
        # Code points and UTF-8 bytes have the same order.
        if entry.path <= self._last:
            raise damaged(self._key, f"{entry.path!r} comes after {self._last!r}")
        self._last = entry.path


def _frame() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
