"""The end of a script: what it waits for, what it says, and with which code it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import bucket
from tests.support.machine import Machine, Program, machine, wait_until
from tests.support.reading import FolderObjects, records
from tests.support.servers import Seaweed
from tests.support.troubles import CLOCK

LOG = """
import os, sys
import wherry

def log(run, name="model", step=0):
    artifact = wherry.Artifact(name, type="model", metadata={"step": step})
    with artifact.new_file("weights") as f:
        f.write(f"weights {step}")
    return run.log_artifact(artifact)
"""


class Stuck:
    """A machine whose store is in the way of itself, until it is mended."""

    def __init__(self, on: Machine, store: Path) -> None:
        self.on = on
        self.store = store

    def mend(self) -> None:
        """Put a folder there; the daemon finds out at its next try."""
        self.store.unlink()
        self.store.mkdir()

    def steps(self, name: str = "model") -> list[int]:
        """What arrived, in order."""
        found = records(FolderObjects(self.store), "p", name)
        return [record["metadata"]["step"] for record in found]

    def waits(self, count: int = 1) -> bool:
        """Whether so many requests wait for the store."""
        shown = json.loads(self.on.wherry("status", "--json"))["requests"]
        return len([each for each in shown if each["error"]]) == count


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    """A machine whose store can't be written yet."""
    store = tmp_path / "store"
    store.write_text("in the way")
    with machine(tmp_path / "machine", f"file://{store}") as on:
        yield Stuck(on, store)


def ended(program: Program, timeout_s: float = 60) -> tuple[int, str, str]:
    """The exit code of a program, and what it said."""
    out, err = program.process.communicate(timeout=timeout_s)
    return program.process.returncode, out, err


class Narrow:
    """A way to a server that lets so many bytes there and then no more, until it is opened."""

    def __init__(self, server: tuple[str, int], limit_bytes: int) -> None:
        self._server = server
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def open(self) -> None:
        """Let everything through."""
        self._opened.set()

    def close(self) -> None:
        """Let everything go."""
        self.open()
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._listening.close()
        for thread in self._threads:
            thread.join(30)

    def _start(self, call: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=call, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._carry, self._listening.accept()[0])

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            back = self._start(self._pump, server, client, False)
            self._pump(client, server, True)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    self._left_bytes -= len(data) * counts
                    is_over = self._left_bytes < 0
                if counts and is_over:
                    self._opened.wait(120)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR if not counts else socket.SHUT_WR)


def test_bytes_on_their_way_count_for_nothing(tmp_path: Path, seaweed: Seaweed) -> None:
    """While one large file goes up its bytes are counted, long before the whole of it is there."""
    place = bucket(seaweed)
    there = urlsplit(seaweed.endpoint)
    narrow = Narrow((there.hostname or "", there.port or 0), 24 << 20)
    address = place.address.replace(str(there.port), str(narrow.port))
    with machine(tmp_path / "machine", address, place.env) as on:
        on.run(
            """
            import os, wherry
            with wherry.init(project="p") as run:
                a = wherry.Artifact("big", type="model")
                with a.new_file("big.bin", mode="wb") as f:
                    f.write(os.urandom(64 << 20))
                run.log_artifact(a)
            """,
            env={"WHERRY_FINISH": "detach"},
        )

        def is_on_its_way() -> bool:
            (state,) = json.loads(on.wherry("status", "--json"))["requests"]
            return bool(state["state"] == "prepared" and 0 < state["bytes_done"] < state["size"])

        wait_until(is_on_its_way, 60)
        narrow.open()
        on.wait_all_done()
    narrow.close()
    assert len(records(place.objects, "p", "big")) == 1


# ── where the home lasts ───────────────────────────────────────────────────────────────────────
def test_script_ends_before_its_artifacts_arrive(stuck: Stuck) -> None:
    """``finish()``, leaving ``with`` and the end of the script wait until the versions are there."""
    endings = {
        "finish": "run = wherry.init(project='p'); log(run, sys.argv[1]); run.finish()",
        "with": "with wherry.init(project='p') as run: log(run, sys.argv[1])",
        "end": "run = wherry.init(project='p'); log(run, sys.argv[1])",
        "module": "wherry.init(project='p'); log(wherry.run, sys.argv[1]); wherry.finish()",
    }
    programs = {name: stuck.on.start(LOG + source, name) for name, source in endings.items()}
    wait_until(lambda: stuck.waits(len(endings)))
    assert {name: each.process.poll() for name, each in programs.items()} == dict.fromkeys(endings)
    stuck.mend()
    for name, program in programs.items():
        assert ended(program)[0] == 0
        assert stuck.steps(name) == [0]


def test_stalled_script_never_ends(stuck: Stuck) -> None:
    """After 60 s without progress the work is left to the daemon, which is said; exit code 0."""
    program = stuck.on.start(
        LOG
        + CLOCK
        + "run = wherry.init(project='p')\nlog(run)\nhurry(7)\nrun.finish()\nprint('after')\n"
    )
    code, out, err = ended(program)
    assert (code, out) == (0, "after\n"), err
    assert "daemon" in err and "model" in err and "wherry" in err
    assert stuck.waits()
    stuck.mend()
    stuck.on.wait_all_done()
    assert stuck.steps() == [0]


def test_log_file_is_silent_or_flooded(stuck: Stuck) -> None:
    """Where there is no terminal, progress is one plain line every 10 s."""
    program = stuck.on.start(
        LOG + CLOCK + "run = wherry.init(project='p')\nlog(run)\nhurry(5)\nrun.finish()\n"
    )
    _, _, err = ended(program)
    told = [line for line in err.splitlines() if "0 of 1" in line or "0/1" in line]
    assert 1 <= len(told) <= 7, err  # 60 s by its clock, told when the daemon says something
    assert "\x1b" not in err and "\r" not in err


def test_full_log_file_ends_the_script(stuck: Stuck) -> None:
    """Where nobody can read what is said, the script ends as if somebody had."""
    source = LOG + CLOCK + "run = wherry.init(project='p')\nlog(run)\nhurry(7)\nrun.finish()\n"
    for said_to in ("/dev/full", ""):
        redirect = (
            f"os.dup2(os.open({said_to!r}, os.O_WRONLY), 2)\n"
            if said_to
            else "sys.stderr.close()\n"
        )
        out = stuck.on.run("import os, sys\n" + redirect + source + "print('after')\n")
        assert out == "after\n"


def test_dead_daemon_ends_the_waiting(stuck: Stuck) -> None:
    """A daemon that is killed while a script waits is replaced, and the script goes on waiting."""
    program = stuck.on.start(LOG + "log(wherry.init(project='p'))\n")
    wait_until(stuck.waits)
    stuck.on.kill_daemon()
    stuck.mend()
    assert ended(program)[0] == 0
    assert stuck.steps() == [0]


def test_ctrl_c_ends_more_than_the_waiting(stuck: Stuck) -> None:
    """The first Ctrl-C ends the waiting, says so, and loses nothing; the script goes on."""
    program = stuck.on.start(
        LOG
        + "run = wherry.init(project='p')\nlog(run)\nprint('finishing', flush=True)\n"
        + "run.finish()\nprint('after')\n"
    )
    assert program.wait_line() == "finishing"
    wait_until(stuck.waits)
    program.process.send_signal(signal.SIGINT)
    code, out, err = ended(program)
    assert (code, out) == (0, "after\n"), err
    assert "daemon" in err and "Traceback" not in err
    stuck.mend()
    stuck.on.wait_all_done()
    assert stuck.steps() == [0]


def test_terminal_shows_no_progress(stuck: Stuck) -> None:
    """On a terminal one line is written again and again, and Ctrl-C there spares the daemon."""
    source = (
        LOG + "run = wherry.init(project='p')\nlog(run)\nprint('finishing')\n"
        "run.finish()\nprint('after')\n"
    )
    with terminal(stuck.on, source) as (process, screen):
        seen = read_until(screen, "0 of 1")
        assert "finishing" in seen
        seen += read_until(screen, "\r")
        pid = stuck.on.daemon_pid()
        os.write(screen, b"\x03")
        seen += read_until(screen, "after")
        assert process.wait(30) == 0
    assert "\x1b[" in seen
    assert "goes on" in seen or "daemon" in seen
    assert stuck.on.daemon_pid() == pid


#: Ctrl-C there reaches the program and its children.
OWN_TERMINAL = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"


@contextlib.contextmanager
def terminal(on: Machine, source: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program on a terminal of its own, and the side of it where somebody sits."""
    screen, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL + source],
        cwd=on.work,
        env={**on.env, "TERM": "xterm"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield process, screen
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(screen)


def read_until(screen: int, text: str, timeout_s: float = 30) -> str:
    """What appears on a screen, up to a text."""
    seen, end = "", time.monotonic() + timeout_s
    while text not in seen:
        ready, _, _ = select.select([screen], [], [], max(0, end - time.monotonic()))
        assert ready, f"{text!r} never appears in {seen!r}"
        with contextlib.suppress(OSError):  # the other side is closed
            seen += os.read(screen, 4096).decode()
    return seen


def test_detached_script_waits(stuck: Stuck) -> None:
    """With ``WHERRY_FINISH=detach`` the script ends at once, and the daemon does the work."""
    source = LOG + "for step in range(3): log(wherry.run or wherry.init(project='p'), step=step)\n"
    stuck.on.run(source, env={"WHERRY_FINISH": "detach"})
    stuck.mend()
    stuck.on.wait_all_done()
    assert stuck.steps() == [0, 1, 2]


def test_failure_passes_unseen(machine: Machine) -> None:
    """``finish()`` tells which artifact failed and why; the others are committed."""
    out = machine.start(
        LOG
        + """
with open("data", "w") as f: f.write("one")
run = wherry.init(project="p")
bad = wherry.Artifact("bad", type="model")
bad.add_file("data", policy="immutable")
with open("data", "a") as f: f.write("two")
run.log_artifact(bad)
log(run, "good")
run.finish()
"""
    )
    code, _, err = ended(out)
    assert code == 0
    assert "bad" in err and "changed" in err and "data" in err
    assert len(records(FolderObjects(machine.home / "store"), "p", "good")) == 1


# ── where it does not ──────────────────────────────────────────────────────────────────────────
NOT_LASTING = {"WHERRY_HOME_LASTS": "no", "WHERRY_FINISH_TIMEOUT": "2"}

ENDINGS = {
    "end": "log(wherry.init(project='p'), 'end')",
    "exit-0": "log(wherry.init(project='p'), 'exit-0'); sys.exit(0)",
    "exit-7": "log(wherry.init(project='p'), 'exit-7'); sys.exit(7)",
    "with": "\nwith wherry.init(project='p') as run: log(run, 'with')",
    "with-exit-7": "\nwith wherry.init(project='p') as run: log(run, 'with-exit-7'); sys.exit(7)",
    "with-exit-0": "\nwith wherry.init(project='p') as run: log(run, 'with-exit-0'); sys.exit(0)",
    "raises": "log(wherry.init(project='p'), 'raises'); raise RuntimeError('of the user')",
    "with-raises": "\nwith wherry.init(project='p') as run:\n"
    "    log(run, 'with-raises')\n    raise RuntimeError('of the user')",
    "with-interrupt": "\nwith wherry.init(project='p') as run:\n"
    "    log(run, 'with-interrupt')\n    raise KeyboardInterrupt",
    "with-handled": "\ntry:\n    with wherry.init(project='p') as run:\n"
    "        log(run, 'with-handled')\n        raise RuntimeError('of the user')\n"
    "except RuntimeError: print('handled')",
    "caught": "\nrun = wherry.init(project='p')\nlog(run, 'caught')\n"
    "try: run.finish()\nexcept wherry.errors.NotCommitted as e: print('caught', e)",
}


def test_container_ends_as_if_all_were_safe(stuck: Stuck) -> None:
    """Where the home goes with the script, what is not committed in time is named, and the code tells.

    A program's own exception or exit code stays.
    """
    programs = {
        name: stuck.on.start(LOG + source, env=NOT_LASTING) for name, source in ENDINGS.items()
    }
    found = {name: ended(program) for name, program in programs.items()}
    codes = {name: code for name, (code, _, _) in found.items()}
    assert codes == {
        "end": 1,
        "exit-0": 1,
        "exit-7": 1,  # an exit hook can't learn the code
        "with": 1,
        "with-exit-7": 7,
        "with-exit-0": 1,
        "raises": 1,
        "with-raises": 1,
        "with-interrupt": -signal.SIGINT,
        "with-handled": 1,
        "caught": 0,
    }, found
    for name, (_, out, err) in found.items():
        assert f"p/{name}" in out + err, f"{name} does not say what is not safe: {out + err}"
    for name in ENDINGS.keys() - {"caught"}:
        assert "NotCommitted" in found[name][2]
    for name in ("raises", "with-raises"):
        assert "RuntimeError: of the user" in found[name][2]
    assert found["caught"][1].startswith("caught")
    stuck.mend()
    stuck.on.wait_all_done()
    assert {name: stuck.steps(name) for name in ENDINGS} == {name: [0] for name in ENDINGS}


def test_container_gives_up_early(stuck: Stuck) -> None:
    """Where the home goes with the script, 60 s without progress end nothing."""
    program = stuck.on.start(
        LOG + CLOCK + "run = wherry.init(project='p')\nlog(run)\nhurry(100)\nrun.finish()\n",
        env={"WHERRY_HOME_LASTS": "no"},
    )
    assert program.process.stderr
    told = [program.process.stderr.readline() for _ in range(2)]  # over 100 s by its clock
    assert program.process.poll() is None, told
    stuck.mend()
    assert ended(program)[0] == 0
    assert stuck.steps() == [0]


def test_ctrl_c_in_a_container_hides_the_loss(stuck: Stuck) -> None:
    """Ctrl-C where the home goes with the script gives ``NotCommitted`` and exit code 1."""
    programs = [
        stuck.on.start(LOG + f"log(wherry.init(project='p'), '{name}')\n{end}", env=env)
        for name, end, env in (
            ("said", "print('ending', flush=True)\nwherry.finish()", {"WHERRY_HOME_LASTS": "no"}),
            ("hook", "print('ending', flush=True)", {"WHERRY_HOME_LASTS": "no"}),
        )
    ]
    for program in programs:
        assert program.wait_line() == "ending"
    wait_until(lambda: stuck.waits(2))
    for program, name in zip(programs, ("said", "hook"), strict=True):
        program.process.send_signal(signal.SIGINT)
        code, _, err = ended(program)
        assert code == 1, err
        assert "NotCommitted" in err and f"p/{name}" in err


def test_batch_job_is_taken_for_a_workstation(stuck: Stuck) -> None:
    """In a Slurm job nobody has to say that the home may not last."""
    del stuck.on.env["WHERRY_HOME_LASTS"]
    program = stuck.on.start(
        LOG + "log(wherry.init(project='p'))",
        env={"SLURM_JOB_ID": "17", "WHERRY_FINISH_TIMEOUT": "1"},
    )
    code, _, err = ended(program)
    assert code == 1
    assert "NotCommitted" in err


def test_good_end_in_a_container_fails(machine: Machine) -> None:
    """When all is committed, the script ends with its own code, here as elsewhere."""
    for code in (0, 7):
        program = machine.start(
            LOG + f"log(wherry.init(project='p'), step={code})\nsys.exit({code})", env=NOT_LASTING
        )
        assert ended(program)[0] == code
    at_once = machine.start(
        LOG + "run = wherry.init(project='p')\nlog(run, step=8).wait()\nrun.finish()",
        env={**NOT_LASTING, "WHERRY_FINISH_TIMEOUT": "0"},
    )
    assert ended(at_once)[0] == 0
    by_two = machine.start(
        LOG + "one, two = (wherry.init(project='p') for _ in range(2))\n"
        "two.log_artifact(log(one, step=9))",
        env=NOT_LASTING,
    )
    assert ended(by_two)[0] == 0
    assert len(records(FolderObjects(machine.home / "store"), "p", "model")) == 4


# ── what is left ───────────────────────────────────────────────────────────────────────────────
def test_a_run_leaves_traces_outside_its_home(tmp_path: Path) -> None:
    """Nothing is written but below ``WHERRY_HOME`` and where a program says: not in the user's home, not
    where temporary files go, not where the program works.
    """
    user, temporary = tmp_path / "user", tmp_path / "temporary"
    user.mkdir()
    temporary.mkdir()
    store = f"file://{tmp_path}/store"
    (tmp_path / "store").mkdir()
    elsewhere = {"HOME": str(user), "TMPDIR": str(temporary)}
    with machine(tmp_path / "machine", store, elsewhere) as on:
        program = (
            LOG + "run = wherry.init(project='p')\nlog(run, step=0).wait().download(sys.argv[1])"
        )
        on.run(program, str(tmp_path / "got"))
        on.wait_all_done()
        on.wherry("daemon", "stop")
        for empty in (user, temporary, on.work):
            assert list(empty.iterdir()) == []
        assert {path.name for path in tmp_path.iterdir()} == {
            "user",
            "temporary",
            "store",
            "got",
            "machine",
        }


# ── children ───────────────────────────────────────────────────────────────────────────────────
def test_child_finishes_its_parents_run(stuck: Stuck) -> None:
    """A forked child that ends, by whatever way, waits for nothing, says nothing, keeps its code."""
    program = stuck.on.start(
        LOG
        + """
run = wherry.init(project="p")
log(run, "parent")
codes = []
for way in ("end", "exit", "logs", "raises"):
    sys.stdout.flush(); sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("child-err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        if way == "logs":
            log(run, "child")
        if way == "raises":
            raise RuntimeError("of the child")
        sys.exit(5 if way == "exit" else 0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(codes, flush=True)
run.finish()
""",
        env={"WHERRY_HOME_LASTS": "no"},
    )
    assert program.wait_line() == "[0, 5, 0, 1]"
    said = (stuck.on.work / "child-err").read_text()
    assert "RuntimeError: of the child" in said
    assert "wherry:" not in said.lower() and "NotCommitted" not in said
    assert program.process.poll() is None, "the parent still waits"
    stuck.mend()
    assert ended(program)[0] == 0
    stuck.on.wait_all_done()
    assert stuck.steps("parent") == stuck.steps("child") == [0]
