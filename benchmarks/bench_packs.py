"""Ten thousand small files on a folder store, from ``add_dir`` to committed, beside ``cp -r``."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import wherry
from benchmarks.table import Figures, median, paired, times

_COUNT = times(10_000, 10)
_ROUNDS = times(3, 1)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    figures = Figures(f"{_COUNT:,} × 4 KiB to committed")
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.chdir(folder)
        _on_a_folder(figures)
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
