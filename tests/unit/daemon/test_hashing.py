"""Digests of captured bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.unit.daemon.bench import digest
from wherry.errors import FileChanged, FileMissing, FileUnreadable
from wherryd.hashing import SlowHash, digest_batch
from wherryd.model import Entry, FileStat, Source
from wherryd.prepare.digests import cut
from wherryd.stores.base import FileBody
from wherryd.stores.bodies import read_whole


def _stat(file: Path) -> FileStat:
    seen = file.stat()
    return FileStat(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)


def test_entries_back_to_back_are_mixed_up(tmp_path: Path) -> None:
    """Each entry's digest is that of its own slice of the spool file."""
    file = tmp_path / "pack"
    file.write_bytes(b"onetwo" + b"x" * 1_500_000)
    entries = [
        Entry("a", 3, source=Source(str(file), 0)),
        Entry("b", 3, source=Source(str(file), 3)),
        Entry("c", 1_500_000, source=Source(str(file), 6)),
        Entry("d", 0, source=Source(str(file), 6)),
    ]
    assert digest_batch(entries) == [
        ("a", digest(b"one"), 3),
        ("b", digest(b"two"), 3),
        ("c", digest(b"x" * 1_500_000), 1_500_000),
        ("d", digest(b""), 0),
    ]


def test_slow_hash_differs_from_a_plain_one(tmp_path: Path) -> None:
    """A digest made in steps is the digest."""
    file, data = tmp_path / "big", os.urandom(3_000_000)
    file.write_bytes(b"head" + data)
    slow = SlowHash(Entry("a", len(data), source=Source(str(file), 4)))
    steps = [slow.step(700_000)]
    while steps[-1]:
        steps.append(slow.step(700_000))
    assert slow.digest() == ("a", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    assert sum(steps) == len(data)
    slow.close()


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_000, 1_000_001, 5_500_000])
def test_parts_differ_from_the_whole(tmp_path: Path, size: int) -> None:
    """The parts' digests, made beside the whole's, are those of its bytes, in steps of any size."""
    file, data = tmp_path / "big", os.urandom(size)
    file.write_bytes(b"head" + data + b"tail")
    wanted = [
        hashlib.sha256(data[at : at + 1_000_000]).digest() for at in range(0, size, 1_000_000)
    ]
    for step in (700_000, 1_000_000, 9_000_000):
        slow = SlowHash(Entry("a", size, source=Source(str(file), 4)), 1_000_000)
        while slow.step(step):
            pass
        assert slow.digest() == ("a", f"sha256:{hashlib.sha256(data).hexdigest()}", size)
        assert slow.sums == b"".join(wanted)
        slow.close()


def test_short_file_has_all_its_parts(tmp_path: Path) -> None:
    """A file that was cut off is told of with parts as well."""
    file = tmp_path / "big"
    file.write_bytes(b"ab")
    slow = SlowHash(Entry("a", 3, source=Source(str(file))), 2)
    with pytest.raises(FileChanged, match="ends at byte 2"):
        slow.step(10)
    slow.close()


def test_missing_spool_file_is_hashed(tmp_path: Path) -> None:
    """A spool file that is gone is told by its path."""
    with pytest.raises(FileMissing, match="gone-pack"):
        digest_batch([Entry("a", 1, source=Source(str(tmp_path / "gone-pack")))])


def test_short_spool_file_is_hashed(tmp_path: Path) -> None:
    """Bytes that are not there are no bytes."""
    file = tmp_path / "pack"
    file.write_bytes(b"ab")
    with pytest.raises(FileChanged, match="ends at byte 2"):
        digest_batch([Entry("a", 3, source=Source(str(file)))])


def test_unreadable_file_crashes(tmp_path: Path) -> None:
    """What the system refuses is an error of ours."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(FileUnreadable):
        digest_batch([Entry("a", 3, source=Source(str(loop)))])


def _become(file: Path, kind: str) -> None:
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_took_a_files_place_keeps_its_reader(tmp_path: Path, kind: str) -> None:
    """Where a FIFO or anything else stands by now nothing is read: a thread would wait there for ever."""
    file = tmp_path / "user.bin"
    file.write_bytes(b"abc")
    entry = Entry("a", 3, source=Source(str(file), 0, _stat(file)))
    body = FileBody(str(file), 0, 3, hashlib.sha256(b"abc").digest())
    _become(file, kind)
    with pytest.raises(FileChanged, match="no regular file"):
        digest_batch([entry])
    with pytest.raises(FileChanged, match="no regular file"):
        read_whole(body)


@pytest.mark.parametrize("how", ["bytes", "time", "replaced"])
def test_changed_immutable_file_is_hashed(tmp_path: Path, how: str) -> None:
    """A file shared with the user counts only as it was at capture."""
    file = tmp_path / "user.bin"
    file.write_bytes(b"before")
    entry = Entry("a", 6, source=Source(str(file), 0, _stat(file)))
    assert digest_batch([entry]) == [("a", digest(b"before"), 6)]
    if how == "bytes":
        file.write_bytes(b"longer than before")
    elif how == "time":
        os.utime(file, ns=(1, 1))
    else:
        other = tmp_path / "other"
        other.write_bytes(b"before")
        os.utime(other, ns=(file.stat().st_mtime_ns,) * 2)
        other.rename(file)
    with pytest.raises(FileChanged, match="immutable"):
        digest_batch([entry])


def test_pieces_grow_too_big() -> None:
    """A piece of work is bounded, a large entry is a piece of its own, and none is lost."""
    sizes = [1, 2, 3, 100, 4, 10, 10, 0]
    entries = [Entry(str(number), size) for number, size in enumerate(sizes)]
    pieces = [[entry.size for entry in piece] for piece in cut(entries, 10)]
    assert pieces == [[1, 2, 3], [100], [4], [10], [10, 0]]
