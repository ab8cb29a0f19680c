"""The daemon of a benchmark, looked at from outside: its process, what that uses, when it is at rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_WINDOW_S = 0.5
_LONGEST_S = 120.0


def daemon_pid() -> int:
    """The process id of the home's daemon, which runs."""
    answer = subprocess.run(
        [sys.executable, "-m", "wherry.cli", "daemon", "status", "--json"],
        check=True,
        capture_output=True,
    )
    return int(json.loads(answer.stdout)["pid"])


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_rest() -> None:
    """Wait until the daemon has done what came before: what is measured next is not to pay for it."""
    pid, end = daemon_pid(), time.monotonic() + _LONGEST_S
    quiet = 0
    while quiet < 4:
        if time.monotonic() > end:
            raise TimeoutError(f"the daemon is still busy after {_LONGEST_S:.0f} s")
        before = cpu_s(pid)
        time.sleep(_WINDOW_S)
        quiet = quiet + 1 if cpu_s(pid) - before < 0.05 * _WINDOW_S else 0
