"""What logging costs the training: latency, throughput of many processes, big files, many files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import wherry
from benchmarks.resting import wait_rest
from benchmarks.table import Figures, median, paired, times

MANY = """
import sys, time, wherry
run = wherry.init(project="bench")
a = wherry.Artifact("warm-" + sys.argv[1], type="t")
with a.new_file("x") as f: f.write("x")
run.log_artifact(a)
print("ready", flush=True)
sys.stdin.readline()
begin = time.perf_counter()
for i in range(int(sys.argv[2])):
    a = wherry.Artifact("many-" + sys.argv[1], type="t", metadata={"i": i})
    with a.new_file("x") as f: f.write(str(i))
    run.log_artifact(a)
print(begin, time.perf_counter(), flush=True)
"""

ENTRIES = """
import resource, sys, wherry
from pathlib import Path

def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()

count = int(sys.argv[1])
run = wherry.init(project="bench")
def log(name, count):
    a = wherry.Artifact(name, type="t")
    for i in range(count):
        with a.new_file(f"images/{i:07d}.png") as f:
            f.write(str(i % 1000))
    return a
run.log_artifact(log("warm", 100))
before = resident_bytes()
a = log("entries", count)
run.log_artifact(a)
print((resident_bytes() - before) / count)
a.wait()  # what follows is not to be measured beside this
"""


def main() -> None:
    """Measure and print."""
    os.environ["WHERRY_FINISH"] = "detach"
    figures = Figures("Logging, on the folder store")
    work = Path(os.environ["WHERRY_HOME"]).parent / "work"
    work.mkdir(exist_ok=True)
    os.chdir(work)
    with wherry.init(project="bench") as run:
        figures.add("log_artifact of one tiny file, median", _tiny(run, times(300, 3)), "ms", 3)
        figures.add(
            "a 1 GiB file ÷ cp of it (paired, median of 3)", _big(run, times(3, 1)), "×", 1.1
        )
        took, ratio = _files(run, times(10_000, 10))
        figures.add("10,000 × 4 KiB by add_dir + log_artifact", took, "s", 1.5)
        figures.add("the same ÷ cp -r of it", ratio, "×")
    figures.add(
        "memory of the client per entry, over 200,000 of them",
        _memory(times(200_000, 100)),
        "bytes",
        500,
    )
    figures.add_least(
        "16 processes together, accepted", _processes(times(16, 2), times(60, 2)), "requests/s", 700
    )
    figures.show()


def _tiny(run: wherry.Run, logs: int) -> float:
    took = []
    for i in range(logs):
        artifact = wherry.Artifact("tiny", type="t", metadata={"i": i})
        with artifact.new_file("x") as f:
            f.write(str(i))
        begin = time.perf_counter()
        run.log_artifact(artifact)
        took.append(time.perf_counter() - begin)
    return median(took) * 1000


def _big(run: wherry.Run, rounds: int) -> float:
    source = Path("big.bin")
    block = os.urandom(1 << 20)
    with source.open("wb") as f:
        for _ in range(times(1024, 20)):
            f.write(block)
    os.sync()

    def log() -> float:
        begin = time.perf_counter()
        artifact = wherry.Artifact(f"big-{time.monotonic_ns()}", type="t")
        artifact.add_file(str(source))
        run.log_artifact(artifact)
        took = time.perf_counter() - begin
        artifact.wait()
        os.sync()
        return took

    def copy() -> float:
        begin = time.perf_counter()
        subprocess.run(["cp", "--reflink=auto", str(source), "copy.bin"], check=True)
        took = time.perf_counter() - begin
        os.unlink("copy.bin")
        os.sync()
        return took

    ratio = paired(log, copy, rounds)
    source.unlink()
    return ratio


def _files(run: wherry.Run, count: int) -> tuple[float, float]:
    """How long logging takes, and how much longer than a copy."""
    folder = Path("files")
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:06d}").write_bytes(os.urandom(4096))
    begin = time.perf_counter()
    artifact = wherry.Artifact("files", type="t")
    artifact.add_dir(str(folder))
    run.log_artifact(artifact)
    took = time.perf_counter() - begin
    artifact.wait()
    os.sync()
    begin = time.perf_counter()
    subprocess.run(["cp", "-r", str(folder), "copy"], check=True)
    copied = time.perf_counter() - begin
    shutil.rmtree(folder)
    shutil.rmtree("copy")
    return took, took / copied


def _memory(entries: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", ENTRIES, str(entries)], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


def _processes(count: int, logs: int) -> float:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(n), str(logs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    for program in programs:
        assert program.stdout and program.stdout.readline() == "ready\n"
    wait_rest()
    for program in programs:
        assert program.stdin
        program.stdin.write("go\n")
        program.stdin.flush()
    times = []
    for program in programs:
        assert program.stdout
        times.append([float(word) for word in program.stdout.readline().split()])
        program.wait()
    return count * logs / (max(end for _, end in times) - min(begin for begin, _ in times))
