"""Room on the home's disk for the steps that make room.

Owns: the file ``reserve`` in the home. Does not own: when it is given up (``writer``, and whoever else
can't write what leads to an upload), when it is made anew (the daemon's rounds).

A disk that is full would keep the queue from writing that bytes have arrived and may be deleted. What
a kill leaves: a file that is there, too short, or gone; the next round makes it whole.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from wherry.wire.failpoints import failpoint

SIZE_BYTES = 4 << 20
#: Made only where so much is free: room that was just given up is not taken again.
_WORTH_BYTES = 4 * SIZE_BYTES
_CHUNK = bytes(1 << 20)

_MIDDLE = failpoint("reserve.file.middle")
_GIVEN_UP = failpoint("reserve.file.given-up")


class Reserve:
    """Bytes that are kept for a full disk. Every method blocks.

    Args:
        path: of the file. Its folder is there, and is meant also when another lies there later: the home
            may be removed, and made anew for another daemon.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder; the file stays."""
        os.close(self._folder)

    def give_up(self) -> bool:
        """Delete it; whether there was one."""
        try:
            os.unlink(self._name, dir_fd=self._folder)
        except OSError:
            return False
        _GIVEN_UP()
        return True

    def renew(self) -> None:
        """Make it, where it is missing and there is room."""
        try:
            if self._size_bytes() < SIZE_BYTES and self._is_room():
                self._write()
        except OSError:
            self.give_up()

    def _size_bytes(self) -> int:
        try:
            return os.stat(self._name, dir_fd=self._folder).st_size
        except FileNotFoundError:
            return 0

    def _is_room(self) -> bool:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize >= _WORTH_BYTES

    def _write(self) -> None:
        with open(
            self._name, "wb", opener=partial(os.open, mode=0o600, dir_fd=self._folder)
        ) as file:
            for _ in range(SIZE_BYTES // len(_CHUNK)):
                file.write(_CHUNK)
                _MIDDLE()
