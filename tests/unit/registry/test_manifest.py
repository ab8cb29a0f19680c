from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry import example
from wherry.errors import BadPath, CaptureError, SpoolFull
from wherry.wire.canonical import entries_digest
from wherry.wire.names import check_path
from wherryd.model import Entry, Manifest, ManifestEntry, Reference
from wherryd.registry import atomic
from wherryd.registry.lines import LINE_LIMIT_BYTES, line_of, problem
from wherryd.registry.manifest import ManifestWriter
from wherryd.registry.manifest_reader import ManifestReader
from wherryd.registry.small_manifest import FEW_ENTRIES, is_small, make_small

A, B = example.digest(b"a"), example.digest(b"b")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
SEGMENTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1
).filter(lambda segment: segment not in (".", ".."))
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
SIZES = st.integers(0, 2**63)
REFERENCES = st.builds(
    Reference,
    uri=TEXT,
    version=st.none() | TEXT,
    resolved=st.none() | TEXT,
    checksum=st.booleans(),
    sums=st.lists(st.sampled_from(["crc32:AAAAAA==", "md5:0a", "x1:é "]), unique=True)
    .map(sorted)
    .map(tuple),
)
FILES = st.builds(Entry, PATHS, SIZES, st.sampled_from([A, B]))
REFERRED = st.builds(
    Entry,
    PATHS,
    SIZES | st.just(-1),
    st.none() | TEXT.map("etag:{}".format),
    reference=REFERENCES,
)
ENTRIES = st.lists(FILES | REFERRED, max_size=20, unique_by=lambda entry: entry.path).map(
    lambda entries: sorted(entries, key=lambda entry: entry.path.encode())
)


def write(path: Path, entries: Sequence[Entry]) -> Manifest:
    """Write a manifest in one batch."""
    with ManifestWriter(str(path)) as writer:
        writer.add_batch(entries)
        return writer.finish()


def read(path: Path, manifest: str, chunk_bytes: int = 1 << 16) -> list[ManifestEntry]:
    """Read a manifest's file back."""
    reader, entries = ManifestReader(manifest, "key"), list[ManifestEntry]()
    body = path.read_bytes()
    for start in range(0, len(body), chunk_bytes):
        for batch in reader.feed(body[start : start + chunk_bytes]):
            entries += batch
    return entries + reader.end()


@given(ENTRIES, st.integers(1, 300))
def test_entries_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], chunk_bytes: int
) -> None:
    """Any path, size and reference is read as it was written, however the bytes arrive."""
    path = tmp_path_factory.mktemp("m") / "manifest"
    manifest = write(path, entries)
    assert read(path, manifest.manifest, chunk_bytes) == [line_of(entry) for entry in entries]
    assert manifest.entries == len(entries)
    assert manifest.size == sum(max(entry.size, 0) for entry in entries)


@given(ENTRIES)
def test_the_digests_are_those_of_the_contract(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    """`manifest` is of the plain bytes, `digest` of the entries' canonical form."""
    path = tmp_path_factory.mktemp("m") / "manifest"
    manifest = write(path, entries)
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    lines = [line_of(entry) for entry in entries]
    assert manifest.manifest == example.digest(plain)
    assert manifest.digest == entries_digest(
        (line.path, line.digest, line.size, line.ref, line.version) for line in lines
    )


@given(ENTRIES)
def test_the_same_entries_give_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    """Making a manifest again, after a kill, gives the same bytes, in whatever batches."""
    one, two = tmp_path_factory.mktemp("m") / "one", tmp_path_factory.mktemp("m") / "two"
    write(one, entries)
    with ManifestWriter(str(two)) as writer:
        for entry in entries:
            writer.add(entry)
        writer.finish()
    assert one.read_bytes() == two.read_bytes()


@given(st.lists(FILES, max_size=FEW_ENTRIES, unique_by=lambda entry: entry.path))
def test_a_small_manifest_is_another(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    """What is made in memory, time and again, is the file that would have been written."""
    path = tmp_path_factory.mktemp("m") / "manifest"
    entries.sort(key=lambda entry: entry.path.encode())
    assert is_small(entries)
    for _ in range(2):
        made, body = make_small(entries)
        assert made == write(path, entries)
        assert body.data == path.read_bytes()
        assert body.sha256.hex() == example.digest(body.data).removeprefix("sha256:")


def test_a_reference_is_resolved_twice() -> None:
    """A manifest that says when something was resolved is made once, and kept; and so is a long one."""
    assert not is_small([Entry("a", 1, A, reference=Reference("file:///a"))])
    assert not is_small([Entry(f"{number:02}", 1, A) for number in range(FEW_ENTRIES + 1)])


def test_where_bytes_lie_and_when_is_no_content(tmp_path: Path) -> None:
    """Packs and the time of resolving are no part of the digest (docs/promises.md, promise 6)."""
    moved = [
        msgspec.structs.replace(line, pack=None, offset=None, resolved=None)
        for line in example.LINES
    ]
    with ManifestWriter(str(tmp_path / "moved")) as writer:
        for line in moved:
            writer.add_line(line)
        there = writer.finish()
    here = example.write_manifest(tmp_path / "here")
    assert here.digest == there.digest
    assert here.manifest != there.manifest


def test_further_checksums_are_no_content(tmp_path: Path) -> None:
    """What more a server tells of an object makes no other version; it stands in the line."""
    entries = [
        Entry("a", 1, "etag:x", reference=Reference("s3://b/a", sums=sums))
        for sums in ((), ("crc32:AAAAAA==", "md5:0a"))
    ]
    without, with_ = (write(tmp_path / str(n), [each]) for n, each in enumerate(entries))
    assert without.digest == with_.digest
    (line,) = read(tmp_path / "1", with_.manifest)
    assert line.sums == ("crc32:AAAAAA==", "md5:0a")
    assert b"sums" not in msgspec.json.encode(line_of(entries[0]))


def test_further_checksums_of_what_has_none_are_left_out(tmp_path: Path) -> None:
    """What is equal by URI and size alone may have other bytes, which old checksums would refuse."""
    entry = Entry("a", 1, None, reference=Reference("s3://b/a", sums=("md5:0a",)))
    (line,) = read(tmp_path / "m", write(tmp_path / "m", [entry]).manifest)
    assert line.sums == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (ManifestEntry("a", A, 1, sums=("md5:0a",)), "only a reference"),
        (ManifestEntry("a", None, 1, ref="s3://b", sums=("md5:0a",)), "without one"),
        (ManifestEntry("a", "etag:x", 1, ref="s3://b", sums=("MD5:0a",)), "not all checksums"),
        (ManifestEntry("a", "etag:x", 1, ref="s3://b", sums=("md5:",)), "not all checksums"),
        (ManifestEntry("a", "etag:x", 1, ref="s3://b", sums=("md5:1", "crc:1")), "out of order"),
        (ManifestEntry("a", "etag:x", 1, ref="s3://b", sums=("md5:1", "md5:2")), "of one"),
    ],
)
def test_bad_further_checksums_are_taken(line: ManifestEntry, said: str) -> None:
    """Only a reference with a checksum has further ones: one of each algorithm, in their names' order."""
    assert said in (problem(line) or "")


def test_references_without_a_checksum_are_equal_if_uri_and_size_are(tmp_path: Path) -> None:
    """A version id that came without a checksum is no content (docs/promises.md, promise 6)."""

    def digest(size: int, uri: str, version: str | None) -> str:
        entry = Entry("a", size, None, reference=Reference(uri, False, version=version))
        return write(tmp_path / "manifest", [entry]).digest

    assert digest(1, "s3://b/a", "x") == digest(1, "s3://b/a", None)
    assert digest(1, "s3://b/a", "x") != digest(2, "s3://b/a", "x")
    assert digest(1, "s3://b/a", "x") != digest(-1, "s3://b/a", "x")
    assert digest(1, "s3://b/a", "x") != digest(1, "s3://b/b", "x")


def test_a_references_version_counts_with_its_checksum(tmp_path: Path) -> None:
    """Two object versions with one ETag are two contents."""
    one, two = (
        write(tmp_path / v, [Entry("a", 1, "etag:x", reference=Reference("s3://b/a", version=v))])
        for v in ("v1", "v2")
    )
    assert one.digest != two.digest


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("b", 1, A), Entry("a", 1, A)],
        [Entry("a", 1, A), Entry("a", 1, A)],
        [Entry("\U00010000", 1, A), Entry("\uffff", 1, A)],
        [Entry("a", 1)],
        [Entry("a", 1, "etag:x")],
        [Entry("a", 1, A[:-1])],
        [Entry("a", -1, A)],
        [Entry("../a", 1, A)],
        [Entry("a", 1, "no checksum", reference=Reference("s3://b/a"))],
        [Entry("a", 1, "etag:x", reference=Reference(""))],
        [Entry("\ud800", 1, A)],
    ],
)
def test_what_can_not_stand_in_a_manifest_is_refused(tmp_path: Path, entries: list[Entry]) -> None:
    """Entries out of order, twice, or without what a reader needs leave no manifest."""
    with pytest.raises(ValueError, match=r"."):
        write(tmp_path / "manifest", entries)
    assert os.listdir(tmp_path) == []


def test_a_line_that_readers_refuse_is_not_written(tmp_path: Path) -> None:
    """A path over the line limit is the user's error, told before anything is sent."""
    longest = LINE_LIMIT_BYTES - len(msgspec.json.encode(line_of(Entry("", 1, A))))
    good = write(tmp_path / "manifest", [Entry("é" * (longest // 2), 1, A)])
    assert len(read(tmp_path / "manifest", good.manifest)) == 1
    with pytest.raises(BadPath):
        write(tmp_path / "long", [Entry("a" * (longest + 1), 1, A)])


@given(TEXT | PATHS | st.lists(st.sampled_from(["", ".", "..", "a", "\n"])).map("/".join))
@case("..\n")
@case("a/.")
@case("\0")
@case("")
def test_paths_are_refused_as_the_client_refuses_them(path: str) -> None:
    """A manifest takes exactly the paths that an artifact takes."""
    try:
        good = bool(check_path(path))
    except BadPath:
        good = False
    assert (problem(ManifestEntry(path, A, 1)) is None) == good


def test_many_entries_take_little_memory(tmp_path: Path) -> None:
    """Writing and reading take no more memory for more entries."""

    def peak(count: int) -> int:
        entries = (Entry(f"folder/{at:012d}", at, A) for at in range(count))
        tracemalloc.reset_peak()
        with ManifestWriter(str(tmp_path / "manifest")) as writer:
            writer.add_batch(entries)
            manifest = writer.finish()
        reader = ManifestReader(manifest.manifest, "key")
        with (tmp_path / "manifest").open("rb") as file:
            while chunk := file.read(1 << 16):
                for _ in reader.feed(chunk):
                    pass
        reader.end()
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(1_000)  # what is made once
        few, many = peak(10_000), peak(40_000)
    finally:
        tracemalloc.stop()
    assert many < few + 1_000_000


def test_a_writer_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    """A block that ends before `finish` leaves neither a manifest nor a part of one."""
    with ManifestWriter(str(tmp_path / "manifest")) as writer:
        writer.add(Entry("a", 1, A))
        assert os.listdir(tmp_path) == ["manifest.tmp"]
    assert os.listdir(tmp_path) == []


def test_a_manifest_replaces_what_an_earlier_try_left(tmp_path: Path) -> None:
    """A part of a manifest, or a whole one, is replaced; nobody else may read it."""
    (tmp_path / "manifest").write_bytes(b"old")
    (tmp_path / "manifest.tmp").write_bytes(b"part of an old one, longer than the new one" * 99)
    manifest = write(tmp_path / "manifest", [Entry("a", 1, A)])
    assert len(read(tmp_path / "manifest", manifest.manifest)) == 1
    assert os.listdir(tmp_path) == ["manifest"]
    assert (tmp_path / "manifest").stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path: Path) -> None:
    """What lies there belongs to an earlier try; what it points to does not."""
    (tmp_path / "precious").write_bytes(b"as it was")
    (tmp_path / "manifest.tmp").symlink_to(tmp_path / "precious")
    write(tmp_path / "manifest", [Entry("a", 1, A)])
    assert (tmp_path / "precious").read_bytes() == b"as it was"
    assert not (tmp_path / "manifest").is_symlink()


def test_a_manifest_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are synced before the rename, and the name after it, so that no power loss tears them."""
    steps: list[str] = []
    for step, module in (("sync_file", atomic), ("replace", os), ("sync_folder", atomic)):
        monkeypatch.setattr(module, step, noting(steps, step, getattr(module, step)))
    write(tmp_path / "manifest", [Entry("a", 1, A)])
    assert steps == ["sync_file", "replace", "sync_folder"]


def noting(steps: list[str], step: str, call: Callable[..., None]) -> Callable[..., None]:
    """Do the real step, and note it."""

    def noted(*arguments: object) -> None:
        steps.append(step)
        call(*arguments)

    return noted


def test_a_folder_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    """The operating system's errors stop here, with the path."""
    with pytest.raises(CaptureError, match="nowhere"):
        ManifestWriter(str(tmp_path / "nowhere" / "manifest"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """No room is told apart from other failures."""
    writer = ManifestWriter(str(tmp_path / "manifest"))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file._file.fileno())
    os.close(full)
    writer.add(Entry("a", 1, A))
    with writer, pytest.raises(SpoolFull, match="manifest can't be written"):
        writer.finish()
    assert os.listdir(tmp_path) == []


WRITE = """
import sys
from wherryd.model import Entry
from wherryd.registry.manifest import ManifestWriter
with ManifestWriter(sys.argv[1]) as writer:
    writer.add(Entry("a", 1, "sha256:" + 64 * "0"))
    writer.finish()
"""


def run(path: Path, **environment: str) -> int:
    """Write a manifest in a process of its own."""
    command = [sys.executable, "-c", WRITE, str(path)]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


@pytest.fixture(
    params=["before-sync", "before-rename", "before-folder-sync"],
)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each place at which a kill is tried."""
    return request.param  # type: ignore[no-any-return]


def test_a_kill_leaves_a_whole_manifest_or_none(tmp_path: Path, place: str) -> None:
    """Whatever a killed process left, the next one makes the same manifest."""
    path = tmp_path / "manifest"
    killed = run(path, WHERRY_FAILPOINT=f"registry.file.{place}")
    assert killed == -signal.SIGKILL
    left = path.read_bytes() if path.exists() else None
    assert run(path) == 0
    assert left in (None, path.read_bytes())
    assert os.listdir(tmp_path) == ["manifest"]
