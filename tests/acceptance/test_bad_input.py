"""Bad input: a clear error of a named class at the earliest moment, and nothing else is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import FolderObjects, files, manifest, records
from tests.support.troubles import CASES, NO_POWERS, check, outcomes


def content(on: Machine, name: str) -> list[dict[str, bytes]]:
    """What lies in the store, version by version."""
    objects = FolderObjects(on.home / "store")
    return [dict(files(objects, "p", record)) for record in records(objects, "p", name)]


# ── files ──────────────────────────────────────────────────────────────────────────────────────
FILES = """
import socket, threading

os.makedirs("good/deep"); os.makedirs("fifo"); os.makedirs("socket"); os.makedirs("locked")
os.makedirs("dangling"); os.makedirs("loop/deep"); os.makedirs("linked"); os.makedirs("self")
for path in ("model.pt", "good/a", "good/deep/b", "fifo/a", "socket/a", "locked/secret",
             "dangling/a", "loop/a", "linked/a", "self/a"):
    with open(path, "w") as f: f.write(path)
os.mkfifo("fifo/pipe"); os.mkfifo("pipe")
listening = socket.socket(socket.AF_UNIX); listening.bind("socket/sock")
os.chmod("locked/secret", 0)
os.makedirs("closed"); os.chmod("closed", 0)
os.symlink("nowhere", "dangling/lost"); os.symlink("nowhere", "lost")
os.symlink("..", "loop/deep/up")
os.symlink("self", "self-link"); os.symlink("ring-2", "ring-1"); os.symlink("ring-1", "ring-2")
os.symlink("../model.pt", "linked/model.pt"); os.symlink("../good", "linked/folder")
os.symlink("model.pt", "link.pt")

run = wherry.init(project="p")
a = wherry.Artifact("files", type="model")

@case
def missing_file(): a.add_file("nowhere.pt")
@case
def missing_folder(): a.add_dir("nowhere")
@case
def below_a_file(): a.add_file("model.pt/x")
@case
def folder_as_file(): a.add_file("good")
@case
def file_as_folder(): a.add_dir("model.pt")
@case
def pipe(): a.add_file("pipe")
@case
def device(): a.add_file("/dev/null")
@case
def pipe_in_folder(): a.add_dir("fifo")
@case
def socket_in_folder(): a.add_dir("socket")
@case
def unreadable(): a.add_file("locked/secret")
@case
def unreadable_immutable(): a.add_file("locked/secret", policy="immutable")
@case
def unreadable_in_folder(): a.add_dir("locked")
@case
def closed_folder(): a.add_dir("closed")
@case
def dangling(): a.add_file("lost")
@case
def dangling_in_folder(): a.add_dir("dangling")
@case
def loop_of_folders(): a.add_dir("loop")
@case
def loop_of_links(): a.add_file("ring-1")
@case
def nul_in_local_path(): a.add_file("mod\\0el.pt")
@case
def nul_in_local_folder(): a.add_dir("go\\0od")
@case
def empty_local_path(): a.add_file("")
@case
def wrong_policy(): a.add_file("model.pt", policy="sometimes")
@case
def missing_path_logged(): run.log_artifact("nowhere.pt", name="never", type="model")

@case
def linked_file(): return a.add_file("link.pt")
@case
def links_in_folder(): return a.add_dir("linked", name="linked")
@case
def good_folder(): return a.add_dir("good", name="good")

run.log_artifact(a)
run.finish()
tell()
"""

FILES_WANTED = {
    "missing_file": ("FileNotFoundError", "nowhere.pt"),
    "missing_folder": ("FileNotFoundError", "nowhere"),
    "below_a_file": ("CaptureError", "model.pt/x"),
    "folder_as_file": ("NotAFile", "good"),
    "file_as_folder": ("NotAFile", "model.pt"),
    "pipe": ("NotAFile", "pipe"),
    "device": ("NotAFile", "/dev/null"),
    "pipe_in_folder": ("NotAFile", "fifo/pipe"),
    "socket_in_folder": ("NotAFile", "socket/sock"),
    "unreadable": ("FileUnreadable", "locked/secret"),
    "unreadable_immutable": ("FileUnreadable", "locked/secret"),
    "unreadable_in_folder": ("FileUnreadable", "locked/secret"),
    "closed_folder": ("FileUnreadable", "closed"),
    "dangling": ("FileMissing", "lost"),
    "dangling_in_folder": ("FileMissing", "dangling/lost"),
    "loop_of_folders": ("CaptureError", "loop/deep/up"),
    "loop_of_links": ("CaptureError", "ring-1"),
    "nul_in_local_path": ("WherryError", "el.pt"),
    "nul_in_local_folder": ("CaptureError", "od"),
    "empty_local_path": ("WherryError", ""),
    "wrong_policy": ("ValueError", "sometimes"),
    "missing_path_logged": ("FileMissing", "nowhere.pt"),
    "linked_file": ("", "link.pt"),
    "links_in_folder": ("", ""),
    "good_folder": ("", ""),
}


def test_bad_file_spoils_the_artifact(machine: Machine) -> None:
    """Each file that can't be added is refused by name at the call; the rest of the artifact arrives."""
    found = outcomes(machine.run(NO_POWERS + CASES + FILES))
    check(found, FILES_WANTED)
    (arrived,) = content(machine, "files")
    assert arrived == {
        "link.pt": b"model.pt",
        "linked/a": b"linked/a",
        "linked/model.pt": b"model.pt",
        "linked/folder/a": b"good/a",
        "linked/folder/deep/b": b"good/deep/b",
        "good/a": b"good/a",
        "good/deep/b": b"good/deep/b",
    }
    assert not FolderObjects(machine.home / "store").keys("p/artifacts/never/")


# ── paths ──────────────────────────────────────────────────────────────────────────────────────
PATHS = """
with open("x", "w") as f: f.write("x")
with open("y", "w") as f: f.write("y")
os.makedirs(b"odd"); open(b"odd/\\xff", "wb").close()
os.makedirs("folder"); open("folder/x", "w").close()
run = wherry.init(project="p")
a = wherry.Artifact("paths", type="model")

BAD = {
    "up": "../x", "up_inside": "a/../x", "up_at_the_end": "a/..", "only_up": "..",
    "absolute": "/etc/x", "empty_segment": "a//x", "ends_in_slash": "a/", "nul": "a\\0x",
    "not_utf8": "a\\udcff",
}
for each, bad in BAD.items():
    def add(): return a.add_file("x", name=bad)
    def new():
        with a.new_file(bad) as f: f.write("x")
    def folder(): return a.add_dir("folder", name=bad)
    def refer(): return a.add_reference("file://" + os.path.abspath("x"), name=bad)
    as_prefix = () if each == "ends_in_slash" else (folder, refer)  # there it is often written
    for function in (add, new, *as_prefix):
        function.__name__ += "_" + each
        case(function)

@case
def not_utf8_in_folder(): a.add_dir("odd")
@case
def not_utf8_file(): a.add_file(os.fsdecode(b"odd/\\xff"))

a.add_file("x", name="taken")
@case
def taken_by_another_file(): a.add_file("y", name="taken")
@case
def taken_by_a_new_file():
    with a.new_file("taken") as f: f.write("z")
@case
def taken_by_a_reference(): a.add_reference("file://" + os.path.abspath("y"), name="taken")
a.add_file("y", name="taken/below")
@case
def a_file_as_folder(): run.log_artifact(a)
a.remove("taken/below")
@case
def same_unchanged_file(): return a.add_file("x", name="taken")
with open("x", "a") as f: f.write("changed")
@case
def same_changed_file(): a.add_file("x", name="taken")
@case
def overwritten(): return a.add_file("y", name="taken", overwrite=True)

@case
def mode_to_read(): a.new_file("mode", mode="r").__enter__()
@case
def encoding():
    with a.new_file("ascii", encoding="ascii") as f: f.write("é")
@case
def exception_in_block():
    with a.new_file("half") as f:
        f.write("half")
        raise KeyError("of the user")

for again in ("ascii", "half"):
    with a.new_file(again) as f: f.write("whole")
run.log_artifact(a)
run.finish()
tell()
"""


def test_bad_path_gets_in(machine: Machine) -> None:
    """Paths that leave the artifact or are none raise at the call, by whatever call they come."""
    found = outcomes(machine.run(CASES + PATHS))
    bad = {
        "up": "../x",
        "up_inside": "a/../x",
        "up_at_the_end": "a/..",
        "only_up": "..",
        "absolute": "/etc/x",
        "empty_segment": "a//x",
        "ends_in_slash": "a/",
        "nul": "",
        "not_utf8": "",
    }
    wanted = {
        f"{call}_{each}": ("BadPath", text)
        for each, text in bad.items()
        for call in ("add", "new", *(() if each == "ends_in_slash" else ("folder", "refer")))
    }
    foreign = {"encoding": "UnicodeEncodeError", "exception_in_block": "KeyError"}
    for name, kind in foreign.items():
        assert found.pop(name)["raised"] == kind
    check(
        found,
        {
            **wanted,
            "not_utf8_in_folder": ("BadPath", "odd"),
            "not_utf8_file": ("BadPath", ""),
            "taken_by_another_file": ("PathTaken", "taken"),
            "taken_by_a_new_file": ("PathTaken", "taken"),
            "taken_by_a_reference": ("PathTaken", "taken"),
            "a_file_as_folder": ("PathTaken", "taken"),
            "same_unchanged_file": ("", "taken"),
            "same_changed_file": ("PathTaken", "taken"),
            "overwritten": ("", "taken"),
            "mode_to_read": ("ValueError", "r"),
        },
    )
    assert content(machine, "paths") == [{"taken": b"y", "ascii": b"whole", "half": b"whole"}]


# ── names ──────────────────────────────────────────────────────────────────────────────────────
NAMES = """
run = wherry.init(project="p")
BAD = {
    "empty": "", "slash": "a/b", "colon": "a:b", "dot": ".", "dots": "..", "long": "n" * 129,
    "control": "a\\nb", "nul": "a\\0b", "not_utf8": "a\\udcff", "wide": "\\U0001f600" * 128,
    "number": 17, "none": None,
}
for each, bad in BAD.items():
    def name(): wherry.Artifact(bad, type="model")
    def type_(): wherry.Artifact("a", type=bad)
    def alias(): run.log_artifact(wherry.Artifact("never", type="model"), aliases=[bad])
    def project(): wherry.init(project=bad)
    def group(): wherry.init(project="p", group=bad)
    def run_id(): wherry.init(project="p", id=bad)
    for function in (name, type_, alias) + (() if bad in (None, "") else (project, group, run_id)):
        function.__name__ += "_" + each
        case(function)

@case
def alias_version(): run.log_artifact(wherry.Artifact("never", type="model"), aliases=["v3"])
@case
def path_name(): run.log_artifact(sys.executable, name="a/b/c/d", type="model")

wherry.finish()
with wherry.init(project="p") as run:
    longest = wherry.Artifact("n" * 128, type="t" * 128)
    run.log_artifact(longest, aliases=["a" * 128, "latest", "", "ünï cödé"])
    longest.wait(60)
    print(sorted(run.use_artifact("n" * 128 + ":ünï cödé").aliases))
tell()
"""


def test_bad_name_gets_in(machine: Machine) -> None:
    """Names out of range raise ``BadName`` where they are given; those in range all work."""
    printed = machine.run(CASES + NAMES)
    found = outcomes(printed)
    # "" among aliases adds nothing, and None is no list of names for an artifact either
    assert found.pop("alias_empty")["raised"] is None
    numbers = {"project_number", "group_number", "run_id_number"}
    check(found, {name: ("UsageError" if name in numbers else "BadName", "") for name in found})
    assert len(found) == 2 + 12 * 3 - 1 + 10 * 3
    aliases = printed.splitlines()[0]
    assert "a" * 128 in aliases and "latest" in aliases and "ünï cödé" in aliases


# ── metadata ───────────────────────────────────────────────────────────────────────────────────
METADATA = """
import math
run = wherry.init(project="p")
circle = {}; circle["self"] = circle
deep = current = {}
for _ in range(5000): current["x"] = current = {}
BAD = {
    "object": {"deep": [{"x": object()}]}, "bytes": {"x": b"x"}, "set": {"x": {1}},
    "circle": circle, "endless": deep, "not_utf8": {"x": "\\udcff"},
    "key_not_utf8": {"\\udcff": 1}, "big": {"x": "x" * (1 << 20)}, "function": {"x": print},
    "list": [1, 2], "text": "text", "number": 17,
}
for each, bad in BAD.items():
    def given(): wherry.Artifact("a", type="model", metadata=bad)
    def set_later():
        later = wherry.Artifact("later", type="model")
        later.metadata = bad
    def changed_in_place():
        changed = wherry.Artifact("changed", type="model", metadata={})
        changed.metadata.update(bad)
        run.log_artifact(changed)
    for function in (given, set_later) + ((changed_in_place,) if isinstance(bad, dict) else ()):
        function.__name__ += "_" + each
        case(function)
@case
def description(): wherry.Artifact("a", type="model", description=17)

GOOD = {
    "int": 1, "float": 1.0, "big_int": 2**60, "big_float": 1e300, "round_float": 1e16, "small": 5e-324,
    "negative_zero": -0.0, "true": True, "none": None, "text": "é\\u2028 \\U0001f600", "list": [1, [2.5]],
    "tuple": (1, 2), "nan": math.nan, "inf": math.inf, "minus_inf": -math.inf, 7: "key", "": "empty",
    "nested": {"nan": [math.nan]}, "huge_int": 2**200, "minus": -(2**70),
}
with_floats = wherry.Artifact("good", type="model", metadata=GOOD)
run.log_artifact(with_floats)
nearly = wherry.Artifact("nearly", type="model", metadata={"x": "x" * ((1 << 20) - 100)})
run.log_artifact(nearly)
with_floats.wait(60); nearly.wait(60)
got = run.use_artifact("good:latest").metadata
print(json.dumps([got, with_floats.metadata]))
run.finish()
tell()
"""


def test_bad_metadata_gets_in(machine: Machine) -> None:
    """What is not JSON raises ``BadMetadata`` where it is given, in place changes at the log."""
    printed = machine.run(CASES + METADATA)
    found = outcomes(printed)
    assert "ValueError" in found.pop("description")["kinds"]
    check(found, dict.fromkeys(found, ("BadMetadata", "")))
    assert len(found) == 12 * 2 + 9
    kept = ["good", "nearly"]
    keys = FolderObjects(machine.home / "store").keys("p/artifacts/")
    assert sorted({key.split("/")[2] for key in keys}) == kept

    stored, own = json.loads(printed.splitlines()[0])
    wanted = {
        "int": 1,
        "float": 1.0,
        "big_int": 2**60,
        "big_float": 1e300,
        "round_float": 1e16,
        "small": 5e-324,
        "negative_zero": -0.0,
        "true": True,
        "none": None,
        "text": "é\u2028 \U0001f600",
        "list": [1, [2.5]],
        "tuple": [1, 2],
        "nan": "NaN",
        "inf": "Infinity",
        "minus_inf": "-Infinity",
        "7": "key",
        "": "empty",
        "nested": {"nan": ["NaN"]},
        "huge_int": 2**200,
        "minus": -(2**70),
    }
    for shown in (stored, own):
        assert list(shown) == list(wanted)
        # repr, because 1 == 1.0 == True
        assert {key: repr(value) for key, value in shown.items()} == {
            key: repr(value) for key, value in wanted.items()
        }


NUMPY = """
import json
import numpy as np
import wherry
with wherry.init(project="p") as run:
    a = wherry.Artifact("np", type="model", metadata={
        "f64": np.float64(1.0), "f32": np.float32(0.5), "i": np.int64(7), "b": np.bool_(True),
        "a": np.arange(4).reshape(2, 2), "nan": np.array([np.nan, -np.inf]), "s": np.str_("text"),
        np.int64(3): 1, "zero": np.array(5), "empty": np.zeros((0, 2)),
    })
    run.log_artifact(a)
    a.wait(60)
    print(json.dumps(run.use_artifact("np:latest").metadata))
    for bad in (np.complex128(1j), np.array([object()]), np.datetime64("2020-01-01")):
        try:
            wherry.Artifact("bad", type="model", metadata={"x": bad})
        except wherry.errors.BadMetadata:
            print("refused")
"""


def test_numpy_metadata_changes_kind(machine: Machine) -> None:
    """Scalars and arrays of numpy become numbers and lists."""
    metadata, *refused = machine.run(NUMPY).splitlines()
    got = {key: repr(value) for key, value in json.loads(metadata).items()}
    wanted = {
        "f64": 1.0,
        "f32": 0.5,
        "i": 7,
        "b": True,
        "a": [[0, 1], [2, 3]],
        "nan": ["NaN", "-Infinity"],
        "s": "text",
        "3": 1,
        "zero": 5,
        "empty": [],
    }
    assert got == {key: repr(value) for key, value in wanted.items()}
    assert refused == ["refused"] * 3


# ── types and states ───────────────────────────────────────────────────────────────────────────
STATES = """
with open("x", "w") as f: f.write("x")
run = wherry.init(project="p")
def log(name, type="model", to=run, **metadata):
    return to.log_artifact(wherry.Artifact(name, type=type, metadata=metadata))

a = wherry.Artifact("mine", type="model")
@case
def version_before_log(): a.version
@case
def wait_before_log(): a.wait()
@case
def poll():
    b = run.log_artifact(wherry.Artifact("polled", type="model"))
    while True:
        try: return b.wait(0).version
        except errors.WaitTimeoutError: pass
@case
def download_before_log(): a.download()
a.add_file("x")
run.log_artifact(a)
a.wait(60)
CHANGES = {
    "add_file": lambda: a.add_file("x", name="z"), "add_dir": lambda: a.add_dir("."),
    "new_file": lambda: a.new_file("z").__enter__(), "remove": lambda: a.remove("x"),
    "add_reference": lambda: a.add_reference("file://" + os.path.abspath("x"), name="z"),
}
for name, change in CHANGES.items():
    change.__name__ = name + "_after_log"
    case(change)
@case
def finalized():
    early = wherry.Artifact("early", type="model")
    early.finalize()
    early.add_file("x")

@case
def type_known_here(): log("mine", type="dataset")
@case
def use_wrong_type(): run.use_artifact("mine:latest", type="dataset")
@case
def use_nothing(): run.use_artifact("nothing:latest")
@case
def use_no_version(): run.use_artifact("mine:v7")
@case
def use_no_alias(): run.use_artifact("mine:best")
@case
def use_no_project(): run.use_artifact("elsewhere/mine:v0")
@case
def use_bad_name(): run.use_artifact("a:b:c")
@case
def use_empty(): run.use_artifact("")
@case
def api_nothing(): wherry.Api().artifact("p/nothing:latest")
@case
def no_entry(): run.use_artifact("mine:latest").get_entry("y")
@case
def download_on_a_file(): run.use_artifact("mine:latest").download(root="x")

other = wherry.init(project="p")
before = a.version
again = other.log_artifact(a, aliases=["again"])
again.wait(60)
@case
def twice(): return again.version, a.version, run.use_artifact("mine:again").version
other.finish()
@case
def log_after_finish(): log("late", to=other)
log("mine", step=1).wait(60)
run.finish()
tell()
"""

STATES_WANTED = {
    "version_before_log": ("ArtifactNotLoggedError", "wait()"),
    "wait_before_log": ("ArtifactNotLoggedError", "log_artifact"),
    "poll": ("", "'v0'"),
    "download_before_log": ("ArtifactNotLoggedError", ""),
    **{
        f"{call}_after_log": ("ArtifactFinalizedError", "mine")
        for call in ("add_file", "add_dir", "new_file", "remove", "add_reference")
    },
    "finalized": ("ArtifactFinalizedError", "early"),
    "type_known_here": ("TypeTaken", "dataset"),
    "use_wrong_type": ("ValueError", "dataset"),
    "use_nothing": ("NotFoundError", "nothing"),
    "use_no_version": ("NotFoundError", "v7"),
    "use_no_alias": ("NotFoundError", "best"),
    "use_no_project": ("NotFoundError", "elsewhere"),
    "use_bad_name": ("BadName", "b:c"),
    "use_empty": ("ValueError", ""),
    "api_nothing": ("NotFoundError", "nothing"),
    "no_entry": ("FileNotFoundError", "y"),
    "download_on_a_file": ("DownloadError", "x"),
    "twice": ("", "('v0', 'v0', 'v0')"),
    "log_after_finish": ("ArtifactStateError", "finished"),
}


def test_wrong_moment_is_taken(machine: Machine) -> None:
    """Calls that come too early, too late or for the wrong thing are refused by name; the rest goes on."""
    found = outcomes(machine.run(CASES + STATES))
    check(found, STATES_WANTED)
    kept = records(FolderObjects(machine.home / "store"), "p", "mine")
    assert [record["metadata"] for record in kept] == [{}, {"step": 1}]
    assert {record["type"] for record in kept} == {"model"}


def test_type_of_another_home_takes_a_number(tmp_path: Path) -> None:
    """A name that another home gave another type fails that request alone, without a number."""
    store = tmp_path / "store"
    store.mkdir()
    source = """
        import sys, wherry
        with wherry.init(project="p") as run:
            for step, type_ in enumerate(sys.argv[1:]):
                a = wherry.Artifact("shared", type=type_, metadata={"step": step})
                run.log_artifact(a)
                try:
                    print(a.wait(60).version)
                except wherry.errors.WherryError as error:
                    print(type(error).__name__, isinstance(error, ValueError))
    """
    with machine(tmp_path / "a", f"file://{store}") as a:
        assert a.run(source, "model") == "v0\n"
    with machine(tmp_path / "b", f"file://{store}") as b:
        program = b.start(source, "dataset", "model", "dataset")
        out, err = program.process.communicate(timeout=60)
        assert out.splitlines()[0] == "TypeTaken True"
        assert out.splitlines()[1] == "v1"
        # by now this home knows the type
        assert program.process.returncode == 1
        assert "TypeTaken" in err.splitlines()[-2] + err.splitlines()[-1]
        (failed,) = json.loads(b.wherry("status", "--json"))["requests"]
        assert (failed["state"], failed["error"]) == ("failed", "TypeTaken")
        assert "model" in failed["reason"] and "dataset" in failed["reason"]
    assert len(records(FolderObjects(store), "p", "shared")) == 2


# ── files that do not stand still ──────────────────────────────────────────────────────────────
RESTLESS = """
import json, os, subprocess, sys, threading, time
import wherry

SIZE, TRIES = 8_000_000, 60
WRITER = '''
import os, sys
size = int(sys.argv[1])
fill = 0
while True:
    fill = (fill + 1) % 256
    with open("big", "r+b" if os.path.exists("big") else "wb", buffering=0) as f:
        for _ in range(0, size, 500_000):
            f.write(bytes([fill]) * 500_000)
    with open("log", "ab") as f:
        f.write(b"line" * 1000)
    if os.path.getsize("log") > size: os.truncate("log", 0)
'''

def captured():
    return sum(len(names) for _, _, names in os.walk(os.environ["WHERRY_HOME"] + "/spool"))

def unlink_soon(path, before):
    while captured() == before: pass
    os.unlink(path)

writer = subprocess.Popen([sys.executable, "-c", WRITER, str(SIZE)])
while not os.path.exists("log"): time.sleep(0.01)
os.makedirs("d")
with open("d/0-long", "wb") as f: f.write(bytes(60_000_000))
run = wherry.init(project="p")
raised = {}
try:
    a = wherry.Artifact("restless", type="model")
    with a.new_file("last") as f: f.write("last")
    for what in ("big", "log"):
        for i in range(TRIES):
            try:
                a.add_file(what, name=f"{what}-{i}")
            except wherry.errors.CaptureError as error:
                raised.setdefault(what, [type(error).__name__, str(error)])
                if what == "big": break
finally:
    writer.kill()
    writer.wait()
for i in range(TRIES):
    open("d/9-short-lived", "w").close()
    thread = threading.Thread(target=unlink_soon, args=("d/9-short-lived", captured()))
    thread.start()
    try:
        a.add_dir("d", name=f"d-{i}")
    except wherry.errors.CaptureError as error:
        raised["d"] = [type(error).__name__, str(error)]
    finally:
        thread.join()
    if "d" in raised: break
    a.remove(f"d-{i}")
run.log_artifact(a)
a.wait(60)
run.finish()
print(json.dumps(raised))
"""


def test_torn_file_is_taken(machine: Machine) -> None:
    """A file that changes or vanishes while it is captured is refused by name; nothing torn arrives."""
    raised = json.loads(machine.run(RESTLESS))
    assert raised["big"][0] == "FileChanged" and "big" in raised["big"][1]
    assert raised["d"][0] in ("FileChanged", "FileMissing") and "9-short-lived" in raised["d"][1]
    (arrived,) = content(machine, "restless")
    assert arrived.pop("last") == b"last"
    for path, body in arrived.items():
        if path.startswith("big"):
            assert len(body) == 8_000_000
        else:
            assert path.startswith("log-")
            assert body == (b"line" * (len(body) // 4 + 1))[: len(body)]


def test_changed_immutable_file_takes_a_number(machine: Machine) -> None:
    """What changes after an ``immutable`` capture fails alone, without a number; a deleted file is fine."""
    machine.run(
        """
        import os, wherry
        for name in ("mutable", "changed", "deleted"):
            with open(name, "w") as f: f.write("one")
        with wherry.init(project="p", mode="offline") as run:
            for name in ("mutable", "changed", "deleted"):
                a = wherry.Artifact(name, type="model")
                a.add_file(name, policy="mutable" if name == "mutable" else "immutable")
                run.log_artifact(a)
            b = wherry.Artifact("changed", type="model", metadata={"second": True})
            run.log_artifact(b)
        for name in ("mutable", "changed"):
            with open(name, "r+") as f: f.write("two")
        os.unlink("deleted")
        """
    )
    machine.wherry("sync", check=False)
    assert content(machine, "mutable") == [{"mutable": b"one"}]
    assert content(machine, "deleted") == [{"deleted": b"one"}]
    kept = records(FolderObjects(machine.home / "store"), "p", "changed")
    assert [record["metadata"] for record in kept] == [{"second": True}]
    (failed,) = json.loads(machine.wherry("status", "--json"))["requests"]
    assert (failed["name"], failed["error"]) == ("changed", "FileChanged")


# ── the machine ────────────────────────────────────────────────────────────────────────────────
FULL = """
import errno
run = wherry.init(project="p")
def log(name, size):
    a = wherry.Artifact(name, type="model")
    with a.new_file("x", mode="wb") as f: f.write(os.urandom(size))
    run.log_artifact(a)
    return a

log("small", 10).wait(60)
with open("huge", "wb") as f: f.write(bytes(40_000_000))
os.makedirs("folder")
for i in range(40):
    with open(f"folder/{i}", "wb") as f: f.write(bytes(1_000_000))

a = wherry.Artifact("a", type="model")
@case
def file(): a.add_file("huge")
@case
def folder(): a.add_dir("folder")
@case
def new():
    with a.new_file("new", mode="wb") as f:
        for _ in range(40): f.write(bytes(1_000_000))
a.add_file("folder/0")
@case
def small(): return run.log_artifact(a).wait(60).version

# to the brim
home = os.environ["WHERRY_HOME"]
b = wherry.Artifact("b", type="model")
ballast = open(home + "/ballast", "wb", buffering=0)
for size in (100_000, 1000, 10):
    try:
        while True: ballast.write(b"x" * size)
    except OSError as error:
        assert error.errno == errno.ENOSPC
@case
def brim(): run.log_artifact(wherry.Artifact("brim", type="model", metadata={"x": "x" * 100_000}))
@case
def brim_file():
    c = wherry.Artifact("c", type="model")
    with c.new_file("x") as f: f.write("x" * 100_000)
    run.log_artifact(c)
ballast.close(); os.unlink(home + "/ballast")
@case
def room_again(): return log("small", 20).wait(60).version
run.finish()
tell()
"""


def _own_mounts() -> list[str]:
    """A command prefix that gives a program mounts of its own; [] where that can't be had."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
        return []
    return prefix


def test_full_disk_takes_half_a_request(tmp_path: Path) -> None:
    """On a full disk the call raises, nothing is half-queued, the daemon goes on when there is room."""
    prefix = _own_mounts()
    if not prefix:
        pytest.skip("no mounts of our own here")
    store = tmp_path / "store"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        on.home.mkdir(mode=0o700)
        source = on.root / "full.py"
        source.write_text(CASES + FULL)
        mounted = (
            'mount -t tmpfs -o size=12m,mode=700 tmpfs "$WHERRY_HOME" && "$0" "$1";'
            'code=$?; "$0" -m wherry.cli daemon stop >/dev/null; exit $code'
        )
        done = subprocess.run(
            [*prefix, "sh", "-c", mounted, sys.executable, str(source)],
            cwd=on.work,
            env=on.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = outcomes(done.stdout)
    brim = {name: found.pop(name) for name in ("brim", "brim_file")}
    check(
        found,
        {
            "file": ("SpoolFull", "spool"),
            "folder": ("SpoolFull", "spool"),
            "new": ("SpoolFull", "spool"),
            "small": ("", "'v0'"),
            "room_again": ("", "'v1'"),
        },
    )
    for name, got in brim.items():
        assert "WherryError" in got["kinds"], (name, got)
    objects = FolderObjects(store)
    assert {key.split("/")[2] for key in objects.keys("p/artifacts/")} == {"small", "a"}
    (record,) = records(objects, "p", "a")
    assert [line["path"] for line in manifest(objects, "p", record)] == ["0"]


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open("huge", "wb") as f: f.write(bytes(30_000_000))
run = wherry.init(project="p")
a = wherry.Artifact("a", type="model")
first = wherry.Artifact("first", type="model")
first.add_file("huge")
run.log_artifact(first); first.wait(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, resource.RLIM_INFINITY))
@case
def file(): a.add_file("huge")
@case
def new():
    with a.new_file("new", mode="wb") as f:
        for _ in range(30): f.write(bytes(1_000_000))
@case
def download(): run.use_artifact("first:latest").download("out")
@case
def left(): return [names for _, _, names in os.walk("out")]
with a.new_file("small") as f: f.write("small")
run.log_artifact(a)
run.finish()
tell()
"""


def test_file_limit_takes_half_a_file(machine: Machine) -> None:
    """Where the program may not write so large a file, the call raises, nothing is left, the rest arrives."""
    found = outcomes(machine.run(CASES + LIMITED))
    check(
        found,
        {
            "file": ("SpoolFull", "spool"),
            "new": ("SpoolFull", "spool"),
            "download": ("DownloadError", "huge"),
            "left": ("", "[[]]"),
        },
    )
    assert content(machine, "a") == [{"small": b"small"}]
    assert "Traceback" not in (machine.home / "daemon.log").read_text()


LOOP = """
import sys, wherry
with wherry.init(project="p") as run:
    for i in range(int(sys.argv[1])):
        a = wherry.Artifact("loop", type="model", metadata={"i": i})
        with a.new_file("x") as f: f.write(str(i))
        run.log_artifact(a)
        print(i, flush=True)
"""


def test_locked_database_loses_a_request(machine: Machine) -> None:
    """While another program locks the queue for some seconds calls wait; then all arrives in order."""
    machine.run(LOOP, "1")
    program = machine.start(LOOP.replace("range(", "range(1, "), "6")
    locked = sqlite3.connect(machine.home / "queue.db", isolation_level=None, timeout=30)
    try:
        program.wait_line()
        locked.execute("BEGIN EXCLUSIVE")
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(3)
        locked.execute("ROLLBACK")
    finally:
        locked.close()
    program.wait_done()
    kept = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [record["metadata"]["i"] for record in kept] == list(range(6))


def test_database_locked_at_the_start_ends_the_daemon(machine: Machine) -> None:
    """A daemon that starts while another program holds the queue waits for it, or is started again."""
    machine.run(LOOP, "1")
    machine.kill_daemon()
    wait_until(lambda: machine.daemon_pid() is None)
    locked = sqlite3.connect(machine.home / "queue.db", isolation_level=None, timeout=30)
    try:
        locked.execute("BEGIN EXCLUSIVE")
        program = machine.start(LOOP.replace("range(", "range(1, "), "3")
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(3)
        locked.execute("ROLLBACK")
    finally:
        locked.close()
    program.wait_done()
    kept = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [record["metadata"]["i"] for record in kept] == list(range(3))


def test_killed_client_leaves_half_a_request(machine: Machine) -> None:
    """Whenever a client is killed, what was acknowledged arrives, and at most one more."""
    for round_ in range(3):
        program = machine.start(LOOP.replace('"loop"', f'"loop-{round_}"'), "1000")
        for _ in range(4 + 3 * round_):
            last = program.wait_line()
        program.process.send_signal(signal.SIGKILL)
        rest, _ = program.process.communicate()
        acknowledged = int((rest.splitlines() or [last])[-1])
        machine.wait_all_done()
        kept = records(FolderObjects(machine.home / "store"), "p", f"loop-{round_}")
        steps = [record["metadata"]["i"] for record in kept]
        assert steps == list(range(len(steps)))
        assert acknowledged < len(steps) <= acknowledged + 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_daemon_killed_in_mid_call_logs_twice_or_never(machine: Machine, moment: str) -> None:
    """A call whose daemon is killed before or after its commit gets its answer from the next one."""
    place = {"before": "queue.accept.before-commit", "after": "queue.accept.after-commit"}[moment]
    env = {"WHERRY_FAILPOINT": f"{place}@3", "WHERRY_FAILPOINT_ONCE": str(machine.root / "once")}
    program = machine.start(LOOP, "5", env={**env, "WHERRY_FINISH": "wait"})
    program.wait_done()
    assert (machine.root / "once").exists(), f"{place} was never passed"
    kept = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [record["metadata"]["i"] for record in kept] == list(range(5))


#: Starts the daemon with its wall clock set off.
SHIFTED = """
import os, sys, time
real, real_ns = time.time, time.time_ns
shift = float(open(os.environ["WHERRY_HOME"] + "/../shift").read())
time.time = lambda: real() + shift
time.time_ns = lambda: real_ns() + int(shift * 1e9)
from wherryd.__main__ import main
sys.argv = ["wherryd", *sys.argv[1:]]
main()
"""


def test_clock_set_back_reorders(machine: Machine) -> None:
    """A machine whose clock is set back a year, then forth again, keeps order, numbers and files."""
    starter = machine.root / "shifted.py"
    starter.write_text(SHIFTED)
    machine.env["WHERRY_DAEMON"] = f"{sys.executable} {starter}"
    source = """
        import sys, wherry
        with wherry.init(project="p") as run:
            for i in range(3):
                a = wherry.Artifact("loop", type="model", metadata={"at": sys.argv[1], "i": i})
                with a.new_file("x") as f: f.write(sys.argv[1])
                run.log_artifact(a, aliases=["newest"])
            a.wait(60)
            assert run.use_artifact("loop:newest").version == a.version
    """
    year = 365 * 86400
    for at, shift in (("now", 0), ("past", -year), ("future", year), ("back", 0)):
        (machine.root / "shift").write_text(str(shift))
        machine.run(source, at)
        created = records(FolderObjects(machine.home / "store"), "p", "loop")[-1]["created"]
        if shift:
            assert created[:4] != time.strftime("%Y", time.gmtime()), (
                "the daemon's clock was not shifted"
            )
        machine.kill_daemon()
        wait_until(lambda: machine.daemon_pid() is None)
    kept = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [(record["metadata"]["at"], record["metadata"]["i"]) for record in kept] == [
        (at, i) for at in ("now", "past", "future", "back") for i in range(3)
    ]


# ── what lies in the store ─────────────────────────────────────────────────────────────────────
DAMAGE = """
store = os.environ["WHERRY_HOME"] + "/store"
run = wherry.init(project="p")
a = wherry.Artifact("a", type="model")
for name in ("one", "two"):
    with a.new_file(name) as f: f.write(name * 1000)
b = wherry.Artifact("b", type="model", metadata={"b": 1})
with b.new_file("three") as f: f.write("three" * 1000)
run.log_artifact(a); run.log_artifact(b)
a.wait(60); b.wait(60)

def blob(entry):
    hex_ = a.manifest.entries[entry].digest.removeprefix("sha256:")
    return f"{store}/p/blobs/sha256/{hex_[:2]}/{hex_}"

def flip(path, at):
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(at); byte = f.read(1); f.seek(at); f.write(bytes([byte[0] ^ 1]))

path = blob("two")
flip(path, 2000)
@case
def flipped(): run.use_artifact("a:latest").download(root="flipped")
flip(path, 2000)
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


def test_damaged_object_is_handed_out(machine: Machine) -> None:
    """What is not as it was committed raises and names it; no damaged or half a file is left behind."""
    found = outcomes(machine.run(CASES + DAMAGE))
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
            assert (machine.work / path).read_text() == "one" * 1000
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


def test_same_content_gets_another_number(machine: Machine) -> None:
    """What equals the highest version is that version, over kills; any other difference is a new one."""
    source = """
        import sys, wherry
        with wherry.init(project="p") as run:
            for step, x, description in ((0, 1, None), (0, 1, None), (0, 1.0, None), (0, 1, "d"), (1, 1, "d")):
                a = wherry.Artifact("same", "model", description=description, metadata={"x": x})
                with a.new_file("x") as f: f.write(str(step))
                print(run.log_artifact(a, aliases=[f"a{step}"]).wait(60).version)
            print(run.use_artifact("same:a0").version, run.use_artifact("same:a1").version)
    """
    assert machine.run(source).split() == ["v0", "v0", "v0", "v1", "v2", "v1", "v2"]
    machine.kill_daemon()
    assert machine.run(source).split()[-4:] == ["v4", "v5", "v4", "v5"]
    assert len(records(FolderObjects(machine.home / "store"), "p", "same")) == 6
