"""The disk below the home. Owns: which filesystem it is, whether a daemon can live there, what is free.

Does not own: which folder the home is (``wire.places``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: SQLite's write-ahead log needs shared memory, which these do not have between machines.
NETWORK = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
    }
)
_MOUNTS = Path("/proc/self/mountinfo")


class Disk(NamedTuple):
    """What lies below a folder."""

    filesystem: str  # its type, such as "ext4"; "" where the system does not tell
    mount: str
    free_bytes: int
    total_bytes: int
    free_inodes: int | None  # None where the filesystem makes them as needed

    @property
    def is_network(self) -> bool:
        """Whether it is a network filesystem, where a home can't be."""
        return self.filesystem in NETWORK or self.filesystem.startswith("fuse.")


def look_at(folder: Path) -> Disk:
    """Find out what lies below a folder. Raises ``OSError``."""
    seen = os.statvfs(folder)
    mounts = _MOUNTS.read_text("utf-8", "surrogateescape") if _MOUNTS.exists() else ""
    mount, filesystem = find_mount(os.path.realpath(folder), mounts.splitlines())
    return Disk(
        filesystem=filesystem,
        mount=mount,
        free_bytes=seen.f_bavail * seen.f_frsize,
        total_bytes=seen.f_blocks * seen.f_frsize,
        free_inodes=seen.f_favail if seen.f_files else None,
    )


def find_mount(folder: str, mounts: Iterable[str]) -> tuple[str, str]:
    """Find the mount point that a folder is below, and its filesystem's type.

    Args:
        folder: absolute, without symbolic links.
        mounts: lines of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

    Returns:
        Two empty texts where none fits.
    """
    best = ("", "")
    for line in mounts:
        before, _, after = line.partition(" - ")
        mount = _unescaped(before.split()[4])
        below = folder == mount or folder.startswith(mount.rstrip("/") + "/")
        if below and len(mount) >= len(best[0]):  # of two at one point, the later lies on top
            best = (mount, after.split()[0])
    return best


def _unescaped(text: str) -> str:
    """Spaces and the like are written as octal numbers."""
    for code in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
