"""Client and daemon of different versions, as real processes."""

from __future__ import annotations

import json
import sys

import pytest

from tests.faults.conftest import Stages
from tests.faults.scenes import TOOLS
from tests.faults.stage import Stage, check_versions

#: What makes a process one of the next version; the numbers are looked up at their first use.
_NEWER = """
import sys
import wherry.wire
wherry.wire.PROTOCOL += 1
wherry.wire.VERSION = "99.0.0"
"""
_NEWER_DAEMON = _NEWER + "from wherryd.__main__ import main\nsys.exit(main())\n"
#: Logs what its arguments say; before each further one it waits for a line.
_LOGS = (
    TOOLS
    + """
run = wherry.init(project="p", settings={"finish": "detach"})
for n in map(int, sys.argv[1:]):
    run.log_artifact(artifact("model", n, x=str(n)))
    print(n, flush=True)
    until(lambda: Path(f"after{n}").exists() or n == int(sys.argv[-1]))
"""
)


@pytest.fixture
def newer(stage: Stage) -> dict[str, str]:
    """Give the environment in which the next version's daemon is installed."""
    script = stage.machine.root / "newer.py"
    script.write_text(_NEWER_DAEMON)
    # Long enough for whoever starts a daemon to find it.
    stage.configure("idle_timeout_s = 5\n")
    return {"WHERRY_DAEMON": f"{sys.executable} {script}"}


def _running(stage: Stage) -> tuple[str, int]:
    status = json.loads(stage.machine.wherry("daemon", "status", "--json"))
    return status["version"], status["protocol"]


def _check_arrived(stage: Stage, count: int) -> None:
    stage.machine.wait_all_done()
    check_versions(stage.objects, {"model": [{"x": b"%d" % n} for n in range(count)]})


def test_an_idle_older_daemon_stays(stage: Stage, newer: dict[str, str]) -> None:
    """A newer client has an idle older daemon drained and replaced, with what offline mode holds; an
    older client, connected all the time, goes on with the newer daemon.
    """
    older = stage.start(_LOGS, "0", "2")
    assert older.wait_line() == "0"
    stage.machine.wait_all_done()
    held = "run = wherry.init(project='p', mode='offline')\nrun.log_artifact(artifact('held', 0, x='0'))"
    stage.run(TOOLS + held)
    (version, protocol) = _running(stage)
    stage.run(_NEWER + _LOGS, "1", env=newer)
    assert _running(stage) == ("99.0.0", protocol + 1)
    assert 'why="wherry 99.0.0 is newer"' in stage.log()
    (stage.machine.work / "after0").touch()
    older.wait_done()
    stage.machine.wherry("sync")
    _check_arrived(stage, 3)
    check_versions(stage.objects, {"held": [{"x": b"0"}]})
    assert version != "99.0.0"


def test_newer_clients_replace_each_others_daemons(stage: Stage, newer: dict[str, str]) -> None:
    """Of many newer clients that meet an older daemon at once, one replaces it, once."""
    stage.run(_LOGS, "0")
    stage.machine.wait_all_done()
    source = _NEWER + TOOLS + "wherry.init(project='p')"
    for program in [stage.start(source, env=newer) for _ in range(6)]:
        program.wait_done()
    assert stage.log().count("event=ready") == 2
    stage.run(_LOGS, "1")
    _check_arrived(stage, 2)


def test_a_busy_older_daemon_is_cut_off(
    stages: Stages, stage: Stage, newer: dict[str, str]
) -> None:
    """A newer client of a busy older daemon gets an error that says what to do, and disturbs nothing; when
    the work is done it replaces the daemon.
    """
    stage = stages.make(store="later")
    stage.configure("idle_timeout_s = 5\n")
    stage.run(_LOGS, "0")
    refused = stage.start(_NEWER + _LOGS, "1", env=newer).process
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "DaemonTooOld" in err
    assert "wherry 99.0.0, and has work" in err
    assert "wherry daemon stop" in err
    stage.make_store()
    stage.machine.wherry("retry", "--all")
    stage.machine.wait_all_done()
    stage.run(_NEWER + _LOGS, "1", env=newer)
    assert _running(stage)[0] == "99.0.0"
    _check_arrived(stage, 2)


def test_an_old_installation_is_replaced_for_ever(stage: Stage, newer: dict[str, str]) -> None:
    """Where the daemon that is installed is older as well, a newer client says so, after one try."""
    stage.run(_LOGS, "0")
    stage.machine.wait_all_done()
    refused = stage.start(_NEWER + _LOGS, "1").process
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "DaemonTooOld" in err
    assert "pip install --upgrade 'wherry[daemon]'" in err
    assert stage.log().count("event=ready") == 2
    stage.run(_LOGS, "1")
    _check_arrived(stage, 2)


def test_a_newer_daemon_refuses_older_clients(stage: Stage, newer: dict[str, str]) -> None:
    """A newer daemon serves older clients, and they leave it where it is."""
    stage.run(_LOGS, "0", env=newer)
    stage.run(_LOGS, "1")
    assert _running(stage)[0] == "99.0.0"
    _check_arrived(stage, 2)
    assert stage.log().count("event=ready") == 1
