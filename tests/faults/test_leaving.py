"""The daemon's end: when it is told to, and by itself."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Place
from tests.faults.conftest import Stages
from tests.faults.gate import Gate
from tests.faults.scenes import TOOLS
from tests.faults.stage import IDLE_S, Stage, check_versions, serves
from tests.support.fixtures import BUCKET
from tests.support.machine import wait_until
from tests.support.reading import S3Objects
from tests.support.servers import Seaweed

#: How long a daemon may take to end, on a machine that does other things as well.
_LEAVE_S = 12


@pytest.fixture
def gate(seaweed: Seaweed) -> Iterator[Gate]:
    """Give what stands between the machine and its bucket."""
    with Gate(seaweed.port) as gate:
        yield gate


@pytest.fixture
def behind_gate(stages: Stages, seaweed: Seaweed, gate: Gate) -> Stage:
    """Give a machine whose bucket is behind the gate."""
    address = seaweed.address(BUCKET, f"gate/{os.getpid()}-{gate.port}")
    objects = S3Objects(address, seaweed.access_key, seaweed.secret_key)
    gated = address.replace(seaweed.endpoint, f"http://127.0.0.1:{gate.port}")
    return stages.make_in(Place(gated, objects, seaweed.credentials))


def _body(n: int) -> bytes:
    return random.Random(n).randbytes(20 << 20)


_LARGE = (
    TOOLS
    + """
run = wherry.init(project="p", settings={"finish": "detach"})
for n in map(int, sys.argv[1:]):
    made = artifact("model", n)
    with made.new_file("body", mode="wb") as file:
        file.write(random.Random(n).randbytes(20 << 20))
    run.log_artifact(made)
"""
)


def test_transfers_under_way_keep_a_daemon(behind_gate: Stage, gate: Gate) -> None:
    """SIGTERM while files go up, to a store that has fallen silent: the daemon has ended 10 s later, by
    itself, and the next one brings everything there in order.
    """
    stage = behind_gate
    stage.run(_LARGE, "0")
    stage.machine.wait_all_done()
    gate.close()
    stage.run(_LARGE, "1", "2")
    assert gate.awaited.wait(60), "nothing goes up"
    pid = stage.machine.daemon_pid()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not serves(stage.home), _LEAVE_S)
    assert "event=leaving stage=app why=SIGTERM" in stage.log()
    gate.open()
    stage.run(_LARGE, "3")
    stage.settle()
    check_versions(stage.objects, {"model": [{"body": _body(n)} for n in range(4)]})
    stage.check_clean()


def test_sigterm_takes_long_with_idle_clients(stage: Stage) -> None:
    """Programs that are connected and do nothing do not hold up the daemon's end, and go on with the next."""
    program = stage.start(
        TOOLS
        + """
run = wherry.init(project="p")
for n in range(2):
    run.log_artifact(artifact("model", n, x=str(n))).wait()
    print(n, flush=True)
    until(lambda: n or not Path(os.environ["WHERRY_HOME"], "daemon.sock").exists())
"""
    )
    assert program.wait_line() == "0"
    pid = stage.machine.daemon_pid()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not serves(stage.home), 5)
    program.wait_done()
    stage.settle()
    check_versions(stage.objects, {"model": [{"x": b"0"}, {"x": b"1"}]})
    stage.check_clean()


def test_what_offline_mode_holds_keeps_a_daemon(stage: Stage) -> None:
    """Without client or work the daemon ends by itself; what offline mode holds is no work, and is there
    for the next one.
    """
    held = 'run = wherry.init(project="p", mode="offline")\n'
    held += 'run.log_artifact(artifact("model", 0, x="0"))'
    stage.run(TOOLS + held)
    stage.settle()
    assert 'why="idle for' in stage.log()
    stage.check_clean()
    stage.machine.wherry("sync")
    stage.settle()
    check_versions(stage.objects, {"model": [{"x": b"0"}]})
    stage.check_clean()


def test_the_end_comes_before_the_spool_is_free(stages: Stages) -> None:
    """A daemon whose last work is done long after the last call frees what it held, and then ends."""
    stage = stages.make(store="later")
    logs = 'run = wherry.init(project="p", settings={"finish": "detach"})\n'
    logs += 'run.log_artifact(artifact("model", 0, x="0"))'
    stage.run(TOOLS + logs)
    time.sleep(2 * IDLE_S)  # by then it would have ended if it had no work
    stage.make_store()
    stage.settle()
    check_versions(stage.objects, {"model": [{"x": b"0"}]})
    stage.check_clean()
