"""A queue that others hold, clients and daemons that are killed, a clock that jumps."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.support.machine import Machine, wait_until
from tests.support.queue import taken
from tests.support.reading import FolderObjects, records

LOOP = """
import os, sys, time, wherry
with wherry.init(project="p") as run:
    for i in range(int(sys.argv[1])):
        a = wherry.Artifact("loop", type="model", metadata={"i": i})
        with a.new_file("x") as f: f.write(str(i))
        run.log_artifact(a)
        print(i, flush=True)
"""


#: After its first log it waits for a file.
WAITING_LOOP = (
    LOOP.replace("range(", "range(1, ").rstrip()
    + """
        while not os.path.exists("go"): time.sleep(0.01)
"""
)


def test_locked_database_loses_a_request(machine: Machine) -> None:
    """While another program locks the queue for some seconds calls wait; then all arrives in order."""
    machine.run(LOOP, "1")
    program = machine.start(WAITING_LOOP, "6")
    locked = sqlite3.connect(machine.home / "queue.db", isolation_level=None, timeout=30)
    try:
        program.wait_line()
        locked.execute("BEGIN EXCLUSIVE")
        (machine.work / "go").touch()
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
        assert program.process.stdout
        rest = program.process.stdout.read()  # with what was read ahead of the last line
        program.process.wait()
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
    assert taken(machine.home) == 5
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
