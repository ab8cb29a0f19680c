"""What was damaged in the store, or is gone from where a reference points: never handed out."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.machine import Machine
from tests.support.troubles import CASES, check, outcomes

DAMAGE = """
import glob, sys
store, times = os.environ["WHERRY_HOME"] + "/store", int(sys.argv[1])
run = wherry.init(project="p")
a = wherry.Artifact("a", type="model")
for name in ("one", "two"):
    with a.new_file(name) as f: f.write(name * times)
b = wherry.Artifact("b", type="model", metadata={"b": 1})
with b.new_file("three") as f: f.write("three" * 1000)
run.log_artifact(a); run.log_artifact(b)
a.wait(60); b.wait(60)

def lies_in(entry):
    packs = glob.glob(f"{store}/p/packs/sha256/??/*")
    if packs:  # "one" comes before it
        return packs[0], 3 * times + 2000
    hex_ = a.manifest.entries[entry].digest.removeprefix("sha256:")
    return f"{store}/p/blobs/sha256/{hex_[:2]}/{hex_}", 2000

def flip(path, at):
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(at); byte = f.read(1); f.seek(at); f.write(bytes([byte[0] ^ 1]))

path, at = lies_in("two")
flip(path, at)
@case
def flipped(): run.use_artifact("a:latest").download(root="flipped")
flip(path, at)
@case
def mended(): return sorted(os.listdir(run.use_artifact("a:latest").download(root="flipped")))
os.chmod(path, 0o600); os.truncate(path, 100)
@case
def short(): run.use_artifact("a:latest").download(root="short")
os.unlink(path)
@case
def gone(): run.use_artifact("a:latest").download(root="gone")
found = {root: sorted(os.path.join(d, f) for d, _, fs in os.walk(root) for f in fs)
         for root in ("flipped", "short", "gone")}
with open("left.json", "w") as f: json.dump(found, f)

record = json.load(open(f"{store}/p/artifacts/b/versions/v00000000.json"))
hex_ = record["manifest"].removeprefix("sha256:")
flip(f"{store}/p/manifests/sha256/{hex_[:2]}/{hex_}", 12)
@case
def manifest(): run.use_artifact("b:latest").download(root="manifest")
os.chmod(f"{store}/p/artifacts/b/versions/v00000000.json", 0o600)
with open(f"{store}/p/artifacts/b/versions/v00000000.json", "w") as f: f.write('{"format": 1, "ver')
@case
def record(): run.use_artifact("b:latest").download(root="record")
with open(f"{store}/p/artifacts/b/versions/v00000000.json", "w") as f: f.write('{"format": 99}')
@case
def newer(): run.use_artifact("b:latest").download(root="newer")
@case
def others_go_on():
    c = wherry.Artifact("c", type="model")
    return run.log_artifact(c).wait(60).version
run.finish()
tell()
"""


@pytest.mark.parametrize("times", [1000, 500_000], ids=["in a pack", "in blobs"])
def test_damaged_object_is_handed_out(machine: Machine, times: int) -> None:
    """What is not as it was committed raises and names it; no damaged or half a file is left behind."""
    found = outcomes(machine.run(CASES + DAMAGE, str(times)))
    check(
        found,
        {
            "flipped": ("StoreDamaged", ""),
            "mended": ("", "['one', 'two']"),
            "short": ("StoreDamaged", ""),
            "gone": ("StoreDamaged", ""),
            "manifest": ("StoreDamaged", ""),
            "record": ("StoreDamaged", "v00000000.json"),
            "newer": ("WherryError", ""),
            "others_go_on": ("", "'v0'"),
        },
    )
    left = json.loads((machine.work / "left.json").read_text())
    assert left["flipped"] == ["flipped/one", "flipped/two"]
    for root in ("short", "gone"):
        assert set(left[root]) <= {f"{root}/one"}
        for path in left[root]:
            assert (machine.work / path).read_text() == "one" * times
    assert os.listdir(machine.work / "short") in ([], ["one"])


def test_lost_reference_takes_the_others_along(machine: Machine) -> None:
    """A reference that is gone fails its artifact alone, by name; a changed one is not handed out."""
    found = outcomes(
        machine.run(
            CASES
            + """
with open("gone", "w") as f: f.write("gone")
with open("kept", "w") as f: f.write("kept")
with wherry.init(project="p") as run:
    for name in ("gone", "kept"):
        a = wherry.Artifact(name, type="model")
        a.add_reference("file://" + os.path.abspath(name))
        if name == "gone": os.unlink("gone")
        run.log_artifact(a)
        @case
        def wait(): return a.wait(60).version
        _found[name] = _found.pop("wait")
    with open("kept", "w") as f: f.write("changed since")
    @case
    def download(): run.use_artifact("kept:v0").download("out")
    with open("kept", "w") as f: f.write("kept")
    @case
    def again(): return open(run.use_artifact("kept:v0").download("out") + "/kept").read()
tell()
"""
        )
    )
    check(
        found,
        {
            "gone": ("ReferenceFailed", "gone"),
            "kept": ("", "'v0'"),
            "download": ("ReferenceFailed", "kept"),
            "again": ("", "kept"),
        },
    )
