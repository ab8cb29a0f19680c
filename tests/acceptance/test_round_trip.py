"""What goes in comes out: names, sizes and numbers of files at their limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place, bucket
from tests.soak import SOAK
from tests.support.machine import Machine, machine
from tests.support.reading import FolderObjects, S3Objects
from tests.support.servers import Seaweed

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "read_packs.py"

ODD = """
import hashlib, json, os, unicodedata
import wherry

os.makedirs("in/deep")
composed, apart = unicodedata.normalize("NFC", "né"), unicodedata.normalize("NFD", "né")
names = ["with space", "plus+percent%41", composed, apart, "n" * 255, "empty", "deep/日本語", "a#b?c&d=e"]
for name in names:
    with open(os.path.join("in", name), "wb") as f:
        f.write(b"" if name == "empty" else name.encode() * 3)
with wherry.init(project="p p") as run:
    a = wherry.Artifact("odd näme+%", type="model")
    a.add_dir("in")
    nothing = wherry.Artifact("nothing", type="model")
    run.log_artifact(a); run.log_artifact(nothing)
    a.wait(60); nothing.wait(60)
    assert nothing.version == "v0"
    empty = run.use_artifact("nothing:latest").download(root="nothing")
    assert os.listdir(empty) == []
    root = run.use_artifact("odd näme+%:latest").download(root="out")
    found = {}
    for folder, _, files in os.walk(root):
        for file in files:
            path = os.path.join(folder, file)
            found[os.path.relpath(path, root)] = open(path, "rb").read()
    assert found == {n: b"" if n == "empty" else n.encode() * 3 for n in names}, sorted(found)
"""

MANY = """
import os, wherry
os.makedirs("many")
count = {count}
for i in range(count):
    with open(f"many/{{i:05d}}", "wb") as f:
        f.write(b"%d" % i * 100)
with wherry.init(project="p") as run:
    a = wherry.Artifact("many", type="dataset")
    a.add_dir("many")
    run.log_artifact(a)
    a.wait(250)
    root = run.use_artifact("many:v0").download(root="out")
    assert len(os.listdir(root)) == count
    for i in range(count):
        assert open(f"{{root}}/{{i:05d}}", "rb").read() == b"%d" % i * 100
"""

# The digest was made by another program, from the same zeros and word.
SPARSE = """
import hashlib, os, wherry
size = 2**31 + 2**20  # more than 31 bits hold
with open("sparse", "wb") as f:
    f.truncate(size)
    f.seek(size // 2); f.write(b"middle")
with wherry.init(project="p") as run:
    a = wherry.Artifact("sparse", type="model")
    a.add_file("sparse")
    run.log_artifact(a)
    a.wait(500)
    path = run.use_artifact("sparse:v0").download(root="out")
    assert os.path.getsize(path + "/sparse") == size
    with open(path + "/sparse", "rb") as f:
        f.seek(size // 2)
        assert f.read(6) == b"middle"
        f.seek(0)
        assert hashlib.file_digest(f, "sha256").hexdigest() == "4782b805478a539d138d42d7e55f3da6065a47f667672bd0c8cffdde1fc7b64b"
"""


def test_odd_names_come_back_changed(tmp_path: Path, place: Place) -> None:
    """Spaces, two Unicode forms side by side, 255 bytes, empty files, no entries at all."""
    machine = Machine(tmp_path / "machine", place.address, place.env)
    try:
        machine.run(ODD)
    finally:
        machine.close()


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["folder", *(["s3"] if SOAK else [])])
def test_many_files_are_lost(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """10,000 files in one folder, every byte of each."""
    if kind == "s3":
        place = bucket(request.getfixturevalue("seaweed"))
        made = Machine(tmp_path / "machine", place.address, place.env)
    else:
        made = Machine(tmp_path / "machine")
    try:
        _check_many(made)
    finally:
        made.close()
    objects = place.objects if kind == "s3" else FolderObjects(made.home / "store")
    assert len(objects.keys("p/packs/")) == 2  # 5,000 entries each
    assert objects.keys("p/blobs/") == []


SMALL = """
import os, random, wherry
chance = random.Random(7)
files = {f"many/{i:03d}/ü {i}": chance.randbytes(chance.choice([0, 10, 5_000, 90_000])) for i in range(400)}
files |= {"many/large": chance.randbytes(1_500_000), "alone": b"in another folder"}
for name, data in files.items():
    os.makedirs(os.path.dirname("in/" + name), exist_ok=True)
    with open("in/" + name, "wb") as f: f.write(data)
with wherry.init(project="p p") as run:
    a = wherry.Artifact("small+", type="dataset")
    a.add_dir("in")
    run.log_artifact(a).wait(100)
    again = wherry.Artifact("some", type="dataset")
    again.add_dir("in/many/003"); again.add_dir("in/many/200", name="200")
    run.log_artifact(again).wait(100)
"""


@pytest.mark.xdist_group("seaweed")
def test_small_files_travel_alone(tmp_path: Path, seaweed: Seaweed) -> None:
    """Small files are a few packs in a bucket, which the example reads over plain HTTP; what is logged again
    lies where it lay.
    """
    seaweed.make_bucket(seaweed.open_bucket)
    address = seaweed.address(seaweed.open_bucket, "a prefix")
    objects = S3Objects(address, seaweed.access_key, seaweed.secret_key)
    with machine(tmp_path / "machine", address, seaweed.credentials) as on:
        on.run(SMALL)
        root = f"{seaweed.endpoint}/{seaweed.open_bucket}/a%20prefix"
        for name in ("small%2B", "some"):
            arguments = [root, "p%20p", name, "0", str(tmp_path / name)]
            subprocess.run([sys.executable, str(EXAMPLE), *arguments], check=True)
        assert _content(tmp_path / "small%2B") == _content(on.work / "in")
        assert len(_content(tmp_path / "some")) == 2
    assert len(objects.keys("p%20p/packs/")) == 1
    assert len(objects.keys("p%20p/blobs/")) == 1


def _content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _check_many(machine: Machine) -> None:
    machine.start(MANY.format(count=10_000)).wait_done(280)
    (record,) = json.loads(machine.wherry("ls", "many", "--project", "p", "--json"))
    assert record["entries"] == 10_000


@pytest.mark.timeout(600)  # it reads and writes 2 GiB several times
def test_a_big_sparse_file_comes_back_changed(machine: Machine) -> None:
    """A sparse file of more than 2 GiB comes back with every byte."""
    machine.start(SPARSE).wait_done(580)
