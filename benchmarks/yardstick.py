"""How fast the machine is just now: without it, a figure in seconds says nothing on another one."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

_ADDITIONS = 1_000_000
_BLOCK = bytes(1 << 20)


def describe(folder: Path) -> str:
    """Say what a core computes and hashes, and how long the disk below a folder takes to sync 4 KiB."""
    python_s = median([_timed(_add) for _ in range(5)])
    hash_s = median([_timed(lambda: hashlib.sha256(_BLOCK).digest()) for _ in range(9)])
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def sync() -> None:
            os.pwrite(file.fileno(), _BLOCK[:4096], 0)
            os.fsync(file.fileno())

        sync_s = median([_timed(sync) for _ in range(25)])
    return (
        f"this machine: {os.cpu_count()} cores; {_ADDITIONS / python_s / 1e6:.1f} million additions in Python"
        f" a second, SHA-256 {1 / hash_s:.0f} MiB/s, fsync of 4 KiB {sync_s * 1000:.2f} ms"
    )


def _add() -> None:
    total = 0
    for number in range(_ADDITIONS):
        total += number


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
