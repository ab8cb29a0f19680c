"""Every failpoint of client and daemon, hit by SIGKILL in real processes: then everything arrives."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.faults.conftest import Stages
from tests.faults.daemon.test_full_disk import DISK_PLACES
from tests.faults.scenes import (
    CLIENT_PLACES,
    KILLED,
    READER_PLACES,
    READS,
    SCENES,
    TOOLS,
    Scene,
    killed_content,
)
from tests.faults.stage import Stage, check_versions
from tests.faults.test_lookup_kills import REFERENCE_PLACES
from tests.soak import SOAK, rounds
from tests.support.reading import files, records

_PLACES = [(scene, place) for scene in SCENES for place in scene.places]
_DECLARED = """
import importlib, pkgutil, wherry, wherryd
from contextlib import suppress
for package in (wherry, wherryd):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            with suppress(wherry.errors.LibraryMissing):  # of integrations, which touch no disk
                importlib.import_module(module.name)
from wherry.wire.failpoints import DECLARED
print(*DECLARED)
"""


def test_a_place_is_not_tested() -> None:
    """Every place that client and daemon declare is hit by exactly one case below."""
    done = subprocess.run(
        [sys.executable, "-c", _DECLARED], check=True, capture_output=True, text=True
    )
    listed = [place for _, place in _PLACES]
    tested = [*CLIENT_PLACES, *READER_PLACES, *REFERENCE_PLACES, *DISK_PLACES, *listed]
    assert sorted(tested) == sorted(done.stdout.split())


# ── the daemon ─────────────────────────────────────────────────────────────────────────────────
def _cases() -> Iterator[object]:
    """Each scene with up to so many places in which daemons are killed one after another, far apart."""
    in_one = 1 if SOAK else 3
    on_moto = [scene._replace(store="moto") for scene in SCENES if scene.store == "s3"]
    groups = {"s3": "seaweed", "moto": "moto"}
    for scene in [*SCENES, *on_moto] if SOAK else SCENES:
        group = [pytest.mark.xdist_group(groups[scene.store])] if scene.store in groups else []
        apart = -(-len(scene.places) // in_one)
        for first in range(apart):
            places = scene.places[first::apart]
            on = ["moto"] if scene.store == "moto" else []
            yield pytest.param(scene, places, id="+".join([*on, *places]), marks=group)


@pytest.mark.soak
@pytest.mark.parametrize(("scene", "places"), [*_cases()])
def test_a_killed_daemon_loses_or_doubles_a_version(
    stages: Stages, scene: Scene, places: Sequence[str]
) -> None:
    """Wherever daemons are killed: what was logged is there once, in order, with its bytes, what
    can't succeed fails alone, and nothing is left that nobody needs.
    """
    left = [*places]
    while left:  # a kill may take the next daemon past another place
        stage = stages.make(",".join(left), scene.store)
        _play(stage, scene)
        assert stage.hits, f"none of {left} was come by"
        left = [place for place in left if place not in stage.hits]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(3, 400)))
def test_a_daemon_killed_at_a_later_pass_loses_a_version(stages: Stages, seed: int) -> None:
    """The same at any pass of a place, on any store."""
    chance = random.Random(seed)
    scene, place = chance.choice(_PLACES)
    has_folder = any(word in scene.program for word in ("rmtree", "WHERRY_STORE"))
    may_be_anywhere = scene.store == "home" and not has_folder
    store = chance.choice(["home", "s3", "google"]) if may_be_anywhere else scene.store
    _play(stages.make(f"{place}@{chance.randint(1, 6)}", store), scene)


def _play(stage: Stage, scene: Scene) -> None:
    stage.run(TOOLS + scene.program)
    stage.settle()
    stage.check_clean()
    stage.check_taken(scene.requests)
    check_versions(stage.objects, scene.expected)
    scene.check(stage, stage.objects)


# ── the client ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("place", CLIENT_PLACES)
def test_a_killed_program_leaves_half_a_request(stages: Stages, place: str) -> None:
    """Wherever a program is killed: a request is whole or not there, what it captured is swept, and the
    next program is not hindered.
    """
    stage = stages.make(place, is_deep=place.startswith("places."))
    told, code = _run_killed(stage)
    assert code == -signal.SIGKILL, f"{place} was not come by"
    assert _logged_untold(stage, told) == CLIENT_PLACES[place]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(3, 200)))
def test_a_program_killed_at_a_later_pass_leaves_half_a_request(stages: Stages, seed: int) -> None:
    """The same at any pass of a place, on any store."""
    chance = random.Random(seed)
    place = f"{chance.choice([*CLIENT_PLACES])}@{chance.randint(1, 6)}"
    stage = stages.make(place, chance.choice(["home", "s3"]))
    told, _ = _run_killed(stage)
    assert _logged_untold(stage, told) in (0, 1)


_VERIFIES = """
import wherry
run = wherry.init(project="p")
run.use_artifact("model:v0").verify("there")
"""


@pytest.mark.parametrize("place", READER_PLACES)
def test_a_killed_reader_leaves_what_is_in_the_way(stages: Stages, place: str) -> None:
    """A program killed while it gets files that are there leaves them whole; what it left of others is
    no obstacle to ``verify`` and is gone after the next one.
    """
    stage = stages.make(place)
    stage.run(KILLED, "0", env={"WHERRY_FAILPOINT": ""})
    stage.settle()  # the version is there: KILLED itself waits for nothing
    stage.run(READS, env={"WHERRY_FAILPOINT": ""})
    killed = stage.start(READS, "other").process
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, f"{place} was not come by"
    there = stage.machine.work / "there"
    if place == "download.file.before-rename":
        assert list(there.glob(".wherry-*"))
        stage.run(_VERIFIES)
    stage.run(READS)
    stage.run(_VERIFIES)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == killed_content(0)
    stage.settle()
    stage.check_clean()


def _run_killed(stage: Stage) -> tuple[list[int], int]:
    """What a program was told is logged, and how it ended."""
    program = stage.start(KILLED, "0", "1", "2", env={"WHERRY_DURABILITY": "power"}).process
    out, err = program.communicate(timeout=60)
    assert program.returncode in (0, -signal.SIGKILL), err
    return [int(line) for line in out.split()], program.returncode


def _logged_untold(stage: Stage, told: list[int]) -> int:
    """Run the next program, and check all that is there; how many are there that nobody was told of."""
    stage.run(KILLED, "100")
    stage.settle()
    stage.check_clean()
    found = records(stage.objects, "p", "model")
    stage.check_taken(len(found))
    for record in found:
        held = killed_content(record["metadata"]["n"])
        assert dict(files(stage.objects, "p", record)) == held
    untold = len(found) - len(told) - 1
    expected = [*range(len(told) + untold), 100]
    assert [record["metadata"]["n"] for record in found] == expected
    return untold
