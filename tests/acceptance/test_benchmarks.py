"""The benchmarks, with small numbers: they work. What they measure is for `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_NAMES = sorted(path.stem.removeprefix("bench_") for path in _REPOSITORY.glob("benchmarks/bench_*"))


@pytest.mark.parametrize("name", _NAMES)
def test_benchmark_does_not_work(name: str) -> None:
    """Each benchmark goes through to its table, with the code as it is now."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", name],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
