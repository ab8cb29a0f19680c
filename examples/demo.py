"""Three training processes log checkpoints at once; one of them is killed, and so is the daemon.

Run by ``make demo``. Everything is real: the processes, the kills, the daemon that comes back, the
folder in which the versions lie. With a folder as its argument it keeps everything there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import wherry

STEPS = 8
NAMES = ("resnet", "bert", "unet")

TRAIN = """
import os, sys, time
import wherry

name, steps = sys.argv[1], int(sys.argv[2])
with wherry.init(project="demo", job_type="train", name=name) as run:
    for step in range(steps):
        with open(f"{name}.pt", "wb") as f:            # the same file, overwritten at each step
            f.write(f"{name} at step {step} ".encode() + os.urandom(200_000))
        ckpt = wherry.Artifact(name, type="model", metadata={"step": step})
        ckpt.add_file(f"{name}.pt")
        begin = time.perf_counter()
        run.log_artifact(ckpt)
        print(f"{name} step {step} logged in {(time.perf_counter() - begin) * 1000:.1f} ms", flush=True)
        time.sleep(0.15)
"""


def main() -> None:
    """Run the demonstration and print what is in the store at the end."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="wherry-demo-"))
    for name in [name for name in os.environ if name.startswith("WHERRY_")]:
        del os.environ[name]  # the user's own store and mode are no part of this
    os.environ["WHERRY_HOME"] = str(home / "home")
    os.environ["WHERRY_HOME_LASTS"] = "yes"
    trainings: list[subprocess.Popen[bytes]] = []
    try:
        run(Console(), home, trainings)
    finally:
        for training in trainings:
            training.kill()
        command_line("daemon", "stop")


def run(console: Console, home: Path, trainings: list[subprocess.Popen[bytes]]) -> None:
    """Run it all; ``trainings`` is for what is started."""
    console.print(f"[bold]Wherry's home is {home / 'home'}[/bold]; three trainings begin.")
    trainings += [start_training(home, name) for name in NAMES]
    wait_for_lines(trainings[2], 3)
    trainings[2].kill()
    console.print(f"[red]kill -9[/red] of the training of {NAMES[2]}, in mid-run")
    pid = daemon_pid()
    os.kill(pid, signal.SIGKILL)
    console.print(f"[red]kill -9[/red] of the daemon (pid {pid}); nobody starts it by hand")
    for training in trainings[:2]:
        if training.wait() != 0:
            raise SystemExit(f"a training failed: see {home}")
    command_line("drain")  # what the killed training had logged may still be on its way
    logged = {name: lines(home, name) for name in NAMES}
    show(console, logged)
    console.print(f"They lie in {home / 'home' / 'store'}; the daemon now has pid {daemon_pid()}.")


def start_training(home: Path, name: str) -> subprocess.Popen[bytes]:
    """Start one training process, its output in a file of its own."""
    work = home / name
    work.mkdir(parents=True, exist_ok=True)
    with (work / "out.txt").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, name, str(STEPS)], cwd=work, stdout=out
        )


def lines(home: Path, name: str) -> int:
    """How many log_artifact calls of this training returned."""
    return len((home / name / "out.txt").read_text().splitlines())


def wait_for_lines(training: subprocess.Popen[bytes], count: int) -> None:
    """Wait until the last training has logged ``count`` times."""
    home = Path(os.environ["WHERRY_HOME"]).parent
    while training.poll() is None and lines(home, NAMES[2]) < count:
        time.sleep(0.02)


def command_line(*words: str) -> str:
    """Run ``wherry`` and return what it prints."""
    command = [sys.executable, "-m", "wherry.cli", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def daemon_pid() -> int:
    """The pid of the daemon that runs for this home."""
    pid = json.loads(command_line("daemon", "status", "--json"))["pid"]
    assert isinstance(pid, int)
    return pid


def show(console: Console, logged: dict[str, int]) -> None:
    """Print every version in order, and check it against what the trainings were told."""
    api = wherry.Api()
    for name in NAMES:
        versions = sorted(
            api.artifacts("model", f"demo/{name}"), key=lambda one: int(one.version[1:])
        )
        steps = [version.metadata["step"] for version in versions]
        table = Table(
            "version", "step", "size", "digest", title=f"{name}: {len(versions)} versions"
        )
        for version in versions:
            table.add_row(
                version.version,
                str(version.metadata["step"]),
                str(version.size),
                version.digest[:26],
            )
        console.print(table)
        if steps != list(range(len(steps))) or len(steps) < logged[name]:
            raise SystemExit(f"{name}: {logged[name]} logged, but the versions hold steps {steps}")
    console.print("[green]Every call that returned is a version, in order, once.[/green]")


if __name__ == "__main__":
    main()
