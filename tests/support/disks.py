"""A small disk of a test's own, where nobody may mount anything: a tmpfs in a mount namespace.

Owns: the namespace, getting into it, and seeing it from outside. Does not own: the programs in it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o "size=$1,mode=0700" wherry-test "$0" && echo mounted && read -r _'


class SmallDisk:
    """A disk at ``place``, for those who are in its namespace.

    Args:
        place: a folder.
        pid: of a process in the namespace.
    """

    def __init__(self, place: Path, pid: int) -> None:
        #: What a command has to begin with to run where the disk is.
        self.prefix = [
            *("nsenter", f"--target={pid}", "--user", "--mount", "--preserve-credentials"),
            "--wd=.",  # the caller's folder
        ]
        #: The same disk, for everybody else.
        self.outside = Path(f"/proc/{pid}/root{place}")


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A disk at a folder that is there; where it can't be had, the test is skipped."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("there is no unshare here")
    with subprocess.Popen(
        [*own, "sh", "-c", _MOUNT, str(place), str(size_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("no mounts of our own here")
        yield SmallDisk(place, holder.pid)
        holder.stdin.close()
