"""A process that is stopped, or swapped out for minutes: it is there, and does nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.scenes import TOOLS
from tests.faults.stage import Stage, check_versions
from tests.support.machine import wait_until

_LOGS = (
    TOOLS
    + """
run = wherry.init(project="p")
run.log_artifact(artifact("model", int(sys.argv[1]), x=sys.argv[1])).wait()
"""
)

#: Stops the daemon in its own connection's next call, and at the greeting of the next connection.
_STOPS_THE_DAEMON = (
    TOOLS
    + """
import signal, wherry.submit
run = wherry.init(project="p")
run.log_artifact(artifact("model", 0, x="0")).wait()
made = artifact("model", 1, x="1")
pid = int(Path(os.environ["WHERRY_HOME"], "daemon.lock").read_text())
os.kill(pid, signal.SIGSTOP)
wherry.submit._TIMEOUT_S = 0.5
try:
    run.log_artifact(made)
except wherry.errors.WaitTimeoutError:
    pass
else:
    sys.exit("a stopped daemon answers")
asks = "import wherry.greeting as it; it._HELLO_S = 0.5; it.Greeter(it.Path(sys.argv[1])).open()"
asked = subprocess.run(
    [sys.executable, "-c", f"import sys; {asks}", os.environ["WHERRY_HOME"]],
    capture_output=True, text=True, check=False,
)
os.kill(pid, signal.SIGCONT)
print(pid, asked.stderr)
wherry.submit._TIMEOUT_S = 60
run.log_artifact(made).wait()
run.finish()
"""
)

#: Stops itself when all but the end of a request was sent.
_FREEZES = (
    TOOLS
    + """
import signal, wherry.submit
wherry.submit._BEFORE_END = lambda: os.kill(os.getpid(), signal.SIGSTOP)
run = wherry.init(project="p")
run.log_artifact(artifact("model", 1, x="1")).wait()
run.finish()
"""
)


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_frozen_daemon_loses_or_doubles_a_version(stage: Stage) -> None:
    """While the daemon is stopped, who logs hears that it does not answer, and what helps; when it goes
    on, the same call is the same request.
    """
    stage.configure("idle_timeout_s = 5\n")
    pid, _, told = stage.run(_STOPS_THE_DAEMON).partition(" ")
    assert "does not answer" in told
    assert f"kill -CONT {pid}" in told and f"kill -9 {pid}" in told
    check_versions(stage.objects, {"model": [{"x": b"0"}, {"x": b"1"}]})


def test_frozen_program_holds_others_up(stage: Stage) -> None:
    """A program that is stopped in the middle of a request has no place in line yet; when it goes on,
    the request arrives.
    """
    program = stage.start(_FREEZES).process
    wait_until(lambda: _is_stopped(program.pid))
    stage.run(_LOGS, "0")
    assert _is_stopped(program.pid)
    os.kill(program.pid, signal.SIGCONT)
    assert program.wait(60) == 0
    check_versions(stage.objects, {"model": [{"x": b"0"}, {"x": b"1"}]})
