"""The simulation itself: one seed is one history, and a failure tells it."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from unittest.mock import patch

import pytest
import structlog

from tests.simulation import disks
from tests.simulation.history import History, run_history
from tests.simulation.plan import Plan
from tests.simulation.promises import Broken
from tests.simulation.users import Users
from wherryd.commit.worker import LaneWorker

SEEDS = range(30)
#: Each is a crowd.
CROWDS = range(6)


def crowd() -> Plan:
    """Many tasks at once: where the order in a set of them counts, it shows."""
    return Plan(
        homes=2,
        lanes=6,
        processes=6,
        logs=3,
        contents=100,
        lives=3,
        aliases=("best", "prod"),
        spread_s=0.2,
    )


def changes_of(seed: int, plan: Plan | None) -> str:
    """All that the store saw in one history, in short."""
    history = History(seed, plan)
    history.run()
    world = history.world
    seen = [(change.at, change.key, change.body, change.writer) for change in world.history]
    return hashlib.sha256(repr((seen, world.puts)).encode()).hexdigest()[:16]


def test_the_same_seed_gives_another_history() -> None:
    """One seed drives clock, faults and crashes: the same history in any process."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    one, two = (process.communicate()[0].splitlines() for process in running)
    assert len(one) == len(SEEDS) + len(CROWDS)
    assert one == two


def test_a_used_disk_is_not_as_new() -> None:
    """What the history before has left on a disk is gone, down to the numbers that it gave."""
    for seed in SEEDS:
        run_history(seed)
    used, new = disks.take(), disks.new()
    assert list(used.iterdump()) == list(new.iterdump())
    assert used.total_changes > new.total_changes


def test_a_failure_hides_its_seed() -> None:
    """Whatever ends a history, its seed is told."""
    with (
        patch.object(Users, "_reader", side_effect=ZeroDivisionError),
        pytest.raises(ZeroDivisionError) as raised,
    ):
        run_history(4711)
    assert any("seed 4711" in note for note in raised.value.__notes__)


def test_a_crash_is_told_as_a_hang() -> None:
    """A stage that ended by an exception is named, not what then did not happen."""

    async def put(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with patch.object(LaneWorker, "_put", put), pytest.raises(Broken, match=r"crashed.*a bug"):
        run_history(4711)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for seed in SEEDS:
        print(seed, changes_of(seed, None))
    for seed in CROWDS:
        print(seed, changes_of(seed, crowd()))
