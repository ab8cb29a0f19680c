"""How big files are cut into parts, and what each part has to be.

Owns: which stores take parts, their size, their checksums. Does not own: sending them (``s3.multipart``,
``gs.resumable``), when they are hashed (``hashing``, in the pass that makes the whole's digest).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from wherryd.model import PartSums, Upload
from wherryd.stores.base import FileBody
from wherryd.stores.bodies import check, opened, pieces
from wherryd.stores.crc32c import Crc32c

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
    return size > SINGLE_PUT_BYTES and address.startswith(("s3:", "gs:"))


def wants_crc32c(address: str) -> bool:
    """Whether this store checks the CRC32C of the whole: S3 checks each part by its SHA-256."""
    return address.startswith("gs:")


def cut_for(address: str, size: int) -> int:
    """Bytes of each part but the last of a file of so many, in this store; 0: it goes whole.

    A session of Google's takes any number of parts, and a part of those is in memory.
    """
    if not wants_parts(address, size):
        return 0
    return PART_BYTES if address.startswith("gs:") else part_bytes(size)


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


def crc32c_in(sums: PartSums) -> bytes:
    """The CRC32C of the whole; empty where none was made."""
    return sums.sums[len(sums.sums) // _SUM_BYTES * _SUM_BYTES :]


def is_for(sums: PartSums, size: int, each: int) -> bool:
    """Whether these are the sums of a file of so many bytes, cut as it is cut now."""
    count = len(sums.sums) // _SUM_BYTES
    return sums.part_bytes == each and count == -(-size // each)


def make_sums(body: FileBody, each: int, crc32c: Crc32c | None = None) -> PartSums:
    """Hash a file's parts, and the whole with them, which has to be what the body says. Blocks.

    Args:
        each: bytes of each part but the last.
        crc32c: of the whole, is made as well.

    Raises ``FileChanged``, ``FileUnreadable``.
    """
    whole, made = hashlib.sha256(), []
    part, left = hashlib.sha256(), each
    with opened(body) as fd:
        for piece in pieces(fd, body):
            view = memoryview(piece)
            whole.update(view)
            if crc32c:
                crc32c.update(piece)
            while view:
                part.update(view[:left])
                view, left = view[left:], left - min(left, len(view))
                if not left:
                    made.append(part.digest())
                    part, left = hashlib.sha256(), each
    if left < each:
        made.append(part.digest())
    check(body, whole.digest())
    return PartSums(each, b"".join(made) + (crc32c.digest() if crc32c else b""))


class Forgetful:
    """The ledger of an upload that nobody goes on with."""

    async def sums(self) -> PartSums | None:
        return None

    async def keep_sums(self, sums: PartSums) -> None:
        pass

    async def take(self) -> Upload | None:
        return None

    async def begin(self, name: str, part_bytes: int) -> Upload:
        return Upload(0, name, part_bytes, {})

    async def note_part(self, upload: Upload, number: int, etag: str) -> None:
        pass

    async def forget(self, upload: Upload) -> None:
        pass

    def take_room(self) -> bool:
        return True

    def give_room(self) -> None:
        pass
