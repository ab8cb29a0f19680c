"""Whether a file stands still while it is read, as far as the system tells without reading it twice.

Owns: what stamps, the kernel's clock and a lease say. Does not own: reading, and comparing what was read
where they say too little (``capture``).

Stamps tell of each write(2) that begins after the first look, if they can move: the kernel writes them at a
write's beginning, from a clock with ticks of some milliseconds (before Linux 6.13). They tell nothing of a
write that goes on already, and little of a mapped file. A read lease (``fcntl(2)``, F_SETLEASE) can be had
only while nobody has the file open or mapped for writing; it is given back at once, since whoever opens the
file to write would wait for it. So a file that was closed before it is added is read once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

#: A file that was written to before that is taken to be still, even if it is open: stamps move meanwhile,
#: also those of a mapped file, whose pages the kernel writes back (and watches anew) twice a minute.
RECENT_NS = 60 * 10**9
_TICK_NS = 20 * 10**6  # no kernel's is longer
#: CLOCK_REALTIME_COARSE (clock_gettime(2)): what stamps are taken from.
_TICKING_CLOCK = 5 if sys.platform == "linux" else time.CLOCK_REALTIME


def let_stamps_move(seen: os.stat_result) -> None:
    """Wait, some milliseconds at most, until a further write would get another stamp than the last."""
    while 0 <= seen.st_ctime_ns - _now_ns() < _TICK_NS:
        time.sleep(0.001)


def is_recent(seen: os.stat_result) -> bool:
    """Tell whether a file was changed in the last minute, by its stamps."""
    return max(seen.st_mtime_ns, seen.st_ctime_ns) > _now_ns() - RECENT_NS


def may_be_written(opened: int) -> bool:
    """Tell whether somebody has a file open or mapped for writing; False where nobody can tell.

    Args:
        opened: for reading only.
    """
    if sys.platform != "linux":
        return False
    try:
        # A lease that breaks in this instant would end the process by SIGIO; nobody minds SIGURG.
        fcntl.fcntl(opened, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _now_ns() -> int:
    return time.clock_gettime_ns(_TICKING_CLOCK)
