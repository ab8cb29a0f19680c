"""Small files on their way to a store: how few requests they take, and what is not sent again."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place, bucket
from tests.support.chaos import Chaos
from tests.support.machine import Machine, machine
from tests.support.reading import files, records
from tests.support.servers import Seaweed

#: Logs so many files of a size, of which those whose numbers are given differ, and a big one.
LOG = """
import random, sys
import wherry

_, name, count, size, big, *changed = sys.argv
run = wherry.init(project="p")
made = wherry.Artifact(name, type="data")
chance = random.Random(name)
for n in range(int(count)):
    data = chance.randbytes(int(size))
    with made.new_file(f"{n:05}", mode="wb") as file:
        file.write(data[::-1] if str(n) in changed else data)
if int(big):
    with made.new_file("big", mode="wb") as file:
        file.write(chance.randbytes(int(big)))
run.log_artifact(made).wait(100)
"""
BIG = 2_000_000


def _held(place: Place, version: int) -> dict[str, bytes]:
    return dict(files(place.objects, "p", records(place.objects, "p", "data")[version]))


def _check_versions(place: Place) -> None:
    """The second version is the first but for one file."""
    first, second = _held(place, 0), _held(place, 1)
    assert len(first) == 1001
    assert second == first | {"00007": first["00007"][::-1]}
    assert first["00007"] != second["00007"]


# ── what another machine has sent ──────────────────────────────────────────────────────────────
def test_a_folder_gets_again_what_another_home_has_sent(tmp_path: Path) -> None:
    """A second home logs the same artifact with one file changed: that one is all that a folder is given."""
    root = tmp_path / "store"
    root.mkdir()
    address = f"file://{root}"
    with machine(tmp_path / "one", address) as one, machine(tmp_path / "two", address) as two:
        one.run(LOG, "data", "1000", "4096", str(BIG))
        before = _stored(root)
        assert sum(before.values()) == 1000 * 4096 + BIG
        two.run(LOG, "data", "1000", "4096", str(BIG), "7")
        new = {key: size for key, size in _stored(root).items() if key not in before}
    assert [*new.values()] == [4096]


def _stored(root: Path) -> dict[tuple[str, int], int]:
    """Sizes of all blobs and packs; one that was written again is another file."""
    found = (path for kind in ("blobs", "packs") for path in (root / "p" / kind).rglob("*"))
    stats = ((path, path.stat()) for path in found if path.is_file())
    return {(str(path), stat.st_ino): stat.st_size for path, stat in stats}


@pytest.mark.xdist_group("seaweed")
def test_a_bucket_gets_again_what_another_home_has_sent(tmp_path: Path, seaweed: Seaweed) -> None:
    """The same on S3, where bytes and requests are counted on their way to the server."""
    place = bucket(seaweed)
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with (
            machine(tmp_path / "one", address, place.env) as one,
            machine(tmp_path / "two", address, place.env) as two,
        ):
            one.run(LOG, "data", "1000", "4096", str(BIG))
            assert chaos.body_bytes > 1000 * 4096 + BIG
            assert _puts(chaos) == Counter(packs=1, blobs=1)
            chaos.body_bytes = 0
            two.run(LOG, "data", "1000", "4096", str(BIG), "7")
            assert _puts(chaos) == Counter(blobs=1)
            assert chaos.body_bytes < 150_000  # with the manifest, and the probe
    _check_versions(place)


def _puts(chaos: Chaos) -> Counter[str]:
    """How many blobs and packs were put since the last time."""
    asked, chaos.asked = chaos.asked, []
    kinds = [re.match(r"PUT \S*/(blobs|packs)/", line) for line in asked]
    return Counter(kind[1] for kind in kinds if kind)


# ── ten thousand ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.xdist_group("seaweed")
def test_ten_thousand_files_take_as_many_requests(tmp_path: Path, seaweed: Seaweed) -> None:
    """10,000 files of 4 KiB are three to five PUTs, one commit, records of the run; counted on their way."""
    place = bucket(seaweed)
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "machine", address, place.env) as on:
            on.run(LOG, "few", "10", "4096", "0")  # first contact
            chaos.asked = []
            on.run(LOG, "many", "10000", "4096", "0")
    puts = [line.split()[1] for line in chaos.asked if line.startswith("PUT ")]
    commits = [key for key in puts if "/versions/" in key]
    runs = [key for key in puts if "/p/runs/" in key]
    assert len(commits) == 1, puts
    assert 1 <= len(runs) <= 2, puts  # when it has gone on for two seconds, and at its end
    assert 3 <= len(puts) - 1 - len(runs) <= 5, puts
    (record,) = records(place.objects, "p", "many")
    assert record["entries"] == sum(1 for _ in files(place.objects, "p", record)) == 10_000


@pytest.mark.xdist_group("seaweed")
def test_packs_pile_up_in_memory(tmp_path: Path, place: Place) -> None:
    """160 MiB more of small files take the daemon a few pieces of 1 MiB for each pack that is on its way."""
    with machine(tmp_path / "machine", place.address, place.env) as on:
        on.run(LOG, "few", "160", str(256 << 10), "0")
        before = _peak_bytes(on)
        on.run(LOG, "many", "800", str(256 << 10), "0")
        assert _peak_bytes(on) < before + (48 << 20)


def _peak_bytes(on: Machine) -> int:
    """The most memory that the daemon has held so far."""
    status = Path(f"/proc/{on.daemon_pid()}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) << 10
