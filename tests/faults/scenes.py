"""What happens on a machine while its daemon is killed, and which failpoints that passes.

Each scene is a program that goes on whatever becomes of the daemon, and what has to be in the store
afterwards. ``SCENES`` together name every failpoint of the daemon; ``CLIENT_PLACES`` those of the client.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.faults.stage import Stage, Versions, check_aliases
from tests.support.reading import Objects, manifest, records


def _nothing_more(stage: Stage, objects: Objects) -> None:
    pass


class Scene(NamedTuple):
    """One history: ``program`` is run, then the queue has taken so many ``requests``, the store holds
    ``expected``, and ``check`` finds no fault.

    The store is the home's own, a folder ``later`` that is not there yet, or a bucket: S3's, Google's, or
    one of ``rclone`` for a single writer.
    """

    program: str
    requests: int
    expected: Mapping[str, Versions]
    places: tuple[str, ...]
    check: Callable[[Stage, Objects], None] = _nothing_more
    store: str = "home"


def around(*steps: str) -> tuple[str, ...]:
    """Name the places before and after transactions of the queue."""
    return tuple(
        f"queue.{step}.{moment}-commit" for step in steps for moment in ("before", "after")
    )


#: What every program begins with.
TOOLS = """
import json, os, random, shutil, subprocess, sys, time
from pathlib import Path
import wherry

def artifact(name, n, **files):
    made = wherry.Artifact(name, type=name, metadata={"n": n})
    for path, text in files.items():
        with made.new_file(path) as file:
            file.write(text)
    return made

def refer(made, path, text="referred"):
    Path(path).write_text(text)
    made.add_reference(Path(path).absolute().as_uri())
    return made

def command(*args):
    done = subprocess.run(
        [sys.executable, "-m", "wherry.cli", *args], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"wherry {args} exited {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout

def requests(*states):
    return json.loads(command("queue", "--json", *(f"--state={state}" for state in states)))

def until(holds):
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            sys.exit("it does not come true: " + command("status", "--json"))
"""

# ── logging: what every request passes ─────────────────────────────────────────────────────────
_BIG = b"big" * 500_000


def _check_logs(stage: Stage, objects: Objects) -> None:
    check_aliases(objects, "model", {"best": 1, "same": 1, "again": 0})
    lines = manifest(objects, "p", records(objects, "p", "model")[0])
    (reference,) = [line for line in lines if "ref" in line]
    assert (reference["path"], reference["size"]) == ("outside.txt", len(b"referred"))


LOGS = Scene(
    program="""
Path("big.bin").write_bytes(b"big" * 500_000)
Path("fixed.bin").write_bytes(b"fixed")
left = Path(os.environ["WHERRY_HOME"], "store/%wherry/tmp/left")  # as a killed writer leaves it
left.parent.mkdir(parents=True)
left.touch()
os.utime(left, (0, 0))
run = wherry.init(project="p", id="first")
first = artifact("model", 0, small="0", other="0", empty="")
first.add_file("big.bin")
first.add_file("fixed.bin", policy="immutable")
refer(first, "outside.txt")
run.log_artifact(first, aliases=["best"])
os.remove("big.bin")
run.log_artifact(artifact("data", 0, x="data 0"))
run.log_artifact(artifact("model", 1, small="1"), aliases=["best"])
again = run.log_artifact(artifact("model", 1, small="1"), aliases=["same"])
lost = refer(artifact("lost", 0, x="lost" * 5000), "gone.txt")
os.remove("gone.txt")
run.log_artifact(lost)
run.log_artifact(artifact("data", 1, x="data 1" * 4000, **{f"many {n:02}": str(n) for n in range(33)}))
second = wherry.init(project="p", id="second")
second.log_artifact(first, aliases=["again"])
assert [made.wait().version for made in (first, again)] == ["v0", "v1"]
try:
    lost.wait()
except wherry.errors.ReferenceFailed:
    pass
never = artifact("never", 0, x="captured, and never logged" * 1000)
run.finish()
second.finish()
""",
    requests=6,
    expected={
        "model": [
            {
                "small": b"0",
                "other": b"0",
                "empty": b"",
                "big.bin": _BIG,
                "fixed.bin": b"fixed",
            },
            {"small": b"1"},
        ],
        "data": [
            {"x": b"data 0"},
            {"x": b"data 1" * 4000} | {f"many {n:02}": b"%d" % n for n in range(33)},
        ],
        "lost": [],
        "never": [],
    },
    check=_check_logs,
    places=(
        "queue.migrate.before-commit",
        "queue.file.before-rename",
        "queue.file.renamed",
        "app.start.queue-open",
        "capture.boot.before-note",
        "rpc.socket.before-rename",
        "app.start.bound",
        "reserve.file.middle",
        "capture.log.before-stage",
        "capture.log.after-stage",
        "capture.log.before-accept",
        "capture.log.after-accept",
        "prepare.digests.before-save",
        "prepare.digests.after-save",
        "registry.file.before-sync",
        "registry.file.before-rename",
        "registry.file.before-folder-sync",
        "prepare.packs.before-save",
        "prepare.packs.after-save",
        "prepare.manifest.before-queue",
        "prepare.manifest.after-queue",
        "prepare.request.before-fail",
        "transfer.contact.after-found",
        "stores.probe.before-delete",
        "stores.probe.deleted",
        "transfer.contact.after-probe",
        "transfer.manifest.after-put",
        "transfer.blob.before-put",
        "transfer.blob.after-put",
        "transfer.pack.before-put",
        "transfer.pack.after-put",
        "transfer.blobs.before-sync",
        "transfer.blobs.before-note",
        "transfer.blobs.after-note",
        "transfer.request.before-queue",
        "transfer.request.after-queue",
        "transfer.spool.before-row",
        "transfer.spool.before-files",
        "stores.folder.sweep.before-remove",
        "stores.folder.folder.made",
        "stores.folder.put.before-sync",
        "stores.folder.put.before-name",
        "stores.folder.put.after-name",
        "stores.folder.create.before-sync",
        "stores.folder.create.before-link",
        "stores.folder.create.after-link",
        "stores.folder.replace.before-rename",
        "stores.folder.replace.after-rename",
        "stores.folder.sync.before-folders",
        "commit.store.after-confirm",
        "commit.type.after-claim",
        "commit.record.before-queue",
        "commit.record.before-send",
        "commit.record.after-send",
        "commit.request.before-settle",
        "commit.request.after-settle",
        "commit.alias.before-move",
        "commit.alias.after-move",
        "capture.free.before-rows",
        "capture.free.before-files",
        "capture.free.before-note",
        "capture.sync.before-sync",
        "capture.sync.before-note",
        "capture.sweep.before-delete",
        "capture.room.before-head",
        "capture.room.before-clear",
        "app.leave.before-end",
        *around("stage", "accept", "link", "digests", "places", "prepared", "store", "sent"),
        *around("uploaded"),
        *around("learn", "attempt", "settle", "done", "fail"),
        *around("forget", "drop", "freed", "synced", "meta"),
    ),
)

# ── what users say of requests ─────────────────────────────────────────────────────────────────
SAID = Scene(
    program="""
run = wherry.init(project="p")
for name in ("late", "seen"):
    made = refer(artifact(name, 0), f"{name}.txt")
    os.remove(f"{name}.txt")
    run.log_artifact(made)
offline = wherry.init(project="p", mode="offline")
for n in range(2):
    offline.log_artifact(artifact("held", n, x=str(n)))
offline.log_artifact(artifact("unwanted", 0, x="0"))
until(lambda: len(requests("failed")) == 2)
ids = {request["name"]: request["request"] for request in requests("failed", "held")}
command("cancel", ids["unwanted"])
command("acknowledge", ids["seen"])
Path("late.txt").write_text("late")
command("retry", ids["late"])
command("sync")
command("drain")
""",
    requests=5,
    expected={"held": [{"x": b"0"}, {"x": b"1"}], "late": [{}], "unwanted": [], "seen": []},
    places=around("cancel", "acknowledge", "retry", "sync"),
)

# ── a store that is not there yet ──────────────────────────────────────────────────────────────
LATER = Scene(
    program="""
Path("fixed.bin").write_bytes(b"fixed")
run = wherry.init(project="p")
run.log_artifact(artifact("model", 0, x="0"))
changed = artifact("changed", 0)
changed.add_file("fixed.bin", policy="immutable")
run.log_artifact(changed)
until(lambda: [r["error"] for r in requests("prepared")] == ["StoreMissing"] * 2)
with open("fixed.bin", "r+b") as file:
    file.write(b"FIXED")
Path(os.environ["WHERRY_STORE"].removeprefix("file://")).mkdir()
command("retry", "--all")
run.log_artifact(artifact("model", 1, x="1"))
try:
    changed.wait()
except wherry.errors.FileChanged:
    pass
run.finish()
""",
    requests=3,
    expected={"model": [{"x": b"0"}, {"x": b"1"}], "changed": []},
    store="later",
    places=(*around("wait"), "transfer.request.before-fail"),
)

# ── a store that is not what it was ────────────────────────────────────────────────────────────
EMPTIED = Scene(
    program="""
run = wherry.init(project="p")
run.log_artifact(artifact("model", -1, x="of the store that is gone", a="a", b="b")).wait()
command("daemon", "stop")
shutil.rmtree(Path(os.environ["WHERRY_HOME"], "store"))
Path(os.environ["WHERRY_HOME"], "spool/manifests/4711.zst").touch()  # of no request
run.log_artifact(artifact("model", 0, x="0", a="a", b="b"))  # points at bytes that are gone
until(lambda: json.loads(command("status", "--json"))["stopped"])
command("retry", "--lane", "p/model")
run.log_artifact(artifact("model", 1, x="1"))
run.finish()
""",
    requests=3,
    expected={"model": [{"x": b"0", "a": b"a", "b": b"b"}, {"x": b"1"}]},
    places=(
        "transfer.request.before-plan",
        *around("plan"),
        "transfer.lane.before-stop",
        *around("stop", "restart"),
        "queue.closed.before-set",
        "queue.closed.taken",
        "capture.manifests.before-remove",
        "commit.restart.after-found",
    ),
)

# ── a store that has lost what versions name ───────────────────────────────────────────────────
LOST = Scene(
    program="""
run = wherry.init(project="p")
def three(n):
    made = artifact("model", n, a="a", b="b")
    with made.new_file("large.bin", mode="wb") as file:
        file.write(b"large" * 500_000)
    return made
run.log_artifact(three(0)).wait()
project = Path(os.environ["WHERRY_HOME"], "store/p")
for kind in ("blobs", "packs", "manifests"):
    shutil.rmtree(project / kind)
run.log_artifact(three(0)).wait()  # which brings all of it back
shutil.rmtree(project / "packs")
run.log_artifact(three(1))
run.log_artifact(artifact("model", 2, a="a", b="b", c="c"))
run.finish()
""",
    requests=4,
    expected={
        "model": [
            *[{"a": b"a", "b": b"b", "large.bin": b"large" * 500_000}] * 2,
            {"a": b"a", "b": b"b", "c": b"c"},
        ]
    },
    places=(
        "commit.look.after-ask",
        "commit.look.before-forget",
        "commit.look.before-back",
        *around("lost", "back"),
    ),
)


# ── a version of another home's ────────────────────────────────────────────────────────────────
def _check_pointed(stage: Stage, objects: Objects) -> None:
    """What the other home has sent is pointed at, wherever this one was killed."""
    first, *mine = (manifest(objects, "p", record) for record in records(objects, "p", "model"))
    places = {line["path"]: (line["pack"], line["offset"]) for line in first}
    for lines in mine:
        pointed = [line for line in lines if line["path"] in places]
        assert pointed
        assert all((line["pack"], line["offset"]) == places[line["path"]] for line in pointed)


#: The other home's daemon is not killed.
ANOTHERS = Scene(
    program="""
failpoint = os.environ["WHERRY_FAILPOINT"]
program = '''
import wherry
made = wherry.Artifact("model", type="model", metadata={"n": 0})
for path in ("a", "b", "c"):
    with made.new_file(path) as file:
        file.write(path)
with wherry.init(project="p") as run:
    run.log_artifact(made).wait()
'''
Path(os.environ["WHERRY_STORE"].removeprefix("file://")).mkdir(exist_ok=True)
mine, theirs = os.environ["WHERRY_HOME"], str(Path("other").absolute())
os.environ.update(WHERRY_HOME=theirs, WHERRY_FAILPOINT="")
subprocess.run([sys.executable, "-c", program], check=True)
command("daemon", "stop")
os.environ.update(WHERRY_HOME=mine, WHERRY_FAILPOINT=failpoint)
run = wherry.init(project="p")
run.log_artifact(artifact("model", 1, a="a", b="b", d="d"))
run.log_artifact(artifact("model", 2, a="a", e="e", f="f"))
run.finish()
""",
    requests=2,
    expected={
        "model": [
            {"a": b"a", "b": b"b", "c": b"c"},
            {"a": b"a", "b": b"b", "d": b"d"},
            {"a": b"a", "e": b"e", "f": b"f"},
        ]
    },
    check=_check_pointed,
    places=(
        "transfer.latest.after-found",
        "transfer.latest.before-note",
        "transfer.latest.before-mark",
        "transfer.latest.after-mark",
    ),
)


# ── a queue that is damaged ────────────────────────────────────────────────────────────────────
def _check_kept(stage: Stage, objects: Objects) -> None:
    (aside,) = stage.home.glob("queue.db.damaged-*Z")
    assert aside.read_bytes() == b"damage" * 1000
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"its log"
    assert len({file.name.partition("Z")[0] for file in stage.home.glob("queue.db.damaged-*")}) == 1


DAMAGED = Scene(
    program="""
home = Path(os.environ["WHERRY_HOME"])
run = wherry.init(project="p")
run.log_artifact(artifact("model", 0, x="0")).wait()
command("daemon", "stop")
(home / "queue.db").write_bytes(b"damage" * 1000)
(home / "queue.db-wal").write_bytes(b"its log")
(home / "queue.db-shm").write_bytes(b"its index")
run.log_artifact(artifact("model", 1, x="1"))
run.finish()
""",
    requests=1,  # the first is in the queue that is set aside
    expected={"model": [{"x": b"0"}, {"x": b"1"}]},
    check=_check_kept,
    places=(
        "queue.damaged.database-moved",
        "queue.damaged.log-moved",
        "queue.damaged.all-moved",
    ),
)

# ── another boot, after a loss of power ────────────────────────────────────────────────────────
BOOTED = Scene(
    program="""
import errno, sqlite3
from contextlib import closing

def no_link(*_, **__):
    raise OSError(errno.EXDEV, "Invalid cross-device link")

os.link = no_link  # so that the file stays where the user has it
Path("fixed.bin").write_bytes(b"fixed")
run = wherry.init(project="p")
run.log_artifact(artifact("model", 0, x="0")).wait()
offline = wherry.init(project="p", mode="offline")
lost = artifact("lost", 0)
lost.add_file("fixed.bin", policy="immutable")
offline.log_artifact(lost)
command("daemon", "stop")
with closing(sqlite3.connect(Path(os.environ["WHERRY_HOME"], "queue.db"))) as db, db:
    db.execute("UPDATE requests SET synced = 0")
    db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot'")
until(lambda: len(requests("failed")) == 1)
command("retry", "--all")
until(lambda: len(requests("failed")) == 1)
run.log_artifact(artifact("model", 1, x="1"))
run.finish()
""",
    requests=3,
    expected={"model": [{"x": b"0"}, {"x": b"1"}], "lost": []},
    places=(*around("distrust"), "capture.lost.before-remove"),
)

# ── a stream that is cut ───────────────────────────────────────────────────────────────────────
CUT = Scene(
    program='''
run = wherry.init(project="p")
run.log_artifact(artifact("model", 0, x="0"))
cut = """
import wherry
run = wherry.init(project="p")
made = wherry.Artifact("cut", "cut")
for number in range(3000):  # so that some of the stream is on its way before its end
    with made.new_file(f"{number:0200}") as file:
        file.write(str(number))
run.log_artifact(made)
"""
killed = {**os.environ, "WHERRY_FAILPOINT": "log.end.before", "WHERRY_FAILPOINT_ONCE": ""}
assert subprocess.run([sys.executable, "-c", cut], env=killed, check=False).returncode == -9
run.log_artifact(artifact("model", 1, x="1"))
run.finish()
''',
    requests=2,
    expected={"model": [{"x": b"0"}, {"x": b"1"}], "cut": []},
    places=(*around("abandon"), "capture.sweep.before-lock-goes", "capture.sweep.lock-gone"),
)


# ── a bucket, and files that go up in parts ────────────────────────────────────────────────────
def _large(n: int) -> bytes:
    return random.Random(n).randbytes(17 << 20)


BUCKET = Scene(
    program="""
run = wherry.init(project="p")
for n in range(2):
    made = artifact("model", n, small=str(n))
    Path("large.bin").write_bytes(random.Random(n).randbytes(17 << 20))
    made.add_file("large.bin")
    run.log_artifact(made, aliases=["best"])
run.finish()
""",
    requests=2,
    expected={"model": [{"small": b"%d" % n, "large.bin": _large(n)} for n in range(2)]},
    store="s3",
    places=(
        "stores.s3.put.before-send",
        "stores.s3.put.after-answer",
        "stores.s3.conditional.before-send",
        "stores.s3.conditional.after-answer",
        "stores.s3.multipart.begun",
        "stores.s3.multipart.kept",
        "stores.s3.multipart.before-note",
        "stores.s3.multipart.after-note",
        "stores.s3.multipart.before-complete",
        "stores.s3.multipart.after-complete",
        *around("upload", "part"),
    ),
)

#: The same, where such a file goes in a session.
GOOGLE = BUCKET._replace(
    store="google",
    places=(
        "stores.gs.put.before-send",
        "stores.gs.put.after-answer",
        "stores.gs.conditional.before-send",
        "stores.gs.conditional.after-answer",
        "stores.gs.resumable.begun",
        "stores.gs.resumable.kept",
        "stores.gs.resumable.before-note",
        "stores.gs.resumable.after-note",
        "stores.gs.resumable.before-last",
        "stores.gs.resumable.after-last",
    ),
)


# ── a store without conditional writes, which this home alone writes ───────────────────────────
def _check_alone(stage: Stage, objects: Objects) -> None:
    check_aliases(objects, "model", {"best": 2})
    assert "wherry-writer.json" in objects.keys("wherry-")


ALONE = Scene(
    program="""
run = wherry.init(project="p")
for n in range(3):
    run.log_artifact(artifact("model", n, file=str(n)), aliases=["best"])
run.finish()
""",
    requests=3,
    expected={"model": [{"file": b"%d" % n} for n in range(3)]},
    check=_check_alone,
    store="rclone",
    places=(
        "registry.sole.after-claim",
        "registry.sole.after-put",
    ),
)

# ── what was fetched ───────────────────────────────────────────────────────────────────────────
FETCHED = Scene(
    program="""
run = wherry.init(project="p")
made = artifact("model", 0, **{f"{n:02}": str(n) for n in range(40)})
Path("large.bin").write_bytes(random.Random(0).randbytes(17 << 20))
made.add_file("large.bin")
run.log_artifact(made).wait()
for n in range(3):
    got = Path(made.download(f"got {n}"))
    assert (got / "large.bin").read_bytes() == Path("large.bin").read_bytes()
    assert {path.name for path in got.iterdir()} == {"large.bin", *(f"{n:02}" for n in range(40))}
    linked = Path(made.download("linked", hard_links=True))
    assert (linked / "large.bin").read_bytes() == Path("large.bin").read_bytes()
    assert (linked / "large.bin").stat().st_nlink == 2
    shutil.rmtree("linked")
    command("cache", "cleanup", "0")
    held = json.loads(command("cache", "status", "--json"))
    assert held["files"] == 0, held
run.finish()
""",
    requests=1,
    expected={"model": [{f"{n:02}": b"%d" % n for n in range(40)} | {"large.bin": _large(0)}]},
    store="s3",
    places=(
        "read.cache.after-range",
        "read.cache.before-keep",
        "read.cache.after-keep",
        "read.cache.after-lend",
        "read.cache.before-remove",
    ),
)


# ── what users change of versions ──────────────────────────────────────────────────────────────
def _check_changed(stage: Stage, objects: Objects) -> None:
    check_aliases(objects, "model", {"best": 1, "prod": None, "old": 0})
    folder = "p/artifacts/model/versions/"
    (edited,) = [key for key in objects.keys(folder) if key.endswith(".edit.json")]
    assert edited == f"{folder}v00000001.edit.json"
    edit = json.loads(objects.get(edited))
    assert (edit["description"], edit["metadata"], edit["tags"]) == (
        "good",
        {"n": 1, "m": 2},
        ["t"],
    )
    (gone,) = records(objects, "p", "gone")
    assert gone["deleted"]


CHANGED = Scene(
    program="""
run = wherry.init(project="p")
for n in range(2):
    run.log_artifact(artifact("model", n, x=str(n)), aliases=["prod"]).wait()
run.log_artifact(artifact("gone", 0, x="0")).wait()
first = run.use_artifact("model:v1")
first.description = "good"
first.metadata["m"] = 2
first.tags.append("t")
first.aliases.append("best")
first.save()
command("alias", "p/model:v0", "old", "prod")
command("alias", "--remove", "p/model", "prod")
run.use_artifact("gone:v0").delete()
again = run.use_artifact("model:latest")
assert (again.version, again.metadata, again.aliases) == ("v1", {"n": 1, "m": 2}, ["best", "latest"])
run.finish()
""",
    requests=3,
    expected={"model": [{"x": b"0"}, {"x": b"1"}]},
    check=_check_changed,
    places=(
        "commit.edit.before-write",
        "commit.edit.after-write",
        "commit.user-alias.before-write",
        "commit.user-alias.after-write",
        "commit.delete.before-write",
        "commit.delete.after-write",
    ),
)


# ── what runs do ───────────────────────────────────────────────────────────────────────────────
def _check_runs(stage: Stage, objects: Objects) -> None:
    told = [json.loads(objects.get(key)) for key in objects.keys("p/runs/")]
    used = {(each["run"]["id"], value) for each in told for value in each.get("used", ())}
    assert used == {("trains", "p/data:v0"), ("again", "p/model:v0"), ("held", "p/model:v0")}
    logged = {(each["run"]["id"], value) for each in told for value in each.get("logged", ())}
    assert logged == {("again", "p/model:v0")}
    assert {each["run"]["id"] for each in told if each.get("ended")} == {
        *("makes", "trains", "again", "held"),
    }


RUNS = Scene(
    program="""
with wherry.init(project="p", id="makes", config={"a": 1}) as run:
    run.log_artifact(artifact("data", 0, x="data"))
with wherry.init(project="p", id="trains") as run:
    run.use_artifact("data:v0")
    run.log_artifact(artifact("model", 0, x="model"))
with wherry.init(project="p", id="again") as run:
    run.use_artifact("model:v0")
    run.log_artifact(artifact("model", 0, x="model"))
with wherry.init(project="p", id="held", mode="offline") as run:
    run.use_artifact("model:v0")
command("sync")
def is_noted():
    ended = [run.id for run in wherry.Api({"project": "p"}).runs() if run.ended_at]
    return sorted(ended) == ["again", "held", "makes", "trains"]
until(is_noted)
(logger,) = [wherry.Api({"project": "p"}).artifact("model:v0").logged_by()]
assert logger.id == "trains", logger
""",
    requests=3,
    expected={"data": [{"x": b"data"}], "model": [{"x": b"model"}]},
    check=_check_runs,
    places=(
        *around("note-run", "release-run", "keep-run-record", "run-record-put"),
        "commit.run.before-keep",
        "commit.run.before-send",
        "commit.run.after-send",
    ),
)

# ── an upload in parts that is not wanted any more ─────────────────────────────────────────────
GIVEN_UP = Scene(
    program="""
import sqlite3
run = wherry.init(project="p")
unwanted = artifact("unwanted", 0)
with unwanted.new_file("large.bin", mode="wb") as file:
    for _ in range(200):
        file.write(os.urandom(1 << 20))
run.log_artifact(unwanted)
def has_begun():
    with sqlite3.connect(f"file:{os.environ['WHERRY_HOME']}/queue.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM sent_parts").fetchone() != (0,)
until(has_begun)
command("cancel", "--all")
run.log_artifact(artifact("model", 0, x="0"))
try:
    run.finish()
except wherry.errors.Cancelled:
    pass
""",
    requests=2,
    expected={"model": [{"x": b"0"}], "unwanted": []},
    store="s3",
    places=("transfer.given-up.before-store", "transfer.given-up.before-forget"),
)


# ── drafts ─────────────────────────────────────────────────────────────────────────────────────
def _check_drafts(stage: Stage, objects: Objects) -> None:
    check_aliases(objects, "set", {"best": 0, "early": 0})
    (first, *_) = records(objects, "p", "set")
    assert first["metadata"] == {"n": 0, "by 1": 1, "by 2": 2}


DRAFTS = Scene(
    program="""
def put(name, n, draft, path, text, **more):
    run = wherry.init(project="p", id=f"{draft}-{n}")
    made = artifact(name, 0, **{path: text})
    made.metadata = more or {"n": n}
    run.upsert_artifact(made, aliases=["early"] if n == 1 else [], distributed_id=draft)
    return run

def refused(kind, call):
    try:
        call()
    except getattr(wherry.errors, kind):
        return
    sys.exit(f"no {kind}")

runs = [put("set", n, "one", f"part {n}", str(n), **{f"by {n}": n}) for n in (1, 2)]
run = wherry.init(project="p", id="last")
whole = run.finish_artifact(artifact("set", 0, index="2"), aliases=["best"], distributed_id="one")
run.log_artifact(artifact("set", 1, x="1"))
for each in runs:
    each.finish()
assert whole.wait().version == "v0"
assert run.finish_artifact(artifact("set", 0, index="2"), distributed_id="one").wait().version == "v0"
late = run.finish_artifact(artifact("set", 0, other="2"), distributed_id="one")
refused("DraftFinished", late.wait)
refused("UpsertNotVisible", put("set", 3, "one", "part 3", "3").finish)

for each in [put("clash", n, "two", "same", str(n)) for n in (1, 2)]:
    each.finish()
refused("DraftConflict", run.finish_artifact(artifact("clash", 0), distributed_id="two").wait)
put("clash", 3, "two", "more", "3").finish()  # it is open again
mended = run.finish_artifact(artifact("clash", 0), distributed_id="two", on_conflict="newest")
assert mended.wait().version == "v0"
until(lambda: not requests("settled"))
run.finish()
""",
    requests=12,
    expected={
        "set": [{"part 1": b"1", "part 2": b"2", "index": b"2"}, {"x": b"1"}],
        "clash": [{"same": b"2", "more": b"3"}],
    },
    check=_check_drafts,
    places=(
        "commit.part.after-claim",
        "commit.part.before-keep",
        "commit.part.before-send",
        "commit.part.after-send",
        "commit.part.after-look",
        "commit.part.after-put",
        "commit.part.before-fail",
        "commit.draft.before-mark",
        "commit.draft.after-mark",
        "commit.draft.after-list",
        "commit.draft.after-lines",
        "commit.draft.after-manifest",
        "commit.draft.after-conflict",
        "commit.draft.before-keep",
        "commit.draft.before-seal",
        "commit.draft.after-seal",
        "commit.draft.before-fail",
        *around("keep-part", "part-put", "gather", "seal", "fail-late"),
    ),
)


# ── changes to a version ───────────────────────────────────────────────────────────────────────
def _check_changes(stage: Stage, objects: Objects) -> None:
    (line,) = [
        line
        for line in manifest(objects, "p", records(objects, "p", "set")[3])
        if line["path"] == "late"
    ]
    assert line["ref"].startswith("http://127.0.0.1:")


#: The second is not ready before another home has the number that it would take.
CHANGES = Scene(
    program="""
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("ETag", '"late"')
        self.send_header("Content-Length", "4")
        self.end_headers()

    def log_message(self, *_):
        pass

def change(n, remove=(), **files):
    made = wherry.Artifact("set", "set", metadata={"n": n}, incremental=True)
    for path in remove:
        made.remove(path)
    for path, text in files.items():
        with made.new_file(path) as file:
            file.write(text)
    return made

server = HTTPServer(("127.0.0.1", 0), Answers)  # it listens, and nobody answers yet
Path(os.environ["WHERRY_STORE"].removeprefix("file://")).mkdir(exist_ok=True)
run = wherry.init(project="p")
first = run.log_artifact(change(0, a="a", b="b"))
second = change(3, ["a", "nothing"], c="c")
second.add_reference(f"http://127.0.0.1:{server.server_port}/late")
run.log_artifact(second)
first.wait()

failpoint = os.environ["WHERRY_FAILPOINT"]
program = '''
import wherry
with wherry.init(project="p") as run:
    for n, text in enumerate(("one", "two"), 1):
        made = wherry.Artifact("set", "set", metadata={"n": n}, incremental=True)
        with made.new_file("theirs") as file:
            file.write(text)
        run.log_artifact(made).wait()
'''
mine, theirs = os.environ["WHERRY_HOME"], str(Path("other").absolute())
os.environ.update(WHERRY_HOME=theirs, WHERRY_FAILPOINT="")
subprocess.run([sys.executable, "-c", program], check=True)
command("daemon", "stop")
os.environ.update(WHERRY_HOME=mine, WHERRY_FAILPOINT=failpoint)

Thread(target=server.serve_forever, daemon=True).start()
assert second.wait().version == "v3"
draft = first.new_draft()
draft.remove("b")
draft.metadata["n"] = 4
assert run.log_artifact(draft).wait().version == "v4"
run.finish()
""",
    requests=3,
    expected={
        "set": [
            {"a": b"a", "b": b"b"},
            {"a": b"a", "b": b"b", "theirs": b"one"},
            {"a": b"a", "b": b"b", "theirs": b"two"},
            {"b": b"b", "theirs": b"two", "c": b"c"},
            {"a": b"a"},
        ],
    },
    check=_check_changes,
    places=(
        "commit.base.after-lines",
        "commit.base.after-manifest",
        "commit.base.after-queue",
        "commit.base.before-again",
        *around("applied", "again"),
    ),
)

SCENES = (
    LOGS,
    DRAFTS,
    CHANGES,
    SAID,
    LATER,
    EMPTIED,
    LOST,
    ANOTHERS,
    DAMAGED,
    BOOTED,
    CUT,
    BUCKET,
    GOOGLE,
    ALONE,
    FETCHED,
    CHANGED,
    RUNS,
    GIVEN_UP,
)

# ── programs that are killed themselves ────────────────────────────────────────────────────────
#: Says what it has been told is logged.
KILLED = (
    TOOLS
    + """
Path("big.bin").write_bytes(b"big" * 1_000_000)
log = Path(os.environ["WHERRY_HOME"], "daemon.log")
if not log.exists():  # an old one, so long that it is set aside
    log.touch()
    os.truncate(log, 10 << 20)
half = Path("half")
if not half.exists():
    half.mkdir()
    half.joinpath("whole.bin").write_bytes(b"whole" * 100_000)
    half.joinpath("z").symlink_to("gone")
if not Path("fixed.bin").exists():  # an earlier life's request may not have been hashed yet
    Path("fixed.bin").write_bytes(b"fixed")
run = wherry.init(project="p", settings={"finish": "detach"})
for n in map(int, sys.argv[1:]):
    dropped = artifact("dropped", n, large="large" * 5000)
    del dropped
    made = artifact("model", n, small=str(n))
    try:
        made.add_dir("half")  # undone
    except wherry.errors.WherryError:
        pass
    made.add_file("big.bin", name="unwanted.bin")
    made.remove("unwanted.bin")
    with made.new_file("other") as file:
        file.write("oth")
        file.fileno()
        file.write("er")
    made.add_file("big.bin")
    made.add_file("fixed.bin", policy="immutable")
    with made.new_file("written.bin", mode="wb") as file:
        file.write(b"written" * 500_000)
    child = os.fork()
    if not child:
        made.add_file("fixed.bin", name="again.bin")  # beside what the parent captured
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        os.kill(os.getpid(), 9)
    run.log_artifact(made)
    print(n, flush=True)
"""
)


def killed_content(n: int) -> Mapping[str, bytes]:
    """What a version of ``KILLED`` holds."""
    files = {"small": b"%d" % n, "other": b"other"}
    written = {"big.bin": b"big" * 1_000_000, "written.bin": b"written" * 500_000}
    return {**files, **written, "fixed.bin": b"fixed"}


#: Where the client can be killed, and how many requests the daemon has then that were not told.
CLIENT_PLACES = {
    "places.socket.before-publish": 0,
    "launch.lock.taken": 0,
    "launch.log.rolled": 0,
    "launch.process.started": 0,
    "session.folder.made": 0,
    "session.lock.made": 0,
    "session.lock.taken": 0,
    "room.line.taken": 0,
    "room.claim.written": 0,
    "capture.folder.made": 0,
    "capture.file.made": 0,
    "capture.copy.middle": 0,
    "capture.pack.before-write": 0,
    "capture.pack.written": 0,
    "spool.link.made": 0,
    "spool.file.enrolled": 0,
    "spool.new-file.opened": 0,
    "spool.new-file.moved": 0,
    "spool.memory.written": 0,
    "spool.new-file.packed": 0,
    "spool.child.linked": 0,
    "spool.dropped.emptied": 0,
    "spool.file.discarded": 0,
    "spool.step.undone": 0,
    "log.sync.before": 0,
    "log.call.before": 0,
    "log.entries.before": 0,
    "log.end.before": 0,
    "log.call.answered": 1,
}

# ── programs that are killed while they read ───────────────────────────────────────────────────
#: Has a version's files already, gets them once more, and removes what does not belong there.
READS = (
    TOOLS
    + """
run = wherry.init(project="p")
found = run.use_artifact("model:v0")
found.download("there")
if sys.argv[1:]:
    Path("there/stranger").touch()
    Path("there/.wherry-000000000000000000000000").touch()  # as a killed program leaves it
found.checkout("there")
"""
)
READER_PLACES = (
    "download.folder.before-tidy",
    "download.file.before-rename",
    "checkout.others.before-remove",
)
