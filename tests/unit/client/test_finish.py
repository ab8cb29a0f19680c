"""The end of a run: what ``finish`` waits for, what it says, and how the script ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors, finishing
from wherry.finishing import Rules, Watched
from wherry.wire import wherry_pb2 as pb

Program = Callable[..., subprocess.CompletedProcess[str]]


def log(run: wherry.Run, name: str = "model") -> wherry.Artifact:
    return run.log_artifact(wherry.Artifact(name, "model"))


# ── the rules, without a clock ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("rules", "begun", "moved", "now", "ends"),
    [
        (Rules(None), 0, 0, 59, False),
        (Rules(None), 0, 0, 60, True),
        (Rules(None), 0, 5000, 5059, False),
        (Rules(3600), 0, 0, 3599, False),
        (Rules(3600), 0, 3599, 3600, True),
        (Rules(0), 0, 0, 0, True),
    ],
)
def test_waiting_ends_at_the_wrong_time(
    rules: Rules, begun: float, moved: float, now: float, ends: bool
) -> None:
    """Where the home lasts, 60 s without progress end it; where not, only the time-out does."""
    assert bool(rules.why_end(begun, moved, now)) is ends
    if not ends:
        assert 0 < rules.left_s(begun, moved, now) <= 20


@pytest.mark.parametrize(
    ("fields", "moves"),
    [
        ({}, False),
        ({"reason": "another", "next_try": "later"}, False),
        ({"state": "prepared"}, True),
        ({"bytes_done": 5}, True),
        ({"ahead": 1}, True),
    ],
)
def test_progress_is_misjudged(fields: dict[str, object], moves: bool) -> None:
    """Bytes, states and places in line are progress; another try at the same thing is none."""
    watched = Watched(0)
    first = pb.RequestState(request_id="a", state="accepted", ahead=2, bytes_done=4)
    watched.note(first, 1)
    second = pb.RequestState.FromString(first.SerializeToString())
    for name, value in fields.items():
        setattr(second, name, value)
    watched.note(second, 50)
    assert watched.moved_s == (50 if moves else 1)


@pytest.mark.parametrize(
    ("said", "environ", "lasts"),
    [
        (True, {"SLURM_JOB_ID": "1"}, True),
        (False, {}, False),
        (None, {"SLURM_JOB_ID": "1"}, False),
        (None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
    ],
)
def test_home_is_misjudged(said: bool | None, environ: dict[str, str], lasts: bool) -> None:
    """A batch job's home may not outlive it, unless the user says so."""
    assert finishing.home_lasts(said, environ) is lasts


# ── a run's end ────────────────────────────────────────────────────────────────────────────────
def test_finish_leaves_too_early(recorder: Recorder) -> None:
    """``finish`` returns when all of the run's requests have ended, and asks about no others."""
    run = wherry.init(project="cats", id="run1")
    log(run, "a")
    log(run, "b")
    log(wherry.init(project="cats", id="run2"), "c")
    recorder.commit(0, 0)
    finished = threading.Event()

    def finish() -> None:
        run.finish()
        finished.set()

    thread = threading.Thread(target=finish)
    thread.start()
    assert not finished.wait(0.1)
    recorder.commit(1, 0)
    assert finished.wait(10)
    thread.join()
    assert {wait.run_id for wait in recorder.waits} == {"run1"}


def test_finish_asks_for_nothing(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that logged nothing, one that is detached and one that is offline end at once."""
    wherry.init(project="cats").finish()
    run = wherry.init(project="cats", mode="offline")
    log(run)
    run.finish()
    monkeypatch.setenv("WHERRY_FINISH", "detach")
    run = wherry.init(project="cats")
    log(run)
    run.finish()
    assert recorder.waits == []
    with pytest.raises(errors.ArtifactStateError, match="is finished"):
        log(run)


def test_failure_passes_in_silence(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the home lasts, what failed is told with its reason, and the script goes on."""
    with wherry.init(project="cats") as run:
        log(run)
        recorder.tell(
            recorder.logged[0].header.request_id,
            state="failed",
            error="FileChanged",
            reason="f changed",
        )
    assert "wherry: cats/model failed: FileChanged: f changed" in capsys.readouterr().err


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_held_requests_are_waited_for(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lasts: str,
) -> None:
    """What offline mode holds can't move: ``finish`` names it and ``wherry sync``, and waits for the rest."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", lasts)
    monkeypatch.setattr(finishing, "_TELL_EVERY_S", 0.05)
    log(wherry.init(mode="offline", id="run1"), "early")
    run = wherry.init(id="run1")
    log(run, "late")
    raised: list[Exception] = []

    def finish() -> None:
        try:
            run.finish()
        except errors.NotCommitted as error:
            raised.append(error)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    while len(recorder.retold) < 2:
        thread.join(0.02)
    assert thread.is_alive()
    recorder.commit(1, 0)
    thread.join(30)
    assert not thread.is_alive()
    told = "".join([capsys.readouterr().err, *map(str, raised)])
    assert "early: held by offline mode" in told and "wherry sync" in told
    assert "late" not in told.partition("offline mode holds")[2]
    assert bool(raised) == (lasts == "no")


def test_stand_still_hangs_the_script(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time without progress the work is left to the daemon, and it says so."""
    monkeypatch.setattr(finishing, "Rules", partial(Rules, stalled_s=0.2))
    run = wherry.init(project="cats")
    log(run)
    recorder.tell(
        recorder.logged[0].header.request_id,
        state="prepared",
        error="StoreUnavailable",
        reason="connection refused",
    )
    run.finish()
    said = capsys.readouterr().err
    assert "left to the daemon (no progress for 0.2 s)" in said
    assert "cats/model: its files are being uploaded (StoreUnavailable: connection refused)" in said
    assert "wherry status" in said


@pytest.mark.parametrize("end", ["failed", "pending"])
def test_home_is_lost_with_its_requests(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Where the home may not last, what is not in the store at the time-out, or failed, raises."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", "no")
    monkeypatch.setenv("WHERRY_FINISH_TIMEOUT", "0.3")
    run = wherry.init(project="cats")
    log(run, "good")
    recorder.commit(0, 0)
    log(run, "bad")
    if end == "failed":
        request_id = recorder.logged[1].header.request_id
        recorder.tell(request_id, state="failed", error="FileChanged", reason="f changed")
    with pytest.raises(errors.NotCommitted, match="cats/bad") as raised:
        run.finish()
    assert "good" not in str(raised.value)
    assert wherry.run is None
    run.finish()  # a second call has nothing to do


def test_exception_in_the_block_loses_artifacts(recorder: Recorder) -> None:
    """An exception inside ``with`` passes through, after what was logged is in the store."""
    with pytest.raises(ZeroDivisionError), wherry.init(project="cats") as run:
        log(run)
        recorder.commit(0, 0)
        _ = 1 / 0
    assert recorder.waits
    assert wherry.run is None


# ── the script's end ───────────────────────────────────────────────────────────────────────────
_LOG_ONE = """
import wherry
run = wherry.init(project="cats")
run.log_artifact(wherry.Artifact("model", "model"))
"""


def test_script_ends_before_its_artifacts(recorder: Recorder, program: Program) -> None:
    """At the script's end the runs that are still active are finished, the last one first."""
    threading.Thread(target=_commit_when_logged, args=(recorder, 2)).start()
    program(_LOG_ONE + _LOG_ONE.replace("model", "other"))
    assert len({wait.run_id for wait in recorder.waits}) == 2


def _commit_when_logged(recorder: Recorder, count: int) -> None:
    deadline = threading.Event()
    for _ in range(600):
        if len(recorder.waits) >= 1 and len(recorder.logged) == count:
            break
        deadline.wait(0.02)
    for number in range(count):
        recorder.commit(number, 0)


@pytest.mark.parametrize("hook", ["before", "after"])
def test_exit_code_says_all_is_well(recorder: Recorder, program: Program, hook: str) -> None:
    """What is not committed where the home may not last makes the exit code 1; the program's own
    hooks run, and what was printed is there.
    """
    own = "import atexit, sys; atexit.register(print, 'own hook ran')\n"
    code = _LOG_ONE + own if hook == "after" else "import wherry\n" + own + _LOG_ONE
    done = program(
        code + "print('last words', end='')",
        check=False,
        WHERRY_HOME_LASTS="no",
        WHERRY_FINISH_TIMEOUT="0.2",
    )
    assert done.returncode == 1
    assert "NotCommitted" in done.stderr and "cats/model" in done.stderr
    assert sorted(done.stdout.replace("last words", "").split("\n")) == ["", "own hook ran"]
    assert "last words" in done.stdout


def test_exit_code_of_the_script_is_changed(recorder: Recorder, program: Program) -> None:
    """Where all is well the script's own exit code stays."""
    threading.Thread(target=_commit_when_logged, args=(recorder, 1)).start()
    assert program(_LOG_ONE + "raise SystemExit(7)", check=False).returncode == 7


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_ctrl_c_kills_the_wait(recorder: Recorder, home: Path, tmp_path: Path, lasts: str) -> None:
    """The first Ctrl-C ends the waiting: with a word where the home lasts, else with exit code 1."""
    script = subprocess.Popen(
        [sys.executable, "-c", _LOG_ONE + "run.finish(); print('went on')"],
        cwd=tmp_path,
        env={**os.environ, "WHERRY_HOME": str(home), "WHERRY_HOME_LASTS": lasts},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    waited = threading.Event()
    while not recorder.waits and script.poll() is None:
        waited.wait(0.01)
    script.send_signal(signal.SIGINT)
    out, said = script.communicate(timeout=20)
    if lasts == "yes":
        assert script.returncode == 0, said
        assert out == "went on\n"
        assert "left to the daemon (interrupted): " in said
    else:
        assert script.returncode == 1
        assert "NotCommitted" in said and "went on" not in out


def test_forked_childs_logs_are_not_waited_for(recorder: Recorder, program: Program) -> None:
    """The parent's ``finish`` waits for what its forked children have logged in its run."""
    threading.Thread(target=_commit_when_logged, args=(recorder, 1)).start()
    program(
        """
import os, wherry
run = wherry.init(project="cats", id="run1")
if os.fork() == 0:
    run.log_artifact(wherry.Artifact("model", "model"))
    os._exit(0)
os.wait()
run.finish()
"""
    )
    assert [wait.run_id for wait in recorder.waits] == ["run1"]
