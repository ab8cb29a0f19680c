"""Many processes, several homes, kills at random moments: in order, once, every byte right."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.conftest import FURTHER, MOTO, Place
from tests.soak import SOAK, rounds
from tests.support.hunting import Hunt, Pace
from tests.support.machine import Machine, Program, wait_until
from tests.support.machine import machine as machine_of
from tests.support.queue import done, taken
from tests.support.reading import files, records

LOGGER = (
    """
import hashlib, os, random, sys, time
import wherry

who, logs, names, pace = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
chance = random.Random(who)
"""
    + Pace.WAIT
    + """
with wherry.init(project="many") as run:
    for i in range(logs):
        wait_turn(i)
        body = os.urandom(chance.choice((10, 1000, 100_000)))
        a = wherry.Artifact(
            chance.choice(names),
            type="model",
            metadata={"who": who, "i": i, "sha256": hashlib.sha256(body).hexdigest()},
        )
        with a.new_file("body.bin", mode="wb") as f:
            f.write(body)
        run.log_artifact(a)
"""
)

PROCESSES, LOGS, KILLS = (16, 50, 10) if SOAK else (8, 12, 4)


def start(machine: Machine, who: str, names: list[str], pace: Pace) -> Program:
    """Start a program that logs as much as the pace lets it, and leaves the rest to the daemon."""
    argv = (who, str(pace.logs), ",".join(names), str(pace.file))
    return machine.start(LOGGER, *argv, env={"WHERRY_FINISH": "detach"})


def log_side_by_side(machines: Sequence[Machine], pace: Pace, logs: int) -> None:
    """Let each machine's only program log so often, each time all of them at once."""
    for _ in range(logs):
        pace.let(1)
        wait_until(lambda: all(done(machine.home) == pace.allowed for machine in machines))


def finish(machines: Sequence[Machine], programs: Sequence[Program]) -> None:
    """Wait until the programs have ended, and all that they left is done."""
    for program in programs:
        program.wait_done()
    for machine in machines:
        machine.wait_all_done()


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
    names = ["a", "b", "c", "d"]
    pace = Pace(tmp_path / "pace", LOGS)
    with machine_of(tmp_path / "machine", place.address, place.env) as machine:
        programs = [start(machine, f"p{n}", names, pace) for n in range(PROCESSES)]
        Hunt([machine], pace, PROCESSES).run(KILLS)
        pace.let(pace.left)
        finish([machine], programs)
        assert taken(machine.home) == PROCESSES * LOGS
    check_all_arrived(place, names, {f"p{n}": LOGS for n in range(PROCESSES)})


@pytest.mark.soak
def test_two_homes_collide_on_one_bucket(tmp_path: Path, place: Place) -> None:
    """Two homes that log to one name, with kills: v0…vN, each once, each home's order kept."""
    logs, rounds = (200, 80) if SOAK else (30, 6)
    pace = Pace(tmp_path / "pace", logs)
    with ExitStack() as stack:
        machines = [
            stack.enter_context(machine_of(tmp_path / f"m{n}", place.address, place.env))
            for n in range(2)
        ]
        for machine in machines:
            machine.wherry("daemon", "start")
        programs = [start(machine, f"home{n}", ["one"], pace) for n, machine in enumerate(machines)]
        log_side_by_side(machines, pace, rounds)
        Hunt(machines, pace, 1).run(KILLS)
        pace.let(pace.left)
        finish(machines, programs)
        assert [taken(machine.home) for machine in machines] == [logs, logs]
    check_all_arrived(place, ["one"], {"home0": logs, "home1": logs})
    found = records(place.objects, "many", "one")
    assert len(found) == 2 * logs
    writers = [record["metadata"]["who"] for record in found]
    changes = sum(before != after for before, after in itertools.pairwise(writers))
    assert changes >= rounds, "the homes did not meet"


@pytest.mark.soak
@pytest.mark.parametrize("place", ["folder", "s3", *(FURTHER or [MOTO])], indirect=True)
def test_eight_homes_fill_one_name(tmp_path: Path, place: Place) -> None:
    """Eight daemons commit to one name at once, with kills: v0…vN without a hole, each request once."""
    homes, logs, kills = (8, 100, 16) if SOAK else (8, 8, 2)
    pace = Pace(tmp_path / "pace", logs)
    with ExitStack() as stack:
        machines = [
            stack.enter_context(machine_of(tmp_path / f"m{n}", place.address, place.env))
            for n in range(homes)
        ]
        programs = [start(machine, f"home{n}", ["one"], pace) for n, machine in enumerate(machines)]
        Hunt(machines, pace, 1).run(kills)
        pace.let(pace.left)
        finish(machines, programs)
        assert [taken(machine.home) for machine in machines] == [logs] * homes
    check_all_arrived(place, ["one"], {f"home{n}": logs for n in range(homes)})
    found = [record["version"] for record in records(place.objects, "many", "one")]
    assert found == list(range(homes * logs))


SAME = """
import os, random, sys, time, wherry
who, size, go = sys.argv[1], int(sys.argv[2]), sys.argv[3]
body = random.Random(7).randbytes(size)
while not os.path.exists(go):
    time.sleep(0.001)
with wherry.init(project="many") as run:
    for name in ("everybody's", who):
        a = wherry.Artifact(name, type="model", metadata={"who": who})
        with a.new_file("large.bin", mode="wb") as f:
            f.write(body)
        for n in range(20):
            with a.new_file(f"small {n}") as f:
                f.write(f"the same {n}")
        run.log_artifact(a)
"""

_SAME_BYTES = 40 << 20


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(1, 10)))
def test_homes_in_each_others_way_with_the_same_bytes(
    tmp_path: Path, place: Place, seed: int
) -> None:
    """Several machines send the same large file and the same small ones at once, and are killed meanwhile:
    every version is whole, and the bytes are there once.
    """
    homes, chance, go = (8 if SOAK else 4), random.Random(seed), tmp_path / "go"
    with ExitStack() as stack:
        machines = [
            stack.enter_context(machine_of(tmp_path / f"m{n}", place.address, place.env))
            for n in range(homes)
        ]
        for machine in machines:
            machine.wherry("daemon", "start")
        programs = [
            machine.start(
                SAME, f"home{n}", str(_SAME_BYTES), str(go), env={"WHERRY_FINISH": "detach"}
            )
            for n, machine in enumerate(machines)
        ]
        go.touch()
        for machine in chance.sample(machines, homes // 2):
            wait_until(lambda machine=machine: taken(machine.home) > 0, 60, 0.002)
            time.sleep(chance.random())
            machine.kill_daemon()
        finish(machines, programs)
    body = random.Random(7).randbytes(_SAME_BYTES)
    wanted = {"large.bin": body} | {f"small {n}": b"the same %d" % n for n in range(20)}
    found = records(place.objects, "many", "everybody's")
    assert sorted(record["metadata"]["who"] for record in found) == [
        f"home{n}" for n in range(homes)
    ]
    for record in [*found, *(records(place.objects, "many", f"home{n}")[0] for n in range(homes))]:
        assert dict(files(place.objects, "many", record)) == wanted
    assert len(place.objects.keys("many/blobs/")) == 1
