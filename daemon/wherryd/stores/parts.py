"""How big files are cut into parts, and what each part has to be.

Owns: the size of parts, their checksums. Does not own: which stores take parts by these (``s3``), when they
are hashed (``hashing``, in the pass that makes the whole's digest).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from wherryd.model import PartSums
from wherryd.stores.base import FileBody
from wherryd.stores.bodies import check, opened, pieces

#: Up to this size a body is put in one request, above it in parts.
SINGLE_PUT_BYTES = 16 << 20
#: A part's least size. A kill costs what was in the air of a few parts; S3 takes 5 MiB and more.
PART_BYTES = 8 << 20
#: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
MOST_PARTS = 10_000
_MIB = 1 << 20
_SUM_BYTES = 32


def wants_parts(address: str, size: int) -> bool:
    """Whether a file of so many bytes goes to this store in parts, each with a checksum."""
    return size > SINGLE_PUT_BYTES and address.startswith("s3:")


def part_bytes(size: int) -> int:
    """Bytes of each part but the last, a whole number of MiB, for a file of so many."""
    fewest = -(-size // MOST_PARTS)
    return max(PART_BYTES, -(-fewest // _MIB) * _MIB)


def split(size: int, each: int) -> Iterator[tuple[int, int]]:
    """Offset and size of each part of so many bytes, given the size of each but the last."""
    for offset in range(0, size, each):
        yield offset, min(each, size - offset)


def sum_of(sums: PartSums, number: int) -> bytes:
    """The SHA-256 of a part, by its number, from 1 on."""
    return sums.sums[(number - 1) * _SUM_BYTES : number * _SUM_BYTES]


def is_for(sums: PartSums, size: int) -> bool:
    """Whether these are the sums of a file of so many bytes, cut as files are cut now."""
    count = len(sums.sums) // _SUM_BYTES
    return sums.part_bytes == part_bytes(size) and count == -(-size // sums.part_bytes)


def make_sums(body: FileBody) -> PartSums:
    """Hash a file's parts, and the whole with them, which has to be what the body says. Blocks.

    Raises ``FileChanged``, ``FileUnreadable``.
    """
    each, whole, made = part_bytes(body.size), hashlib.sha256(), []
    part, left = hashlib.sha256(), each
    with opened(body) as fd:
        for piece in pieces(fd, body):
            view = memoryview(piece)
            whole.update(view)
            while view:
                part.update(view[:left])
                view, left = view[left:], left - min(left, len(view))
                if not left:
                    made.append(part.digest())
                    part, left = hashlib.sha256(), each
    if left < each:
        made.append(part.digest())
    check(body, whole.digest())
    return PartSums(each, b"".join(made))
