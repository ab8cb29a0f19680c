"""A queue that others hold, clients and daemons that are killed, a clock that jumps."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys

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


#: Sets the wall clock off, as a file says from moment to moment.
SHIFTS = """
import os, sys, time
real, real_ns = time.time, time.time_ns
where = os.environ["WHERRY_HOME"] + "/../" + {where!r}
def _ahead_s():
    with open(where) as file: return float(file.read() or 0)
time.time = lambda: real() + _ahead_s()
time.time_ns = lambda: real_ns() + int(_ahead_s() * 1e9)
"""

SHIFTED = """
from wherryd.__main__ import main
sys.argv = ["wherryd", *sys.argv[1:]]
main()
"""

_YEAR_S = 365 * 86400
_SHIFTS = {"now": 0, "past": -_YEAR_S, "future": _YEAR_S, "back": 0}

LOGS_ON = """
import sys, wherry
with wherry.init(project="p") as run:
    for at, shift in map(lambda each: each.split("="), sys.argv[2:]):
        with open(sys.argv[1], "w") as file:
            file.write(shift)
        for i in range(3):
            a = wherry.Artifact("loop", type="model", metadata={"at": at, "i": i})
            with a.new_file("x") as f: f.write(at)
            run.log_artifact(a, aliases=["newest"])
        a.wait(60)
        assert run.use_artifact("loop:newest").version == a.version
"""


def _shift_the_daemon(machine: Machine) -> None:
    """Let the machine's daemon go by the clock of the file ``shift``."""
    starter = machine.root / "shifted.py"
    starter.write_text(SHIFTS.format(where="shift") + SHIFTED)
    machine.env["WHERRY_DAEMON"] = f"{sys.executable} {starter}"


def _check_order(machine: Machine) -> list[str]:
    """All is there in the order in which it was logged; when it was made, by its records."""
    kept = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [(record["metadata"]["at"], record["metadata"]["i"]) for record in kept] == [
        (at, i) for at in _SHIFTS for i in range(3)
    ]
    return [record["created"][:4] for record in kept[::3]]


@pytest.mark.parametrize("is_killed", [False, True])
def test_clock_set_back_reorders(machine: Machine, is_killed: bool) -> None:
    """A machine whose clock is set back a year, then forth again, under a running daemon or before the next
    one, keeps order, numbers and files.
    """
    _shift_the_daemon(machine)
    file = machine.root / "shift"
    file.write_text("0")
    steps = [f"{at}={shift}" for at, shift in _SHIFTS.items()]
    for some in [[step] for step in steps] if is_killed else [steps]:
        machine.run(LOGS_ON, str(file), *some)
        if is_killed:
            machine.kill_daemon()
            wait_until(lambda: machine.daemon_pid() is None)
    now, past, future, back = _check_order(machine)
    assert past < now == back < future, "the daemon's clock was not shifted"
    starts = (machine.home / "daemon.log").read_text().count("event=ready")
    assert starts == (len(steps) if is_killed else 1)


def test_a_program_with_a_wrong_clock_reorders(machine: Machine) -> None:
    """The order is that of the calls, whatever the clock of the program says that makes them."""
    file = machine.root / "mine"
    file.write_text("0")
    steps = [f"{at}={shift}" for at, shift in _SHIFTS.items()]
    machine.run(SHIFTS.format(where="mine") + LOGS_ON, str(file), *steps)
    assert len({*_check_order(machine)}) == 1
