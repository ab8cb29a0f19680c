"""A pack's files as they are read: what lies back to back in one file, in one go."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from wherryd.model import Entry, Source
from wherryd.stores.base import FileBody, tell_nobody
from wherryd.stores.bodies import CHUNK_BYTES, gathered, joined
from wherryd.transfer.bodies import pack_body


def _entries(path: Path, size: int) -> list[Entry]:
    """A file's slices of so many bytes each."""
    data = path.read_bytes()
    return [
        Entry(
            f"{start:09}",
            size,
            f"sha256:{hashlib.sha256(data[start:][:size]).hexdigest()}",
            Source(str(path), start),
        )
        for start in range(0, len(data), size)
    ]


def test_each_slice_of_a_pack_is_read_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that lie back to back in the spool, in the order of the pack, are read in pieces of 1 MiB."""
    spooled = tmp_path / "spooled"
    spooled.write_bytes(os.urandom(4 * CHUNK_BYTES))
    whole = spooled.read_bytes()
    name = hashlib.sha256(whole).hexdigest()
    body = pack_body(_entries(spooled, 4096), len(whole), name, tell_nobody)
    assert len(body.files) == 4 * CHUNK_BYTES // 4096
    reads, pread = [], os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert b"".join(gathered(body)) == whole
    assert reads == [CHUNK_BYTES] * 4


def test_what_does_not_follow_is_joined() -> None:
    """Another file, a gap, and what comes before are read by themselves; an empty file takes nothing away."""
    files = [
        FileBody(path, offset, size, b"")
        for path, offset, size in (
            ("a", 0, 5),
            ("a", 5, 0),
            ("a", 5, 2),
            ("b", 7, 3),
            ("a", 7, 1),
            ("a", 9, 1),
            ("a", 0, 9),
        )
    ]
    found = [(each.path, each.offset, each.size) for each in joined(files)]
    assert found == [("a", 0, 7), ("b", 7, 3), ("a", 7, 1), ("a", 9, 1), ("a", 0, 9)]
