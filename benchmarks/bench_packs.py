"""Ten thousand small files, from ``add_dir`` to committed: beside ``cp -r`` on a folder, s5cmd on S3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wherry
from benchmarks.table import Figures, median, paired, times
from tests.support.servers import Seaweed

BUCKET = "bench"
_COUNT = times(10_000, 10)
_ROUNDS = times(3, 1)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    figures = Figures(f"{_COUNT:,} × 4 KiB to committed")
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.chdir(folder)
        _on_a_folder(figures)
        with Seaweed(Path(folder, "server")) as server:
            server.make_bucket(BUCKET)
            _on_s3(figures, server)
    figures.show()


def _on_a_folder(figures: Figures) -> None:
    took: list[float] = []
    with wherry.init(project="bench") as run:
        _log(run)  # the daemon's start, and first contact

        def ours() -> float:
            took.append(_log(run))
            return took[-1]

        ratio = paired(ours, _copy, _ROUNDS)
    figures.add("folder store, median", median(took), "s")
    figures.add("÷ cp -r of them (paired, median of 3)", ratio, "×", 3)


def _on_s3(figures: Figures, server: Seaweed) -> None:
    os.environ.update(server.credentials)
    took: list[float] = []
    address = server.address(BUCKET, "ours")
    with wherry.init(project="bench", settings={"store": address}) as run:
        _log(run)

        def ours() -> float:
            took.append(_log(run))
            return took[-1]

        ratio = paired(ours, lambda: _s5cmd(server), _ROUNDS)
    figures.add("S3 (SeaweedFS), median", median(took), "s")
    figures.add("÷ s5cmd cp of them (paired, median of 3)", ratio, "×", 0.2)


def _log(run: wherry.Run) -> float:
    files = _files()
    begin = time.perf_counter()
    artifact = wherry.Artifact("files", type="t")
    artifact.add_dir(str(files))
    run.log_artifact(artifact).wait()
    took = time.perf_counter() - begin
    shutil.rmtree(files)
    os.sync()
    return took


def _copy() -> float:
    files = _files()
    begin = time.perf_counter()
    subprocess.run(["cp", "-r", str(files), "copy"], check=True)
    took = time.perf_counter() - begin
    shutil.rmtree(files)
    shutil.rmtree("copy")
    os.sync()
    return took


def _s5cmd(server: Seaweed) -> float:
    files = _files()
    tool = Path(sys.executable).with_name("s5cmd")
    to = f"s3://{BUCKET}/theirs/{time.monotonic_ns()}/"
    begin = time.perf_counter()
    subprocess.run(
        [tool, "--endpoint-url", server.endpoint, "cp", f"{files}/", to],
        env={**os.environ, **server.credentials},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    took = time.perf_counter() - begin
    shutil.rmtree(files)
    return took


def _files() -> Path:
    """New files, in the page cache and on the disk."""
    files = Path("files")
    files.mkdir()
    for number in range(_COUNT):
        (files / f"{number:06d}").write_bytes(os.urandom(4096))
    os.sync()
    return files


if __name__ == "__main__":
    main()
