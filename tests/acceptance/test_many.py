"""Many processes, several homes, kills at random moments: in order, once, every byte right."""

from __future__ import annotations

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place
from tests.soak import SOAK
from tests.support.machine import Machine, Program
from tests.support.reading import files, records

LOGGER = """
import hashlib, os, random, sys
import wherry

who, logs, names = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
chance = random.Random(who)
with wherry.init(project="many") as run:
    for i in range(logs):
        body = os.urandom(chance.choice((10, 1000, 100_000)))
        a = wherry.Artifact(
            chance.choice(names),
            type="model",
            metadata={"who": who, "i": i, "sha256": hashlib.sha256(body).hexdigest()},
        )
        with a.new_file("body.bin", mode="wb") as f:
            f.write(body)
        run.log_artifact(a)
        print(i, flush=True)
"""

DETACH = {"WHERRY_FINISH": "detach"}
PROCESSES, LOGS, KILLS = (16, 50, 10) if SOAK else (8, 12, 4)


def finish_under_kills(machines: list[Machine], programs: list[Program], kills: int) -> None:
    """Kill daemons at random moments, half of the times while the programs run and half while what they
    left is drained; return when all is done and so many have been hit.
    """
    chance = random.Random(kills)
    ended = lambda: all(program.process.poll() is not None for program in programs)  # noqa: E731
    hits = _kill(machines, chance, kills // 2, ended)
    for program in programs:
        program.wait_done(600)
    with ThreadPoolExecutor() as pool:
        while hits < kills:
            drains = [pool.submit(machine.wait_all_done, 300) for machine in machines]
            hits += _kill(
                machines,
                chance,
                kills - hits,
                lambda drains=drains: all(drain.done() for drain in drains),
            )
            for drain in drains:
                drain.result()
    for machine in machines:
        machine.wait_all_done(300)
    assert hits == kills


def _kill(
    machines: list[Machine], chance: random.Random, most: int, has_ended: Callable[[], bool]
) -> int:
    """Kill until ``most`` daemons were hit, or it has ended; how many were."""
    hits = 0
    while hits < most and not has_ended():
        time.sleep(chance.uniform(0.05, 0.6))
        hits += chance.choice(machines).kill_daemon()
    return hits


def check_all_arrived(place: Place, names: list[str], writers: dict[str, int]) -> None:
    """Every call is one version, in its process's order, with its bytes."""
    seen: dict[str, list[int]] = defaultdict(list)
    for name in names:
        last: dict[str, int] = {}
        for record in records(place.objects, "many", name):
            meta = record["metadata"]
            assert last.get(meta["who"], -1) < meta["i"], (
                f"{name} {record['version']} is out of order"
            )
            last[meta["who"]] = meta["i"]
            seen[meta["who"]].append(meta["i"])
            ((path, body),) = files(place.objects, "many", record)
            assert (path, hashlib.sha256(body).hexdigest()) == ("body.bin", meta["sha256"])
    assert {who: sorted(found) for who, found in seen.items()} == {
        who: list(range(count)) for who, count in writers.items()
    }


@pytest.mark.soak
def test_kills_lose_or_reorder_versions(tmp_path: Path, place: Place) -> None:
    """Processes that log over four names while the daemon is killed: no hole, once, in order."""
    machine = Machine(tmp_path / "machine", place.address, place.env)
    names = ["a", "b", "c", "d"]
    try:
        programs = [
            machine.start(LOGGER, f"p{n}", str(LOGS), ",".join(names), env=DETACH)
            for n in range(PROCESSES)
        ]
        finish_under_kills([machine], programs, KILLS)
    finally:
        machine.close()
    check_all_arrived(place, names, {f"p{n}": LOGS for n in range(PROCESSES)})


@pytest.mark.soak
def test_two_homes_collide_on_one_bucket(tmp_path: Path, place: Place) -> None:
    """Two homes that log to one name, with kills: v0…vN, each once, each home's order kept."""
    logs = 200 if SOAK else 25
    machines = [Machine(tmp_path / f"m{n}", place.address, place.env) for n in range(2)]
    try:
        programs = [
            machine.start(LOGGER, f"home{n}", str(logs), "one", env=DETACH)
            for n, machine in enumerate(machines)
        ]
        finish_under_kills(machines, programs, KILLS)
    finally:
        for machine in machines:
            machine.close()
    check_all_arrived(place, ["one"], {"home0": logs, "home1": logs})
    assert len(records(place.objects, "many", "one")) == 2 * logs
