"""The way back: what is asked of the store, by how many, and what a fault leaves on the disk."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.conftest import Place, bucket
from tests.soak import rounds
from tests.support.chaos import Chaos, Fault
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import files, manifest, records
from tests.support.servers import Seaweed

pytestmark = pytest.mark.xdist_group("seaweed")

#: Logs small files, and a big one of so many bytes.
LOG = """
import random, sys
import wherry

_, name, count, big = sys.argv
run = wherry.init(project="p")
made = wherry.Artifact(name, type="data")
chance = random.Random(name)
for n in range(int(count)):
    with made.new_file(f"{n:05}", mode="wb") as file:
        file.write(chance.randbytes(4096))
if int(big):
    with made.new_file("big", mode="wb") as file:
        for _ in range(int(big) >> 20):
            file.write(chance.randbytes(1 << 20))
run.log_artifact(made).wait(100)
"""
#: Downloads it, and prints the digest of all that came.
GET = """
import hashlib, os, sys
import wherry

_, name, root, *skip = sys.argv
got = wherry.init(project="p").use_artifact(f"{name}:latest").download(root, skip_cache=bool(skip))
sha256 = hashlib.sha256()
for path in sorted(os.listdir(got)):
    sha256.update(path.encode())
    with open(os.path.join(got, path), "rb") as file:
        sha256.update(file.read())
print(sha256.hexdigest(), len(os.listdir(got)))
"""


def _expected(place: Place, name: str) -> str:
    (record,) = records(place.objects, "p", name)
    sha256, lines = hashlib.sha256(), manifest(place.objects, "p", record)
    for path, data in sorted(files(place.objects, "p", record)):
        sha256.update(path.encode())
        sha256.update(data)
    return f"{sha256.hexdigest()} {len(lines)}"


def _gets(chaos: Chaos) -> Counter[str]:
    """How many blobs and packs were asked for since the last time."""
    asked, chaos.asked = chaos.asked, []
    kinds = [re.match(r"GET \S*/(blobs|packs)/", line) for line in asked]
    return Counter(kind[1] for kind in kinds if kind)


@contextmanager
def _counted(
    tmp_path: Path, seaweed: Seaweed, odds: dict[Fault, float] | None = None
) -> Iterator[tuple[Place, Chaos, Machine]]:
    """A place in a bucket, what stands before it, and a machine that goes there that way."""
    place = bucket(seaweed)
    with Chaos(seaweed.port, odds or {}) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "machine", address, place.env) as on:
            yield place, chaos, on


def test_ten_thousand_files_take_as_many_requests(tmp_path: Path, seaweed: Seaweed) -> None:
    """10,000 small files come by one request a pack, and a second time by none, into another folder."""
    with _counted(tmp_path, seaweed) as (place, chaos, on):
        on.run(LOG, "many", "10000", "0")
        chaos.asked = []
        expected = _expected(place, "many")
        assert on.run(GET, "many", "first").strip() == expected
        packs = len(
            {
                line["pack"]
                for line in manifest(place.objects, "p", *records(place.objects, "p", "many"))
            }
        )
        assert _gets(chaos) == Counter(packs=packs)
        assert on.run(GET, "many", "second").strip() == expected
        assert on.run(GET, "many", "first").strip() == expected  # over what is there
        assert _gets(chaos) == Counter()
        assert on.run(GET, "many", "third", "skip").strip() == expected
        assert _gets(chaos)["packs"] >= packs


def test_twenty_programs_fetch_as_often(tmp_path: Path, seaweed: Seaweed) -> None:
    """Twenty programs that ask for one artifact at once have it fetched once."""
    with _counted(tmp_path, seaweed) as (place, chaos, on):
        on.run(LOG, "shared", "1000", str(20 << 20))
        chaos.asked = []
        expected = _expected(place, "shared")
        programs = [on.start(GET, "shared", f"got {n}") for n in range(20)]
        assert {program.wait_done().strip() for program in programs} == {expected}
        assert _gets(chaos) == Counter(packs=1, blobs=3)  # ranges of 8 MiB


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(rounds(1, 20)))
def test_a_killed_daemon_fetches_all_again(tmp_path: Path, seaweed: Seaweed, seed: int) -> None:
    """A download goes on after the daemon was killed in its middle, with the ranges that are missing."""
    with _counted(tmp_path, seaweed) as (place, chaos, on):
        on.run(LOG, "large", "0", str(96 << 20))
        chaos.asked = []
        program = on.start(GET, "large", "got")
        partial = on.home / "cache" / "partial"

        def is_half_there() -> bool:
            return any(_marked(file) >= 3 + seed % 7 for file in _listed(partial))

        wait_until(is_half_there, 60)
        assert on.kill_daemon()
        assert program.wait_done().strip() == _expected(place, "large")
        assert 12 < _gets(chaos)["blobs"] <= 12 + 9  # what was under way, and the probe's luck


def _listed(folder: Path) -> list[Path]:
    return [*folder.iterdir()] if folder.is_dir() else []


def _marked(file: Path) -> int:
    """How many ranges of an object of 96 MiB are there."""
    with file.open("rb") as opened:
        opened.seek(96 << 20)
        return opened.read().count(b"\1")


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
@pytest.mark.parametrize("kind", ["packs", "blobs"])
def test_a_damaged_object_is_downloaded(
    tmp_path: Path, seaweed: Seaweed, harm: str, kind: str
) -> None:
    """A truncated, a corrupted and a vanished object are errors that name it, and leave nothing behind."""
    place = bucket(seaweed)
    with machine(tmp_path / "machine", place.address, place.env) as on:
        on.run(LOG, "data", "300", str(2 << 20))
        (key,) = place.objects.keys(f"p/{kind}/")
        body = place.objects.get(key)
        changed = {"cut": body[:-1], "changed": body[:-1] + bytes([body[-1] ^ 1])}
        if harm == "gone":
            place.objects.remove(key)
        else:
            seaweed.put(place.bucket, f"{place.prefix}/{key}", changed[harm])
        program = on.start(GET, "data", "got").process
        _, said = program.communicate(timeout=60)
        assert program.returncode == 1
        assert "StoreDamaged" in said and key.rpartition("/")[2] in said, said
        left = [path.name for path in (on.work / "got").iterdir()]
        assert not [name for name in left if name.startswith(".")]
        assert {*left} <= ({"big"} if kind == "packs" else {f"{n:05}" for n in range(300)})
        cached = [path.name for path in (on.home / "cache").glob("since-*/*/*")]
        assert key.rpartition("/")[2] not in cached


def test_a_faulty_network_leaves_half_a_file(tmp_path: Path, seaweed: Seaweed) -> None:
    """Cuts, resets, refusals and half answers on the way cost time, and no bytes."""
    odds = dict.fromkeys((Fault.CUT, Fault.RESET, Fault.BUSY, Fault.TRUNCATED), 0.08)
    with _counted(tmp_path, seaweed, odds) as (place, chaos, on):
        chaos.odds = {}
        on.run(LOG, "data", "2000", str(64 << 20))
        chaos.odds = odds
        assert on.run(GET, "data", "got").strip() == _expected(place, "data")


def test_a_small_cache_is_overrun(tmp_path: Path, seaweed: Seaweed) -> None:
    """What is downloaded may be more than the cache holds: all of it comes, and the cache stays small."""
    place = bucket(seaweed)
    with machine(tmp_path / "machine", place.address, place.env) as on:
        on.home.mkdir(mode=0o700)
        (on.home / "config.toml").write_text("cache_quota_bytes = '20MiB'\n")
        for name in ("one", "two", "three"):
            on.run(LOG, name, "100", str(9 << 20))
        on.run(LOG, "huge", "100", str(40 << 20))
        for name in ("one", "two", "three", "huge", "one"):
            assert on.run(GET, name, f"got {name}").strip() == _expected(place, name)
        held = sum(path.stat().st_size for path in (on.home / "cache").glob("since-*/*/*"))
        assert 0 < held <= 20 << 20


#: Links a big file from two folders, changes it all the same, and downloads it again.
LINKED = """
import os, stat, wherry
found = wherry.Api({"project": "p"}).artifact("data:latest")
whole = open(os.path.join(found.download("copied"), "big"), "rb").read()
one, two = (os.path.join(found.download(name, hard_links=True), "big") for name in ("one", "two"))
again = os.path.join(found.download("two", hard_links=True), "big")
assert os.path.samefile(one, two) and os.path.samefile(two, again)
assert stat.S_IMODE(os.stat(one).st_mode) == 0o400 and os.stat(one).st_nlink == 3
assert sorted(os.listdir("two")) == ["00000", "00001", "00002", "big"]
assert open(one, "rb").read() == whole
os.chmod(one, 0o600)
with open(one, "r+b") as file:
    file.write(b"changed")
os.unlink(one)
for name, links in (("copied again", False), ("linked again", True)):
    path = os.path.join(found.download(name, hard_links=links), "big")
    assert open(path, "rb").read() == whole, name
    assert (os.stat(path).st_nlink == 1) != links
assert open(two, "rb").read(7) == b"changed"
"""


def test_a_changed_link_changes_other_downloads(tmp_path: Path, seaweed: Seaweed) -> None:
    """Hard links on request are read-only and one file; one that was changed all the same is fetched anew."""
    place = bucket(seaweed)
    with machine(tmp_path / "one", place.address, place.env) as one:
        one.run(LOG, "data", "3", str(4 << 20))
        one.run(LINKED)


def test_links_need_one_disk(tmp_path: Path, seaweed: Seaweed) -> None:
    """Where no hard link can be had the file is copied."""
    place = bucket(seaweed)
    with (
        machine(tmp_path / "one", place.address, place.env) as one,
        TemporaryDirectory(dir="/dev/shm") as far,
    ):
        one.run(LOG, "data", "3", str(4 << 20))
        expected = one.run(GET, "data", "near")
        one.run(
            "import sys, wherry\n"
            'found = wherry.Api({"project": "p"}).artifact("data:latest")\n'
            "found.download(sys.argv[1], hard_links=True)\n",
            far,
        )
        assert one.run(GET, "data", far) == expected
