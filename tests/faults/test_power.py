"""What survives a loss of power, and that nothing is committed that did not (docs/promises.md,
promise 1).

The loss itself is played: the daemon is killed, the bytes that the disk would have lost are overwritten,
and the queue is told that it saw another boot of the machine.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from tests.faults.conftest import Stages
from tests.faults.scenes import TOOLS
from tests.faults.stage import Stage, check_versions, serves
from tests.support.machine import wait_until
from tests.support.reading import files, records

#: Notes what is synced: inode, size and time of the last change, as they are after the sync.
_NOTES_SYNCS = """
import os
sync = os.fsync
def noted(file):
    sync(file)
    seen = os.fstat(file)
    with open(os.environ["SYNCED"], "a") as notes:
        notes.write(f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}\\n")
os.fsync = noted
"""
_DAEMON = "import sys\nfrom wherryd.__main__ import main\nsys.exit(main())\n"
#: A daemon that is always about to sync, and has not yet.
_NEVER_SYNCS = "import wherryd.capture.durability as it\nit.GATHER_S = 1e9\n" + _DAEMON

_LOGS = (
    TOOLS
    + """
run = wherry.init(project="p", settings={"finish": "detach"})
run.log_artifact(artifact("model", 99, x="damaged" * 5000))
run.log_artifact(artifact("model", 0, x="whole" * 5000))
run.log_artifact(artifact("queued", 0, x="queued"))  # never was in the spool
until(lambda: len(requests("prepared")) == 3)
offline = wherry.init(project="p", mode="offline")
offline.log_artifact(artifact("lost", 0, x="lost" * 5000))
power = wherry.init(project="p", mode="offline", settings={"durability": "power"})
power.log_artifact(artifact("safe", 0, x="safe" * 5000))
"""
)


def _daemon(stage: Stage, source: str) -> dict[str, str]:
    """The environment in which another daemon is installed."""
    script = stage.machine.root / "daemon.py"
    script.write_text(source)
    synced = str(stage.machine.root / "synced")
    return {"WHERRY_DAEMON": f"{sys.executable} {script}", "SYNCED": synced}


def _end_daemon(stage: Stage, number: int) -> None:
    pid = stage.machine.daemon_pid()
    assert pid is not None
    os.kill(pid, number)
    wait_until(lambda: not serves(stage.home))


def _boot(stage: Stage) -> None:
    """Let the queue have seen another boot of the machine."""
    with closing(sqlite3.connect(stage.home / "queue.db")) as db, db:
        changed = db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot'").rowcount
    assert changed == 1


def _overwrite(stage: Stage, *contents: bytes) -> None:
    """Let the disk have lost spool files."""
    spooled = [path for path in (stage.home / "spool").rglob("*") if path.is_file()]
    for content in contents:
        (file,) = [path for path in spooled if path.read_bytes() == content]
        file.write_bytes(bytes(len(content)))


def _not_synced(stage: Stage) -> list[str]:
    """Files and folders of the spool that were changed after their last sync, or never synced."""
    noted = stage.machine.root / "synced"
    notes = set(noted.read_text().split("\n")) if noted.exists() else set()
    sessions = stage.home / "spool/sessions"
    wanted = [sessions, *(path for path in sessions.rglob("*") if path.name != "lock")]
    assert any(path.is_file() for path in wanted)
    seen = {path: path.stat() for path in wanted}
    return [
        str(path)
        for path, stat in seen.items()
        if f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}" not in notes
    ]


def _failed(stage: Stage) -> dict[str, str]:
    """Why requests failed, by the artifact's name."""
    found = json.loads(stage.machine.wherry("queue", "--json", "--state=failed"))
    return {each["name"]: f"{each['error']}: {each['reason']}" for each in found}


# ── another boot ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "place", ["", "capture.boot.before-note", "queue.fail.before-commit", "queue.fail.after-commit"]
)
def test_damaged_bytes_are_committed(stages: Stages, place: str) -> None:
    """After another boot, what was synced is good, what was hashed is looked at, and the rest fails and
    takes no number, also when it is tried again; wherever the look is cut off.
    """
    stage = stages.make(place, "later")
    stage.run(_LOGS, env={"WHERRY_FAILPOINT": "", **_daemon(stage, _NEVER_SYNCS)})
    _end_daemon(stage, signal.SIGKILL)
    _overwrite(stage, b"damaged" * 5000, b"lost" * 5000)
    _boot(stage)
    stage.make_store()
    stage.machine.wherry("sync")
    stage.machine.wherry("drain", check=False)
    failed = _failed(stage)
    assert failed.keys() == {"model", "lost"}
    assert all("FileChanged: the machine went down" in why for why in failed.values())
    stage.machine.wherry("retry", "--all")
    stage.machine.wherry("drain", check=False)
    assert _failed(stage).keys() == {"model", "lost"}
    safe = {"safe": [{"x": b"safe" * 5000}], "queued": [{"x": b"queued"}]}
    check_versions(stage.objects, {"model": [{"x": b"whole" * 5000}], "lost": [], **safe})
    assert stage.hits or not place


def test_a_kill_is_taken_for_a_loss_of_power(stages: Stages) -> None:
    """Under the same boot the bytes are where they were written, synced or not."""
    stage = stages.make(store="later")
    stage.run(_LOGS, env=_daemon(stage, _NEVER_SYNCS))
    _end_daemon(stage, signal.SIGKILL)
    stage.make_store()
    stage.machine.wherry("sync")
    stage.machine.wait_all_done()
    found = records(stage.objects, "p", "model")
    assert [dict(files(stage.objects, "p", each)) for each in found] == [
        {"x": b"damaged" * 5000},
        {"x": b"whole" * 5000},
    ]
    check_versions(
        stage.objects, {"safe": [{"x": b"safe" * 5000}], "lost": [{"x": b"lost" * 5000}]}
    )


# ── what is synced, and when ───────────────────────────────────────────────────────────────────
_HELD = (
    TOOLS
    + """
Path("big.bin").write_bytes(b"big" * 1_000_000)
for n in range(2):
    made = artifact("model", n, x=str(n))
    made.add_file("big.bin")
    wherry.init(project="p", mode="offline").log_artifact(made)
"""
)


def test_power_answers_before_the_sync(stages: Stages) -> None:
    """With ``power`` all captured bytes and their names are synced before the daemon is told of them."""
    stage = stages.make("log.call.before")
    env = {**_daemon(stage, _DAEMON), "WHERRY_DURABILITY": "power"}
    killed = stage.start(_NOTES_SYNCS + _HELD, env=env).process
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert _not_synced(stage) == []


def test_process_never_syncs(stage: Stage) -> None:
    """With ``process`` the daemon syncs what came in within seconds, and a loss of power after that takes
    nothing.
    """
    stage.configure("idle_timeout_s = 60\n")
    stage.run(_HELD, env=_daemon(stage, _NOTES_SYNCS + _DAEMON))
    wait_until(lambda: _count_unsynced(stage) == 0)
    _end_daemon(stage, signal.SIGKILL)
    assert _not_synced(stage) == []
    _boot(stage)
    stage.machine.wherry("sync")
    stage.machine.wait_all_done()
    assert len(records(stage.objects, "p", "model")) == 2


def test_the_end_comes_before_the_sync(stage: Stage) -> None:
    """The daemon syncs what it holds before it exits."""
    stage.configure("idle_timeout_s = 60\n")
    stage.run(_HELD, env=_daemon(stage, _NOTES_SYNCS + _NEVER_SYNCS))
    _end_daemon(stage, signal.SIGTERM)
    assert _count_unsynced(stage) == 0
    assert _not_synced(stage) == []


def _count_unsynced(stage: Stage) -> int:
    with closing(sqlite3.connect(f"file:{stage.home}/queue.db?mode=ro", uri=True)) as db:
        (count,) = db.execute("SELECT count(*) FROM requests WHERE NOT synced").fetchone()
    assert isinstance(count, int)
    return count


# ── the store, when its machine goes down ──────────────────────────────────────────────────────
_MANY = (
    TOOLS
    + """
made = wherry.Artifact("model", "model", metadata={"n": 0})
for number in range(400):  # a manifest that is asked for before it is put
    with made.new_file(random.randbytes(32).hex()) as file:
        file.write(str(number))
wherry.init(project="p", settings={"finish": "detach"}).log_artifact(made)
"""
)


def _lose_unsynced(stage: Stage) -> int:
    """Let the disk have lost the bytes of each object that was not synced, but not its size; how many."""
    noted = stage.machine.root / "synced"
    notes = set(noted.read_text().split("\n")) if noted.exists() else set()
    lost = 0
    for path in (stage.home / "store").rglob("*"):
        seen = path.stat()
        is_object = path.is_file() and "%wherry" not in path.parts
        if is_object and f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns}" not in notes:
            path.write_bytes(bytes(seen.st_size))
            lost += 1
    return lost


@pytest.mark.parametrize(
    "place",
    [
        "stores.folder.put.after-name",
        "transfer.manifest.after-put",
        "transfer.blobs.before-sync",
        "transfer.blobs.after-note",
        "commit.record.before-send",
    ],
)
def test_a_loss_of_power_leaves_half_an_object(stages: Stages, place: str) -> None:
    """Wherever the machine of a folder store goes down: what lies there under a name is whole, and so is the
    version that is committed after the next start.
    """
    stage = stages.make(place)
    stage.run(_MANY, env=_daemon(stage, _NOTES_SYNCS + _DAEMON))
    wait_until(lambda: stage.hits and not serves(stage.home))
    assert _lose_unsynced(stage) == 0
    _boot(stage)
    stage.machine.wait_all_done()
    (found,) = records(stage.objects, "p", "model")
    assert sorted(int(body) for _, body in files(stage.objects, "p", found)) == [*range(400)]
