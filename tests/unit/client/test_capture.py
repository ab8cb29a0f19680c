"""Capture: bytes as they were at the call, and errors that leave nothing behind."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wherry
from tests.support.disks import small_disk
from tests.unit.client.test_adding import content
from wherry import capture, copying, errors, stillness
from wherry.rows import Kind
from wherry.spool import Spool
from wherry.wire import places

Program = Callable[..., subprocess.CompletedProcess[str]]
BIG = 3 << 20


def make() -> wherry.Artifact:
    return wherry.Artifact("name", type="type")


def kind_of(artifact: wherry.Artifact, path: str) -> int:
    contents = artifact._life.contents
    assert contents is not None
    row = contents.table.get(path)
    assert row is not None
    return row.kind


def spooled_bytes(home: Path) -> int:
    """What the spool holds, link counts aside."""
    files = [path for path in (home / places.SPOOL).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


@pytest.fixture
def no_reflinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever disk the tests run on, a copy is one."""
    monkeypatch.setattr(copying, "_reflink", lambda *_: False)


# ── ways of copying ────────────────────────────────────────────────────────────────────────────
def _refuse(*_: int) -> int:
    raise OSError(18, "not between these two")


def _do_nothing(*_: int) -> int:
    return 0


@pytest.mark.usefixtures("no_reflinks")
@pytest.mark.parametrize(
    "ways",
    [
        copying._IN_KERNEL,
        copying._IN_KERNEL[-1:],
        (_refuse, _do_nothing, *copying._IN_KERNEL[-1:]),
        (_refuse, _do_nothing),
        (),
    ],
)
def test_a_way_of_copying_loses_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: tuple[copying.Way, ...]
) -> None:
    """Whichever ways the system has, all bytes are copied, also where one gives up in the middle."""
    monkeypatch.setattr(copying, "_IN_KERNEL", ways)
    monkeypatch.setattr(copying, "_STEP_BYTES", 1 << 20)
    data = os.urandom(BIG + 17)
    (tmp_path / "f").write_bytes(data)
    artifact = make()
    artifact.add_file("f")
    assert content(artifact, "f") == data


@pytest.mark.usefixtures("no_reflinks")
def test_way_that_stops_halfway_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way that fails after some bytes is followed by one that goes on behind them."""
    calls: list[int] = []

    def half(source: int, target: int, offset: int, count: int) -> int:
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(22, "no more")
        return os.pwrite(target, os.pread(source, count // 2, offset), offset)

    monkeypatch.setattr(copying, "_IN_KERNEL", (half,))
    data = os.urandom(BIG)
    (tmp_path / "f").write_bytes(data)
    artifact = make()
    artifact.add_file("f")
    assert content(artifact, "f") == data
    assert calls == [0, BIG // 2]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second filesystem")
def test_other_filesystem_is_refused(tmp_path: Path) -> None:
    """A file on another filesystem is copied, and one that is ``immutable`` is read in place."""
    other = Path(f"/dev/shm/wherry-test-{os.getpid()}")
    data = os.urandom(BIG)
    other.write_bytes(data)
    try:
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("the same filesystem")
        artifact = make()
        artifact.add_file(other, name="copied")
        artifact.add_file(other, name="in-place", policy="immutable")
        assert content(artifact, "copied") == data
        assert kind_of(artifact, "in-place") == Kind.IN_PLACE
        entry = artifact.get_entry("in-place")
        assert (entry.local_path, entry.size) == (str(other), BIG)
        assert entry.digest == artifact.get_entry("copied").digest
    finally:
        other.unlink()


# ── immutable ──────────────────────────────────────────────────────────────────────────────────
def test_immutable_is_copied(home: Path, tmp_path: Path) -> None:
    """``immutable`` files are linked into the spool: nothing is copied, and deleting loses nothing."""
    data = os.urandom(BIG)
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "link").symlink_to("f")
    artifact = make()
    artifact.add_file("link", policy="immutable")
    linked = [path for path in (home / places.SPOOL).rglob("*") if path.is_file()]
    assert any(path.stat().st_ino == (tmp_path / "f").stat().st_ino for path in linked)
    (tmp_path / "f").unlink()
    assert content(artifact, "link") == data


def test_unknown_policy_copies(tmp_path: Path) -> None:
    """A policy that is neither of the two raises."""
    (tmp_path / "f").write_text("x")
    with pytest.raises(errors.UsageError, match="policy 'leased'"):
        make().add_file("f", policy="leased")


# ── files that change ──────────────────────────────────────────────────────────────────────────
def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("size", [100, BIG])
@pytest.mark.parametrize("change", [_append, _cut, _rewrite])
def test_torn_bytes_are_captured(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    change: Callable[[Path], None],
) -> None:
    """A file that changes between the first look and the last raises; nothing of it stays."""
    file = tmp_path / "f"
    file.write_bytes(os.urandom(size))
    artifact = make()
    with artifact.new_file("kept") as kept:
        kept.write("kept")
    before = 4 if size == BIG else 0  # as long as all is small, it is in memory
    look = capture._look

    def look_and_change(source: int, local: str) -> os.stat_result:
        seen = look(source, local)
        change(file)
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(capture, "_look", look_and_change)
        with pytest.raises(errors.FileChanged, match="changed while it was captured"):
            artifact.add_file("f")
    assert spooled_bytes(home) == before
    artifact.add_file("f")
    assert content(artifact, "f") == file.read_bytes()
    assert content(artifact, "kept") == b"kept"


@pytest.mark.usefixtures("no_reflinks")
def test_change_in_mid_copy_goes_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written to while the kernel copies it raises."""
    file = tmp_path / "f"
    file.write_bytes(os.urandom(BIG))
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr(copying, "_STEP_BYTES", 1 << 20)
    monkeypatch.setattr(copying, "_MIDDLE", lambda: _rewrite_now(file))
    with pytest.raises(errors.FileChanged):
        make().add_file("f")


@pytest.fixture(params=[100, BIG])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[mmap.mmap]:
    """A file that is mapped for writing, its pages dirty, so that no stamp moves when they change."""
    file = tmp_path / "f"
    file.write_bytes(os.urandom(request.param))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[0] ^= 1
        mapped[-1] ^= 1
        yield mapped


def _followed(read: Callable[..., Any], mapped: mmap.mmap) -> Callable[..., Any]:
    """The same, with a change right after it."""

    def read_and_change(*args: Any) -> Any:
        result = read(*args)
        mapped[-1] ^= 1
        return result

    return read_and_change


@pytest.mark.usefixtures("no_reflinks")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells that a file is mapped")
def test_mapped_file_is_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: mmap.mmap
) -> None:
    """A change that moves no stamp, of a file that is mapped and was changed lately, raises."""
    artifact = make()
    artifact.add_file("f", name="still")
    assert content(artifact, "still") == (tmp_path / "f").read_bytes()
    before = os.stat("f")

    for owner, way in ((Spool, "append"), (copying, "copy")):
        monkeypatch.setattr(owner, way, _followed(getattr(owner, way), mapped))
    with pytest.raises(errors.FileChanged):
        artifact.add_file("f", name="torn")
    assert os.stat("f").st_mtime_ns == before.st_mtime_ns


@pytest.mark.usefixtures("no_reflinks")
def test_set_back_stamp_hides_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change whose mtime was set back is seen by the ctime."""
    file = tmp_path / "f"
    file.write_bytes(os.urandom(BIG))
    os.utime(file, ns=(1, 1))

    def rewrite() -> None:
        _rewrite_now(file)
        os.utime(file, ns=(1, 1))

    monkeypatch.setattr(copying, "_MIDDLE", rewrite)
    with pytest.raises(errors.FileChanged):
        make().add_file("f")


def test_checkpoint_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file that was written and closed just now is read once; small ones cost nothing."""
    (tmp_path / "f").write_bytes(os.urandom(BIG))
    monkeypatch.setattr(capture, "_has", lambda *_: pytest.fail("it was read again"))
    make().add_file("f")


def test_lease_is_in_a_writers_way(tmp_path: Path) -> None:
    """After a capture nobody who opens the file for writing waits, and no signal is left behind."""
    (tmp_path / "f").write_bytes(os.urandom(BIG))
    opened = os.open("f", os.O_RDONLY)
    try:
        assert not stillness.may_be_written(opened)
        os.close(os.open("f", os.O_WRONLY | os.O_NONBLOCK))  # else BlockingIOError
    finally:
        os.close(opened)


def _rewrite_now(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def test_replaced_file_is_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another takes the name of while it is captured is captured as it was."""
    data = os.urandom(BIG)
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "new").write_bytes(os.urandom(BIG))
    monkeypatch.setattr(copying, "_STEP_BYTES", 1 << 20)

    def replace() -> None:
        if (tmp_path / "new").exists():
            (tmp_path / "new").replace(tmp_path / "f")

    monkeypatch.setattr(copying, "_MIDDLE", replace)
    artifact = make()
    artifact.add_file("f")
    assert content(artifact, "f") == data


def test_file_that_vanishes_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone when its turn comes in ``add_dir`` raises, and nothing is added."""
    (tmp_path / "d").mkdir()
    for name in "ab":
        (tmp_path / "d" / name).write_text(name)
    copy = capture._copy

    def copy_and_remove(*args: object) -> object:
        row = copy(*args)  # type: ignore[arg-type]
        (tmp_path / "d" / "b").unlink()
        return row

    monkeypatch.setattr(capture, "_copy", copy_and_remove)
    artifact = make()
    with pytest.raises(errors.FileMissing, match="d/b"):
        artifact.add_dir("d")
    assert len(artifact.manifest) == 0


# ── a full disk ────────────────────────────────────────────────────────────────────────────────
_FULL = """
import os, resource, wherry
from wherry import errors
artifact = wherry.Artifact("name", "type")
os.mkdir("d")
for n in range(6):
    with open(f"d/{n}", "wb") as file:
        file.write(bytes([n]) * 900_000)
os.truncate("d/0", 6 << 20)
with open("big", "wb") as file:
    file.write(b"b" * (6 << 20))
resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, -1))

def spooled():
    home = os.environ["WHERRY_HOME"]
    paths = [os.path.join(f, n) for f, _, names in os.walk(home + "/spool") for n in names]
    return sum(os.stat(path).st_size for path in paths)

artifact.add_file("d/1")
before = spooled()
for add in (
    lambda: artifact.add_dir("d", name="x"),
    lambda: artifact.add_file("big", name="big"),
    lambda: [artifact.add_file("d/2", name=f"m{n}") for n in range(9)],
):
    try:
        add()
        raise SystemExit("nothing was raised")
    except errors.SpoolFull as error:
        assert "no room" in str(error) and "WHERRY_HOME" in str(error), error
try:
    with artifact.new_file("n", "wb") as file:
        for _ in range(9):
            file.write(bytes(1 << 20))
    raise SystemExit("nothing was raised")
except errors.SpoolFull:
    pass
names = list(artifact.manifest.entries)
assert "n" not in names and "big" not in names and not [n for n in names if n.startswith("x")]
assert spooled() == artifact.size, (spooled(), artifact.size)
"""


def test_full_spool_keeps_half_a_file(program: Program) -> None:
    """Where a write to the spool fails for want of room, the call raises and takes its bytes back."""
    program(_FULL)


def test_full_disk_spoils_the_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the call raises ``SpoolFull``; with room again the same artifact goes on."""
    disk = tmp_path / "small"
    disk.mkdir()
    monkeypatch.setenv("WHERRY_HOME", str(disk / "home"))
    code = f"from {__name__} import fill_a_disk; from pathlib import Path; fill_a_disk(Path({str(disk)!r}))"
    with small_disk(disk, 4 << 20) as made:
        done = subprocess.run(
            [*made.prefix, sys.executable, "-c", code],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr


def fill_a_disk(disk: Path) -> None:
    """What is done in a process to which ``disk`` is one of 4 MiB."""
    small, big = disk.with_name("small-file"), disk.with_name("big")
    small.write_bytes(b"s" * 1000)
    big.write_bytes(b"b" * (3 << 20))
    (disk / "home").mkdir(mode=0o700, exist_ok=True)
    (disk / "home" / places.CONFIG).write_text("spool_quota_bytes = '1 TB'\n")
    artifact = make()
    artifact.add_file(str(small))
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    for _ in range(3):
        with pytest.raises(errors.SpoolFull, match="No space left"):
            artifact.add_file(str(big))
    ballast.unlink()
    artifact.add_file(str(big))
    assert content(artifact, "big") == b"b" * (3 << 20)
    assert content(artifact, "small-file") == b"s" * 1000
    with pytest.raises(errors.SpoolFull), artifact.new_file("n", mode="wb") as file:
        file.write(bytes(2 << 20))
    assert list(artifact.manifest.entries) == ["big", "small-file"]
    assert spooled_bytes(disk / "home") == artifact.size


def test_spool_that_is_a_file_is_a_riddle(home: Path, tmp_path: Path) -> None:
    """A spool that can't be written is named, with what to do."""
    home.mkdir(mode=0o700)
    (home / places.SPOOL).write_text("in the way")
    (tmp_path / "f").write_bytes(bytes(20_000))
    with pytest.raises(
        errors.CaptureError, match=f"{places.SPOOL} can't be written.*\n.*WHERRY_HOME"
    ):
        make().add_file("f")


def test_reflink_loses_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system shares the blocks, nothing is copied, and the bytes are the file's."""
    data = os.urandom(BIG)
    (tmp_path / "f").write_bytes(data)

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409  # FICLONE (ioctl_ficlonerange(2))
        return os.pwrite(target, os.pread(source, 2 * BIG, 0), 0)

    monkeypatch.setattr(copying.fcntl, "ioctl", clone)
    monkeypatch.setattr(copying, "_IN_KERNEL", ())
    monkeypatch.setattr(copying, "copy_range", lambda *_: pytest.fail("it was copied"))
    artifact = make()
    artifact.add_file("f")
    assert content(artifact, "f") == data
