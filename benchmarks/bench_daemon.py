"""What the daemon and the import cost: memory, idle CPU, hashing, start, import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import anyio

from benchmarks.resting import cpu_s, daemon_pid
from benchmarks.table import Figures, median, paired, times

MILLION = """
import sys, wherry
from wherry import Artifact
run = wherry.init(project="bench")
a = Artifact("million", type="t")
for i in range(int(sys.argv[1])):
    with a.new_file(f"{i:07d}") as f:
        f.write(str(i))  # each of its own, and as small as can be: what is measured is the entries
run.log_artifact(a)
print(a.wait(1200).version)
"""


HUNDRED = """
import wherry
from wherry import Artifact
with wherry.init(project="bench") as run:
    for i in range(100):
        a = Artifact("small", type="t", metadata={"i": i})
        with a.new_file("x") as f:
            f.write(str(i))
        run.log_artifact(a)
    a.wait(600)
"""


def main() -> None:
    """Measure and print."""
    os.environ["WHERRY_FINISH"] = "detach"
    work = Path(os.environ["WHERRY_HOME"]).parent / "work"
    work.mkdir(exist_ok=True)
    os.chdir(work)
    figures = Figures("The daemon and the import")
    figures.add(
        "import wherry, over a bare interpreter (median of 15)", _import(times(15, 1)), "ms", 30
    )
    figures.add_least(
        "hashing a large file ÷ openssl dgst -sha256, per core (paired)", _hashing(), "×", 0.9
    )
    figures.add("start of the daemon to first answer", _start(), "s", 1.5)
    figures.add(
        "first connection to a running daemon, imports included (median of 9)",
        _connect(times(9, 1)),
        "ms",
        100,
    )
    figures.add("daemon idle, resident", _resident("VmRSS"), "MiB", 80)
    _run(HUNDRED)
    time.sleep(times(5, 1))  # it frees and syncs what is done
    figures.add("daemon idle after 100 small artifacts, resident", _resident("VmRSS"), "MiB", 80)
    figures.add("daemon idle after them, CPU over 10 s", _idle_cpu(times(10, 1)), "%", 1)
    _reset_peak()
    took = _run(MILLION, str(times(1_000_000, 100)))
    figures.add("a 1,000,000-entry artifact, logged and committed", took, "s")
    figures.add("daemon's peak while it took it", _resident("VmHWM"), "MiB", 250)
    figures.add("daemon idle after it, resident", _resident("VmRSS"), "MiB")
    figures.show()


def _run(source: str, *args: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", source, *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _import(rounds: int) -> float:
    return median([_run("import wherry") - _run("pass") for _ in range(rounds)]) * 1000


def _hashing() -> float:
    """How fast the daemon's hashing stage goes through a large file, over openssl; one core each."""
    path = Path("hash.bin")
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(times(512, 8)):
            file.write(block)
    size = path.stat().st_size
    start_s = median([_openssl_s("/dev/null") for _ in range(times(9, 1))])
    ratio = paired(
        lambda: 1 / anyio.run(_stage_s, path, size),
        lambda: 1 / (_openssl_s(str(path)) - start_s),
        times(5, 1),
    )
    path.unlink()
    return ratio


async def _stage_s(path: Path, size: int) -> float:
    """Hash as the daemon does: in steps on one thread, with a hop to it for each."""
    from wherryd.model import Entry, Source
    from wherryd.prepare.digests import Hashers

    async def save(_: object) -> None:
        """Keep nothing: what the queue costs is measured elsewhere."""

    entry = Entry("x", size, source=Source(str(path)))
    begin = time.perf_counter()
    digests = await Hashers(1).make_digests([entry], save, lambda _: None)
    took = time.perf_counter() - begin
    assert len(digests) == 1
    return took


def _openssl_s(path: str) -> float:
    begin = time.perf_counter()
    subprocess.run(["openssl", "dgst", "-sha256", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


_HELLO = """
from wherry.connection import connect
from wherry.wire.places import home
connect(home()).hello()
"""


def _start() -> float:
    return _run(_HELLO)


def _connect(rounds: int) -> float:
    return median([_run(_HELLO) - _run("pass") for _ in range(rounds)]) * 1000


def _resident(field: str) -> float:
    for line in Path(f"/proc/{daemon_pid()}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def _reset_peak() -> None:
    Path(f"/proc/{daemon_pid()}/clear_refs").write_text("5")


def _idle_cpu(seconds: float) -> float:
    pid = daemon_pid()
    begin = cpu_s(pid)
    time.sleep(seconds)
    return (cpu_s(pid) - begin) / seconds * 100
