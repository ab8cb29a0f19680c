"""A store that somebody has removed something from, behind everybody's back: no version with a hole."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place, bucket
from tests.support.chaos import Chaos
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import files, key_of, manifest, records
from tests.support.servers import Seaweed

LOG = """
import sys
from pathlib import Path
import wherry

run = wherry.init(project="p")
made = wherry.Artifact(sys.argv[1], type="model", metadata={"n": int(sys.argv[2])})
for n in range(1200):
    with made.new_file(f"small/{n:04}") as file:
        file.write(str(n))
with made.new_file("large.bin", mode="wb") as file:
    file.write(b"large" * 500_000)
for path in sys.argv[3:]:
    with made.new_file(path) as file:
        file.write(path)
run.log_artifact(made).wait()
"""
HELD = {f"small/{n:04}": b"%d" % n for n in range(1200)} | {"large.bin": b"large" * 500_000}


def of(kind: str) -> Callable[[str], bool]:
    """Whether a key is of a kind of object."""
    return lambda key: f"/{kind}/" in key


def is_any(key: str) -> bool:
    """All but the store's id and the last record."""
    return key != "wherry.json" and not key.endswith("/versions/v00000000.json")


def held(place: Place, name: str, version: int) -> dict[str, bytes]:
    """What a version holds."""
    return dict(files(place.objects, "p", records(place.objects, "p", name)[version]))


@pytest.fixture
def on(tmp_path: Path, place: Place) -> Iterator[Machine]:
    """The machine, ended with the test."""
    with machine(tmp_path / "machine", place.address, place.env) as made:
        yield made


@pytest.mark.xdist_group("seaweed")
@pytest.mark.parametrize("lost", [of("blobs"), of("packs"), of("manifests"), is_any])
def test_a_version_names_what_was_removed(
    on: Machine, place: Place, lost: Callable[[str], bool]
) -> None:
    """Whatever is removed: the next version with the same files is whole, in a bucket that was emptied but
    for its id and the last record, too.
    """
    on.run(LOG, "model", "0")
    gone = [key for key in place.objects.keys("") if lost(key)]
    for key in gone:
        place.objects.remove(key)
    on.run(LOG, "model", "1", "more")
    assert gone and held(place, "model", 1) == HELD | {"more": b"more"}
    claim = json.loads(place.objects.get("p/artifacts/model/artifact.json"))
    assert claim["type"] == "model"


@pytest.mark.xdist_group("seaweed")
def test_logging_again_brings_nothing_back(on: Machine, place: Place) -> None:
    """What was removed of a version is there again when the same is logged again, which is that version."""
    on.run(LOG, "model", "0")
    for key in [key for key in place.objects.keys("") if of("blobs")(key) or of("packs")(key)]:
        place.objects.remove(key)
    on.run(LOG, "model", "0")
    assert len(records(place.objects, "p", "model")) == 1
    assert held(place, "model", 0) == HELD


FIXED = """
import sys
from pathlib import Path
import wherry

run = wherry.init(project="p")
made = wherry.Artifact(sys.argv[1], type="model")
made.add_file("fixed.bin", policy="immutable")
run.log_artifact(made)
"""


@pytest.mark.xdist_group("seaweed")
def test_what_can_not_be_had_again_takes_a_number(tmp_path: Path, place: Place) -> None:
    """Bytes that the store has lost, of a file that changed meanwhile: the request fails, says what is
    missing and what to do, and the next one has its number.
    """
    # Each daemon, also one that the program starts after the first to note the run's end.
    kill = {"WHERRY_FAILPOINT": "commit.look.before-back", "WHERRY_FINISH": "detach"}
    with machine(tmp_path / "machine", place.address, place.env | kill) as on:
        fixed = on.work / "fixed.bin"
        fixed.write_bytes(b"fixed" * 500_000)
        on.run(FIXED, "first")
        on.wait_all_done()
        (entry,) = manifest(place.objects, "p", records(place.objects, "p", "first")[0])
        place.objects.remove(key_of("p", entry))
        on.run(FIXED, "second")
        wait_until(lambda: on.daemon_pid() is None)
        del on.env["WHERRY_FAILPOINT"]
        with fixed.open("r+b") as file:
            file.write(b"FIXED")
        on.wherry("status")  # starts the daemon
        wait_until(lambda: _failed(on))
        (failed,) = _failed(on)
        assert failed["error"] == "FileChanged"
        assert key_of("p", entry) in failed["reason"]
        assert "wherry retry" in failed["reason"]
        on.run(LOG, "second", "1")
    assert held(place, "second", 0) == HELD


def _failed(on: Machine) -> list[dict[str, str]]:
    found = json.loads(on.wherry("queue", "--json", "--state=failed"))
    assert isinstance(found, list)
    return found


@pytest.mark.xdist_group("seaweed")
def test_each_entry_costs_a_question(tmp_path: Path, seaweed: Seaweed) -> None:
    """What a request has put itself is not asked for once more; of the rest each object is, once, and not
    each entry.
    """
    place = bucket(seaweed)
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "machine", address, place.env) as on:
            on.run(LOG, "model", "0")
            # Before they are put; the pack is so small that it is put unasked.
            assert _heads(chaos) == {"blobs": 1, "manifests": 1}
            on.run(LOG, "model", "1", "more")
            # The blob, the pack and the manifest are looked at again; before it is put, the manifest.
            assert _heads(chaos) == {"blobs": 1, "packs": 1, "manifests": 2}
    assert held(place, "model", 1) == HELD | {"more": b"more"}


def _heads(chaos: Chaos) -> dict[str, int]:
    """How many objects of each kind were asked for since the last time."""
    asked, chaos.asked = chaos.asked, []
    heads = [line for line in asked if line.startswith("HEAD ")]
    kinds = [re.search("/(blobs|packs|manifests)/", line) for line in heads]
    return dict(Counter(kind[1] for kind in kinds if kind))
