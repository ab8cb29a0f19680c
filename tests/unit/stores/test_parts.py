"""How files are cut, and what the hashing pass makes of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from wherryd.hashing import SlowHash
from wherryd.model import Entry, PartSums, Source
from wherryd.stores.base import FileBody
from wherryd.stores.crc32c import Crc32c, crc32c, written
from wherryd.stores.parts import (
    PART_BYTES,
    SINGLE_PUT_BYTES,
    crc32c_in,
    cut_for,
    is_for,
    make_sums,
    sum_of,
    wants_crc32c,
)

PART = 1 << 20


def test_a_checksum_is_anothers() -> None:
    """CRC32C is that of RFC 3720's examples, at once and piece by piece, written as Google writes it."""
    assert crc32c(bytes(32)) == bytes.fromhex("8a9136aa")
    assert crc32c(b"123456789") == bytes.fromhex("e3069283")
    assert written(crc32c(b"")) == "AAAAAA=="
    made = Crc32c()
    for piece in (b"1234", memoryview(bytearray(b"56789"))):
        made.update(piece)
    assert made.digest() == crc32c(b"123456789")


@pytest.mark.parametrize(
    ("address", "size", "each"),
    [
        ("file:///store", 1 << 40, 0),
        ("s3://bucket", SINGLE_PUT_BYTES, 0),
        ("gs://bucket", SINGLE_PUT_BYTES, 0),
        ("s3://bucket", SINGLE_PUT_BYTES + 1, PART_BYTES),
        ("gs://bucket", SINGLE_PUT_BYTES + 1, PART_BYTES),
        ("s3://bucket", 160 << 30, 17 << 20),
        ("gs://bucket", 5 << 40, PART_BYTES),
    ],
)
def test_a_file_is_cut_as_for_another_store(address: str, size: int, each: int) -> None:
    """S3 takes 10,000 parts; a session takes any number, and none may fill the memory."""
    assert cut_for(address, size) == each
    assert wants_crc32c(address) == address.startswith("gs:")


@pytest.mark.parametrize("size", [1, PART, 3 * PART, 3 * PART + 5])
@pytest.mark.parametrize("with_crc32c", [False, True])
def test_both_passes_make_other_sums(tmp_path: Path, size: int, with_crc32c: bool) -> None:
    """The pass that makes the digest, and the one made later where that is missing, come to the same: each
    part's SHA-256, and the whole's CRC32C where it is wanted.
    """
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(b"before" + content)
    entry = Entry("file", size, source=Source(str(tmp_path / "file"), 6))
    slow = SlowHash(entry, PART, with_crc32c=with_crc32c)
    while slow.step(PART // 3):
        pass
    sums = PartSums(PART, slow.sums)
    assert slow.digest()[1] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    slow.close()
    body = FileBody(str(tmp_path / "file"), 6, size, hashlib.sha256(content).digest())
    assert make_sums(body, PART, Crc32c() if with_crc32c else None) == sums
    assert is_for(sums, size, PART) and not is_for(sums, size + PART, PART)
    assert crc32c_in(sums) == (crc32c(content) if with_crc32c else b"")
    last = (size - 1) // PART + 1
    assert sum_of(sums, last) == hashlib.sha256(content[(last - 1) * PART :]).digest()
