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
from wherry.ending import Watched
from wherry.finishing import Rules
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
        ({"bytes_done": 3}, False),
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


@pytest.mark.parametrize(
    ("sign", "value"),
    [
        ("os.getpid", lambda: 1),
        ("os.getppid", lambda: 1),
        ("os.path.exists", lambda path: path == "/.dockerenv"),
        ("os.path.exists", lambda path: path == "/run/.containerenv"),
    ],
)
def test_container_is_taken_for_a_workstation(
    monkeypatch: pytest.MonkeyPatch, sign: str, value: Callable[..., object]
) -> None:
    """A container's home may not outlive it; by each of its signs it is one."""
    monkeypatch.setattr("os.path.exists", lambda _: False)
    monkeypatch.setattr("os.getppid", lambda: 4711)
    assert finishing.home_lasts(None, {}) is True
    monkeypatch.setattr(sign, value)
    assert finishing.home_lasts(None, {}) is False


def test_logout_makes_a_home_short_lived(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the home lasts is found out when a run begins: its shell may be gone at its end."""
    monkeypatch.setattr(finishing, "Rules", partial(Rules, stalled_s=0.2))
    monkeypatch.setattr("os.path.exists", lambda _: False)
    monkeypatch.setattr("os.getppid", lambda: 4711)
    run = wherry.init(project="cats")
    log(run)
    monkeypatch.setattr("os.getppid", lambda: 1)
    run.finish()
    assert "left to the daemon" in capsys.readouterr().err


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
    assert {tuple(wait.run_ids) for wait in recorder.waits} == {("run1",)}


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


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_exception_of_the_wait_hides_the_users(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lasts: str,
) -> None:
    """Whatever goes wrong while a block is finished, the user's own exception is the one that is seen."""
    noted: list[bool] = []
    monkeypatch.setattr("wherry.exits.note_failure", lambda _: noted.append(True))
    monkeypatch.setenv("WHERRY_HOME_LASTS", lasts)
    recorder.refuse("Wait", "QueueError", "the disk of the queue is broken", times=99)
    with pytest.raises(ZeroDivisionError), wherry.init(project="cats") as run:
        log(run)
        _ = 1 / 0
    assert "the disk of the queue is broken" in capsys.readouterr().err
    assert noted == ([] if lasts == "yes" else [True])


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_call_of_another_thread_is_not_waited_for(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, lasts: str
) -> None:
    """What another thread is logging when a run ends is waited for; what it begins to log later raises."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", lasts)
    log_by, inside, go_on = wherry.Artifact.log_by, threading.Event(), threading.Event()

    def slow(*args: object) -> None:
        inside.set()
        assert go_on.wait(20)
        log_by(*args)  # type: ignore[arg-type] # whatever it was called with

    monkeypatch.setattr(wherry.Artifact, "log_by", slow)
    run = wherry.init(project="cats")
    logging = threading.Thread(target=log, args=(run,))
    logging.start()
    assert inside.wait(20)
    finishing_ = threading.Thread(target=run.finish)
    finishing_.start()
    while wherry.run is run:
        inside.wait(0.01)
    with pytest.raises(errors.ArtifactStateError, match="is finished"):
        log(run)
    assert finishing_.is_alive() and recorder.waits == []
    go_on.set()
    logging.join()
    recorder.commit(0, 0)
    finishing_.join(20)
    assert not finishing_.is_alive()
    assert len(recorder.waits) == 1


def test_time_out_hides_a_call(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that has not returned at the time-out is named as not safe."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", "no")
    monkeypatch.setenv("WHERRY_FINISH_TIMEOUT", "0.2")
    run = wherry.init(project="cats")
    inside, go_on = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        inside.set()
        go_on.wait(20)

    monkeypatch.setattr(wherry.Artifact, "log_by", hang)
    thread = threading.Thread(target=log, args=(run, "slow"))
    thread.start()
    assert inside.wait(20)
    with pytest.raises(errors.NotCommitted, match="slow: log_artifact has not returned"):
        run.finish()
    go_on.set()
    thread.join()


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_held_requests_keep_an_online_run_waiting(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lasts: str,
) -> None:
    """What a run of the same id has logged offline is not waited for, but named with its remedy."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", lasts)
    with wherry.init(project="cats", id="run1", mode="offline") as offline:
        log(offline, "held")
    run = wherry.init(project="cats", id="run1")
    log(run, "sent")
    recorder.commit(1, 0)
    if lasts == "yes":
        run.finish()
        said = capsys.readouterr().err
    else:
        with pytest.raises(errors.NotCommitted) as raised:
            run.finish()
        said = str(raised.value)
    assert "cats/held: held by offline mode" in said
    assert "wherry sync" in said
    assert "sent" not in said and "left to the daemon" not in said


def test_daemon_that_once_failed_to_start_ends_the_wait(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the home may not last, a start of the daemon that fails is tried again until the time-out."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", "no")
    monkeypatch.setattr(finishing, "_START_PAUSE_S", 0.01)
    run = wherry.init(project="cats")
    log(run)
    recorder.commit(0, 0)
    recorder.refuse("Wait", "DaemonNotStarted", "no memory", times=3)
    run.finish()
    assert recorder.refusals["Wait"] == []


def test_unheard_daemon_leaves_nothing_named(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run has logged is named also where the daemon has told nothing, and why it has not."""
    monkeypatch.setenv("WHERRY_HOME_LASTS", "no")
    monkeypatch.setenv("WHERRY_FINISH_TIMEOUT", "0.2")
    monkeypatch.setattr(finishing, "_START_PAUSE_S", 0.01)
    run = wherry.init(project="cats")
    log(run)
    recorder.refuse("Wait", "DaemonNotStarted", "no memory", times=10_000)
    with pytest.raises(errors.NotCommitted, match=r"no memory.*cats/model: the daemon told"):
        run.finish()


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
    assert [len(wait.run_ids) for wait in recorder.waits] == [2]


def _commit_when_logged(recorder: Recorder, count: int) -> None:
    deadline = threading.Event()
    for _ in range(600):
        if len(recorder.waits) >= 1 and len(recorder.logged) == count:
            break
        deadline.wait(0.02)
    for number in range(count):
        recorder.commit(number, 0)


_EARLIER_HOOKS = """
import atexit, multiprocessing, os, sys, tempfile, time, weakref
folder = tempfile.TemporaryDirectory(dir=".")
print(os.path.abspath(folder.name), flush=True)
def sleep():
    time.sleep(600)
child = multiprocessing.get_context("fork").Process(target=sleep, daemon=True)
child.start()
print(child.pid, flush=True)
"""


@pytest.mark.parametrize("hook", ["first", "before", "after"])
@pytest.mark.parametrize("libc", [True, False])
def test_exit_code_says_all_is_well(
    recorder: Recorder, program: Program, hook: str, libc: bool
) -> None:
    """What is not committed where the home may not last makes the exit code 1; the program's own
    hooks run, whenever they were registered, and what was printed is there.
    """
    own = "import atexit, sys; atexit.register(print, 'own hook ran')\n"
    code = {
        "first": own + _LOG_ONE,
        "before": "import wherry\n" + own + _LOG_ONE,
        "after": _LOG_ONE + own,
    }
    if not libc:  # as where it can't be asked
        own_first, code["first"] = code["first"], "import sys; sys.modules['ctypes'] = None\n"
        code["first"] += own_first
    done = program(
        code[hook] + "print('last words', end='')",
        check=False,
        WHERRY_HOME_LASTS="no",
        WHERRY_FINISH_TIMEOUT="0.2",
    )
    assert done.returncode == 1
    assert "NotCommitted" in done.stderr and "cats/model" in done.stderr
    said = ["", "own hook ran"] if libc or hook != "first" else [""]
    assert sorted(done.stdout.replace("last words", "").split("\n")) == said
    assert "last words" in done.stdout


@pytest.mark.parametrize("libc", [True, False])
def test_exit_code_leaves_things_behind(recorder: Recorder, program: Program, libc: bool) -> None:
    """With exit code 1, too, folders that end with the process go, and so do its daemonic children."""
    without = "" if libc else "import sys; sys.modules['ctypes'] = None\n"
    done = program(
        without + _EARLIER_HOOKS + _LOG_ONE,
        check=False,
        WHERRY_HOME_LASTS="no",
        WHERRY_FINISH_TIMEOUT="0.2",
    )
    assert done.returncode == 1
    folder, child = done.stdout.split()
    assert not Path(f"/proc/{child}").exists()
    assert not Path(folder).exists()


@pytest.mark.parametrize("printed", ["1/0", "raise KeyboardInterrupt"])
def test_printed_exception_hides_the_loss(
    recorder: Recorder, program: Program, printed: str
) -> None:
    """An exception that a prompt has printed did not end the script: the loss still makes its code 1."""
    prompt = f"import sys\ntry:\n    {printed}\nexcept BaseException as error:\n"
    prompt += "    sys.last_value = error\n"
    done = program(
        prompt + _LOG_ONE,
        check=False,
        WHERRY_HOME_LASTS="no",
        WHERRY_FINISH_TIMEOUT="0.2",
    )
    assert "NotCommitted" in done.stderr
    assert done.returncode == 1


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
        assert "left to the daemon (interrupted): cats/model" in said
    else:
        assert script.returncode == 1
        assert "NotCommitted" in said and "cats/model" in said and "went on" not in out


def _interrupt(recorder: Recorder, script: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """Send a signal once the script waits; what it printed."""
    waited = threading.Event()
    while not recorder.waits and script.poll() is None:
        waited.wait(0.01)
    script.send_signal(number)
    return script.communicate(timeout=40)


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program in this home."""

    def run(code: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "WHERRY_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.mark.parametrize("lasts", ["yes", "no"])
def test_ctrl_c_ends_one_wait_of_several(
    recorder: Recorder, start: Callable[..., subprocess.Popen[str]], lasts: str
) -> None:
    """One Ctrl-C at the script's end ends the waiting for all active runs, and names what they left."""
    names = ["one", "two", "three"]
    code = "".join(_LOG_ONE.replace("model", name) for name in names)
    script = start(code, WHERRY_HOME_LASTS=lasts)
    _, said = _interrupt(recorder, script, signal.SIGINT)
    assert script.returncode == (0 if lasts == "yes" else 1)
    assert all(f"cats/{name}" in said for name in names), said
    assert said.count("interrupted") == 1
    assert len(recorder.waits) == 1


@pytest.mark.parametrize(
    ("lasts", "code", "ends"), [("yes", 0, 0), ("no", 0, 1), ("yes", 5, 5), ("no", 5, 5)]
)
@pytest.mark.parametrize("finish", ["", "run.finish(); print('went on')"])
def test_signal_that_ends_the_script_hides_the_loss(
    recorder: Recorder,
    start: Callable[..., subprocess.Popen[str]],
    lasts: str,
    code: int,
    ends: int,
    finish: str,
) -> None:
    """A handler that ends the script while it waits is obeyed, and what is left is named; the exit code says
    a loss, unless it says something already.
    """
    handler = f"\nimport signal\nsignal.signal(15, lambda *_: sys.exit({code}))\nimport sys\n"
    script = start(_LOG_ONE + handler + finish, WHERRY_HOME_LASTS=lasts)
    out, said = _interrupt(recorder, script, signal.SIGTERM)
    assert script.returncode == (ends if finish or code == 0 else int(lasts == "no"))
    assert "cats/model" in said and "went on" not in out
    assert "Traceback" not in said
    assert ("NotCommitted" in said) is (lasts == "no")


def test_run_of_an_exit_hook_is_finished_by_nobody(recorder: Recorder, program: Program) -> None:
    """A run that begins in a hook registered before the first ``init`` is finished all the same."""
    code = f"import wherry, atexit\n@atexit.register\ndef late():\n    exec({_LOG_ONE!r})\n"
    done = program(
        code + "wherry.init(project='cats')",
        check=False,
        WHERRY_HOME_LASTS="no",
        WHERRY_FINISH_TIMEOUT="0.2",
    )
    assert done.returncode == 1
    assert "cats/model" in done.stderr


def test_child_that_leaves_the_block_finishes_it(recorder: Recorder, program: Program) -> None:
    """A forked child that leaves the parent's ``with`` block leaves the run to the parent."""
    code = """
import os, sys, wherry
with wherry.init(project="cats") as run:
    run.log_artifact(wherry.Artifact("model", "model"))
    if os.fork() == 0:
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 3
    print("child ended", flush=True)
    os._exit(0)
"""
    done = program(code, WHERRY_HOME_LASTS="no", WHERRY_FINISH_TIMEOUT="1")
    assert "child ended" in done.stdout
    assert recorder.waits == []


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
    assert [list(wait.run_ids) for wait in recorder.waits] == [["run1"]]
