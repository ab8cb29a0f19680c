"""``new_file``: what a program writes goes straight into the spool, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_adding import content
from wherry import errors
from wherry.wire import places


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
