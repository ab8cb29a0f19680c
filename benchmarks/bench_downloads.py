"""From a version on S3 to its files, beside the programs that people download plain objects with.

Ours is the work of the program and of the daemon, whose cache is empty; theirs the whole program. The second
time ours takes all from its cache, into another folder: no program can do that faster than ``cp`` from one
folder to the other, which tells what the disk allows. The server's CPU is in no figure.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.bench_uploads import BUCKET, FILES, KIB, MIB, Load, Ours
from benchmarks.peers import PEERS, Cost, Peer, Race, race
from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed

_ROUNDS = times(3, 1)
_LOADS = (Load(times(10_000, 10), 4 * KIB), Load(1, times(2048, 20) * MIB))
_MOST = (0.2, 1.1)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.chdir(folder)
        with Seaweed(Path(folder, "server")) as server:
            server.make_bucket(BUCKET)
            os.environ.update(server.credentials)
            figures = Figures("Downloads from S3 (SeaweedFS), beside others")
            with Ours(server.endpoint) as ours:
                for load, most in zip(_LOADS, _MOST, strict=True):
                    _measure(figures, ours, server, load, most)
            figures.show()


def _measure(figures: Figures, ours: Ours, server: Seaweed, load: Load, most: float) -> None:
    load.make()
    ours.log()
    prefix = f"plain/{time.monotonic_ns()}"
    PEERS[0].upload(server, server.endpoint, BUCKET, FILES, prefix)
    again: list[float] = []
    copied: list[float] = []

    def mine() -> Cost:
        ours.empty_cache()
        first = ours.download(_new("ours"))
        again_there = _new("again")
        second = ours.download(again_there)
        again.append(second.time_s / first.time_s)
        copied.append(second.time_s / _copy(again_there))
        return first

    def theirs(peer: Peer) -> Cost:
        target = _new("theirs")
        cost = peer.download(server, BUCKET, prefix, target)
        assert sum(1 for _ in target.iterdir()) == load.count
        return cost

    found: Race = race(mine, theirs, _ROUNDS, [peer for peer in PEERS if peer.back])
    found.show(figures, f"{load}", most, load.gib)
    figures.add("a second time ÷ the first", median(again), "×", 0.1)
    figures.add("a second time ÷ cp -r of it", median(copied), "×")
    peak_mib = max(cost.peak_mib for cost in found.ours)
    figures.add("the daemon's peak of memory", peak_mib, "MiB", 200)


def _copy(source: Path) -> float:
    """Seconds that ``cp`` needs for a folder."""
    target = _new("copied") / "files"
    begin = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    return time.perf_counter() - begin


def _new(name: str) -> Path:
    """A folder that was not there before; of the large files of the last one so called nothing is left.

    Small files stay: for minutes ext4 passes over each that was deleted beside a new one.
    """
    for earlier in Path().glob(f"{name}-*"):
        for file in earlier.rglob("*"):
            if file.is_file() and file.stat().st_size >= MIB:
                file.unlink()
    target = Path(f"{name}-{time.monotonic_ns()}")
    target.mkdir()
    os.sync()
    return target


if __name__ == "__main__":
    main()
