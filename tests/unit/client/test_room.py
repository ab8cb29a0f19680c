"""What a program holds of the spool, and what it does where there is no room."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors, room
from wherry.wire import places
from wherry.wire.room import NOTHING, Head, Quota, Room, RoomFile

BIG = 2 << 20


@pytest.fixture
def file(recorder: Recorder) -> Iterator[RoomFile]:
    """The home's room file, as the daemon has it."""
    file = RoomFile(str(recorder.home / places.ROOM))
    file.write_head(Head(Quota(), 0.0))
    yield file
    file.close()


def make(name: str = "a") -> wherry.Artifact:
    """Make an artifact to be filled."""
    return wherry.Artifact(name, "t")


def on_disk(home: Path) -> Room:
    """What lies in the folders of artifacts."""
    folders = [*(home / places.SESSIONS).glob("*/*/")]
    files = [file.stat() for folder in folders for file in folder.iterdir()]
    own = [seen for seen in files if seen.st_nlink == 1]
    return Room(sum(seen.st_size for seen in own), len(own) + len(folders))


def test_what_is_captured_is_not_counted(file: RoomFile, home: Path, tmp_path: Path) -> None:
    """Whatever is captured, replaced, removed or written, the line says what lies on the disk."""
    (tmp_path / "big").write_bytes(os.urandom(BIG))
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "many").mkdir()
    for number in range(40):
        (tmp_path / "many" / str(number)).write_bytes(bytes(100 + number))
    artifact = make()

    def is_counted() -> bool:
        return file.read().unlogged == on_disk(home)

    artifact.add_file("big")
    assert is_counted() and on_disk(home).bytes == BIG
    artifact.add_file("big", name="linked", policy="immutable")
    artifact.add_file("small")
    artifact.add_dir("many")
    assert is_counted()
    with artifact.new_file("written", "wb") as written:
        written.write(bytes(BIG))
    with artifact.new_file("little") as little:
        little.write("little")
    assert is_counted()
    artifact.add_file("big", name="again")
    artifact.add_file("big", name="again", overwrite=True)
    artifact.remove("again")
    assert is_counted()
    with pytest.raises(errors.FileMissing):
        artifact.add_file("not there")
    with pytest.raises(ZeroDivisionError), artifact.new_file("never") as never:
        never.write("never")
        1 / 0  # noqa: B018
    assert is_counted()


def test_logged_and_dropped_artifacts_count_for_ever(file: RoomFile, home: Path) -> None:
    """What is logged is the daemon's to count, and told to it; what is dropped counts until it is removed."""
    run = wherry.init()
    for name in ("logged", "dropped"):
        artifact = make(name)
        with artifact.new_file("f", "wb") as written:
            written.write(bytes(BIG))
        if name == "logged":
            run.log_artifact(artifact)
            assert file.read().unlogged == NOTHING
    assert file.read().unlogged == Room(BIG, 2)
    del artifact, written
    gc.collect()
    with make("next").new_file("f") as little:
        little.write("x")
    assert file.read().unlogged == NOTHING  # that one is in memory


def test_a_link_makes_a_folder_without_room(file: RoomFile, home: Path, tmp_path: Path) -> None:
    """A link takes no room, and its artifact's folder does."""
    (tmp_path / "fixed").write_bytes(b"fixed")
    file.write_head(Head(Quota(files=1), 0.0))
    first = make()
    first.add_file("fixed", policy="immutable")
    assert file.read().unlogged == Room(0, 1)
    with pytest.raises(errors.SpoolFull):
        make().add_file("fixed", policy="immutable")
    assert on_disk(home) == Room(0, 1)


def test_a_child_counts_what_its_parent_holds(file: RoomFile, home: Path) -> None:
    """A forked child has a line of its own, for what it captures itself."""
    artifact = make()
    with artifact.new_file("f", "wb") as written:
        written.write(bytes(BIG))
    before = file.read().unlogged
    child = os.fork()
    if not child:
        try:
            with artifact.new_file("g") as own:
                own.write("g")
            os._exit(int(file.read().unlogged.minus(before) != Room(1, 2)))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (Head(Quota(BIG - 1), 600.0), "This artifact alone needs more than the quota"),
        (Head(Quota(None, 1), 600.0), "in 2 more files.*This artifact alone"),
        (Head(Quota(BIG), 600.0, Room(9, 1), Room(9, 1)), "wait for you.*\n.*wherry sync"),
        (Head(Quota(BIG), 0.0, Room(9, 1)), "logged requests 9 bytes.*Nothing leaves it now"),
    ],
)
def test_a_hopeless_wait(file: RoomFile, home: Path, tmp_path: Path, head: Head, says: str) -> None:
    """Where no waiting helps the call raises at once, says who holds the room, and nothing is left."""
    (tmp_path / "big").write_bytes(bytes(BIG))
    file.write_head(head)
    artifact = make()
    with pytest.raises(errors.SpoolFull, match=f"(?s)is full: it holds.*{says}"):
        artifact.add_file("big")
    assert len(artifact.manifest.entries) == 0
    assert file.read().unlogged.bytes == on_disk(home).bytes == 0
    file.write_head(Head(Quota(), 0.0))
    artifact.add_file("big")


def test_own_artifacts_wait_for_each_other(file: RoomFile, tmp_path: Path) -> None:
    """What this program has captured and not logged is named, since nobody else can make that room."""
    (tmp_path / "big").write_bytes(bytes(BIG))
    file.write_head(Head(Quota(BIG + 9), 600.0))
    first = make("first")
    first.add_file("big")
    with pytest.raises(errors.SpoolFull, match=r"(?s)this program's artifacts.*not logged hold"):
        make("second").add_file("big")
    first.remove("big")
    make("second").add_file("big")


def test_a_file_is_captured_as_it_was_before_the_wait(
    file: RoomFile, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who waits says so, goes on when there is room, and takes the file as it is then."""
    (tmp_path / "big").write_bytes(b"a" * BIG)
    file.write_head(Head(Quota(2 * BIG), 600.0, Room(2 * BIG, 1)))
    artifact = make()
    adding = threading.Thread(target=artifact.add_file, args=("big",))
    adding.start()
    while not any(line.wanted.bytes for line in file.read().lines):
        time.sleep(0.005)
    assert file.read().unlogged.bytes == 0
    (tmp_path / "big").write_bytes(b"b" * BIG)
    file.write_head(Head(Quota(2 * BIG), 600.0, Room(BIG, 1), beat=1))
    adding.join(30)
    assert artifact.manifest.entries["big"].size == BIG
    assert not any(any(line.wanted) for line in file.read().lines)
    (stored,) = [path for path in (home / places.SESSIONS).glob("*/*/*") if path.is_file()]
    assert stored.read_bytes() == b"b" * BIG
    said = capsys.readouterr().err
    assert "Waiting until some of it is sent" in said and "There is room in the spool again" in said


def test_writing_goes_on_after_the_quota(file: RoomFile, home: Path) -> None:
    """A file that is written waits and gives up in the user's own write, once; nothing of it stays."""
    file.write_head(Head(Quota(BIG), 0.0, Room(9, 1)))
    artifact = make()
    with pytest.raises(errors.SpoolFull), artifact.new_file("f", "wb") as written:
        for _ in range(9):
            written.write(bytes(BIG // 4))
    assert len(artifact.manifest.entries) == 0
    assert on_disk(home).bytes == file.read().unlogged.bytes == 0


def test_small_quota_is_taken_ahead(file: RoomFile, home: Path) -> None:
    """What a capture takes ahead is no more than a small part of the quota, and is given back."""
    claim = room.Claim()
    file.write_head(Head(Quota(1 << 20, 1 << 12), 0.0))
    assert not room.reserve(str(home), claim, Room(10, 1))
    assert file.read().unlogged == Room(10, 1)
    claim.use(Room(10, 1))
    room.reserve(str(home), claim, Room(10, 0))
    assert file.read().unlogged == Room(20 + 1024, 1 + 4)
    claim.use(Room(10, 0))
    room.settle(claim)
    assert file.read().unlogged == Room(20, 1)


def test_before_the_first_daemon_nothing_counts(recorder: Recorder, tmp_path: Path) -> None:
    """Until a daemon has said what the quota is, that of config.toml or half of what is free holds."""
    (tmp_path / "big").write_bytes(bytes(BIG))
    (recorder.home / places.CONFIG).write_text("spool_quota_bytes = 1000\n")
    with pytest.raises(errors.SpoolFull, match="of 1000 bytes"):
        make().add_file("big")
    (recorder.home / places.CONFIG).unlink()
    make().add_file("big")
