"""Big files, from ``log_artifact`` to committed, beside s5cmd: time, CPU of the daemon, its peak of memory.

Each round's bytes are new, so that nothing is known of them; the second upload of the same bytes is measured
by itself. Hashing is in our figures; s5cmd makes none by which others could find the bytes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import wherry
from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed
from wherry.wire import places

BUCKET = "bench"
_MIB = 1 << 20
_BIG = times(2048, 20)
_MANY, _EACH = times(100, 2), times(64, 17)
_ROUNDS = times(3, 1)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    figures = Figures("Big files to S3 (SeaweedFS), committed, beside s5cmd")
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.chdir(folder)
        with Seaweed(Path(folder, "server")) as server:
            server.make_bucket(BUCKET)
            os.environ.update(server.credentials)
            address = server.address(BUCKET, "ours")
            with wherry.init(project="bench", settings={"store": address}) as run:
                _log(run, [1])  # the daemon's start, and first contact
                _one(figures, server, run)
                _many(figures, server, run)
    figures.show()


def _one(figures: Figures, server: Seaweed, run: wherry.Run) -> None:
    ours, theirs = _in_turn(server, run, [_BIG])
    figures.add(f"one file of {_BIG} MiB ÷ s5cmd, time", _ratio(ours, theirs, 0), "×", 1.1)
    figures.add("its CPU in the daemon ÷ s5cmd's", _ratio(ours, theirs, 1), "×", 0.6)
    figures.add("its CPU for a GiB", median([each[1] for each in ours]) / _BIG * 1024, "s")
    figures.add("the daemon's peak of memory", _peak_mib(), "MiB", 200)
    _make([_BIG])
    first = _log(run, [])[0]
    again = _log(run, [])[0]
    figures.add("the same bytes once more ÷ the first time", again / first, "×", 0.1)
    _remove()


def _many(figures: Figures, server: Seaweed, run: wherry.Run) -> None:
    ours, theirs = _in_turn(server, run, [_EACH] * _MANY)
    figures.add(f"{_MANY} × {_EACH} MiB ÷ s5cmd, time", _ratio(ours, theirs, 0), "×", 1.1)
    figures.add("their CPU in the daemon ÷ s5cmd's", _ratio(ours, theirs, 1), "×")


Cost = tuple[float, float]  # seconds, and of CPU


def _in_turn(
    server: Seaweed, run: wherry.Run, sizes: Sequence[int]
) -> tuple[list[Cost], list[Cost]]:
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(_log(run, sizes))
        _make(sizes)
        theirs.append(_s5cmd(server))
        _remove()
    return ours, theirs


def _ratio(ours: Sequence[Cost], theirs: Sequence[Cost], which: int) -> float:
    return median([a[which] / b[which] for a, b in zip(ours, theirs, strict=True)])


def _log(run: wherry.Run, sizes: Sequence[int]) -> Cost:
    """Log files of so many MiB each, made for it; none: those that are there."""
    if sizes:
        _make(sizes)

    def log() -> None:
        artifact = wherry.Artifact("files", type="t", metadata={"at": time.time()})
        artifact.add_dir("files", policy="immutable")
        run.log_artifact(artifact).wait()

    cost = _cost(log, _daemon_cpu_s)
    if sizes:
        _remove()
    return cost


def _s5cmd(server: Seaweed) -> Cost:
    tool = Path(sys.executable).with_name("s5cmd")
    to = f"s3://{BUCKET}/theirs/{time.monotonic_ns()}/"

    def copy() -> None:
        subprocess.run(
            [tool, "--endpoint-url", server.endpoint, "cp", "files/", to],
            env={**os.environ, **server.credentials},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    return _cost(copy, _children_cpu_s)


def _cost(call: Callable[[], None], cpu_s: Callable[[], float]) -> Cost:
    before, begin = cpu_s(), time.perf_counter()
    call()
    return time.perf_counter() - begin, cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _daemon() -> Path:
    lock = Path(os.environ["WHERRY_HOME"], places.INSTANCE_LOCK)
    return Path("/proc", lock.read_text().split()[0])


def _daemon_cpu_s() -> float:
    fields = (_daemon() / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib() -> float:
    lines = (_daemon() / "status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def _make(sizes: Sequence[int]) -> None:
    """New files, in the page cache and on the disk."""
    folder = Path("files")
    folder.mkdir()
    for number, size in enumerate(sizes):
        with (folder / f"{number:03d}.bin").open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(_MIB))
    os.sync()


def _remove() -> None:
    for file in Path("files").iterdir():
        file.unlink()
    Path("files").rmdir()


if __name__ == "__main__":
    main()
