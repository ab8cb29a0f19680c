"""One line of a manifest: what it may say.

Owns: the rules for a single entry (``docs/store-format.md``), for writing and for reading alike.
Does not own: order, files, compression (``manifest``, ``manifest_reader``).

Three kinds of line: a blob of its own (``digest``, ``size``), a slice of a pack (``pack`` and ``offset``
too), a reference (``ref``). A reference whose server gives no checksum has ``digest`` null and neither
``version`` nor ``sums``, and ``size`` null where the server gives none: so two of them are equal if URI and
size are.
"""

from __future__ import annotations

import re

import msgspec

from wherryd.model import Entry, ManifestEntry
from wherryd.registry.layout import HEX, SHA256

LINE_LIMIT_BYTES = 1 << 20
"""No line is longer, its line feed left out: readers need no more memory than this."""

_BAD_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0", re.ASCII)
_CHECKSUM = re.compile(r"[a-z0-9]+:.+", re.DOTALL)


def line_of(entry: Entry) -> ManifestEntry:
    """Make an entry's line. A negative size is that of a reference whose server gave none."""
    reference = entry.reference
    if reference is None:
        line = ManifestEntry(entry.path, entry.digest, entry.size)
        if entry.pack is None:
            return line
        return msgspec.structs.replace(line, pack=entry.pack, offset=entry.pack_offset)
    return ManifestEntry(
        path=entry.path,
        digest=entry.digest or None,
        size=entry.size if entry.size >= 0 else None,
        ref=reference.uri,
        version=reference.version if entry.digest else None,
        resolved=reference.resolved,
        sums=reference.sums if entry.digest else (),
    )


def problem(line: ManifestEntry) -> str | None:
    """Say what a line has that a manifest's line may not have; None where it is good."""
    if _BAD_PATH.search(line.path):
        return f"{line.path!r} is not a relative POSIX path"
    if line.size is not None and line.size < 0:
        return f"{line.size} is no size"
    return _reference_problem(line) if line.ref is not None else _bytes_problem(line)


def _reference_problem(line: ManifestEntry) -> str | None:
    if line.pack is not None or line.offset is not None:
        return "a reference lies in no pack"
    if not line.ref:
        return "its reference is empty"
    if line.digest is None:
        if line.version is not None:
            return "a version without a checksum"
        return "further checksums without one" if line.sums else None
    if not _CHECKSUM.fullmatch(line.digest):
        return f"{line.digest!r} is no checksum"
    return _sums_problem(line.sums) if line.sums else None


def _sums_problem(sums: tuple[str, ...]) -> str | None:
    if not all(map(_CHECKSUM.fullmatch, sums)):
        return f"{sums} are not all checksums"
    algorithms = [each.partition(":")[0] for each in sums]
    if algorithms != sorted(set(algorithms)):
        return f"the checksums {sums} are out of order, or two are of one algorithm"
    return None


def _bytes_problem(line: ManifestEntry) -> str | None:
    if line.digest is None or not SHA256.fullmatch(line.digest):
        return f"{line.digest!r} is not sha256: and 64 hex digits"
    if line.size is None:
        return "it has no size"
    if line.version is not None:
        return "only a reference has a version"
    if line.sums:
        return "only a reference has further checksums"
    if (line.pack is None) != (line.offset is None):
        return "pack and offset belong together"
    if line.pack is not None and not HEX.fullmatch(line.pack):
        return f"{line.pack!r} is no pack"
    return f"{line.offset} is no offset" if (line.offset or 0) < 0 else None
