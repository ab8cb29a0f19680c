"""The spool's quota, with real programs and daemons: waiting, giving up, and what is freed on the way."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import FolderObjects, records
from wherry.wire import places
from wherry.wire.room import RoomFile, State

_MIB = 1 << 20

#: Logs files of 1 MiB under one name until there is no room, and says what it came to.
LOGS = """
import os, sys, time, wherry
os.environ["WHERRY_FINISH"] = "detach"
run = wherry.init(project="p", mode=os.environ.get("MODE"))
print("begun", flush=True)
for n in range(int(sys.argv[1])):
    artifact = wherry.Artifact(sys.argv[2], type="t", metadata={"n": n})
    try:
        with artifact.new_file("x", mode="xb") as file:
            file.write(os.urandom(1 << 20))
    except wherry.errors.SpoolFull as error:
        print("full", str(error).replace(chr(10), " "), flush=True)
        break
    run.log_artifact(artifact)
    print("logged", flush=True)
os._exit(0)
"""


@pytest.fixture
def on(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose store is not there yet."""
    with machine(tmp_path / "machine", f"file://{tmp_path}/far/store") as made:
        made.home.mkdir(mode=0o700)
        yield made


def _configure(on: Machine, **settings: object) -> None:
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    beside = on.home / "config.toml.new"
    beside.write_text(text)
    beside.rename(on.home / "config.toml")


def _let_store_come(on: Machine) -> Path:
    folder = Path(on.store.removeprefix("file://"))
    folder.mkdir(parents=True)
    on.wherry("retry", "--all")
    return folder


def _spool(on: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on.wherry("status", "--json"))["spool"]
    return found


def _room(on: Machine) -> State:
    """What the room file says; this process holds no line in it."""
    file = RoomFile(str(on.home / places.ROOM))
    try:
        return file.read()
    finally:
        file.close()


def _logged(out: str) -> int:
    """How many artifacts a program says it has logged."""
    return out.split("\n").count("logged")


def _on_disk(on: Machine) -> tuple[int, int]:
    """Bytes and inodes of the artifacts' folders."""
    folders = [*(on.home / places.SESSIONS).glob("*/*/")]
    files = [file for folder in folders for file in folder.iterdir()]
    return sum(file.stat().st_size for file in files), len(folders) + len(files)


def test_a_store_that_is_away_lets_training_fill_the_disk(on: Machine) -> None:
    """Without room a capture waits and says so, then raises what to do; what was logged arrives, and logging
    goes on.
    """
    _configure(on, spool_quota_bytes=3 * _MIB, spool_timeout_s=1)
    program = on.start(LOGS, "9", "model")
    out, err = program.process.communicate(timeout=60)
    *logged, full = out.split("\n")[1:-1]
    assert logged == ["logged"] * 3
    assert "is full: it holds 3.0 MiB of 3.0 MiB" in full
    assert "Nothing leaves it for 1 s." in full and "`wherry status`" in full
    assert "Waiting until some of it is sent" in err
    spool = _spool(on)
    assert (spool["bytes"], spool["quota_bytes"], spool["seconds_left"]) == (
        3 * _MIB,
        3 * _MIB,
        None,
    )
    assert "Nothing leaves it at present" in on.wherry("status")
    assert _on_disk(on)[0] <= 3 * _MIB
    store = _let_store_come(on)
    on.wait_all_done()
    assert on.run(LOGS, "2", "later").split()[1:] == ["logged"] * 2
    on.wait_all_done()
    assert len(records(FolderObjects(store), "p", "model")) == 3
    wait_until(lambda: _spool(on)["bytes"] == 0)


_LITTLE = """
import wherry
run = wherry.init(project="p", settings={"finish": "detach"})
def log(n):
    made = wherry.Artifact("little", "t", metadata={"n": n})
    with made.new_file("x", "wb") as file:
        file.write(bytes([n]) * 8192)
    run.log_artifact(made)
    return made
made = [log(n) for n in range(8)]
last = wherry.Artifact("little", "t", metadata={"n": 8})
with last.new_file("x", "wb") as file:
    file.write(bytes(8192))
try:
    run.log_artifact(last)
except wherry.errors.SpoolFull as error:
    print(error, flush=True)
for each in made:
    each.wait(60)
print(run.log_artifact(last).wait(60).version, flush=True)
"""


def test_bytes_in_the_queue_have_no_quota(on: Machine) -> None:
    """What goes with its request and not through the spool counts from its log on: without room that raises,
    nothing is half in the queue, and the same artifact may be logged when there is room again.
    """
    _configure(on, spool_quota_bytes=64 << 10, spool_timeout_s=1)
    program = on.start(_LITTLE)
    assert "is full: it holds 64.0 KiB of 64.0 KiB" in program.wait_line()
    assert (_spool(on)["bytes"], _spool(on)["unlogged_bytes"]) == (64 << 10, 0)
    assert _on_disk(on) == (0, 0)
    store = _let_store_come(on)
    assert program.wait_done().split()[-1] == "v8"
    on.wait_all_done()
    assert len(records(FolderObjects(store), "p", "little")) == 9
    wait_until(lambda: _spool(on)["bytes"] == 0)


def test_a_wait_does_not_end_when_room_comes(on: Machine) -> None:
    """Who waits goes on when the store comes back, and also when the quota is raised in config.toml."""
    _configure(on, spool_quota_bytes=2 * _MIB, spool_timeout_s=60)
    program = on.start(LOGS, "5", "model")
    assert [program.wait_line() for _ in range(3)] == ["begun", "logged", "logged"]
    wait_until(lambda: _spool(on)["waiting"] == 1)
    assert "1 program waits for room" in on.wherry("status")
    _configure(on, spool_quota_bytes=3 * _MIB, spool_timeout_s=60)
    assert program.wait_line() == "logged"
    wait_until(lambda: _spool(on)["waiting"] == 1)
    store = _let_store_come(on)
    assert program.wait_done().split() == ["logged"] * 2
    on.wait_all_done()
    assert len(records(FolderObjects(store), "p", "model")) == 5


def test_many_programs_take_more_than_there_is(on: Machine) -> None:
    """However many come at once, what they capture is never more than the quota."""
    _configure(on, spool_quota_bytes=10 * _MIB, spool_timeout_s=1)
    on.wherry("daemon", "start")
    programs = [on.start(LOGS, "20", f"model{number}") for number in range(6)]
    seen: list[int] = []

    def all_ended() -> bool:
        seen.append(_on_disk_quick(on))
        return all(program.process.poll() is not None for program in programs)

    wait_until(all_ended, 90)
    told = [program.wait_done() for program in programs]
    assert 9 <= sum(map(_logged, told)) <= 10  # who waits holds a little for a file to come
    assert sum("\nfull" in out for out in told) == 6
    assert max(seen) <= 10 * _MIB


def _on_disk_quick(on: Machine) -> int:
    total = 0
    for file in (on.home / places.SESSIONS).glob("*/*/*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            pass
    return total


def test_small_files_use_up_all_inodes(on: Machine) -> None:
    """The quota on inodes counts files and folders; the error says so."""
    _configure(on, spool_quota_inodes=7, spool_timeout_s=0)
    out = on.run(LOGS, "9", "model")
    assert _logged(out) == 3
    assert "of 7 files" in out and "in 2 more files" in out
    assert _on_disk(on)[1] == 6


def test_offline_waits_for_what_never_comes(on: Machine) -> None:
    """What offline mode holds leaves only when the user says so: the call raises at once, and says that."""
    _configure(on, spool_quota_bytes=2 * _MIB, spool_timeout_s=600)
    out = on.run(LOGS, "9", "model", env={"MODE": "offline"})
    assert _logged(out) == 2
    assert "`wherry sync`" in out
    assert _spool(on)["resting_bytes"] == 2 * _MIB


ALONE = """
import wherry
run = wherry.init(project="p")
with open("big", "wb") as file:
    file.write(bytes(3 << 20))
artifact = wherry.Artifact("model", type="t")
try:
    artifact.add_file("big")
except wherry.errors.SpoolFull as error:
    print(error)
artifact.add_file("big", policy="immutable")
print(run.log_artifact(artifact).wait().version)
"""


def test_an_artifact_larger_than_the_quota_waits_for_ever(on: Machine) -> None:
    """What can never fit is refused at once; a file that stays as it is may be linked, without room."""
    _configure(on, spool_quota_bytes=2 * _MIB, spool_timeout_s=600)
    _let_store_come(on)
    out = on.run(ALONE)
    assert "This artifact alone needs more than the quota." in out
    assert "policy='immutable'" in out
    assert out.endswith("v0\n")


def test_a_program_killed_while_it_waits_leaves_something(on: Machine) -> None:
    """After SIGKILL in the middle of waiting nothing of the capture is there, nor in the counts."""
    _configure(on, spool_quota_bytes=2 * _MIB, spool_timeout_s=600, idle_timeout_s=0)
    program = on.start(LOGS, "9", "model")
    wait_until(lambda: (on.home / places.ROOM).exists() and _is_awaited(on))
    program.process.send_signal(signal.SIGKILL)
    program.process.communicate()
    on.kill_daemon()
    on.wherry("daemon", "start")
    wait_until(lambda: not any(line.session for line in _room(on).lines))
    held = _on_disk(on)
    assert held == (2 * _MIB, 4)
    assert tuple(_room(on).held) == held
    _let_store_come(on)
    on.wait_all_done()
    wait_until(lambda: tuple(_room(on).held) == (0, 0))


def _is_awaited(on: Machine) -> bool:
    return any(any(line.wanted) for line in _room(on).lines)
