"""The page's last program, as it stands but for its import, with Ray's real workers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place
from tests.soak import rounds
from tests.support.machine import machine as machine_of
from tests.support.reading import files, records

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".cache/ray/bin/python"
_PROGRAM = _ROOT / "examples/ray_parallel.py"


@pytest.mark.soak
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("_", range(rounds(1, 20)))
@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_workers_of_ray_lose_a_table(tmp_path: Path, place: Place, _: int) -> None:
    """Five workers upsert a table each, and a last run finishes: one version that has them all."""
    with machine_of(tmp_path / "machine", place.address, place.env) as machine:
        env = {**machine.env, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(
            [_PYTHON, _PROGRAM],
            cwd=machine.work,
            env={**env, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        machine.wait_all_done()
    (record,) = records(place.objects, "uncategorized", "parallel-artifact")
    there = dict(files(place.objects, "uncategorized", record))
    tables = [json.loads(there.pop(f"parts/table_{i}.table.json"))["data"] for i in range(5)]
    assert tables == [[[i, i * 2, 2**i]] for i in range(5)]
    assert [*there] == ["distributed_table.partitioned-table.json"]
