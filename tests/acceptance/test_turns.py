"""Whose turn it is on a slow line: who has much to send keeps nobody who has little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import bucket
from tests.soak import SOAK, rounds
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import records
from tests.support.servers import Seaweed

#: Logs so many files of so many bytes to a name.
LOG = """
import os, sys, wherry
name, count, size = sys.argv[1], *map(int, sys.argv[2:])
with wherry.init(project="p") as run:
    for i in range(count):
        a = wherry.Artifact(name, type="model", metadata={"i": i})
        with a.new_file("file", mode="wb") as f:
            for _ in range(size >> 20):
                f.write(os.urandom(1 << 20))
        run.log_artifact(a)
"""

SMALL = """
import sys, wherry
with wherry.init(project="p") as run:
    for i in range(int(sys.argv[1])):
        a = wherry.Artifact(f"small-{i % 4}", type="model", metadata={"i": i})
        with a.new_file("step") as f:
            f.write(str(i))
        run.log_artifact(a)
"""

_DETACH = {"WHERRY_FINISH": "detach"}


def _let(on: Machine, bandwidth: str) -> None:
    """Say how many bytes a second all uploads may take together."""
    on.home.mkdir(mode=0o700, exist_ok=True)
    (on.home / "config.toml").write_text(f"max_bandwidth = '{bandwidth}'\n")


@pytest.mark.soak
@pytest.mark.xdist_group("seaweed")
def test_a_large_upload_holds_up_small_ones(tmp_path: Path, seaweed: Seaweed) -> None:
    """A thousand small artifacts are committed while a large one takes all of a slow line, and for long."""
    place, count = bucket(seaweed), rounds(100, 1000)
    with machine(tmp_path / "machine", place.address, place.env) as on:
        _let(on, "0.3 MB/s" if SOAK else "4 MB/s")  # for 18 minutes, and for more than one
        on.run(LOG, "big", "1", str(320 << 20), env=_DETACH)
        # At that speed the first parts, which share the line, take minutes.
        wait_until(lambda: seaweed.parts(place.bucket, place.prefix) > 0, 600 if SOAK else 60)
        on.run(SMALL, str(count))  # waits until they are committed
        assert records(place.objects, "p", "big") == []
        _let(on, "500 MB/s")
        on.wait_all_done()
    for name in range(4):
        logged = [
            record["metadata"]["i"] for record in records(place.objects, "p", f"small-{name}")
        ]
        assert logged == list(range(name, count, 4))
    assert [record["version"] for record in records(place.objects, "p", "big")] == [0]


@pytest.mark.soak
@pytest.mark.xdist_group("seaweed")
def test_many_files_of_one_name_hold_up_others(tmp_path: Path, seaweed: Seaweed) -> None:
    """Who logs after hundreds of versions of another name waits for those under way, not for all."""
    place, count = bucket(seaweed), rounds(60, 600)
    with machine(tmp_path / "machine", place.address, place.env) as on:
        _let(on, "4 MB/s")
        on.run(LOG, "many", str(count), str(1 << 20), env=_DETACH)
        wait_until(lambda: records(place.objects, "p", "many") != [], 60)
        before = len(records(place.objects, "p", "many"))
        on.run(SMALL, "4")  # waits until they are committed
        assert len(records(place.objects, "p", "many")) < before + 36 <= count
        _let(on, "500 MB/s")
        on.wait_all_done()
    logged = [record["metadata"]["i"] for record in records(place.objects, "p", "many")]
    assert logged == list(range(count))


def _states(on: Machine) -> list[str]:
    return [each["state"] for each in json.loads(on.wherry("queue", "--json"))]


@pytest.mark.xdist_group("seaweed")
def test_a_version_waits_for_the_bytes_of_the_one_before(tmp_path: Path, seaweed: Seaweed) -> None:
    """While a version's bytes are on a slow line, those of the next ones of its name go up as well; only
    their records wait.
    """
    place = bucket(seaweed)
    with machine(tmp_path / "machine", place.address, place.env) as on:
        _let(on, "2 MB/s")
        on.run(LOG, "model", "1", str(40 << 20), env=_DETACH)
        on.run(LOG, "model", "2", "0", env=_DETACH)
        wait_until(lambda: _states(on) == ["prepared", "uploaded", "uploaded"], 15, 0.1)
        assert records(place.objects, "p", "model") == []
        _let(on, "500 MB/s")
        on.wait_all_done()
    sizes = [record["size"] for record in records(place.objects, "p", "model")]
    assert sizes == [40 << 20, 0, 0]
