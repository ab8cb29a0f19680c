"""A disk that is full and a file that may not grow: nothing is logged by half."""

from __future__ import annotations

from pathlib import Path

from tests.support.disks import small_disk
from tests.support.machine import Machine, machine
from tests.support.reading import FolderObjects, content, manifest, records
from tests.support.troubles import CASES, check, outcomes

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

# to the brim, when the daemon has given back what it can
home = os.environ["WHERRY_HOME"]
import sqlite3, time
queue = sqlite3.connect(f"file:{home}/queue.db?mode=ro", uri=True)
while queue.execute("SELECT count(*) FROM requests WHERE NOT freed AND state <> 'failed'").fetchone()[0]: time.sleep(0.05)
queue.close()
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


def test_full_disk_takes_half_a_request(tmp_path: Path) -> None:
    """On a full disk the call raises, nothing is half-queued, the daemon goes on when there is room."""
    store = tmp_path / "store"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        on.home.mkdir()
        with small_disk(on.home, 12 << 20) as disk:
            on.live_on(disk)
            (on.home / "config.toml").write_text("spool_quota_bytes = '1 TB'\n")
            found = outcomes(on.run(CASES + FULL))
            on.close()
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


NO_START = """
ballast = open(os.environ["WHERRY_HOME"] + "/ballast", "wb", buffering=0)
try:
    while True: ballast.write(b"x" * 1000)
except OSError: pass
@case
def start(): wherry.init(project="p")
tell()
"""


def test_full_disk_starts_nothing_and_says_nothing(tmp_path: Path) -> None:
    """Where the disk takes neither a daemon nor its last words, the error says that it is full."""
    with machine(tmp_path / "m", f"file://{tmp_path}") as on:
        on.home.mkdir()
        with small_disk(on.home, 1 << 20) as disk:
            on.live_on(disk)
            check(
                outcomes(on.run(CASES + NO_START)), {"start": ("DaemonNotStarted", "No space left")}
            )
            on.close()


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
    assert content(machine.home, "a") == [{"small": b"small"}]
    assert "Traceback" not in (machine.home / "daemon.log").read_text()
