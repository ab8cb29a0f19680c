"""The file that tells how full the spool is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.wire.room import NOTHING, Head, Line, Quota, Room, RoomFile, quota_of


@pytest.fixture
def file(tmp_path: Path) -> Iterator[RoomFile]:
    """A room file, open."""
    file = RoomFile(str(tmp_path / "room"))
    yield file
    file.close()


_TAKES = """
import sys, time
from wherry.wire.room import Line, Room, RoomFile
file = RoomFile(sys.argv[1])
number = file.take_line("s2")
file.write_line(number, Line("s2", Room(7, 1)))
print(number, flush=True)
time.sleep(60)
"""


def test_what_is_said_is_not_read(file: RoomFile) -> None:
    """Head and lines are read as they were written; before the first daemon there is no head."""
    assert file.read().head is None
    head = Head(Quota(None, 5), 2.5, Room(10, 2), Room(3, 1), 9)
    file.write_head(head)
    number = file.take_line("s1")
    file.write_line(number, Line("s1", Room(4, 1), Room(6, 1)))
    state = file.read()
    assert (state.head, state.lines) == (head, [Line("s1", Room(4, 1), Room(6, 1))])
    assert (state.unlogged, state.held) == (Room(4, 1), Room(14, 3))


def test_two_processes_share_a_line(file: RoomFile, tmp_path: Path) -> None:
    """Each process has a line of its own; a killed one's counts until its session is over."""
    assert file.take_line("s1") == 0
    other = subprocess.Popen(
        [sys.executable, "-c", _TAKES, str(tmp_path / "room")], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "1\n"
    file.clear(lambda session: session == "s2")
    assert file.read().unlogged == Room(7, 1), "the line of a process that lives was taken"
    other.send_signal(signal.SIGKILL)
    other.communicate()
    file.clear(lambda session: session == "another")
    assert file.read().unlogged == Room(7, 1)
    assert file.take_line("s3") == 2
    file.clear(lambda session: session == "s2")
    assert file.read().unlogged == NOTHING
    assert file.take_line("s4") == 1


def test_a_forked_child_has_its_parents_line(file: RoomFile) -> None:
    """A lock is not inherited: a child takes a line of its own."""
    assert file.take_line("s1") == 0
    child = os.fork()
    if not child:
        os._exit(file.take_line("s1"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_more_lines_than_one_read_takes(file: RoomFile) -> None:
    """All lines count, however many there are."""
    for number in range(2500):
        file.write_line(number, Line(f"{number}", Room(1, 0)))
    assert file.read().unlogged == Room(2500, 0)


def test_a_file_that_was_removed_is_used(file: RoomFile, tmp_path: Path) -> None:
    """Whoever has the file open sees that others have another one."""
    assert file.is_there()
    (tmp_path / "room").unlink()
    assert not file.is_there()
    (tmp_path / "room").touch()
    assert not file.is_there()


def test_default_quota_counts_the_spool_against_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what would be free without the spool; no inodes where the filesystem makes them as needed."""
    disk = os.statvfs_result((4096, 4096, 1000, 500, 500, 100, 40, 40, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    assert quota_of(str(tmp_path), None, None) == Quota(250 * 4096, 20)
    assert quota_of(str(tmp_path), None, None, Room(100 * 4096, 10)) == Quota(300 * 4096, 25)
    assert quota_of(str(tmp_path), 7, 8) == Quota(7, 8)
    endless = os.statvfs_result((4096, 4096, 1000, 500, 500, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: endless)
    assert quota_of(str(tmp_path), None, None).files is None
