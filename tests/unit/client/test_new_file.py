"""``new_file``: what a program writes goes straight into the spool, whole or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import IO

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_adding import content
from wherry import copying, errors, spool_file
from wherry.wire import places
from wherry.wire.room import NOTHING, RoomFile


def make() -> wherry.Artifact:
    return wherry.Artifact("name", type="type")


def spool_files(home: Path) -> list[Path]:
    found = [path for path in (home / places.SPOOL).rglob("*") if path.is_file()]
    return [path for path in found if path.name != "lock"]


@pytest.mark.parametrize("size", [0, 10, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_written_bytes_are_lost(home: Path, size: int) -> None:
    """Files of any size arrive; small ones share a spool file with the rest."""
    data = os.urandom(size)
    artifact = make()
    with artifact.new_file("first", mode="wb") as file:
        file.write(b"1")
    with artifact.new_file("second", mode="xb") as file:
        file.write(data)
    assert content(artifact, "second") == data
    assert artifact.get_entry("second").size == size
    assert len(spool_files(home)) == (0 if size < 1000 else 1 if size < 1 << 20 else 2)


def test_exception_adds_half_a_file(home: Path) -> None:
    """An exception in the block passes through as it is, and nothing is added or left."""
    artifact = make()
    with pytest.raises(ZeroDivisionError), artifact.new_file("x") as file:
        file.write("half")
        _ = 1 / 0
    assert len(artifact.manifest) == 0
    assert spool_files(home) == []
    with artifact.new_file("x") as file:
        file.write("whole")
    assert content(artifact, "x") == b"whole"


def test_encoding_error_is_wrapped() -> None:
    """An encoding error in the block passes through as it is."""
    artifact = make()
    with pytest.raises(UnicodeEncodeError), artifact.new_file("x", encoding="ascii") as file:
        file.write("é")
    assert len(artifact.manifest) == 0


def test_modes_differ_from_open(home: Path) -> None:
    """Text, bytes, reading back while writing: as ``open`` has it; no other mode."""
    artifact = make()
    with artifact.new_file("text", encoding="utf-16") as file:
        file.write("é\n")
    assert content(artifact, "text") == "é\n".encode("utf-16")
    with artifact.new_file("both", mode="w+b") as file:
        file.write(b"12345")
        file.seek(1)
        assert file.read(2) == b"23"
        file.seek(3)
        file.write(b"XY")
        os.write(file.fileno(), b"")
    assert content(artifact, "both") == b"123XY"
    for mode in ("r", "a", "", "xw", "bb", "xbt", "U"):
        with pytest.raises(errors.UsageError, match="mode"), artifact.new_file("m", mode=mode):
            pass
    assert len(spool_files(home)) == 1


def test_two_open_files_mix() -> None:
    """Several new files may be open at once, beside other calls."""
    artifact = make()
    with artifact.new_file("a") as a, artifact.new_file("b") as b:
        a.write("a")
        b.write("b")
        with artifact.new_file("c") as c:
            c.write("c")
    assert [content(artifact, path) for path in "abc"] == [b"a", b"b", b"c"]


def test_same_name_twice_at_once() -> None:
    """Of two that are open under one name the second to end raises; the first stays."""
    artifact = make()
    with pytest.raises(errors.PathTaken), artifact.new_file("a") as slow:
        with artifact.new_file("a") as quick:
            quick.write("quick")
        slow.write("slow")
    assert content(artifact, "a") == b"quick"


def test_closing_in_the_block_hurts() -> None:
    """A block that closes its file itself has added it all the same."""
    artifact = make()
    with artifact.new_file("a") as file:
        file.write("x")
        file.close()
    assert content(artifact, "a") == b"x"


def test_refused_file_stays_in_the_spool(home: Path) -> None:
    """A file that gets no place in the artifact at its block's end takes no room."""
    artifact = make()
    with pytest.raises(errors.PathTaken), artifact.new_file("x", "xb") as outer:
        outer.write(bytes(2_000_000))
        with artifact.new_file("x") as inner:
            inner.write("first")
    assert [path.stat().st_size for path in spool_files(home)] == [5]


@pytest.mark.parametrize("is_closed", [False, True])
def test_log_in_the_block_ends_in_an_error_of_the_system(
    recorder: Recorder, home: Path, is_closed: bool
) -> None:
    """A file whose artifact was logged, sent and freed meanwhile raises that it was logged."""
    artifact = make()
    with pytest.raises(errors.ArtifactFinalizedError), artifact.new_file("x") as file:
        file.write("late")
        wherry.init().log_artifact(artifact)
        if is_closed:
            file.close()
        for path in spool_files(home):  # as the daemon does
            path.unlink()


# ── in memory, until a file is wanted ──────────────────────────────────────────────────────────
def test_name_that_is_asked_for_loses_what_is_written() -> None:
    """A thread may ask for the file's name or descriptor while another writes: nothing gets lost."""
    for turn in range(40):
        artifact, go = make(), threading.Barrier(2)
        with artifact.new_file("x", "wb") as file:

            def write(file: IO[bytes] = file, go: threading.Barrier = go) -> None:
                go.wait()
                file.write(b"x" * 20_000)
                file.flush()

            thread = threading.Thread(target=write)
            thread.start()
            go.wait()
            _ = file.fileno() if turn % 2 else file.name
            thread.join()
        assert content(artifact, "x") == b"x" * 20_000


@pytest.mark.parametrize("size", [10, 20_000])
def test_file_that_is_over_comes_back(recorder: Recorder, home: Path, size: int) -> None:
    """Whoever looks at a file after its block changes nothing, and a lost answer stays harmless."""
    artifact, run = make(), wherry.init()
    with artifact.new_file("x", "wb") as file:
        file.write(bytes(size))
    before = spool_files(home)
    recorder.refuse("Log", "CommError")
    with pytest.raises(errors.CommError):
        run.log_artifact(artifact)
    assert "BufferedWriter" in repr(file)
    with pytest.raises(ValueError, match="closed file"):
        file.fileno()
    assert spool_files(home) == before
    run.log_artifact(artifact)
    assert recorder.read == {"x": bytes(size)}


def test_file_that_grows_after_the_log_changes_the_request(recorder: Recorder, home: Path) -> None:
    """What went with the request stays so when the artifact's folder is needed after all."""
    artifact, run = make(), wherry.init()
    with artifact.new_file("x") as file:
        file.write("x")
    recorder.refuse("Log", "CommError")
    with (
        pytest.raises(errors.ArtifactFinalizedError),
        artifact.new_file("late", "wb") as late,
    ):
        with pytest.raises(errors.CommError):
            run.log_artifact(artifact)
        late.write(bytes(20_000))
        late.flush()
    run.log_artifact(artifact)
    (logged,) = recorder.logged
    assert recorder.read == {"x": b"x"} and not logged.header.folder
    assert spool_files(home) == []


@pytest.mark.parametrize("size", [10, 20_000])
def test_position_is_another_than_a_files(tmp_path: Path, size: int) -> None:
    """In memory as on the disk, positions are those of any file, and so are the errors."""

    def use(file: IO[bytes]) -> list[object]:
        file.write(b"0123456789" * (size // 10))
        seen: list[object] = [file.seek(3), file.tell(), file.seek(2, 1), file.seek(-4, 2)]
        for wrong in (
            lambda: file.seek(-1),
            lambda: file.seek(-size - 1, 2),
            lambda: file.truncate(-1),
        ):
            try:
                wrong()
            except OSError as error:
                seen.append(error.errno)
        seen += [file.tell(), file.read(2), file.truncate(size - 1), file.seek(size + 5)]
        seen += [file.write(b"end"), file.seek(0), file.read(), file.truncate(size + 20)]
        return seen

    artifact = make()
    with artifact.new_file("x", "w+b") as file, (tmp_path / "real").open("w+b") as real:
        assert use(file) == use(real)
    assert content(artifact, "x") == (tmp_path / "real").read_bytes()
    for closed in (file, real):
        for ask in (closed.readable, closed.writable, closed.seekable, closed.tell):
            with pytest.raises(ValueError, match="closed file"):
                ask()


def test_interrupted_closing_leaves_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the beginning of ``close`` reaches the user, and nothing is left."""

    def interrupted(_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    artifact = make()
    with pytest.raises(KeyboardInterrupt), artifact.new_file("x", "wb") as file:
        file.write(bytes(20_000))
        monkeypatch.setattr(spool_file._Raw, "close", interrupted)
    assert spool_files(home) == []
    assert len(artifact.manifest) == 0


def test_file_that_can_not_be_made_holds_room(
    recorder: Recorder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk takes no file, what was written is still there, and no room is held for it."""

    def full(*_: object) -> None:
        raise copying.WriteFailed(OSError(errno.ENOSPC, "full"))

    artifact = make()
    with artifact.new_file("x", "wb") as file:
        file.write(b"small")
        file.flush()
        with monkeypatch.context() as patch:
            patch.setattr(copying, "write_all", full)
            with pytest.raises(errors.SpoolFull):
                file.fileno()
    assert content(artifact, "x") == b"small"
    wherry.init().log_artifact(artifact)
    room = RoomFile(str(home / places.ROOM))
    assert room.read().unlogged == NOTHING
    room.close()
    assert [path.stat().st_size for path in spool_files(home)] == [5]


def test_child_moves_its_parents_file(home: Path) -> None:
    """A forked child that looks at a file of its parent's leaves it where it is."""
    with make().new_file("x") as file:
        file.write("x")
        file.flush()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                repr(file)
                with pytest.raises(errors.ArtifactStateError):
                    file.fileno()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert spool_files(home) == []
